package metric

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"gorgonia.org/tensor"
)

// TestSearchEqualsSorting compares with a sort of all candidates by float64
// cosine.
func TestSearchEqualsSorting(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	const n, dim, k = searchQueries + 3, 9, 5
	rows := make([][]float32, n)
	for i := range rows {
		rows[i] = make([]float32, dim)
		size := math.Pow(10, float64(rng.IntN(9)-4))
		for j := range rows[i] {
			rows[i][j] = float32(rng.NormFloat64() * size)
		}
	}
	x := matrix(rows)
	for name, queries := range map[string]*tensor.Dense{"itself": x, "others": matrix(slices.Clone(rows[:n-1]))} {
		got, err := Search(t.Context(), queries, x, k)
		if err != nil {
			t.Fatal(err)
		}
		if len(got) != queries.Shape()[0] {
			t.Fatalf("%s: results of %d queries", name, len(got))
		}
		for q, found := range got {
			var want []Neighbor
			for j := range rows {
				if j != q || queries != x {
					want = append(want, Neighbor{int32(j), float32(cosine(rows[q], rows[j]))})
				}
			}
			slices.SortFunc(want, func(a, b Neighbor) int { return falling(a.Similarity, b.Similarity) })
			for i, f := range found {
				if len(found) != k || math.Abs(float64(f.Similarity-want[i].Similarity)) > 1e-6 ||
					f.Index != want[i].Index && math.Abs(cosine(rows[q], rows[f.Index])-float64(f.Similarity)) > 1e-6 {
					t.Fatalf("%s: query %d got %v, want %v", name, q, found, want[:k])
				}
			}
		}
	}
}

func falling(a, b float32) int {
	switch {
	case a > b:
		return -1
	case a < b:
		return 1
	}
	return 0
}

func ExampleSearch() {
	titles := []string{"snow", "ice", "sand", "dune"}
	x := tensor.New(tensor.WithShape(4, 2), tensor.WithBacking([]float32{1, 0, 4, 1, 0, 2, 1, 5}))
	found, err := Search(context.Background(), x, x, 1)
	if err != nil {
		fmt.Println(err)
		return
	}
	for i, near := range found {
		fmt.Printf("%s: %s %.2f\n", titles[i], titles[near[0].Index], near[0].Similarity)
	}
	// Output:
	// snow: ice 0.97
	// ice: snow 0.97
	// sand: dune 0.98
	// dune: sand 0.98
}

func TestSearchFewCandidates(t *testing.T) {
	x := matrix([][]float32{{1, 0}, {0, 0}, {2, 0}})
	got, err := Search(t.Context(), x, x, 10)
	if err != nil {
		t.Fatal(err)
	}
	want := [][]Neighbor{{{2, 1}, {1, 0}}, {{0, 0}, {2, 0}}, {{0, 1}, {1, 0}}}
	for q := range want {
		if !slices.Equal(got[q], want[q]) {
			t.Errorf("query %d got %v, want %v", q, got[q], want[q])
		}
	}
}

func TestSearchRefuses(t *testing.T) {
	good := matrix([][]float32{{1, 0}, {0, 1}})
	bad := matrix([][]float32{{1, 0}, {0, float32(math.NaN())}})
	for name, c := range map[string]struct {
		queries, candidates *tensor.Dense
		k                   int
		want                string
	}{
		"k":             {good, good, 0, "k is 0"},
		"no candidates": {good, nil, 1, "candidates: a matrix is missing"},
		"no queries":    {nil, good, 1, "queries: a matrix is missing"},
		"other columns": {matrix([][]float32{{1}}), good, 1, "queries: the matrix has 1 columns where 2"},
		"NaN":           {good, bad, 1, "candidates: the embedding of object 1 is not finite"},
		"NaN queries":   {bad, good, 1, "queries: the embedding of object 1 is not finite"},
	} {
		if _, err := Search(t.Context(), c.queries, c.candidates, c.k); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Search(ctx, good, good, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end of ctx: got %v", err)
	}
}
