package bert

import (
	"encoding/binary"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/permafrost-ml/permafrost/encode"
)

// tiny are the model directories that tools/reference/bert.py makes: two
// layers with random weights, of every supported kind.
var tiny = []string{"bert", "bert-cased-head", "bert-all-poolings", "distilbert-dense", "distilbert-max", "mpnet"}

// readTexts reads a list of texts in base64.
func readTexts(t testing.TB, path string) []encode.Input {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var encoded [][]byte // decoded by package json
	if err := json.Unmarshal(b, &encoded); err != nil {
		t.Fatal(err)
	}
	inputs := make([]encode.Input, len(encoded))
	for i, text := range encoded {
		inputs[i] = encode.Input{encode.TextValue(string(text))}
	}
	return inputs
}

func readFloats(t testing.TB, path string) []float32 {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	out := make([]float32, len(raw)/4)
	for i := range out {
		out[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
	}
	return out
}

func open(t testing.TB, m encode.Model) encode.Encoder {
	t.Helper()
	enc, err := m.Open(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := enc.Close(); err != nil {
			t.Error(err)
		}
	})
	return enc
}

func embed(t testing.TB, enc encode.Encoder, inputs []encode.Input) []float32 {
	t.Helper()
	dst := make([]float32, len(inputs)*enc.Dim())
	if err := enc.Encode(t.Context(), inputs, dst); err != nil {
		t.Fatal(err)
	}
	return dst
}

// furthest is the greatest difference of two values, and the row it is in. For
// embeddings that are not normalized it is relative to the row's greatest value.
func furthest(got, want []float32, dim int) (diff float64, row int) {
	for at := 0; at < len(want); at += dim {
		scale := 1.0
		for _, v := range want[at : at+dim] {
			scale = max(scale, math.Abs(float64(v)))
		}
		for i := at; i < at+dim; i++ {
			if d := math.Abs(float64(got[i])-float64(want[i])) / scale; d > diff || math.IsNaN(d) {
				diff, row = d, at/dim
			}
		}
	}
	return diff, row
}

// tolerance is what an embedding may differ by from sentence-transformers'.
const tolerance = 2e-6

func TestEqualsSentenceTransformers(t *testing.T) {
	inputs := readTexts(t, "testdata/texts.json")
	if len(inputs) < 50 {
		t.Fatalf("only %d texts", len(inputs))
	}
	for _, name := range tiny {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join("testdata", name)
			want := readFloats(t, filepath.Join(dir, "reference.f32"))
			enc := open(t, Model(dir))
			if len(want) != len(inputs)*enc.Dim() {
				t.Fatalf("the dimension is %d, the reference has %d values for %d texts", enc.Dim(), len(want), len(inputs))
			}
			diff, row := furthest(embed(t, enc, inputs), want, enc.Dim())
			t.Logf("the greatest difference is %.3g", diff)
			if !(diff <= tolerance) {
				t.Errorf("%q differs by %v", inputs[row].Text(), diff)
			}
		})
	}
}
