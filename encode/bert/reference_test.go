package bert

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"flag"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/permafrost-ml/permafrost/encode"
	"github.com/permafrost-ml/permafrost/internal/kernels"
)

// tiny are the model directories that tools/reference/bert.py makes: two
// layers with random weights, of every supported kind.
var tiny = []string{"bert", "bert-cased-head", "bert-all-poolings", "distilbert-dense", "distilbert-max", "mpnet", "roberta", "roberta-prefix"}

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

var update = flag.Bool("update", false, "rewrite testdata/golden.json; bump outputVersion with it")

// TestGolden guards the bits of embeddings that caches hold.
func TestGolden(t *testing.T) {
	const file = "testdata/golden.json"
	type document struct {
		OutputVersion int               `json:"output_version"`
		Profile       string            `json:"profile"`
		SHA256        map[string]string `json:"sha256"` // of all embeddings of the reference texts
	}
	var golden document
	b, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(b, &golden)
	}
	if err != nil && !*update {
		t.Fatal(err)
	}
	if golden.Profile != kernels.Profile() && !*update {
		t.Skipf("the golden bits are those of the profile %s", golden.Profile)
	}
	now := document{outputVersion, kernels.Profile(), map[string]string{}}
	inputs := readTexts(t, "testdata/texts.json")
	for _, name := range append(slices.Clone(tiny), "bert int8") {
		dir, precision, _ := strings.Cut(name, " ")
		o := tinyModel(dir)
		o.Precision = precision
		h := sha256.New()
		if err := binary.Write(h, binary.LittleEndian, embed(t, open(t, o.Model()), inputs)); err != nil {
			t.Fatal(err)
		}
		now.SHA256[name] = hex.EncodeToString(h.Sum(nil))
		if now.SHA256[name] != golden.SHA256[name] && !*update {
			t.Errorf("%s has other bits than the golden ones; if that is meant, bump outputVersion and run with -update", name)
		}
	}
	if *update {
		b, err := json.MarshalIndent(now, "", " ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, append(b, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if golden.OutputVersion != outputVersion {
		t.Errorf("the golden bits are of version %d: run with -update", golden.OutputVersion)
	}
}
