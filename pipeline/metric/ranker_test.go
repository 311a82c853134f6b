package metric

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/permafrost-ml/permafrost/internal/kernels"
)

// numbers in rising order; those of one row are equal.
var numbers = [][]float32{
	{float32(math.Inf(-1)), float32(math.NaN())},
	{-math.MaxFloat32},
	{-1},
	{-1e-45},
	{0, float32(math.Copysign(0, -1))},
	{1e-45},
	{1},
	{float32(math.Inf(1))},
}

func TestOrderKey(t *testing.T) {
	for i, a := range numbers {
		for j, b := range numbers {
			for _, x := range a {
				for _, y := range b {
					if kx, ky := orderKey(x), orderKey(y); i < j && kx >= ky || i == j && kx != ky {
						t.Errorf("the keys of %v and %v are %d and %d", x, y, kx, ky)
					}
				}
			}
		}
	}
}

func TestTally(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	all := slices.Concat(numbers...)
	for n := 1; n < 70; n++ {
		levels, keys := make([]float32, n), make([]int32, n)
		for i := range levels {
			if levels[i] = float32(rng.IntN(20)); n%3 == 0 {
				levels[i] = all[rng.IntN(len(all))]
			}
			if levels[i] != levels[i] {
				levels[i] = float32(math.Inf(-1))
			}
		}
		slices.SortFunc(levels, falling)
		for i, l := range levels {
			keys[i] = orderKey(l)
		}
		scores := slices.Clone(all)
		for s := float32(-1); s < 21; s += 0.5 {
			scores = append(scores, s)
		}
		want, got := make([]int32, n), make([]int32, n)
		for _, s := range scores {
			if k := slices.IndexFunc(levels, func(l float32) bool { return l <= s }); k >= 0 {
				want[k]++
			}
		}
		tally(got, keys, scores)
		if !slices.Equal(got, want) {
			t.Errorf("levels %v: got %v, want %v", levels, got, want)
		}
	}
}

// TestBlocksOfFewQueries: how queries are cut into blocks changes no value.
func TestBlocksOfFewQueries(t *testing.T) {
	rng := rand.New(rand.NewPCG(6, 6))
	const n, dim = 1200, 8
	data, inv, labels := make([]float32, n*dim), make([]float32, n), make([]int32, n)
	for i := range data {
		data[i] = float32(rng.NormFloat64())
	}
	for i := range inv {
		inv[i], labels[i] = rng.Float32(), rng.Int32N(3)
	}
	values := func(enough int) []float64 {
		e := &evaluation{
			objects: kernels.Candidates{Rows: data, Dim: dim, Scale: inv},
			rel:     ByLabel(labels), metrics: []Ranking{ReciprocalRank{}, deepest{}},
			values: make([]float64, 2*n), relevant: make([]int32, n),
		}
		for i := range n {
			e.queries = append(e.queries, int32(i))
		}
		e.findQueries()
		r := newRanker(e)
		r.enough = enough
		r.rank(e.queries)
		return e.values
	}
	want := values(1)
	if slices.Contains(want, 0) {
		t.Error("there are objects without a value")
	}
	for _, enough := range []int{1000, blockRelevant} {
		if !slices.Equal(values(enough), want) {
			t.Errorf("blocks of %d relevant objects give other values", enough)
		}
	}
}

// deepest is the rank of the last relevant object.
type deepest struct{ ReciprocalRank }

func (deepest) Score(ranks []int32) float64 { return float64(ranks[len(ranks)-1]) }
