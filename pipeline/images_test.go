package pipeline_test

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/permafrost-ml/permafrost/encode/onnx"
	"github.com/permafrost-ml/permafrost/pipeline"
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
