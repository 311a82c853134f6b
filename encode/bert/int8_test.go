package bert

import (
	"math"
	"testing"

	"github.com/permafrost-ml/permafrost/encode"
)

// likeness returns the mean and the least cosine of two sets of embeddings of
// length 1.
func likeness(a, b []float32, dim int) (mean, least float64, row int) {
	least = math.Inf(1)
	for at := 0; at < len(a); at += dim {
		dot := 0.0
		for i := at; i < at+dim; i++ {
			dot += float64(a[i]) * float64(b[i])
		}
		mean += dot
		if dot < least {
			least, row = dot, at/dim
		}
	}
	return mean / float64(len(a)/dim), least, row
}

// TestInt8: it is another encoder, near the one in float32.
func TestInt8(t *testing.T) {
	o := tinyModel("bert")
	exact := open(t, o.Model())
	before, err := o.Model().Spec(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	o.Precision = precisionInt8
	after, err := o.Model().Spec(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	a, _, errA := before.Declaration(32)
	b, fields, errB := after.Declaration(32)
	if errA != nil || errB != nil || a == b || fields["compute_dtype"] != "int8" {
		t.Errorf("fingerprints %v and %v, fields %v", a, b, fields)
	}
	inputs := readTexts(t, "testdata/texts.json")
	x, y := embed(t, exact, inputs), embed(t, open(t, o.Model()), inputs)
	if mean, least, _ := likeness(x, y, exact.Dim()); mean < 0.999 || least < 0.99 || mean == 1 {
		t.Errorf("cosines of %v on average, %v at least", mean, least)
	}
}

// TestRealInt8 holds a real model to what the package comment says.
func TestRealInt8(t *testing.T) {
	dir, inputs, want := real(t, miniLM)
	enc := open(t, Options{Dir: dir, Precision: precisionInt8}.Model())
	dim := enc.Dim()
	compare := func(name string, inputs []encode.Input, want []float32, leastBound, meanBound float64) {
		mean, least, row := likeness(embed(t, enc, inputs), want, dim)
		t.Logf("%s: cosines to float32 of %.5f on average, %.5f at least", name, mean, least)
		if mean < meanBound || least < leastBound {
			t.Errorf("%s: cosines of %v on average, %v at least, of %q", name, mean, least, inputs[row].Text())
		}
	}
	compare("FAQ", inputs[:2000], want[:2000*dim], 0.985, 0.9985)
	// Among these are single characters, which are the least alike.
	compare("hard strings", inputs[2000:], want[2000*dim:], 0.985, 0.995)
}

// TestPreparedTexts: what is no text's prepared form is an error.
func TestPreparedTexts(t *testing.T) {
	enc := open(t, tinyModel("bert").Model()).(*encoder)
	dst := make([]float32, enc.Dim())
	for _, bad := range [][]byte{nil, {1}, {1, 0, 0, 0, 2}, {0, 0, 0, 0x80}, {0xff, 0xff, 0, 0}, make([]byte, 4*1000)} {
		if err := enc.EncodePrepared(t.Context(), [][]byte{bad}, dst); err == nil {
			t.Errorf("%d bytes %.8v are accepted", len(bad), bad)
		}
	}
}
