package pipeline_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/permafrost-ml/permafrost/cachesink"
	"github.com/permafrost-ml/permafrost/encode"
	"github.com/permafrost-ml/permafrost/encode/static"
	"github.com/permafrost-ml/permafrost/pipeline"
	"github.com/permafrost-ml/permafrost/pipeline/head"
	"github.com/permafrost-ml/permafrost/pipeline/loss"
	"github.com/permafrost-ml/permafrost/pipeline/train"
	"github.com/permafrost-ml/permafrost/source"
)

const testdata = "../testdata/"

// faq is a row of testdata/faq.jsonl.
type faq struct {
	Question string `json:"question"`
	Answer   string `json:"answer"`
	Category string `json:"category"`
}

// comprehensive is testdata/comprehensive.yaml in Go.
func comprehensive(t testing.TB, content cachesink.CacheType, dir string) pipeline.Config[faq] {
	return pipeline.Config[faq]{
		Seed: 42,
		Splits: pipeline.Splits[faq]{
			"train": source.JSONL[faq](testdata + "faq.jsonl"),
			"val":   source.JSONL[faq](testdata + "faq_val.jsonl"),
		},
		Sample: func(r faq) pipeline.Sample {
			category := encode.TextValue(r.Category)
			return pipeline.Pair(
				encode.Text(r.Question).With("category", category),
				encode.Text(r.Answer).With("category", category)).With("category", r.Category)
		},
		Encoders: pipeline.Encoders{
			"content_encoder":  encode.Reading(static.Default(), encode.Reads{Field: "text"}),
			"attitude_encoder": encode.Reading(static.Default(), encode.Reads{Template: "about {category}"}),
		},
		Cache: &pipeline.CacheConfig{
			CacheType: cachesink.Auto,
			Mapping:   pipeline.Mapping{"content_encoder": content, "attitude_encoder": cachesink.CPU},
			BatchSize: 16, NumWorkers: 2, SaveDir: dir,
			KeyExtractors: pipeline.Key(func(o encode.Object) string { return string([]rune(o.Text())[:10]) }),
		},
		Head:      head.SkipConnection{},
		Loss:      loss.MultipleNegativesRanking{Symmetric: true},
		Train:     train.Options{Epochs: 10, BatchSize: 16, Optimizer: train.Adam{LR: 1e-3}},
		Allocator: checked(t),
	}
}

// TestComprehensive runs the most that a cache section can say, in YAML and
// in Go: two encoders with inputs of their own, a mapping, one key extractor.
func TestComprehensive(t *testing.T) {
	t.Setenv("COMPREHENSIVE_DIR", t.TempDir())
	fromYAML, err := pipeline.LoadConfig(testdata + "comprehensive.yaml")
	if err != nil {
		t.Fatal(err)
	}
	fromYAML.Allocator = checked(t)
	fromGo := comprehensive(t, cachesink.CPU, t.TempDir())
	if a, b := weights(t, fromYAML), weights(t, fromGo); !bytes.Equal(a, b) {
		t.Error("YAML and Go train other weights")
	}
	sameFiles(t, "Go", snapshot(t, fromGo.Cache.SaveDir, cached...), snapshot(t, fromYAML.Cache.SaveDir, cached...))

	// 120 texts, of which the content encoder saw each, and six categories.
	r := fill(t, seal(fromYAML))
	if c, a := r.Encoders["content_encoder"], r.Encoders["attitude_encoder"]; c.Objects != 120 || a.Objects != 12 || r.Encoded != 0 {
		t.Errorf("%+v", r)
	}
	p := open(t, seal(fromYAML))
	for b, err := range p.Epoch(t.Context(), "train", 0) {
		if err != nil {
			t.Fatal(err)
		}
		rec := b.Record()
		keys := rec.Column(rec.Schema().FieldIndices("content_encoder_a_key")[0])
		if k := keys.ValueStr(0); len([]rune(k)) != 10 {
			t.Errorf("the key is %q", k)
		}
		if d := b.A("content_encoder").Shape()[1]; d != static.Dim || b.B("attitude_encoder") == nil {
			t.Errorf("dimension %d", d)
		}
	}
	res, err := open(t, seal(fromYAML)).Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if res.Eval.Objects != 24 || res.Eval.Queries != 24 || res.Train.FinalLoss >= res.Train.FirstLoss {
		t.Errorf("%+v %+v", res.Eval, res.Train)
	}
}

// TestGPUUnavailable: the same file with gpu for an encoder says what lacks,
// and in Go too.
func TestGPUUnavailable(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cache")
	t.Setenv("COMPREHENSIVE_DIR", dir)
	fromYAML, err := pipeline.LoadConfig(testdata + "comprehensive_gpu.yaml")
	if err != nil {
		t.Fatal(err)
	}
	_, errYAML := pipeline.New(fromYAML)
	_, errGo := pipeline.New(comprehensive(t, cachesink.GPU, dir))
	for _, err := range []error{errYAML, errGo} {
		if !errors.Is(err, pipeline.ErrGPUUnavailable) || !strings.Contains(err.Error(), `"content_encoder"`) {
			t.Errorf("got %v", err)
		}
	}
	if errYAML.Error() != errGo.Error() {
		t.Errorf("%v and %v", errYAML, errGo)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Error("a cache was made")
	}
}
