package kernels

import (
	"fmt"
	"math"
	"sync"
	"sync/atomic"
)

// Neighbor is a candidate that a search found.
type Neighbor struct {
	Index int32 // of the candidate; -1 where there was none
	Score float32
}

// before reports whether a comes before b: by the higher score, then by the
// lower index. The index -1 comes last.
func (a Neighbor) before(b Neighbor) bool {
	return a.Score > b.Score || a.Score == b.Score && uint32(a.Index) < uint32(b.Index)
}

// TopK finds the candidates of the highest scores, exactly, by inner products with
// queries times Scale. The
// result does not depend on the number of goroutines or on what other queries
// there are. Memory is a block of scores a goroutine, kept from call to call;
// a TopK serves one call at a time.
type TopK struct {
	Candidates
	// Workers is the most goroutines of a call. Default: one a processor.
	Workers int

	call   call
	scans  []*scan
	parts  int
	next   atomic.Int64
	ids    atomic.Int64
	done   sync.WaitGroup
	worker func() // the method value of work; making one allocates
}

// call is one call of Find.
type call struct {
	dst     []Neighbor
	queries []float32
	m, k    int
	exclude []int32
}

// Find writes the k best candidates of every query, row after row in queries,
// to dst, k places a query: the one of the highest score first, of equal
// scores the one of the lower index. Scores that are NaN are no candidates.
// exclude names a candidate for every query that does not count, such as
// itself, or -1; nil excludes none. Where fewer than k candidates are left,
// the other places have the index -1 and the score -Inf.
func (t *TopK) Find(dst []Neighbor, queries []float32, k int, exclude []int32) {
	m := t.check(queries)
	switch {
	case k < 0 || len(dst) < m*k:
		panic(fmt.Sprintf("kernels: %d places for %d neighbors of %d queries", len(dst), k, m))
	case exclude != nil && len(exclude) < m:
		panic(fmt.Sprintf("kernels: %d excluded candidates for %d queries", len(exclude), m))
	case t.Len() > math.MaxInt32:
		panic(fmt.Sprintf("kernels: %d candidates", t.Len()))
	}
	if m == 0 || k == 0 {
		return
	}
	t.call = call{dst: dst[:m*k], queries: queries, m: m, k: k, exclude: exclude}
	defer func() { t.call = call{} }()
	for i := range t.call.dst {
		t.call.dst[i] = Neighbor{-1, float32(math.Inf(-1))}
	}
	t.run()
}

// leastQueries is the least number of queries of a part: below, packing the
// candidates for each part costs more than a second goroutine brings, and the
// products themselves are shared instead.
const leastQueries = 64

func (t *TopK) run() {
	t.parts = (t.call.m + scoreQueries - 1) / scoreQueries
	workers, inner := 1, t.Workers
	if want := t.call.m / leastQueries; want > 1 {
		if t.Workers > 0 {
			want = min(want, t.Workers)
		}
		workers, inner = take(want), 1
		defer busy.Add(int64(-workers))
		t.parts = ceil(t.parts, workers)
	}
	if t.worker == nil {
		t.worker = func() {
			defer t.done.Done()
			t.work()
		}
	}
	for len(t.scans) < workers {
		t.scans = append(t.scans, newScan())
	}
	for _, s := range t.scans[:workers] {
		s.scores.Candidates, s.scores.Workers = t.Candidates, inner
		// Whoever gets a part has room, so that what is allocated does not
		// depend on who is faster.
		s.scores.block = grown(s.scores.block, min(scoreQueries, t.call.m)*min(scoreCandidates, t.Len()))
	}
	t.next.Store(0)
	t.ids.Store(0)
	t.done.Add(workers - 1)
	for range workers - 1 {
		go t.worker()
	}
	t.work()
	t.done.Wait()
}

// work searches for the queries of parts until none is left.
func (t *TopK) work() {
	s := t.scans[t.ids.Add(1)-1]
	for {
		part := int(t.next.Add(1)) - 1
		if part >= t.parts {
			return
		}
		lo, hi := t.call.m*part/t.parts, t.call.m*(part+1)/t.parts
		s.call = t.call
		s.call.dst = t.call.dst[lo*t.call.k : hi*t.call.k]
		if s.call.exclude != nil {
			s.call.exclude = t.call.exclude[lo:hi]
		}
		s.scores.Each(t.call.queries[lo*t.Dim:hi*t.Dim], nil, s.visit)
		for i := range hi - lo {
			rank(s.call.dst[i*t.call.k : (i+1)*t.call.k])
		}
		s.call = call{}
	}
}

// scan is one goroutine's search.
type scan struct {
	scores Scores
	call   call
	visit  func(query, first int, scores []float32)
}

func newScan() *scan {
	s := new(scan)
	s.visit = func(query, first int, scores []float32) {
		if s.call.exclude != nil {
			if at := int(s.call.exclude[query]) - first; at >= 0 && at < len(scores) {
				scores[at] = float32(math.NaN())
			}
		}
		k := s.call.k
		improve(s.call.dst[query*k:(query+1)*k], first, scores)
	}
	return s
}

// glance is the number of scores that are looked at together: mostly, none of
// them is good enough.
const glance = 64

// improve replaces neighbors, a heap with the last one at the root, by better
// candidates.
func improve(heap []Neighbor, first int, scores []float32) {
	for lo := 0; lo < len(scores); lo += glance {
		few := scores[lo:min(lo+glance, len(scores))]
		if maximum(few) < heap[0].Score { // not if one is NaN
			continue
		}
		for j, s := range few {
			if s >= heap[0].Score {
				if c := (Neighbor{int32(first + lo + j), s}); c.before(heap[0]) {
					heap[0] = c
					sink(heap)
				}
			}
		}
	}
}

// sink moves the root of a heap down to its place.
func sink(heap []Neighbor) {
	at, x := 0, heap[0]
	for {
		child := 2*at + 1
		if child >= len(heap) {
			break
		}
		if right := child + 1; right < len(heap) && heap[child].before(heap[right]) {
			child = right
		}
		if !x.before(heap[child]) {
			break
		}
		heap[at] = heap[child]
		at = child
	}
	heap[at] = x
}

// rank sorts a heap, the best first.
func rank(heap []Neighbor) {
	for n := len(heap) - 1; n > 0; n-- {
		heap[0], heap[n] = heap[n], heap[0]
		sink(heap[:n])
	}
}
