package loss

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"gorgonia.org/tensor"
)

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

// TestMatryoshkaDims: without dims, the embeddings are cut in half while 8
// values are left, each cut with parameters of its own.
func TestMatryoshkaDims(t *testing.T) {
	for dim, want := range map[int][]string{
		35: {"35.kernel", "17.kernel", "8.kernel"}, 16: {"16.kernel", "8.kernel"}, 15: {"15.kernel"}, 3: {"3.kernel"},
	} {
		l, err := Matryoshka{Loss: Softmax{}}.New(dim, 2, rand.New(rand.NewPCG(1, 2)))
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, p := range l.Parameters() {
			got = append(got, p.Name)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%d values: %v, want %v", dim, got, want)
		}
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

// each calls fn for a loss of every type, and of every way to compute it that
// differs much, with a batch that it takes: of 8 samples of 4 values.
func each(t *testing.T, fn func(t *testing.T, c Config, b *Batch)) {
	rng := rand.New(rand.NewPCG(3, 3))
	draw := func() *tensor.Dense {
		x := make([]float32, 32)
		for i := range x {
			x[i] = float32(rng.NormFloat64())
		}
		return tensor.New(tensor.WithShape(8, 4), tensor.WithBacking(x))
	}
	xbm := &XBM{Size: 11}
	for _, c := range []Config{
		MultipleNegativesRanking{Symmetric: true, XBM: xbm},
		MultipleNegativesRanking{Distance: Euclidean, Variant: VariantQuaterion},
		InfoNCE{XBM: xbm},
		InfoNCE{Distance: Manhattan},
		InfoNCE{Distance: DotProduct},
		Contrastive{},
		Contrastive{Distance: Euclidean},
		Contrastive{Distance: Manhattan, Variant: VariantQuaterion},
		CoSENT{},
		CoSENT{Distance: Manhattan},
		Triplet{XBM: xbm},
		Triplet{Mining: MiningAll, Distance: Euclidean, XBM: xbm},
		Triplet{Mining: MiningAll, Soft: true},
		Triplet{Mining: MiningSemiHard},
		Triplet{Variant: VariantQuaterion, XBM: xbm},
		Triplet{Mining: MiningSemiHard, Variant: VariantQuaterion, Distance: Manhattan},
		OnlineContrastive{XBM: xbm},
		OnlineContrastive{Mining: MiningAll},
		OnlineContrastive{Variant: VariantQuaterion},
		Circle{XBM: xbm},
		Circle{Variant: VariantQuaterion},
		FastAP{},
		Softmax{},
		ArcFace{},
		CosFace{},
		CosFace{Variant: VariantQuaterion},
		Center{},
		Center{Variant: VariantQuaterion},
		Sum{Losses: []Weighted{{Loss: Triplet{XBM: xbm}}, {Weight: 0.3, Loss: Softmax{}}, {Loss: OnlineContrastive{XBM: xbm}}}},
		Matryoshka{Dims: []int{4, 2}, Loss: InfoNCE{XBM: xbm}},
	} {
		b := &Batch{A: draw(), Labels: []int32{0, 1, 2, 0, 1, 0, 2, 2}, AIDs: []int64{1, 2, 3, 4, 5, 1, 6, 7}}
		if c.Kind() == Pairs {
			b.B, b.BIDs, b.Labels = draw(), []int64{11, 12, 13, 2, 14, 15, 16, 11}, nil
			b.Subgroups = []int32{1, 2, 1, 2, 3, 3, 1, 1}
		}
		t.Run(fmt.Sprintf("%s %v", c.Type(), c.Params()), func(t *testing.T) { fn(t, c, b) })
	}
}

func made(t *testing.T, c Config) Loss {
	t.Helper()
	l, err := c.New(4, 3, rand.New(rand.NewPCG(0, 0)))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestNaNShowsInLoss: a NaN or an infinity in any row is in the value, also
// where a loss chooses among distances.
func TestNaNShowsInLoss(t *testing.T) {
	each(t, func(t *testing.T, c Config, b *Batch) {
		for _, bad := range []float32{float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1))} {
			for _, x := range []*tensor.Dense{b.A, b.B} {
				for _, at := range []int{0, 13, 31} {
					if x == nil {
						continue
					}
					old := x.Float32s()[at]
					x.Float32s()[at] = bad
					l := made(t, c)
					for _, grad := range []bool{false, true, true} { // the last with a memory
						got, err := l.Compute(b, grad)
						if err != nil || !math.IsNaN(got.Value) && !math.IsInf(got.Value, 0) {
							t.Errorf("%v at %d: got %v, %v", bad, at, got.Value, err)
						}
					}
					x.Float32s()[at] = old
				}
			}
		}
	})
}

// TestState: a loss that takes over the state and the parameters of another
// goes on with its bits, as does one whose memory wrapped around; states that
// are not its own change nothing.
func TestState(t *testing.T) {
	each(t, func(t *testing.T, c Config, b *Batch) {
		l := made(t, c)
		s, ok := l.(Stateful)
		if !ok {
			t.Skip("no state")
		}
		step := func(l Loss) string {
			r, err := l.Compute(b, true)
			if err != nil {
				t.Fatal(err)
			}
			out := fmt.Sprint(r.Value, r.DA)
			if r.DB != nil {
				out += fmt.Sprint(r.DB)
			}
			for i, v := range b.A.Float32s() { // the next batch is another
				b.A.Float32s()[i] = v*0.9 + float32(i%5)*0.01
			}
			return out
		}
		for steps := range 4 {
			kept := slices.Clone(b.A.Float32s())
			copied := []State{}
			names := map[string]bool{}
			for _, a := range s.State() {
				if names[a.Name] || a.Floats != nil && a.Ints != nil {
					t.Fatalf("array %q is there twice or of two kinds", a.Name)
				}
				names[a.Name] = true
				copied = append(copied, State{a.Name, slices.Clone(a.Floats), slices.Clone(a.Ints)})
			}
			other := made(t, c)
			for i, p := range other.Parameters() {
				copy(p.Values(), l.Parameters()[i].Values())
			}
			step(other) // whatever was there goes
			copy(b.A.Float32s(), kept)
			if err := other.(Stateful).SetState(copied); err != nil {
				t.Fatal(err)
			}
			for i := range copied { // a copy was taken
				clear(copied[i].Floats)
				clear(copied[i].Ints)
			}
			for range 2 {
				want := step(other)
				copy(b.A.Float32s(), kept)
				if got := step(l); got != want {
					t.Fatalf("after %d steps: %s, want %s", steps, got, want)
				}
				kept = slices.Clone(b.A.Float32s())
			}
		}
		before := fmt.Sprint(s.State())
		for i := range s.State() {
			bad := slices.Clone(s.State())
			bad[i].Name += "x"
			if s.SetState(bad) == nil {
				t.Error("an array of another name is taken")
			}
			bad = slices.Clone(s.State())
			bad[i].Floats, bad[i].Ints = append(slices.Clone(bad[i].Floats), 1), append(slices.Clone(bad[i].Ints), 1<<40)
			if s.SetState(bad) == nil {
				t.Errorf("%s of another length is taken", bad[i].Name)
			}
			if s.SetState(s.State()[i+1:]) == nil {
				t.Error("a state that lacks an array is taken")
			}
		}
		if got := fmt.Sprint(s.State()); got != before {
			t.Error("a refused state left something")
		}
	})
}

// TestMemoryStays: steps of a size seen before allocate a little that does not
// grow with the batch.
func TestMemoryStays(t *testing.T) {
	each(t, func(t *testing.T, c Config, b *Batch) {
		l := made(t, c)
		for range 4 {
			if _, err := l.Compute(b, true); err != nil {
				t.Fatal(err)
			}
		}
		n := testing.AllocsPerRun(20, func() { l.Compute(b, true) })
		t.Logf("%v allocations", n)
		if n > 60 {
			t.Errorf("%v allocations a step", n)
		}
	})
}

func TestBatchesThatDoNotFit(t *testing.T) {
	x, y := matrix([][]float32{{1, 2}, {3, 4}}), matrix([][]float32{{1, 2, 3}, {3, 4, 5}})
	pairs := []Config{MultipleNegativesRanking{}, InfoNCE{}, Contrastive{}, CoSENT{}, Matryoshka{}, Sum{Losses: []Weighted{{Loss: InfoNCE{}}}}}
	groups := []Config{
		Softmax{},
		ArcFace{},
		CosFace{},
		Center{},
		Triplet{},
		OnlineContrastive{},
		Circle{},
		FastAP{},
		Matryoshka{Loss: Softmax{}},
		Sum{Losses: []Weighted{{Loss: Triplet{}}}},
	}
	classes := []Config{Softmax{}, ArcFace{}, CosFace{}, Center{}}
	for name, c := range map[string]struct {
		losses []Config
		b      Batch
		want   string
	}{
		"no second side": {pairs[:4], Batch{A: x}, "second side: a matrix is missing"},
		"dimension":      {pairs, Batch{A: x, B: y}, "3 columns where 2"},
		"rows":           {pairs, Batch{A: x, B: matrix([][]float32{{1, 2}})}, "2 first and 1 second"},
		"ids":            {pairs, Batch{A: x, B: x, AIDs: []int64{1}}, "1 ids of the first side"},
		"score":          {pairs[:1], Batch{A: x, B: x, Scores: []float32{1, 0.5}}, "row 1 of the batch has score 0.5"},
		"half a score":   {pairs[1:2], Batch{A: x, B: x, Scores: []float32{1, 0.5}}, "row 1 of the batch has score 0.5"},
		"large score":    {pairs[2:3], Batch{A: x, B: x, Scores: []float32{1, 1.5}}, "row 1 of the batch has score 1.5"},
		"NaN":            {pairs[:4], Batch{A: x, B: x, Scores: []float32{1, float32(math.NaN())}}, "row 1 of the batch has score NaN"},
		"no labels":      {groups, Batch{A: x}, "no labels"},
		"group's width":  {groups, Batch{A: y, Labels: []int32{1, 2}}, "3 columns where 2"},
		"labels":         {groups, Batch{A: x, Labels: []int32{1}}, "1 labels"},
		"class":          {classes, Batch{A: x, Labels: []int32{1, 3}}, "class 3 of 3"},
		"negative class": {classes, Batch{A: x, Labels: []int32{-1, 2}}, "class -1 of 3"},
	} {
		for _, cfg := range c.losses {
			l, err := cfg.New(2, 3, rand.New(rand.NewPCG(0, 0)))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := l.Compute(&c.b, true); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s, %s: got %v, want %q", name, cfg.Type(), err, c.want)
			}
		}
	}
	m, err := InfoNCE{XBM: &XBM{}}.New(2, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []bool{true, false} {
		b := &Batch{A: x, B: x}
		if i == 0 {
			b.AIDs = []int64{1, 2}
		}
		if _, err := m.Compute(b, true); (err == nil) != want {
			t.Errorf("batch %d with ids once and without once: %v", i, err)
		}
	}
}

func TestOptionsOutOfRange(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(1)
	for _, c := range []Config{
		MultipleNegativesRanking{Scale: -1},
		MultipleNegativesRanking{Scale: nan},
		MultipleNegativesRanking{Scale: inf},
		MultipleNegativesRanking{Variant: "other"},
		MultipleNegativesRanking{Distance: "l3"},
		MultipleNegativesRanking{Variant: VariantQuaterion, XBM: &XBM{}},
		InfoNCE{Temperature: -1},
		InfoNCE{XBM: &XBM{Size: -1}},
		InfoNCE{XBM: &XBM{Start: -1}},
		InfoNCE{XBM: &XBM{Weight: nan}},
		CoSENT{Scale: -2},
		CoSENT{Distance: "x"},
		Contrastive{Margin: -1},
		Contrastive{Distance: DotProduct},
		Contrastive{Variant: "x"},
		OnlineContrastive{Distance: DotProduct},
		OnlineContrastive{Mining: MiningSemiHard},
		OnlineContrastive{Variant: VariantQuaterion, XBM: &XBM{}},
		Triplet{Margin: inf},
		Triplet{Mining: "easy"},
		Triplet{XBM: &XBM{Weight: -1}},
		Triplet{Variant: "x"},
		Circle{Margin: -1},
		Circle{Scale: nan},
		Circle{Variant: VariantQuaterion, XBM: &XBM{}},
		FastAP{Bins: -1},
		FastAP{Bins: 1 << 30},
		Softmax{Temperature: -0.1},
		Softmax{Temperature: nan},
		ArcFace{Margin: 4},
		ArcFace{Scale: -1},
		CosFace{Margin: 3},
		CosFace{Variant: "x"},
		Center{Lambda: -1},
		Center{Variant: "x"},
		Sum{},
		Sum{Losses: []Weighted{{}}},
		Sum{Losses: []Weighted{{Weight: -1, Loss: Softmax{}}}},
		Sum{Losses: []Weighted{{Loss: Softmax{}}, {Loss: InfoNCE{}}}},
		Sum{Losses: []Weighted{{Loss: FastAP{Bins: -2}}}},
		Matryoshka{Dims: []int{5}},
		Matryoshka{Dims: []int{0}},
		Matryoshka{Dims: []int{2, 2}},
		Matryoshka{Dims: []int{2}, Weights: []float64{1, 1}},
		Matryoshka{Dims: []int{2}, Weights: []float64{0}},
		Matryoshka{Loss: Sum{}},
	} {
		if _, err := c.New(4, 4, rand.New(rand.NewPCG(0, 0))); err == nil {
			t.Errorf("%#v: no error", c)
		}
	}
	for _, c := range []Config{Softmax{}, ArcFace{}, CosFace{}, Center{}} {
		if _, err := c.New(4, 0, nil); err == nil {
			t.Errorf("%s without classes: no error", c.Type())
		}
	}
	each(t, func(t *testing.T, c Config, _ *Batch) {
		if _, err := c.New(0, 4, rand.New(rand.NewPCG(0, 0))); err == nil {
			t.Error("embeddings without values: no error")
		}
	})
}
