package metric

import (
	"math"
	"slices"

	"github.com/permafrost-ml/permafrost/internal/kernels"
	"github.com/permafrost-ml/permafrost/pipeline/train/nn"
)

const (
	// blockQueries is the most queries ranked together, leastBlock the least
	// worth a goroutine.
	blockQueries = 192
	leastBlock   = 32
	// blockRelevant is the number of relevant objects from which on a block
	// takes no further queries.
	blockRelevant = 1 << 20
)

// ranker finds the ranks of the objects relevant to blocks of queries without
// sorting or keeping the similarities of the candidates: it computes those of
// relevant objects first, and then counts the candidates that reach each. Both
// times a similarity has the same bits.
type ranker struct {
	*evaluation
	scores  kernels.Scores
	vectors nn.Buffer // the queries', scaled to length 1
	enough  int       // relevant objects of a block

	// Of the block: the objects relevant to query i, in rising order, are
	// relevant[ends[i]:ends[i+1]].
	queries  []int32
	relevant []int32
	ends     []int
	levels   []int32 // the similarities of relevant, as keys
	before   []int32 // the candidates counted at levels
	cursor   []int   // by query: how far in relevant it is
	union    []int32 // all of relevant once, in rising order
	place    []int32 // by object: its place in union, from 1
	ranks    []int32
}

func newRanker(e *evaluation) *ranker {
	return &ranker{
		evaluation: e,
		scores:     kernels.Scores{Candidates: e.objects, Workers: 1},
		place:      make([]int32, e.objects.Len()),
		enough:     blockRelevant,
	}
}

// rank computes the metrics' values of the queries.
func (r *ranker) rank(queries []int32) {
	for len(queries) > 0 {
		n := r.collect(queries)
		r.queries, queries = queries[:n], queries[n:]
		vectors := r.vectors.Mat(n, r.objects.Dim)
		for i, q := range r.queries {
			kernels.Scale(r.objects.Scale[q], r.objects.Rows[int(q)*vectors.Cols:][:vectors.Cols], vectors.Row(i))
		}
		r.cursor = append(r.cursor[:0], r.ends[:n]...)
		r.scores.Each(vectors.Data, r.union, r.level)
		for i := range r.queries {
			levels := r.levels[r.ends[i]:r.ends[i+1]]
			slices.Sort(levels)
			slices.Reverse(levels)
		}
		r.cursor = append(r.cursor[:0], r.ends[:n]...)
		r.scores.Each(vectors.Data, nil, r.count)
		for i, q := range r.queries {
			ranks := r.ranksOf(i)
			for k, c := range r.metrics {
				r.values[int(q)*len(r.metrics)+k] = c.Score(ranks)
			}
		}
	}
}

// collect starts a block: it lists the relevant objects of the first queries
// and returns how many queries those are.
func (r *ranker) collect(queries []int32) int {
	for _, j := range r.union {
		r.place[j] = 0
	}
	r.relevant, r.ends, r.union = r.relevant[:0], append(r.ends[:0], 0), r.union[:0]
	n := 0
	for n < len(queries) && len(r.relevant) < r.enough {
		from := len(r.relevant)
		r.relevant = r.rel.Append(r.relevant, int(queries[n]))
		slices.Sort(r.relevant[from:])
		r.ends = append(r.ends, len(r.relevant))
		n++
	}
	for _, j := range r.relevant {
		if r.place[j] == 0 {
			r.place[j] = 1
			r.union = append(r.union, j)
		}
	}
	slices.Sort(r.union)
	for at, j := range r.union {
		r.place[j] = int32(at) + 1
	}
	r.levels = slices.Grow(r.levels[:0], len(r.relevant))[:len(r.relevant)]
	r.before = slices.Grow(r.before[:0], len(r.relevant))[:len(r.relevant)]
	clear(r.before)
	return n
}

// level notes a query's similarities to its relevant objects; scores are
// those to union from first on.
func (r *ranker) level(query, first int, scores []float32) {
	at := r.cursor[query]
	for ; at < r.ends[query+1]; at++ {
		p := int(r.place[r.relevant[at]]) - 1 - first
		if p >= len(scores) {
			break
		}
		r.levels[at] = orderKey(scores[p])
	}
	r.cursor[query] = at
}

// count counts the candidates from first on that are not relevant to a query.
func (r *ranker) count(query, first int, scores []float32) {
	out := float32(math.NaN()) // reaches no level
	if p := int(r.queries[query]) - first; p >= 0 && p < len(scores) {
		scores[p] = out
	}
	at, end := r.cursor[query], r.ends[query+1]
	for ; at < end && int(r.relevant[at])-first < len(scores); at++ {
		scores[int(r.relevant[at])-first] = out
	}
	r.cursor[query] = at
	from := r.ends[query]
	tally(r.before[from:end], r.levels[from:end], scores)
}

// ranksOf returns the ranks of the objects relevant to a query, in rising
// order, valid until the next call.
func (r *ranker) ranksOf(query int) []int32 {
	r.ranks = r.ranks[:0]
	sum := int32(0)
	for k, c := range r.before[r.ends[query]:r.ends[query+1]] {
		sum += c
		r.ranks = append(r.ranks, sum+int32(k)+1)
	}
	return r.ranks
}

// orderKey is an integer that is ordered as the number. NaN comes last.
func orderKey(s float32) int32 {
	if s != s {
		s = float32(math.Inf(-1))
	}
	s += 0 // -0 is 0
	return flip(int32(math.Float32bits(s)))
}

// flip turns the bits of a number into its key, and back.
func flip(b int32) int32 { return b ^ b>>31&math.MaxInt32 }

// tally counts the scores in before: those for which the k-th of the levels,
// falling keys, is the first that they reach, in before[k].
func tally(before, levels []int32, scores []float32) {
	last := math.Float32frombits(uint32(flip(levels[len(levels)-1])))
	for _, s := range scores {
		if !(s >= last) {
			continue
		}
		// A binary search in which no branch depends on s, as each would be
		// a coin toss: the place is one of left places from k on.
		key, k := int(orderKey(s)), 0
		for left := len(levels); left > 1; {
			half := left / 2
			k += half & ((key - int(levels[k+half-1])) >> 63)
			left -= half
		}
		before[k]++
	}
}
