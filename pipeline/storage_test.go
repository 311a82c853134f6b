package pipeline_test

import (
	"math"
	"testing"

	"github.com/permafrost-ml/permafrost/cachesink"
	"github.com/permafrost-ml/permafrost/pipeline"
)

// embeddingsOf returns the embeddings of all rows of the split train.
func embeddingsOf(t *testing.T, cfg pipeline.Config[row], encoder string) (out []float32) {
	t.Helper()
	cfg.Train.Sequential = true
	p := open(t, cfg)
	for b, err := range p.Epoch(t.Context(), "train", 0) {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, b.A(encoder).Data().([]float32)...)
		out = append(out, b.B(encoder).Data().([]float32)...)
	}
	return out
}

// TestDTypes: another dtype, for all encoders or for one, converts what is
// there in float32 without opening an encoder, is near it when replayed, and
// needs neither encoder nor dataset the next time.
func TestDTypes(t *testing.T) {
	cfg := config(t, t.TempDir())
	cfg.Encoders["other"] = newModel("b")
	if first := fill(t, cfg); first.Encoded != 320 || first.Converted != 0 || first.Encoders["enc"].DType != cachesink.Float32 {
		t.Fatalf("the first fill: %+v", first)
	}
	want := map[string][]float32{"enc": embeddingsOf(t, cfg, "enc"), "other": embeddingsOf(t, cfg, "other")}
	for _, tc := range []struct {
		name      string
		d         cachesink.DType
		byName    map[string]cachesink.DType
		converted int64
		off       map[string]float64 // the largest difference that rounding makes of values up to 0.5
	}{
		{"float16", cachesink.Float16, nil, 320, map[string]float64{"enc": 0x1p-13, "other": 0x1p-13}},
		{"one in int8", cachesink.Float16, map[string]cachesink.DType{"enc": cachesink.Int8}, 160, map[string]float64{"enc": 0.25 / 127, "other": 0x1p-13}},
		{"the other", "", map[string]cachesink.DType{"other": cachesink.Int8}, 160, map[string]float64{"enc": 0, "other": 0.25 / 127}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cfg := cfg
			c := *cfg.Cache
			c.DType, c.DTypes = tc.d, tc.byName
			cfg.Cache, cfg.NoEncode, cfg.Allocator = &c, true, checked(t)
			plan, err := open(t, cfg).Plan(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if plan.Covered || plan.ToEncode != 0 || plan.ToConvert != tc.converted {
				t.Errorf("plan: %d to encode, %d to convert, covered %v", plan.ToEncode, plan.ToConvert, plan.Covered)
			}
			r := fill(t, sealEncoders(cfg))
			if r.Encoded != 0 || r.Reused != 320 || r.Converted != tc.converted {
				t.Errorf("fill: %+v", r)
			}
			if plan, err = open(t, seal(cfg)).Plan(t.Context()); err != nil || !plan.Covered {
				t.Errorf("the second plan: %+v, %v", plan, err)
			}
			for name, off := range tc.off {
				got := embeddingsOf(t, seal(cfg), name)
				worst := 0.0
				for i, v := range got {
					worst = max(worst, math.Abs(float64(v-want[name][i])))
				}
				if len(got) != len(want[name]) || worst > off || (worst == 0) != (off == 0) {
					t.Errorf("%s: %d values, off by up to %g, want up to %g", name, len(got), worst, off)
				}
			}
		})
	}
}
