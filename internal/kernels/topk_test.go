package kernels

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

var (
	nan      = float32(math.NaN())
	infinity = float32(math.Inf(1))
)

// sorted is the result that a TopK must give: one product of everything, and
// a sort of all candidates.
func sorted(c Candidates, queries []float32, k int, exclude []int32) []Neighbor {
	m, n := len(queries)/c.Dim, c.Len()
	scores := make([]float32, m*n)
	Gemm(false, true, m, n, c.Dim, 1, queries, c.Dim, c.Rows, c.Dim, 0, scores, max(1, n), 1)
	var out []Neighbor
	for q := range m {
		var row []Neighbor
		for j := range n {
			s := scores[q*n+j]
			if c.Scale != nil {
				s *= c.Scale[j]
			}
			if s == s && (exclude == nil || exclude[q] != int32(j)) {
				row = append(row, Neighbor{int32(j), s})
			}
		}
		slices.SortFunc(row, func(a, b Neighbor) int {
			return cmp.Or(cmp.Compare(b.Score, a.Score), cmp.Compare(a.Index, b.Index))
		})
		for len(row) < k {
			row = append(row, Neighbor{-1, -infinity})
		}
		out = append(out, row[:k]...)
	}
	return out
}

func TestTopKEqualsSorting(t *testing.T) {
	profiles(t, func(t *testing.T) {
		var reused TopK
		for _, c := range []struct{ m, n, dim, k, workers int }{
			{0, 5, 3, 2, 0},
			{3, 0, 3, 2, 0},
			{1, 1, 1, 1, 0},
			{1, 1, 1, 5, 1},
			{5, 7, 2, 0, 2},
			{5, 7, 2, 7, 2},
			{7, 1500, 9, 10, 0},
			{scoreQueries + 1, scoreCandidates + 1, 5, 3, 1},
			{scoreQueries + 1, scoreCandidates + 1, 5, 3, 2},
			{2*scoreQueries + 1, scoreCandidates + 63, 17, 100, 3},
			{150, scoreCandidates - 1, 4, 1100, 8},
		} {
			for _, kind := range []string{"normal", "ties", "hostile"} {
				r := rand.New(rand.NewPCG(uint64(c.m), uint64(c.n)))
				draw := func(n int) []float32 {
					x := make([]float32, n)
					for i := range x {
						switch {
						case kind == "normal":
							x[i] = float32(r.NormFloat64())
						case kind == "ties" || r.IntN(20) > 0:
							x[i] = float32(r.IntN(3) - 1)
						default:
							x[i] = []float32{nan, infinity, -infinity, 3e38, -3e38, 1e-45}[r.IntN(6)]
						}
					}
					return x
				}
				candidates := Candidates{Rows: draw(c.n * c.dim), Dim: c.dim}
				queries := draw(c.m * c.dim)
				var exclude []int32
				if kind != "normal" {
					candidates.Scale = draw(c.n)
					for range c.m {
						exclude = append(exclude, int32(r.IntN(c.n+1)-1))
					}
				}
				want := sorted(candidates, queries, c.k, exclude)
				got := make([]Neighbor, c.m*c.k)
				reused.Candidates, reused.Workers = candidates, c.workers
				reused.Find(got, queries, c.k, exclude)
				for i := range want {
					if got[i] != want[i] { // no score is NaN
						t.Fatalf("%+v %s: place %d of query %d is %v, want %v", c, kind, i%c.k, i/c.k, got[i], want[i])
					}
				}
			}
		}
	})
}

