package onnx

import (
	"cmp"
	"iter"
	"slices"
)

// A run's texts are padded to its longest. So texts are sorted by length, and
// cut into runs in the way that costs least, where a run costs what its padded
// tokens cost and runCost more.
const (
	// runRows is the most texts of a run: more gain nothing.
	runRows = 32
	// runTokens bounds the padded tokens of a run, and so its memory.
	runTokens = 8192
	// runCost is what a run costs beside its tokens, in tokens.
	runCost = 16
)

// packing is scratch memory of runs.
type packing struct {
	order  []int
	length []int
	best   []int // cost of the texts from one on
	take   []int // rows of the run that starts there
}

// runs cuts texts, whose tokens end where ends says, into runs of at most
// `most` texts; each is the numbers of texts, the longest first.
func (p *packing) runs(ends []int, most int) iter.Seq[[]int] {
	n := len(ends)
	p.order, p.length = p.order[:0], p.length[:0]
	before := 0
	for i, end := range ends {
		p.order, p.length = append(p.order, i), append(p.length, end-before)
		before = end
	}
	slices.SortFunc(p.order, func(a, b int) int { return cmp.Or(p.length[b]-p.length[a], a-b) })
	p.best, p.take = slices.Grow(p.best[:0], n+1)[:n+1], slices.Grow(p.take[:0], n+1)[:n+1]
	p.best[n] = 0
	for i := n - 1; i >= 0; i-- {
		longest := p.length[p.order[i]]
		rows := min(most, n-i, max(1, runTokens/max(1, longest)))
		p.take[i] = 1
		for r := 1; r <= rows; r++ {
			if cost := r*longest + runCost + p.best[i+r]; r == 1 || cost < p.best[i] {
				p.best[i], p.take[i] = cost, r
			}
		}
	}
	return func(yield func([]int) bool) {
		for i := 0; i < n; i += p.take[i] {
			if !yield(p.order[i : i+p.take[i]]) {
				return
			}
		}
	}
}
