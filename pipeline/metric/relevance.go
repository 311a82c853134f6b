package metric

import (
	"fmt"
	"slices"
)

// Relevance says which objects are relevant to which. It is safe for
// concurrent use.
type Relevance interface {
	// Len is the number of objects.
	Len() int
	// Append appends the objects relevant to object i to dst: in any order,
	// each once, without i itself.
	Append(dst []int32, i int) []int32
}

// ByLabel returns the relevance of groups: objects of one label are relevant
// to each other. It copies labels.
func ByLabel(labels []int32) Relevance {
	r := labelled{labels: slices.Clone(labels), members: map[int32][]int32{}}
	for i, l := range labels {
		r.members[l] = append(r.members[l], int32(i))
	}
	return r
}

type labelled struct {
	labels  []int32
	members map[int32][]int32
}

func (r labelled) Len() int { return len(r.labels) }

func (r labelled) Append(dst []int32, i int) []int32 {
	for _, j := range r.members[r.labels[i]] {
		if int(j) != i {
			dst = append(dst, j)
		}
	}
	return dst
}

// ByPairs returns the relevance of pairs: for every k the objects a[k] and
// b[k], from 0 to less than n, are relevant to each other. Pairs of an
// object with itself do nothing, and repeated pairs count once. It keeps
// neither slice; memory is 8 bytes a pair and 8 an object.
func ByPairs(n int, a, b []int32) (Relevance, error) {
	if len(a) != len(b) {
		return nil, fmt.Errorf("there are %d first and %d second sides", len(a), len(b))
	}
	// The partners of object i are list[start[i]:start[i+1]].
	start := make([]int, n+1)
	for k := range a {
		if uint(a[k]) >= uint(n) || uint(b[k]) >= uint(n) {
			return nil, fmt.Errorf("pair %d is of objects %d and %d; there are %d", k, a[k], b[k], n)
		}
		if a[k] != b[k] {
			start[a[k]+1]++
			start[b[k]+1]++
		}
	}
	for i := range n {
		start[i+1] += start[i]
	}
	list, next := make([]int32, start[n]), slices.Clone(start[:n])
	for k := range a {
		if a[k] != b[k] {
			list[next[a[k]]], list[next[b[k]]] = b[k], a[k]
			next[a[k]]++
			next[b[k]]++
		}
	}
	for i := range n {
		slices.Sort(list[start[i]:start[i+1]])
	}
	return paired{start, list}, nil
}

type paired struct {
	start []int
	list  []int32 // sorted for each object
}

func (r paired) Len() int { return len(r.start) - 1 }

func (r paired) Append(dst []int32, i int) []int32 {
	for k := r.start[i]; k < r.start[i+1]; k++ {
		if k == r.start[i] || r.list[k] != r.list[k-1] {
			dst = append(dst, r.list[k])
		}
	}
	return dst
}
