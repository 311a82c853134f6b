package pipeline_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/permafrost-ml/permafrost/cachesink"
	"github.com/permafrost-ml/permafrost/encode"
	"github.com/permafrost-ml/permafrost/encode/static"
	"github.com/permafrost-ml/permafrost/pipeline"
	"github.com/permafrost-ml/permafrost/pipeline/loss"
)

// weights trains the pipeline and returns the head's file.
func weights[R any](t testing.TB, cfg pipeline.Config[R]) []byte {
	t.Helper()
	cfg.Output = filepath.Join(t.TempDir(), "out")
	if _, err := open(t, cfg).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(cfg.Output, "head.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	if len(b) < 200 {
		t.Fatalf("weights of %d bytes", len(b))
	}
	return b
}

// TestCacheTypesTrainTheSame: the head's weights have the same bits whether
// the encoders run once or in every epoch.
func TestCacheTypesTrainTheSame(t *testing.T) {
	for _, kind := range []loss.Kind{loss.Pairs, loss.Groups} {
		var want []byte
		for name, cache := range map[string]*pipeline.CacheConfig{
			"on disk":     {SaveDir: t.TempDir(), NumWorkers: 2},
			"in memory":   {},
			"absent":      nil,
			"none":        {CacheType: cachesink.None, NumWorkers: 3},
			"none, saved": {CacheType: cachesink.None, SaveDir: t.TempDir()},
			"mixed":       {Mapping: pipeline.Mapping{"one": cachesink.None, "two": cachesink.CPU}, SaveDir: t.TempDir()},
			"mixed back":  {CacheType: cachesink.None, Mapping: pipeline.Mapping{"one": cachesink.Auto}, BatchSize: 3},
		} {
			cfg := config(t, "")
			cfg.Cache = cache
			cfg.Encoders = pipeline.Encoders{
				"one": static.Default(),
				"two": encode.Reading(static.Default(), encode.Reads{Field: "topic"}),
			}
			object := func(r row, text string) encode.Object {
				return encode.Text(text).With("topic", encode.TextValue(fmt.Sprint(r.C, r.N%3)))
			}
			cfg.Sample = func(r row) pipeline.Sample { return pipeline.Pair(object(r, r.Q), object(r, r.A)) }
			if kind == loss.Groups {
				cfg.Sample = func(r row) pipeline.Sample { return pipeline.Group(object(r, r.Q), r.C) }
				cfg.Loss = loss.Softmax{}
			}
			got := weights(t, cfg)
			if want == nil {
				want = got
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%v: the cache %q trains other weights", kind, name)
			}
		}
	}
}

// TestNoneEncodesInEveryEpoch: what is not cached runs again, from the
// inputs that the fill stored and not from the dataset.
func TestNoneEncodesInEveryEpoch(t *testing.T) {
	cfg := config(t, t.TempDir())
	m := newModel("a")
	cfg.Encoders = pipeline.Encoders{"enc": m}
	cfg.Cache.CacheType = cachesink.None
	if r := fill(t, cfg); r.Encoded != 0 || m.opens.Load() != 0 {
		t.Errorf("the fill encoded %d and opened %d", r.Encoded, m.opens.Load())
	}
	for name, src := range cfg.Splits {
		cfg.Splits[name] = sealed[row]{src}
	}
	p := open(t, cfg)
	first := contents(t, p, "train")
	if n := m.objects.Load(); n != 120 {
		t.Errorf("an epoch encoded %d objects", n)
	}
	opened := m.opens.Load()
	sameLines(t, "the second epoch", contents(t, p, "train"), first)
	if n := m.objects.Load(); n != 240 || m.opens.Load() > max(opened, 2) {
		t.Errorf("two epochs encoded %d objects with %d encoders", n, m.opens.Load())
	}
}

// TestBreakEncodesNoMore: what a loop does not want is not encoded.
func TestBreakEncodesNoMore(t *testing.T) {
	cfg := config(t, "")
	m := newModel("a")
	cfg.Encoders = pipeline.Encoders{"enc": m}
	cfg.Cache.CacheType, cfg.Cache.NumWorkers = cachesink.None, 1
	cfg.Train.BatchSize = 1
	p := open(t, cfg)
	for _, err := range p.Epoch(t.Context(), "train", 0) {
		if err != nil {
			t.Fatal(err)
		}
		break
	}
	if n := m.objects.Load(); n > 30 {
		t.Errorf("%d of 120 objects were encoded for one row", n)
	}
}
