package metric

import (
	"context"
	"fmt"
	"math"
	"slices"

	"gorgonia.org/tensor"

	"github.com/permafrost-ml/permafrost/pipeline/train/nn"
)

// Report is what [Evaluate] found.
type Report struct {
	// Values are the metrics' means over queries, by [Config.Name]. They
	// are 0 where there are no queries.
	Values map[string]float64
	// Objects is the number of candidates, Queries that of objects with at
	// least one relevant object.
	Objects, Queries int
}

// The sizes of one block of queries: at most blockQueries, and at most
// blockScores similarities, 32 MiB.
const (
	blockQueries = 512
	blockScores  = 1 << 23
)

// Evaluate searches with every object among all others and returns the
// metrics' means. x holds the objects' embeddings, [n, dim]; it is borrowed
// and not changed. Time grows with n², memory with n alone: 32 MiB and about
// 20 bytes an object. A NaN or infinite embedding is an error; a row of
// zeros has similarity 0 to everything. Evaluate returns ctx's error within
// a block of queries.
func Evaluate(ctx context.Context, x *tensor.Dense, rel Relevance, metrics ...Config) (*Report, error) {
	m, err := nn.View(x)
	if err != nil {
		return nil, err
	}
	if rel.Len() != m.Rows {
		return nil, fmt.Errorf("there are %d embeddings and relevance for %d objects", m.Rows, rel.Len())
	}
	report := &Report{Values: map[string]float64{}, Objects: m.Rows}
	for _, c := range metrics {
		if err := c.Validate(); err != nil {
			return nil, fmt.Errorf("metric %s: %w", c.Type(), err)
		}
		report.Values[c.Name()] = 0
	}
	e := &evaluation{x: m, rel: rel, metrics: metrics}
	if e.inv, err = inverseLengths(m); err != nil {
		return nil, err
	}
	sums := make([]float64, len(metrics))
	step := max(1, min(blockQueries, blockScores/m.Rows))
	for lo := 0; lo < m.Rows; lo += step {
		if err := ctx.Err(); err != nil {
			return nil, context.Cause(ctx)
		}
		report.Queries += e.block(lo, min(lo+step, m.Rows), sums)
	}
	for k, c := range metrics {
		if report.Queries > 0 {
			report.Values[c.Name()] = sums[k] / float64(report.Queries)
		}
	}
	return report, nil
}

func inverseLengths(x nn.Mat) ([]float32, error) {
	inv := make([]float32, x.Rows)
	for i := range x.Rows {
		norm := math.Sqrt(nn.Dot(x.Row(i), x.Row(i)))
		if math.IsNaN(norm) || math.IsInf(norm, 0) {
			return nil, fmt.Errorf("the embedding of object %d is not finite", i)
		}
		if norm > 0 {
			inv[i] = float32(1 / max(norm, nn.NormEps))
		}
	}
	return inv, nil
}

type evaluation struct {
	x       nn.Mat
	inv     []float32 // inverse lengths of x's rows
	rel     Relevance
	metrics []Config
	queries nn.Buffer
	scores  nn.Buffer
	values  []float64 // of a block: queries × metrics
	counted []bool    // of a block: has relevant objects
}

// block evaluates the queries lo to hi, adds their values to sums in order
// and returns how many counted.
func (e *evaluation) block(lo, hi int, sums []float64) int {
	n, k := hi-lo, len(e.metrics)
	q := e.queries.Mat(n, e.x.Cols)
	for i := range n {
		inv := e.inv[lo+i]
		dst := q.Row(i)
		for j, v := range e.x.Row(lo + i) {
			dst[j] = v * inv
		}
	}
	s := e.scores.Mat(n, e.x.Rows)
	nn.Gemm(nn.AsIs, nn.Transposed, 1, q, e.x, 0, s)
	if len(e.counted) < n {
		e.values, e.counted = make([]float64, n*k), make([]bool, n)
	}
	nn.Parallel(n, 4*s.Cols, func(from, to int) {
		var r ranker
		for i := from; i < to; i++ {
			row := s.Row(i)
			for j, inv := range e.inv {
				row[j] *= inv
			}
			ranks := r.ranks(row, lo+i, e.rel)
			e.counted[i] = len(ranks) > 0
			for m, c := range e.metrics {
				if len(ranks) > 0 {
					e.values[i*k+m] = c.Score(ranks)
				}
			}
		}
	})
	count := 0
	for i := range n {
		if !e.counted[i] {
			continue
		}
		count++
		for m := range k {
			sums[m] += e.values[i*k+m]
		}
	}
	return count
}

// ranker finds ranks without sorting the candidates: it counts, for each
// relevant object, the candidates that come before.
type ranker struct {
	relevant []int32
	levels   []float32 // the relevant objects' similarities, falling
	before   []int32
	out      []int32
}

// ranks returns the ranks of the objects relevant to query i, in rising
// order, valid until the next call. It overwrites scores.
func (r *ranker) ranks(scores []float32, i int, rel Relevance) []int32 {
	r.relevant = rel.Append(r.relevant[:0], i)
	r.levels, r.out = r.levels[:0], r.out[:0]
	none := float32(math.Inf(-1))
	for _, j := range r.relevant {
		r.levels = append(r.levels, scores[j])
	}
	if len(r.levels) == 0 {
		return nil
	}
	slices.SortFunc(r.levels, func(a, b float32) int {
		switch {
		case a > b:
			return -1
		case a < b:
			return 1
		}
		return 0
	})
	// What is left below counts the candidates that are not relevant.
	scores[i] = none
	for _, j := range r.relevant {
		scores[j] = none
	}
	r.before = append(r.before[:0], make([]int32, len(r.levels))...)
	last := r.levels[len(r.levels)-1]
	for _, s := range scores {
		if s < last {
			continue
		}
		// s comes before every relevant object of at most its similarity:
		// before[k] counts those for which the k-th is the first such.
		r.before[first(r.levels, s)]++
	}
	sum := int32(0)
	for k, c := range r.before {
		sum += c
		r.out = append(r.out, sum+int32(k)+1)
	}
	return r.out
}

// first is the least k with levels[k] <= s, where levels fall and the last
// is at most s.
func first(levels []float32, s float32) int {
	lo, hi := 0, len(levels)-1
	for lo < hi {
		mid := int(uint(lo+hi) / 2)
		if levels[mid] <= s {
			hi = mid
		} else {
			lo = mid + 1
		}
	}
	return lo
}