// TestTopKOfKnownVectors: values and order that can be worked out by hand.
func TestTopKOfKnownVectors(t *testing.T) {
	c := Candidates{Dim: 2, Rows: []float32{1, 0, 0, 2, 3, 3, 0, 2}, Scale: []float32{1, 0.5, 0.25, 0.5}}
	got := make([]Neighbor, 6)
	(&TopK{Candidates: c}).Find(got, []float32{1, 1, 0, 1}, 3, []int32{-1, 1})
	want := []Neighbor{{2, 1.5}, {0, 1}, {1, 1}, {3, 1}, {2, 0.75}, {0, 0}}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// TestScoresOfSome: the scores of some candidates have the bits that they
// have among all.
func TestScoresOfSome(t *testing.T) {
	profiles(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(2, 3))
		const m, n, dim = scoreQueries + 5, scoreCandidates + 77, 37
		s := Scores{Candidates: Candidates{Rows: values(r, n*dim), Dim: dim, Scale: values(r, n)}}
		queries := values(r, m*dim)
		all := make([]float32, m*n)
		seen := make([]int, m)
		s.Each(queries, nil, func(q, first int, scores []float32) {
			if seen[q] != first {
				t.Fatalf("a run of query %d begins at %d after %d", q, first, seen[q])
			}
			seen[q] += copy(all[q*n+first:], scores)
			clear(scores)
		})
		var only []int32
		for j := range int32(n) {
			if r.IntN(40) > 0 {
				only = append(only, n-1-j)
			}
		}
		only = append(only, 5, 5)
		s.Each(queries, only, func(q, first int, scores []float32) {
			for i, v := range scores {
				if want := all[q*n+int(only[first+i])]; v != want {
					t.Fatalf("query %d, candidate %d: %v, among all %v", q, only[first+i], v, want)
				}
			}
			seen[q] += len(scores)
		})
		for q, count := range seen {
			if count != n+len(only) {
				t.Errorf("query %d got %d scores, want %d", q, count, n+len(only))
			}
		}
	})
}

func TestSearchRefuses(t *testing.T) {
	good := Candidates{Rows: make([]float32, 6), Dim: 3}
	for name, f := range map[string]func(){
		"dim":     func() { (&TopK{Candidates: Candidates{Rows: make([]float32, 6)}}).Find(nil, nil, 1, nil) },
		"queries": func() { (&TopK{Candidates: good}).Find(make([]Neighbor, 9), make([]float32, 4), 1, nil) },
		"rows": func() {
			(&Scores{Candidates: Candidates{Rows: make([]float32, 4), Dim: 3}}).Each(nil, nil, nil)
		},
		"scale": func() {
			(&Scores{Candidates: Candidates{Rows: good.Rows, Dim: 3, Scale: make([]float32, 1)}}).Each(nil, nil, nil)
		},
		"places":  func() { (&TopK{Candidates: good}).Find(make([]Neighbor, 3), make([]float32, 6), 2, nil) },
		"exclude": func() { (&TopK{Candidates: good}).Find(make([]Neighbor, 4), make([]float32, 6), 2, []int32{0}) },
		"k":       func() { (&TopK{Candidates: good}).Find(nil, make([]float32, 6), -1, nil) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			f()
		}()
	}
}

func TestTopKAllocates(t *testing.T) {
	if raceOn {
		t.Skip("the race detector allocates")
	}
	const m, n, dim, k = 300, 1100, 16, 10
	r := rand.New(rand.NewPCG(4, 4))
	s := TopK{Candidates: Candidates{Rows: values(r, n*dim), Dim: dim}}
	queries, exclude, dst := values(r, m*dim), make([]int32, m), make([]Neighbor, m*k)
	for _, workers := range []int{1, 2} {
		s.Workers = workers
		for range 20 {
			s.Find(dst, queries, k, exclude)
		}
		if got := testing.AllocsPerRun(20, func() { s.Find(dst, queries, k, exclude) }); got > 0 {
			t.Errorf("%d workers: %v allocations a call", workers, got)
		}
	}
}

// BenchmarkTopK shows what selection costs beside the product alone.
func BenchmarkTopK(b *testing.B) {
	const m, n, dim = 1000, 20000, 384
	r := rand.New(rand.NewPCG(5, 5))
	c, queries := Candidates{Rows: values(r, n*dim), Dim: dim}, values(r, m*dim)
	rate := func(b *testing.B) { b.ReportMetric(float64(m*b.N)/b.Elapsed().Seconds(), "queries/s") }
	b.Run("product", func(b *testing.B) {
		s := Scores{Candidates: c, Workers: 1}
		for b.Loop() {
			s.Each(queries, nil, func(int, int, []float32) {})
		}
		rate(b)
	})
	for _, k := range []int{1, 10, 100} {
		b.Run(fmt.Sprintf("k=%d", k), func(b *testing.B) {
			s, dst := TopK{Candidates: c, Workers: 1}, make([]Neighbor, m*k)
			for b.Loop() {
				s.Find(dst, queries, k, nil)
			}
			rate(b)
		})
	}
}
