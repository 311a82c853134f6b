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

// Scored is the relevance of pairs that have scores.
type Scored interface {
	Relevance
	// Pairs are the pairs of objects and their scores, in the order that they
	// were given in. They are not to be changed.
	Pairs() (a, b []int32, scores []float32)
}

// ByPairs returns the relevance of pairs: for every k with a score above 0 the
// objects a[k] and b[k], from 0 to less than n, are relevant to each other.
// Without scores (nil) all pairs have the score 1; with scores the relevance is
// [Scored]. A pair of an object with itself makes nothing relevant, and
// repeated pairs count once. It copies nothing but a relevance of 8 bytes a
// pair and 8 an object, and keeps the slices where there are scores: they must
// not change then.
func ByPairs(n int, a, b []int32, scores []float32) (Relevance, error) {
	if len(a) != len(b) || scores != nil && len(a) != len(scores) {
		return nil, fmt.Errorf("there are %d first and %d second sides and %d scores", len(a), len(b), len(scores))
	}
	match := func(k int) bool { return a[k] != b[k] && (scores == nil || scores[k] > 0) }
	// The partners of object i are list[start[i]:start[i+1]].
	start := make([]int, n+1)
	for k := range a {
		if uint(a[k]) >= uint(n) || uint(b[k]) >= uint(n) {
			return nil, fmt.Errorf("pair %d is of objects %d and %d; there are %d", k, a[k], b[k], n)
		}
		if scores != nil && !finite(scores[k]) {
			return nil, fmt.Errorf("the score of pair %d is %v", k, scores[k])
		}
		if match(k) {
			start[a[k]+1]++
			start[b[k]+1]++
		}
	}
	for i := range n {
		start[i+1] += start[i]
	}
	list, next := make([]int32, start[n]), slices.Clone(start[:n])
	for k := range a {
		if match(k) {
			list[next[a[k]]], list[next[b[k]]] = b[k], a[k]
			next[a[k]]++
			next[b[k]]++
		}
	}
	for i := range n {
		slices.Sort(list[start[i]:start[i+1]])
	}
	p := paired{start, list}
	if scores == nil {
		return p, nil
	}
	return scoredPairs{p, a, b, scores}, nil
}

func finite(v float32) bool { return v-v == 0 }

type scoredPairs struct {
	paired
	a, b   []int32
	scores []float32
}

// Pairs implements Scored.
func (p scoredPairs) Pairs() (a, b []int32, scores []float32) { return p.a, p.b, p.scores }

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
