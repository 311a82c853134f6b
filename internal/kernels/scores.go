package kernels

import "fmt"

// The sizes of one block of scores: small enough for the second-level cache,
// so that what is computed is looked at while it is there, and large enough
// that packing costs little. No result depends on them.
const (
	scoreQueries    = 192
	scoreCandidates = 1024
)

// Candidates are vectors that queries are compared with.
type Candidates struct {
	// Rows are the vectors, row after row, Dim values each.
	Rows []float32
	// Dim is the number of values of a vector, at least 1.
	Dim int
	// Scale has a factor for every vector's scores. Default: none.
	Scale []float32
}

// Len is the number of candidates.
func (c *Candidates) Len() int { return len(c.Rows) / c.Dim }

// Scores computes the scores of candidates, their inner products with queries
// times Scale, block by block: its memory grows with the number of neither.
// The inner products are those of [Gemm] and have the same bits in every
// block. Buffers are kept from call to call; a Scores serves one call at a
// time.
type Scores struct {
	Candidates
	// Workers is the most goroutines of one product. Default: one a processor.
	Workers int

	block, rows, scale []float32
}

// Each calls visit for each of the queries, row after row in queries, with
// runs of its scores that together are those of all candidates in rising
// order: first is the place of the run's first candidate. With only, the
// candidates are those rows, and first is a place in only. visit may
// overwrite the scores, which are valid until it returns.
func (s *Scores) Each(queries []float32, only []int32, visit func(query, first int, scores []float32)) {
	m, n := s.check(queries), s.Len()
	if only != nil {
		n = len(only)
	}
	for q := 0; q < m; q += scoreQueries {
		count := min(scoreQueries, m-q)
		for first := 0; first < n; first += scoreCandidates {
			width := min(scoreCandidates, n-first)
			rows, scale := s.candidates(only, first, width)
			s.block = grown(s.block, count*width)
			Gemm(false, true, count, width, s.Dim, 1, queries[q*s.Dim:], s.Dim, rows, s.Dim, 0, s.block, width, s.Workers)
			for i := range count {
				run := s.block[i*width : (i+1)*width : (i+1)*width]
				if scale != nil {
					Mul(run, run, scale)
				}
				visit(q+i, first, run)
			}
		}
	}
}

// candidates returns width candidates from the first on and their factors,
// if there are any.
func (s *Scores) candidates(only []int32, first, width int) (rows, scale []float32) {
	if only == nil {
		if s.Scale != nil {
			scale = s.Scale[first : first+width]
		}
		return s.Rows[first*s.Dim:], scale
	}
	s.rows = grown(s.rows, width*s.Dim)
	for i, row := range only[first : first+width] {
		copy(s.rows[i*s.Dim:(i+1)*s.Dim], s.Rows[int(row)*s.Dim:])
	}
	if s.Scale != nil {
		s.scale = grown(s.scale, width)
		for i, row := range only[first : first+width] {
			s.scale[i] = s.Scale[row]
		}
		scale = s.scale[:width]
	}
	return s.rows, scale
}

// check panics unless the matrices fit together, and returns the number of
// queries.
func (c *Candidates) check(queries []float32) int {
	switch {
	case c.Dim < 1:
		panic(fmt.Sprintf("kernels: vectors of %d values", c.Dim))
	case len(queries)%c.Dim != 0 || len(c.Rows)%c.Dim != 0:
		panic(fmt.Sprintf("kernels: %d and %d values are not rows of %d", len(queries), len(c.Rows), c.Dim))
	case c.Scale != nil && len(c.Scale) != c.Len():
		panic(fmt.Sprintf("kernels: %d factors for %d candidates", len(c.Scale), c.Len()))
	}
	return len(queries) / c.Dim
}
