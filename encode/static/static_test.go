package static

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"flag"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/permafrost-ml/permafrost/encode"
	"github.com/permafrost-ml/permafrost/encode/encodetest"
)

var update = flag.Bool("update", false, "rewrite testdata/golden.json; bump outputVersion with it")

func open(t testing.TB) encode.Encoder {
	t.Helper()
	enc, err := Default().Open(t.Context(), 0)
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

func inputs(texts ...string) []encode.Input {
	batch := make([]encode.Input, len(texts))
	for i, s := range texts {
		batch[i] = encode.Input{encode.TextValue(s)}
	}
	return batch
}

func embed(t testing.TB, enc encode.Encoder, texts ...string) [][]float32 {
	t.Helper()
	dst := make([]float32, len(texts)*Dim)
	if err := enc.Encode(t.Context(), inputs(texts...), dst); err != nil {
		t.Fatal(err)
	}
	return slices.Collect(slices.Chunk(dst, Dim))
}

func cosine(a, b []float32) float64 {
	dot := 0.0
	for i := range a {
		dot += float64(a[i]) * float64(b[i])
	}
	return dot
}

func TestContract(t *testing.T) { encodetest.Run(t, Default(), encodetest.Options{}) }

func TestGolden(t *testing.T) {
	const file = "testdata/golden.json"
	type vector struct {
		Text   []byte `json:"text"`
		Vector string `json:"vector"` // float32 values, little endian, in base64
	}
	var golden struct {
		OutputVersion int      `json:"output_version"`
		Artefact      string   `json:"artefact"`
		Vectors       []vector `json:"vectors"`
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &golden); err != nil {
		t.Fatal(err)
	}
	enc := open(t)
	for i := range golden.Vectors {
		v := &golden.Vectors[i]
		var raw []byte
		for _, x := range embed(t, enc, string(v.Text))[0] {
			raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(x))
		}
		got := base64.StdEncoding.EncodeToString(raw)
		if got != v.Vector && !*update {
			t.Errorf("%+q has other bits than the golden vector; if that is meant, bump outputVersion and run with -update", v.Text)
		}
		v.Vector = got
	}
	if *update {
		golden.OutputVersion, golden.Artefact = outputVersion, digest(artefact)
		b, err := json.MarshalIndent(golden, "", " ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, append(b, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if golden.OutputVersion != outputVersion || golden.Artefact != digest(artefact) || len(golden.Vectors) < 30 {
		t.Errorf("golden vectors are %d of version %d for %s: run with -update", len(golden.Vectors), golden.OutputVersion, golden.Artefact)
	}
}

func TestMeansSomething(t *testing.T) {
	enc := open(t)
	for _, tc := range []struct{ text, near, far string }{
		{"How do I reset my password?", "I forgot my login credentials", "The cat sleeps on the sofa"},
		{"stock prices fell sharply", "shares dropped in the market", "bake the bread for an hour"},
		{"delete a file from disk", "removes the named file", "returns the sine of the angle"},
	} {
		v := embed(t, enc, tc.text, tc.near, tc.far)
		if near, far := cosine(v[0], v[1]), cosine(v[0], v[2]); near < far+0.1 {
			t.Errorf("%q: %.3f to %q, %.3f to %q", tc.text, near, tc.near, far, tc.far)
		}
	}
}

func TestUnitLength(t *testing.T) {
	enc := open(t)
	for _, text := range []string{"a", "the", "quick brown fox", strings.Repeat("word ", 3000), "日本語", "🔥"} {
		v := embed(t, enc, text)[0]
		if n := cosine(v, v); math.Abs(n-1) > 1e-6 {
			t.Errorf("%.20q: squared length %v", text, n)
		}
	}
}

func TestTextWithoutTokensIsDefined(t *testing.T) {
	enc := open(t)
	for _, text := range []string{"", "   ", "\x00\xff", "[SEP]", "[CLS] [PAD]", strings.Repeat("x", 101)} {
		for i, x := range embed(t, enc, text)[0] {
			if x != 1.0/16 {
				t.Fatalf("%q: value %d is %v, want 1/16", text, i, x)
			}
		}
	}
}

// TestLongTextsDoNotOverflow embeds texts of more tokens than a lane of the
// sum holds; repeating a text must not turn its direction.
func TestLongTextsDoNotOverflow(t *testing.T) {
	enc := open(t)
	for _, text := range []string{"zygote ", "syndrome ", "the ", "cloud run logs "} {
		v := embed(t, enc, text, strings.Repeat(text, 256), strings.Repeat(text, 257), strings.Repeat(text, 20000))
		for i, w := range v[1:] {
			if c := cosine(v[0], w); c < 1-1e-6 {
				t.Errorf("%q repeated (%d): cosine %v to itself", text, i, c)
			}
		}
	}
}

// TestSumIsThePlainSum checks the lanes against the sum as one would write it.
func TestSumIsThePlainSum(t *testing.T) {
	tab, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	ids := []int32{}
	for i := range int32(700) {
		ids = append(ids, (i*7919+13)%int32(tab.tokens.Len()))
	}
	for _, n := range []int{1, 2, 255, 256, 257, 700} {
		var want [Dim]float64
		length := 0.0
		for d := range want {
			for _, id := range ids[:n] {
				scale := float64(binary.LittleEndian.Uint16(tab.scales[2*id:]))
				want[d] += scale * (float64(tab.rows[int(id)*Dim+d]) - bias)
			}
			length += want[d] * want[d]
		}
		var s sum
		var got [Dim]float32
		tab.embed(&s, ids[:n], &got)
		for d, x := range got {
			if w := want[d] / math.Sqrt(length); math.Abs(float64(x)-w) > 1e-7 {
				t.Fatalf("%d tokens, dimension %d: %v, want %v", n, d, x, w)
			}
		}
	}
}

func TestParseRefuses(t *testing.T) {
	flip := func(at int) []byte {
		b := slices.Clone(artefact)
		b[at]++
		return b
	}
	for name, data := range map[string][]byte{
		"nothing":              nil,
		"a cut head":           artefact[:12],
		"a cut file":           artefact[:len(artefact)-1],
		"a longer file":        append(slices.Clone(artefact), 0),
		"another magic":        flip(0),
		"another row count":    flip(8),
		"another dimension":    flip(12),
		"a damaged vocabulary": append(slices.Clone(artefact[:len(artefact)-64]), make([]byte, 64)...),
	} {
		if _, err := parse(data); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

func TestSize(t *testing.T) {
	if len(artefact) > 8_000_000 {
		t.Errorf("the artefact has %d bytes, at most 8,000,000 are to be embedded", len(artefact))
	}
}

func TestWrongRoomIsAnError(t *testing.T) {
	enc := open(t)
	for _, n := range []int{0, Dim - 1, Dim + 1, 2 * Dim} {
		if err := enc.Encode(t.Context(), inputs("a"), make([]float32, n)); err == nil {
			t.Errorf("room for %d values is taken", n)
		}
	}
}

func TestAllocatesNothing(t *testing.T) {
	enc := open(t)
	batch := inputs("How do I rotate the keys of a service account?", "Ünïcödé über alles", "")
	dst := make([]float32, len(batch)*Dim)
	if n := testing.AllocsPerRun(20, func() {
		if err := enc.Encode(t.Context(), batch, dst); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations a batch, want 0", n)
	}
}

func BenchmarkEncode(b *testing.B) {
	enc := open(b)
	batch := inputs(slices.Repeat([]string{"How do I rotate the access keys of a service account without any downtime for the running servers?"}, 32)...)
	dst := make([]float32, len(batch)*Dim)
	b.ReportAllocs()
	for b.Loop() {
		if err := enc.Encode(b.Context(), batch, dst); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N*len(batch))/b.Elapsed().Seconds(), "texts/s")
}

func BenchmarkSum(b *testing.B) {
	tab, err := shared()
	if err != nil {
		b.Fatal(err)
	}
	ids := make([]int32, 20)
	var s sum
	var dst [Dim]float32
	seed := uint32(1)
	for b.Loop() {
		for i := range ids {
			seed = seed*1664525 + 1013904223
			ids[i] = int32(uint64(seed) * uint64(tab.tokens.Len()) >> 32)
		}
		tab.embed(&s, ids, &dst)
	}
}
