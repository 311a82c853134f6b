package loss

import (
	"encoding/json"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"gorgonia.org/tensor"
)

func matrix(rows [][]float32) *tensor.Dense {
	return tensor.New(tensor.WithShape(len(rows), len(rows[0])), tensor.WithBacking(slices.Concat(rows...)))
}

// near compares a gradient with one of float64: to 1e-5 of its largest value.
func near(t *testing.T, what string, got []float32, rows [][]float64) {
	t.Helper()
	want := slices.Concat(rows...)
	if len(got) != len(want) {
		t.Fatalf("%s has %d values, want %d", what, len(got), len(want))
	}
	scale := 1e-3
	for _, v := range want {
		scale = max(scale, math.Abs(v))
	}
	for i, v := range want {
		if d := math.Abs(float64(got[i]) - v); !(d <= 1e-5*scale) {
			t.Errorf("%s[%d] is %v, want %v", what, i, got[i], v)
			return
		}
	}
}

type vectors struct {
	MNR []struct {
		Name, Variant string
		Symmetric     bool
		Scale, Loss   float64
		AIDs, BIDs    []int64
		A, B          [][]float32
		DA, DB        [][]float64
	}
	Softmax []struct {
		Temperature, Loss float64
		Labels            []int32
		E                 [][]float32
		Kernel            [][]float32
		DE, DKernel       [][]float64
	}
}

func load(t *testing.T) (v vectors) {
	b, err := os.ReadFile("testdata/vectors.json")
	if err == nil {
		err = json.Unmarshal(b, &v)
	}
	if err != nil || len(v.MNR) != 40 || len(v.Softmax) != 2 {
		t.Fatalf("vectors.json: %d and %d cases, %v", len(v.MNR), len(v.Softmax), err)
	}
	return v
}

func TestMultipleNegativesRankingEqualsNumPy(t *testing.T) {
	for _, c := range load(t).MNR {
		cfg := MultipleNegativesRanking{Scale: c.Scale, Symmetric: c.Symmetric, Variant: c.Variant}
		l, err := cfg.New(len(c.A[0]), 0, nil)
		if err != nil {
			t.Fatal(err)
		}
		b := &Batch{A: matrix(c.A), B: matrix(c.B), AIDs: c.AIDs, BIDs: c.BIDs, Scores: []float32{1, 1, 1, 1, 1, 1, 1}}
		got, err := l.Compute(b, true)
		if err != nil {
			t.Fatal(err)
		}
		if math.Abs(got.Value-c.Loss) > 2e-6*max(1, c.Loss) {
			t.Errorf("%s %+v: loss is %v, want %v", c.Name, cfg, got.Value, c.Loss)
		}
		near(t, c.Name+" da", got.DA.Float32s(), c.DA)
		near(t, c.Name+" db", got.DB.Float32s(), c.DB)
		if without, err := l.Compute(b, false); err != nil || without.Value != got.Value || without.DA != nil {
			t.Errorf("%s: without gradients %v, %v", c.Name, without, err)
		}
	}
}

func TestSoftmaxEqualsNumPy(t *testing.T) {
	for _, c := range load(t).Softmax {
		l, err := Softmax{Temperature: c.Temperature}.New(len(c.E[0]), 3, rand.New(rand.NewPCG(1, 2)))
		if err != nil {
			t.Fatal(err)
		}
		kernel := l.Parameters()[0]
		copy(kernel.Values(), slices.Concat(c.Kernel...))
		for round := 1; round <= 2; round++ {
			got, err := l.Compute(&Batch{A: matrix(c.E), Labels: c.Labels}, true)
			if err != nil {
				t.Fatal(err)
			}
			if math.Abs(got.Value-c.Loss) > 2e-6*max(1, c.Loss) {
				t.Errorf("temperature %v: loss is %v, want %v", c.Temperature, got.Value, c.Loss)
			}
			near(t, "de", got.DA.Float32s(), c.DE)
			// Gradients of parameters add up until they are cleared.
			mean := slices.Clone(kernel.Grads())
			for i := range mean {
				mean[i] /= float32(round)
			}
			near(t, "dkernel", mean, c.DKernel)
		}
	}
}

func TestSoftmaxFirstKernel(t *testing.T) {
	l, err := Softmax{}.New(100, 50, rand.New(rand.NewPCG(1, 2)))
	if err != nil {
		t.Fatal(err)
	}
	var sum, squares float64
	for _, v := range l.Parameters()[0].Values() {
		sum += float64(v)
		squares += float64(v) * float64(v)
	}
	if mean, dev := sum/5000, math.Sqrt(squares/5000); math.Abs(mean) > 0.0006 || math.Abs(dev-0.01) > 0.0005 {
		t.Errorf("the kernel has mean %v and deviation %v", mean, dev)
	}
}

