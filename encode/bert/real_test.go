package bert

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/permafrost-ml/permafrost/encode"
)

const miniLM = "all-MiniLM-L6-v2"

// real is the directory of a real model, which is not part of the tree: a
// folder of $PERMAFROST_MODELS or of the user's cache. Beside it lies
// NAME.reference, which tools/reference/bert.py writes. The test is skipped
// without them.
func real(t testing.TB, name string) (dir string, texts []encode.Input, want []float32) {
	t.Helper()
	root := os.Getenv("PERMAFROST_MODELS")
	if root == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			t.Skip(err)
		}
		root = filepath.Join(cache, "permafrost-bench", "models")
	}
	dir, reference := filepath.Join(root, name), filepath.Join(root, name+".reference")
	for _, need := range []string{filepath.Join(dir, "config.json"), filepath.Join(reference, "reference.f32")} {
		if _, err := os.Stat(need); err != nil {
			t.Skipf("no model: %v", err)
		}
	}
	return dir, readTexts(t, filepath.Join(reference, "texts.json")), readFloats(t, filepath.Join(reference, "reference.f32"))
}

func TestRealMiniLM(t *testing.T) {
	dir, inputs, want := real(t, miniLM)
	enc := open(t, Model(dir))
	if len(want) != len(inputs)*enc.Dim() || len(inputs) < 2300 {
		t.Fatalf("the reference has %d texts and %d values", len(inputs), len(want))
	}
	got := embed(t, enc, inputs)
	for name, part := range map[string][2]int{"FAQ": {0, 2000}, "hard strings": {2000, len(inputs)}} {
		from, to := part[0]*enc.Dim(), part[1]*enc.Dim()
		diff, row := furthest(got[from:to], want[from:to], enc.Dim())
		t.Logf("%s: the greatest difference is %.3g", name, diff)
		if !(diff <= tolerance) {
			t.Errorf("%s: %q differs by %v", name, inputs[part[0]+row].Text(), diff)
		}
	}
}
