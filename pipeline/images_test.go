package pipeline_test

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/permafrost-ml/permafrost/encode"
	"github.com/permafrost-ml/permafrost/encode/onnx"
	"github.com/permafrost-ml/permafrost/pipeline"
	"github.com/permafrost-ml/permafrost/source"
)

// needONNX skips a test where ONNX Runtime is not found: neither as for any
// user, nor in the virtual environment that .ci/full.d/onnx makes.
func needONNX(t *testing.T, model string) {
	t.Helper()
	home, bench := "", ""
	for _, v := range userEnv {
		if s, ok := strings.CutPrefix(v, "HOME="); ok {
			home = s
		}
		if s, ok := strings.CutPrefix(v, "PERMAFROST_BENCH_DIR="); ok {
			bench = s
		}
	}
	if bench == "" {
		bench = filepath.Join(home, ".cache", "permafrost-bench")
	}
	_, err := onnx.Model(model).Spec(t.Context())
	if !errors.Is(err, onnx.ErrNoLibrary) && !errors.Is(err, onnx.ErrNoCgo) {
		return // there is one, or another problem to fail with
	}
	found, _ := filepath.Glob(filepath.Join(bench, "onnx", "lib", "python3*", "site-packages", "onnxruntime", "capi"))
	if len(found) == 0 || errors.Is(err, onnx.ErrNoCgo) {
		t.Skip(err)
	}
	t.Setenv(onnx.LibraryVariable, found[0])
}

// TestImages runs the recipe of pictures from end to end, and then from what
// is stored.
func TestImages(t *testing.T) {
	needONNX(t, testdata+"vision")
	t.Setenv("IMAGES_DIR", t.TempDir())
	c, err := pipeline.LoadConfig(testdata + "images.yaml")
	if err != nil && strings.Contains(err.Error(), "declare one of") {
		t.Skipf("this build has no source of images: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	c.Allocator = checked(t)
	if r := fill(t, c); r.Encoded != 80 || r.Rows != 80 {
		t.Errorf("fill %+v", r)
	}
	if r := fill(t, seal(c)); r.Encoded != 0 || r.Encoders["vision"].Objects != 80 {
		t.Errorf("second fill %+v", r)
	}
	res, err := open(t, seal(c)).Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("val, as encoded: %v; after training: %v", res.Eval.Baseline, res.Eval.Tuned)
	for metric, least := range map[string]float64{"retrieval_precision@1": 0.75} {
		if res.Eval.Baseline[metric] < least || res.Eval.Tuned[metric] <= res.Eval.Baseline[metric] {
			t.Errorf("%s: %v as encoded, %v after training", metric, res.Eval.Baseline[metric], res.Eval.Tuned[metric])
		}
	}
}

// TestImageChanges: a byte of an image is noticed, wherever its file lies.
func TestImageChanges(t *testing.T) {
	put := func(dir, name, content string) {
		write(t, filepath.Join(dir, filepath.FromSlash(name)), content)
	}
	for name, c := range map[string]struct {
		change  func(dir string)
		encoded int64
		same    bool // what is served
	}{
		"a byte":             {func(dir string) { put(dir, "cat/a.png", "cat A") }, 1, false},
		"an image more":      {func(dir string) { put(dir, "cat/c.png", "cat c") }, 1, false},
		"an image twice":     {func(dir string) { put(dir, "cat/c.png", "cat a") }, 0, false},
		"an image less":      {func(dir string) { remove(t, filepath.Join(dir, "dog", "a.png")) }, 0, false},
		"another label":      {func(dir string) { put(dir, "cow/a.png", "dog a"); remove(t, filepath.Join(dir, "dog", "a.png")) }, 0, false},
		"other times":        {func(dir string) { put(dir, "cat/a.png", "cat a") }, 0, true},
		"a file beside them": {func(dir string) { put(dir, "cat/notes.txt", "no image") }, 0, true},
		"images swap places": {func(dir string) { put(dir, "cat/a.png", "cat b"); put(dir, "cat/b.png", "cat a") }, 0, false},
	} {
		dir := t.TempDir()
		put(dir, "cat/a.png", "cat a")
		put(dir, "cat/b.png", "cat b")
		put(dir, "dog/a.png", "dog a")
		m := newModel("a")
		m.onBatch = func(_ context.Context, batch []encode.Input, dst []float32) error {
			for i, in := range batch {
				m.vector(string(encode.AppendInput(nil, in)), 0, dst[i*m.dim:(i+1)*m.dim])
			}
			return nil
		}
		cfg := pipeline.Config[source.Fields]{
			Splits: pipeline.Splits[source.Fields]{"train": source.Images[source.Fields](dir)},
			Sample: func(f source.Fields) pipeline.Sample {
				return pipeline.Group(encode.Record(map[string]encode.Value{"image": encode.BytesValue(f["image"].([]byte))}), f["label"])
			},
			Version:  "1",
			Encoders: pipeline.Encoders{"enc": encode.Reading(m, encode.Reads{Field: "image"})},
			Cache:    &pipeline.CacheConfig{SaveDir: t.TempDir()}, Allocator: checked(t),
		}
		fill(t, cfg)
		before := everything(t, cfg)
		c.change(dir)
		if r := fill(t, cfg); r.Encoded != c.encoded {
			t.Errorf("%s: encoded %d, want %d", name, r.Encoded, c.encoded)
		}
		got := everything(t, seal(cfg))
		if slices.Equal(got, before) != c.same {
			t.Errorf("%s: what is served is the same: %v", name, !c.same)
		}
		fresh := cfg
		fresh.Cache = &pipeline.CacheConfig{}
		sameLines(t, name, got, everything(t, fresh))
	}
}