// TestLargeScale: a scale far beyond exp's range in float32 changes nothing about
// the result being finite and right.
func TestLargeScale(t *testing.T) {
	l, err := MultipleNegativesRanking{Scale: 1000, Symmetric: true}.New(2, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	a, b := matrix([][]float32{{1, 0}, {0, 1}}), matrix([][]float32{{0, 1}, {1, 0}})
	got, err := l.Compute(&Batch{A: a, B: b}, true)
	if err != nil || math.Abs(got.Value-1000) > 1e-3 {
		t.Errorf("got %v, %v, want 1000", got.Value, err)
	}
}

func TestZeroRowsAndOnePair(t *testing.T) {
	l, err := MultipleNegativesRanking{}.New(2, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := l.Compute(&Batch{A: matrix([][]float32{{0, 0}, {0, 1}}), B: matrix([][]float32{{1, 0}, {0, 0}})}, true)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []*tensor.Dense{got.DA, got.DB} {
		for _, v := range d.Float32s() {
			if v != v || math.Abs(float64(v)) > 100 {
				t.Errorf("a row of zeros gives the gradient %v", d.Float32s())
			}
		}
	}
	one, err := l.Compute(&Batch{A: matrix([][]float32{{3, 4}}), B: matrix([][]float32{{1, 0}})}, true)
	if err != nil || one.Value != 0 || one.DA.Float32s()[0] != 0 {
		t.Errorf("one pair: %v, %v", one, err)
	}
}

func TestNaNShowsInLoss(t *testing.T) {
	nan := float32(math.NaN())
	m, _ := MultipleNegativesRanking{Symmetric: true}.New(2, 0, nil)
	s, _ := Softmax{}.New(2, 2, rand.New(rand.NewPCG(0, 0)))
	x := matrix([][]float32{{nan, 1}, {0, 1}})
	for _, l := range []Loss{m, s} {
		b := &Batch{A: x, B: matrix([][]float32{{1, 1}, {0, 1}})}
		if l == s {
			b = &Batch{A: x, Labels: []int32{0, 1}}
		}
		if got, err := l.Compute(b, true); err != nil || !math.IsNaN(got.Value) {
			t.Errorf("%T: got %v, %v, want NaN", l, got.Value, err)
		}
	}
}

func TestBatchesThatDoNotFit(t *testing.T) {
	m, err := MultipleNegativesRanking{}.New(2, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := Softmax{}.New(2, 3, rand.New(rand.NewPCG(0, 0)))
	if err != nil {
		t.Fatal(err)
	}
	x, y := matrix([][]float32{{1, 2}, {3, 4}}), matrix([][]float32{{1, 2, 3}, {3, 4, 5}})
	for name, c := range map[string]struct {
		loss Loss
		b    Batch
		want string
	}{
		"no second side": {m, Batch{A: x}, "second side: a matrix is missing"},
		"dimension":      {m, Batch{A: x, B: y}, "3 columns where 2"},
		"rows":           {m, Batch{A: x, B: matrix([][]float32{{1, 2}})}, "2 first and 1 second"},
		"score":          {m, Batch{A: x, B: x, Scores: []float32{1, 0.5}}, "row 1 of the batch has score 0.5"},
		"ids":            {m, Batch{A: x, B: x, AIDs: []int64{1}}, "1 ids of the first side"},
		"no labels":      {s, Batch{A: x}, "no labels"},
		"labels":         {s, Batch{A: x, Labels: []int32{1}}, "1 labels"},
		"class":          {s, Batch{A: x, Labels: []int32{1, 3}}, "class 3 of 3"},
		"negative class": {s, Batch{A: x, Labels: []int32{-1, 2}}, "class -1 of 3"},
	} {
		if _, err := c.loss.Compute(&c.b, true); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}

func TestOptionsOutOfRange(t *testing.T) {
	for _, c := range []Config{
		MultipleNegativesRanking{Scale: -1},
		MultipleNegativesRanking{Scale: math.NaN()},
		MultipleNegativesRanking{Scale: math.Inf(1)},
		MultipleNegativesRanking{Variant: "other"},
		Softmax{Temperature: -0.1},
		Softmax{Temperature: math.NaN()},
	} {
		if _, err := c.New(4, 4, rand.New(rand.NewPCG(0, 0))); err == nil {
			t.Errorf("%#v: no error", c)
		}
	}
	if _, err := (Softmax{}).New(4, 0, nil); err == nil {
		t.Error("no classes: no error")
	}
}

func TestParse(t *testing.T) {
	for _, c := range configs() {
		params, err := json.Marshal(c.Params())
		if err != nil {
			t.Fatal(err)
		}
		full, err := Parse(c.Type(), params)
		if err != nil {
			t.Fatal(err)
		}
		again, _ := json.Marshal(full.Params())
		zero, err := Parse(c.Type(), nil)
		if err != nil || zero != c || string(again) != string(params) {
			t.Errorf("%s: %s came back as %s; no params as %v, %v", c.Type(), params, again, zero, err)
		}
		if _, err := Parse(c.Type(), json.RawMessage(`{"unknown":1}`)); err == nil {
			t.Errorf("%s takes an unknown option", c.Type())
		}
	}
	if _, err := Parse("triplet", nil); !errors.Is(err, ErrType) {
		t.Errorf("unknown type: %v", err)
	}
	if got := Types(Pairs); !slices.Equal(got, []string{"multiple_negatives_ranking"}) {
		t.Errorf("losses of pairs are %v", got)
	}
}
