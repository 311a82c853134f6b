package trainable

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/permafrost-ml/permafrost/pipeline/train/nn"
)

func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0)) }

func random(rng *rand.Rand, rows, cols int) nn.Mat {
	m := nn.Mat{Rows: rows, Cols: cols, Data: make([]float32, rows*cols)}
	for i := range m.Data {
		m.Data[i] = float32(rng.NormFloat64())
	}
	return m
}

// inputs are texts with words in common, none and one in Greek, or embeddings.
func inputs(c Config, rows, in int) Input {
	if !c.ReadsTexts() {
		return Input{Rows: random(newRand(8), rows, in)}
	}
	texts := []string{"A small  bag", "", "bag of words, of words", "λόγος a", " \t\n", "bags"}
	var out Input
	for i := range rows {
		out.Texts = append(out.Texts, texts[i%len(texts)])
	}
	return out
}

var configs = []struct {
	config Config
	in     int
}{
	{NgramBag{Dim: 5, Buckets: 37}, 0},
	{NgramBag{Dim: 8, Buckets: 50, MinN: 1, MaxN: 2, Mode: "sum"}, 0},
	{Projection{Dim: 3}, 7},
	{Projection{}, 4},
}

// TestGradients: outputs are linear in the weights, so central differences
// are exact but for rounding.
func TestGradients(t *testing.T) {
	for _, c := range configs {
		e, err := c.config.New(c.in, newRand(1))
		if err != nil {
			t.Fatal(err)
		}
		const n = 6
		in, dy := inputs(c.config, n, c.in), random(newRand(2), n, e.Dim())
		p := e.NewPass()
		loss := func() float64 {
			y, err := p.Forward(in)
			if err != nil {
				t.Fatal(err)
			}
			var sum float64
			for i, v := range y.Data {
				sum += float64(v) * float64(dy.Data[i])
			}
			return sum
		}
		loss()
		if err := p.Backward(dy); err != nil {
			t.Fatal(err)
		}
		for _, q := range e.Parameters() {
			got := slices.Clone(q.Grads())
			for i := range q.Values() {
				old := q.Values()[i]
				q.Values()[i] = old + 0.5
				up := loss()
				q.Values()[i] = old - 0.5
				if want := up - loss(); math.Abs(want-float64(got[i])) > 1e-4*max(1, math.Abs(want)) {
					t.Fatalf("%+v: the gradient of %s[%d] is %v, want %v", c.config, q.Name, i, got[i], want)
				}
				q.Values()[i] = old
			}
		}
	}
}

// TestFrozen: what is frozen gives the outputs of training, each row with the
// same bits in any batch, whatever becomes of the weights.
func TestFrozen(t *testing.T) {
	for _, c := range configs {
		e, err := c.config.New(c.in, newRand(1))
		if err != nil {
			t.Fatal(err)
		}
		const n = 50
		in := inputs(c.config, n, c.in)
		y, err := e.NewPass().Forward(in)
		if err != nil {
			t.Fatal(err)
		}
		f := e.Freeze()
		for _, q := range e.Parameters() {
			clear(q.Values())
		}
		got := nn.Mat{Rows: n, Cols: f.Dim(), Data: make([]float32, n*f.Dim())}
		if err := f.Apply(got, in); err != nil {
			t.Fatal(err)
		}
		for i, v := range y.Data {
			if math.Abs(float64(v-got.Data[i])) > 1e-6 {
				t.Fatalf("%+v: value %d is %v, in training %v", c.config, i, got.Data[i], v)
			}
		}
		for i := range n {
			one := Input{}
			if in.Texts != nil {
				one.Texts = in.Texts[i : i+1]
			} else {
				one.Rows = nn.Mat{Rows: 1, Cols: c.in, Data: in.Rows.Row(i)}
			}
			row := nn.Mat{Rows: 1, Cols: f.Dim(), Data: make([]float32, f.Dim())}
			if err := f.Apply(row, one); err != nil || !slices.Equal(row.Data, got.Row(i)) {
				t.Fatalf("%+v: row %d differs alone (%v)", c.config, i, err)
			}
		}
	}
}

// TestThreads: gradients have the same bits with any number of them.
func TestThreads(t *testing.T) {
	for _, c := range configs {
		grads := func(threads int) (out []float32) {
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(threads))
			e, err := c.config.New(c.in, newRand(1))
			if err != nil {
				t.Fatal(err)
			}
			const n = 500
			p := e.NewPass()
			if _, err := p.Forward(inputs(c.config, n, c.in)); err != nil {
				t.Fatal(err)
			}
			if err := p.Backward(random(newRand(2), n, e.Dim())); err != nil {
				t.Fatal(err)
			}
			for _, q := range e.Parameters() {
				out = append(out, q.Grads()...)
			}
			return out
		}
		if want := grads(1); !slices.Equal(grads(2), want) || !slices.Equal(grads(5), want) {
			t.Errorf("%+v: other bits with more threads", c.config)
		}
	}
}

func TestGrams(t *testing.T) {
	b := NgramBag{}.withDefaults()
	for text, want := range map[string]string{
		"Ab é":   "<ab|ab>|<ab> <é>",
		"abcd":   "<ab|<abc|<abcd|abc|abcd|abcd>|bcd|bcd>|cd>",
		"  \n\t": "",
	} {
		var rows []int32
		for word := range strings.FieldsSeq(want) {
			grams := strings.Split(word, "|")
			slices.Sort(grams)
			for _, g := range grams {
				rows = append(rows, b.row(g))
			}
		}
		got := b.grams(nil, text)
		slices.Sort(got)
		slices.Sort(rows)
		if !slices.Equal(got, rows) {
			t.Errorf("%q has %d n-grams, want %d", text, len(got), len(rows))
		}
	}
}

func TestParse(t *testing.T) {
	for _, c := range configs {
		params, err := json.Marshal(c.config.Params())
		if err != nil {
			t.Fatal(err)
		}
		back, err := Parse(c.config.Type(), params)
		if err != nil {
			t.Fatal(err)
		}
		if again, _ := json.Marshal(back.Params()); string(again) != string(params) {
			t.Errorf("%s came back as %s", params, again)
		}
	}
	for typ, params := range map[string]string{"ngram_bag": `{"n":3}`, "projection": `{"dim":"x"}`, "lstm": ``} {
		if _, err := Parse(typ, json.RawMessage(params)); err == nil {
			t.Errorf("%s %s: no error", typ, params)
		}
	}
	for _, c := range []Config{
		NgramBag{Dim: -1}, NgramBag{Buckets: -1}, NgramBag{MinN: -1}, NgramBag{MinN: 4, MaxN: 3}, NgramBag{Mode: "max"}, Projection{Dim: -1}, Projection{},
	} {
		if _, err := c.New(0, newRand(1)); err == nil {
			t.Errorf("%+v: no error", c)
		}
	}
}
