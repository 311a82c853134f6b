package metric

import (
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"gorgonia.org/tensor"
)

// randomPairs are scored pairs of similar embeddings; some objects are in no
// pair of a positive score.
func randomPairs(t *testing.T, n int) (*tensor.Dense, Relevance) {
	rng := rand.New(rand.NewPCG(3, 3))
	const dim = 5
	data := make([]float32, n*dim)
	for i := range data {
		data[i] = float32(rng.NormFloat64())
	}
	var a, b []int32
	var scores []float32
	for i := range n / 2 {
		for k := range dim {
			data[(i+n/2)*dim+k] = data[i*dim+k] + data[(i+n/2)*dim+k]/2
		}
		a, b = append(a, int32(i)), append(b, int32(i+n/2))
		scores = append(scores, float32(rng.IntN(5)))
	}
	return tensor.New(tensor.WithShape(n, dim), tensor.WithBacking(data)), scored(t, n, a, b, scores)
}

// TestSampleOfAll: a sample of everything, drawn twice, is everything.
func TestSampleOfAll(t *testing.T) {
	const n = 300
	x, rel := randomPairs(t, n)
	metrics := append(every(), Spearman{})
	want, err := Evaluate(t.Context(), x, rel, metrics...)
	if err != nil {
		t.Fatal(err)
	}
	got, err := EvaluateSample(t.Context(), x, rel, Sample{Size: n, Repeats: 2}, metrics...)
	if err != nil {
		t.Fatal(err)
	}
	if got.Queries != want.Queries || got.Queries == n || len(got.Deviations) != len(metrics) {
		t.Errorf("%d queries of %d, %d deviations", got.Queries, want.Queries, len(got.Deviations))
	}
	for name, v := range want.Values {
		if math.Abs(got.Values[name]-v) > 1e-12 || got.Deviations[name] > 1e-12 {
			t.Errorf("%s is %v ± %v, want %v", name, got.Values[name], got.Deviations[name], v)
		}
	}
}

// TestSampleEstimates: the mean over many samples comes close to the value,
// and the deviation to that of a mean of so many queries; another seed draws
// others, the same seed the same.
func TestSampleEstimates(t *testing.T) {
	x, rel := randomPairs(t, 400)
	metrics := append(every(), Spearman{})
	all, err := Evaluate(t.Context(), x, rel, metrics...)
	if err != nil {
		t.Fatal(err)
	}
	of := func(s Sample) *Report {
		r, err := EvaluateSample(t.Context(), x, rel, s, metrics...)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	many := of(Sample{Size: 50, Repeats: 200, Seed: 1})
	few := of(Sample{Size: 20, Repeats: 200, Seed: 1})
	if many.Queries != 50 || few.Queries != 20 || many.Objects != 400 {
		t.Errorf("%d and %d queries", many.Queries, few.Queries)
	}
	for name, want := range all.Values {
		d := many.Deviations[name]
		if d <= 0 || math.Abs(many.Values[name]-want) > d/2 {
			t.Errorf("%s is %v ± %v, want %v", name, many.Values[name], d, want)
		}
		if few.Deviations[name] <= d {
			t.Errorf("%s: smaller samples deviate by %v, larger ones by %v", name, few.Deviations[name], d)
		}
	}
	if again := of(Sample{Size: 20, Repeats: 200, Seed: 1}); !reflect.DeepEqual(again, few) {
		t.Error("the same seed draws other samples")
	}
	if other := of(Sample{Size: 20, Repeats: 200, Seed: 2}); reflect.DeepEqual(other, few) {
		t.Error("another seed draws the same samples")
	}
	if def := of(Sample{Size: 20}); !reflect.DeepEqual(def, of(Sample{Size: 20, Repeats: 10})) {
		t.Error("the default is not 10 repeats")
	}
}

// TestDraw: samples are without repetition, of what may be drawn, and each
// element is asked about once.
func TestDraw(t *testing.T) {
	asked := map[int32]int{}
	samples := Sample{Size: 4, Repeats: 50}.draw(9, queryStream, func(i int32) bool {
		asked[i]++
		return i%2 == 0
	})
	counts := map[int32]int{}
	for _, s := range samples {
		if len(s) != 4 || !slices.IsSorted(s) || len(slices.Compact(slices.Clone(s))) != 4 {
			t.Errorf("sample %v", s)
		}
		for _, i := range s {
			counts[i]++
		}
	}
	if len(samples) != 50 || len(counts) != 5 {
		t.Errorf("%d samples of %v", len(samples), counts)
	}
	for i, n := range counts {
		if i%2 != 0 || n < 30 {
			t.Errorf("%d was drawn %d times", i, n)
		}
	}
	for i, n := range asked {
		if n > 1 {
			t.Errorf("%d was asked about %d times", i, n)
		}
	}
	if short := (Sample{Size: 9, Repeats: 1}).draw(9, queryStream, func(i int32) bool { return i < 2 }); !slices.Equal(short[0], []int32{0, 1}) {
		t.Errorf("all that may be drawn is %v", short)
	}
}

func TestSampleRefuses(t *testing.T) {
	x, rel := matrix([][]float32{{1}, {1}}), ByLabel([]int32{0, 0})
	for _, s := range []Sample{{Size: -1}, {Size: 1, Repeats: -1}, {Repeats: 3}} {
		if _, err := EvaluateSample(t.Context(), x, rel, s); err == nil || !strings.HasPrefix(err.Error(), "sample: ") {
			t.Errorf("%+v: %v", s, err)
		}
	}
}
