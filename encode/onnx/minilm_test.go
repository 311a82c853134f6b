package onnx

import (
	"encoding/binary"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/permafrost-ml/permafrost/encode"
	"github.com/permafrost-ml/permafrost/encode/encodetest"
)

// minilm is a directory that .ci/full.d/onnx makes of all-MiniLM-L6-v2, below
// that of a variable.
func minilm(t testing.TB, name string) string {
	t.Helper()
	models := os.Getenv("PERMAFROST_TEST_ONNX_MODELS")
	if models == "" {
		t.Skip("PERMAFROST_TEST_ONNX_MODELS is not set; .ci/full.d/onnx makes its models")
	}
	return filepath.Join(models, name)
}

// reference is texts and what sentence-transformers gives for them, by
// tools/onnx/reference.py: 2,000 of a dataset and 300 hard ones.
func reference(t testing.TB, dim int) (batch []encode.Input, vectors []float32) {
	t.Helper()
	dir := minilm(t, "reference")
	list, err := os.ReadFile(filepath.Join(dir, "texts.json"))
	if err != nil {
		t.Fatal(err)
	}
	var of []string
	if err := json.Unmarshal(list, &of); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(dir, "vectors.f32"))
	if err != nil || len(raw) != 4*dim*len(of) || len(of) < 2300 {
		t.Fatalf("%d bytes of vectors for %d texts: %v", len(raw), len(of), err)
	}
	for i := 0; i < len(raw); i += 4 {
		vectors = append(vectors, math.Float32frombits(binary.LittleEndian.Uint32(raw[i:])))
	}
	return texts(of...), vectors
}

func TestMiniLM(t *testing.T) {
	for _, tc := range []struct {
		dir  string
		most float64
	}{{"minilm", 2e-6}, {"minilm-hidden", 2e-6}, {"minilm-float16", 4e-3}} {
		t.Run(tc.dir, func(t *testing.T) {
			enc := open(t, testModel(t, Options{Path: minilm(t, tc.dir)}))
			batch, want := reference(t, enc.Dim())
			if testing.Short() || raceEnabled {
				batch = batch[len(batch)-300:]
				want = want[len(want)-300*enc.Dim():]
			}
			got := make([]float32, len(want))
			if err := enc.Encode(t.Context(), batch, got); err != nil {
				t.Fatal(err)
			}
			worst := 0.0
			for i, v := range got {
				if d := math.Abs(float64(v) - float64(want[i])); !(d <= tc.most) {
					t.Fatalf("value %d of %.60q is %v, want %v", i%enc.Dim(), batch[i/enc.Dim()].Text(), v, want[i])
				} else if d > worst {
					worst = d
				}
			}
			t.Logf("%d texts: largest difference %.2g", len(batch), worst)
		})
	}
}

func TestMiniLMContract(t *testing.T) {
	encodetest.Run(t, testModel(t, Options{Path: minilm(t, "minilm")}), encodetest.Options{Instances: 2})
}
