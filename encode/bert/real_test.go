package bert

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/permafrost-ml/permafrost/encode"
	"github.com/permafrost-ml/permafrost/internal/kernels"
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

// TestRealMiniLM compares the FAQ's texts and the hard strings behind them;
// all of them if PERMAFROST_MODELS is set, else some.
func TestRealMiniLM(t *testing.T) {
	dir, inputs, want := real(t, miniLM)
	enc := open(t, Model(dir))
	dim := enc.Dim()
	if len(want) != len(inputs)*dim || len(inputs) < 2300 {
		t.Fatalf("the reference has %d texts and %d values", len(inputs), len(want))
	}
	step := 16
	switch {
	case os.Getenv("PERMAFROST_MODELS") != "":
		step = 1
	case kernels.Profile() != "fma":
		step = 200
	}
	compare := func(name string, from, to int) {
		var texts []encode.Input
		var vecs []float32
		for i := from; i < to; i += step {
			texts, vecs = append(texts, inputs[i]), append(vecs, want[i*dim:(i+1)*dim]...)
		}
		diff, row := furthest(embed(t, enc, texts), vecs, dim)
		t.Logf("%s: the greatest difference of %d texts is %.3g", name, len(texts), diff)
		if !(diff <= tolerance) {
			t.Errorf("%s: %q differs by %v", name, texts[row].Text(), diff)
		}
	}
	compare("FAQ", 0, 2000)
	compare("hard strings", 2000, len(inputs))
}

// BenchmarkRealMiniLM encodes the 2,000 FAQ texts.
func BenchmarkRealMiniLM(b *testing.B) {
	dir, inputs, _ := real(b, miniLM)
	inputs = inputs[:2000]
	enc := open(b, Model(dir))
	dst := make([]float32, 256*enc.Dim())
	b.ReportAllocs()
	for b.Loop() {
		for at := 0; at < len(inputs); at += 250 {
			part := inputs[at : at+250]
			if err := enc.Encode(b.Context(), part, dst[:len(part)*enc.Dim()]); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(b.N*len(inputs))/b.Elapsed().Seconds(), "texts/s")
}
