package loss

import (
	"cmp"
	"slices"
)

// equal finds rows of one object. It keeps its memory.
type equal struct{ order []int32 }

// each calls fn for every i and j, i ≠ j, in both orders, whose ids are
// equal.
func (e *equal) each(ids []int64, fn func(i, j int32)) {
	e.order = e.order[:0]
	for i := range ids {
		e.order = append(e.order, int32(i))
	}
	slices.SortFunc(e.order, func(i, j int32) int { return cmp.Compare(ids[i], ids[j]) })
	for lo := 0; lo < len(e.order); {
		hi := lo + 1
		for hi < len(e.order) && ids[e.order[hi]] == ids[e.order[lo]] {
			hi++
		}
		for _, i := range e.order[lo:hi] {
			for _, j := range e.order[lo:hi] {
				if i != j {
					fn(i, j)
				}
			}
		}
		lo = hi
	}
}
