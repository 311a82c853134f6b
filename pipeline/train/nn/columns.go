package nn

import "github.com/permafrost-ml/permafrost/internal/kernels"

// AddBias adds the vector bias to every row of y.
func AddBias(y Mat, bias []float32) {
	Parallel(y.Rows, y.Cols, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			kernels.Add(y.Row(i), y.Row(i), bias)
		}
	})
}

// AddColumnSums adds the sum of every column of m to dst.
func AddColumnSums(dst []float32, m Mat, s *Sums) {
	s.fit(m.Cols)
	Parallel(m.Cols, 2*m.Rows, func(lo, hi int) {
		sums := s.a[lo:hi]
		clear(sums)
		for i := range m.Rows {
			for j, v := range m.Row(i)[lo:hi] {
				sums[j] += float64(v)
			}
		}
		for j, v := range sums {
			dst[lo+j] += float32(v)
		}
	})
}

// AddColumnDots adds the inner product of every column of a with that of b to
// dst. a and b have one shape.
func AddColumnDots(dst []float32, a, b Mat, s *Sums) {
	s.fit(a.Cols)
	Parallel(a.Cols, 3*a.Rows, func(lo, hi int) {
		sums := s.a[lo:hi]
		clear(sums)
		for i := range a.Rows {
			br := b.Row(i)[lo:hi]
			for j, v := range a.Row(i)[lo:hi] {
				sums[j] += float64(v) * float64(br[j])
			}
		}
		for j, v := range sums {
			dst[lo+j] += float32(v)
		}
	})
}
