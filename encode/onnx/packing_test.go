package onnx

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// cost is what runs of texts, the longest first, cost as the packing counts.
func cost(lengths []int, runs [][]int) (c int) {
	for _, run := range runs {
		c += runCost + len(run)*lengths[run[0]]
	}
	return c
}

// cheapest is the least cost of all ways to cut sorted lengths.
func cheapest(sorted []int, most int) int {
	if len(sorted) == 0 {
		return 0
	}
	best := 1 << 40
	for n := 1; n <= min(most, len(sorted)); n++ {
		if n > 1 && n*sorted[0] > runTokens {
			break
		}
		best = min(best, runCost+n*sorted[0]+cheapest(sorted[n:], most))
	}
	return best
}

func TestPacking(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var p packing
	for range 300 {
		most := 1 + r.IntN(6)
		lengths := make([]int, r.IntN(12))
		ends, total := make([]int, len(lengths)), 0
		for i := range lengths {
			lengths[i] = 2 + r.IntN(1<<r.IntN(13))
			total += lengths[i]
			ends[i] = total
		}
		var runs [][]int
		var seen []int
		for run := range p.runs(ends, most) {
			if len(run) == 0 || len(run) > most || len(run) > 1 && len(run)*lengths[run[0]] > runTokens {
				t.Fatalf("lengths %v: a run of %v", lengths, run)
			}
			for i, text := range run {
				if i > 0 && lengths[text] > lengths[run[i-1]] {
					t.Fatalf("lengths %v: run %v is not the longest first", lengths, run)
				}
			}
			runs, seen = append(runs, slices.Clone(run)), append(seen, run...)
		}
		slices.Sort(seen)
		for i, text := range seen {
			if text != i {
				t.Fatalf("lengths %v: the texts of the runs are %v", lengths, seen)
			}
		}
		sorted := slices.Clone(lengths)
		slices.Sort(sorted)
		slices.Reverse(sorted)
		if got, want := cost(lengths, runs), cheapest(sorted, most); len(seen) != len(lengths) || got != want {
			t.Fatalf("lengths %v: %v costs %d, the best is %d", lengths, runs, got, want)
		}
	}
}
