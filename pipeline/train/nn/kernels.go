package nn

import (
	"math"

	"github.com/permafrost-ml/permafrost/internal/kernels"
)

// Dot is the inner product of two vectors of one length, in float64.
func Dot(a, b []float32) float64 { return kernels.Dot(a, b) }

// NormEps is the least length by which [Normalize] divides, as in
// PyTorch's F.normalize.
const NormEps = 1e-12

// Normalize writes the rows of x, divided by their Euclidean lengths (at
// least [NormEps]), to dst, and the inverse lengths to inv. A row of zeros
// stays zeros and has the inverse length 0.
func Normalize(dst, x Mat, inv []float32) {
	Parallel(x.Rows, 2*x.Cols, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			inv[i] = kernels.Normalize(dst.Row(i), x.Row(i), NormEps)
		}
	})
}

// NormalizeBackward turns the gradient g of the rows y = x/|x| of
// [Normalize] into that of x, in place: (g - y·(y·g))/|x|. The gradient of a
// row of zeros is 0, as no direction is better than another there.
func NormalizeBackward(g, y Mat, inv []float32) {
	Parallel(g.Rows, 2*g.Cols, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			gr, yr := g.Row(i), y.Row(i)
			kernels.Axpy(-float32(Dot(yr, gr)), yr, gr)
			kernels.Scale(inv[i], gr, gr)
		}
	})
}

// LogSumExpRows writes log(sum(exp(row))) of every row of m to dst. A value
// of -Inf counts as absent; a row must have one that is not.
func LogSumExpRows(dst []float32, m Mat) {
	Parallel(m.Rows, 4*m.Cols, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			dst[i] = kernels.LogSumExp(m.Row(i))
		}
	})
}

// LogSumExpCols writes log(sum(exp(column))) of every column of m to dst,
// under the rules of [LogSumExpRows]. sums is scratch of m.Cols values.
func LogSumExpCols(dst []float32, sums []float64, m Mat) {
	Parallel(m.Cols, 4*m.Rows, func(lo, hi int) {
		top, sum := dst[lo:hi], sums[lo:hi]
		for j := range top {
			top[j], sum[j] = float32(math.Inf(-1)), 0
		}
		for i := range m.Rows {
			for j, v := range m.Row(i)[lo:hi] {
				top[j] = max(top[j], v)
			}
		}
		var e [piece]float32
		for i := range m.Rows {
			row := m.Row(i)[lo:hi]
			for from := 0; from < len(row); from += piece {
				to := min(from+piece, len(row))
				expMinus(e[:to-from], row[from:to], top[from:to])
				for j, v := range e[:to-from] {
					sum[from+j] += float64(v)
				}
			}
		}
		for j := range top {
			top[j] += float32(math.Log(sum[j]))
		}
	})
}

// piece is the number of values of scratch on a goroutine's stack.
const piece = 256

// expMinus writes e^(a-b) to dst. All have one length.
func expMinus(dst, a, b []float32) {
	kernels.Sub(dst, a, b)
	kernels.Exp(dst, dst)
}

// Sigmoids writes 1/(1+e^-v) of every value v of g to dst.
func Sigmoids(dst, g []float32) { kernels.Sigmoid(dst, g) }

// Add adds b to a.
func Add(a, b Mat) {
	Parallel(a.Rows, a.Cols, func(lo, hi int) {
		dst, src := a.Data[lo*a.Cols:hi*a.Cols], b.Data[lo*a.Cols:hi*a.Cols]
		for i, v := range src {
			dst[i] += v
		}
	})
}

// GatedAdd adds the vector bias to every row of z and then writes
// z ∘ gate + x to y, where gate stands for every row.
func GatedAdd(y, x, z Mat, bias, gate []float32) {
	Parallel(x.Rows, 2*x.Cols, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			kernels.GatedAdd(y.Row(i), x.Row(i), z.Row(i), bias, gate)
		}
	})
}

// GatedAddBackward takes the gradient dy of [GatedAdd]'s y, the z that it
// left and gate = sigmoid(g). It writes the gradient of z to dz and adds
// those of bias and g, summed over rows, to dbias and dg.
func GatedAddBackward(dz Mat, dbias, dg []float32, dy, z Mat, gate []float32, s *Sums) {
	s.fit(z.Cols)
	Parallel(z.Cols, 4*z.Rows, func(lo, hi int) {
		sb, sg, gt := s.a[lo:hi], s.b[lo:hi], gate[lo:hi]
		clear(sb)
		clear(sg)
		for i := range z.Rows {
			kernels.GatedBackward(dz.Row(i)[lo:hi], dy.Row(i)[lo:hi], z.Row(i)[lo:hi], gt, sb, sg)
		}
		for j, v := range gt {
			dbias[lo+j] += float32(sb[j])
			// v already holds one factor sigmoid; its derivative has (1-sigmoid) more.
			dg[lo+j] += float32(sg[j] * float64(1-v))
		}
	})
}

// Sums is scratch for sums over the rows of a matrix. The zero Sums is ready.
type Sums struct{ a, b []float64 }

func (s *Sums) fit(n int) {
	if len(s.a) < n {
		s.a, s.b = make([]float64, n), make([]float64, n)
	}
}

// AddScalar adds v to every value of m.
func AddScalar(m Mat, v float32) {
	Parallel(m.Rows, m.Cols, func(lo, hi int) {
		for i := lo * m.Cols; i < hi*m.Cols; i++ {
			m.Data[i] += v
		}
	})
}

// CrossEntropyBackward replaces the square matrix l of logits by the
// gradient of scale·Σ_i(rows[i] - l[i,i]) by l, where rows are its
// [LogSumExpRows]; with cols, its [LogSumExpCols], also that of
// scale·Σ_j(cols[j] - l[j,j]). nil cols are left out.
func CrossEntropyBackward(l Mat, rows, cols []float32, scale float32) {
	Parallel(l.Rows, 4*l.Cols, func(lo, hi int) {
		var e [piece]float32
		for i := lo; i < hi; i++ {
			row := l.Row(i)
			if cols == nil {
				kernels.ExpSum(row, row, rows[i])
				kernels.Scale(scale, row, row)
				row[i] -= scale
				continue
			}
			for from := 0; from < len(row); from += piece {
				part := row[from:min(from+piece, len(row))]
				byCol := e[:len(part)]
				expMinus(byCol, part, cols[from:from+len(part)])
				kernels.ExpSum(part, part, rows[i])
				kernels.Axpy(1, byCol, part)
				kernels.Scale(scale, part, part)
			}
			row[i] -= 2 * scale
		}
	})
}

// SoftmaxBackward replaces the matrix l of logits by the gradient of
// scale·Σ_i(lse[i] - l[i,labels[i]]) by l, where lse are its [LogSumExpRows].
func SoftmaxBackward(l Mat, lse []float32, labels []int32, scale float32) {
	Parallel(l.Rows, 2*l.Cols, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			row := l.Row(i)
			kernels.ExpSum(row, row, lse[i])
			kernels.Scale(scale, row, row)
			row[labels[i]] -= scale
		}
	})
}

// AdamStep holds the numbers of one step of Adam.
type AdamStep kernels.AdamStep

// Apply updates the moments m and v by the gradient g and then the values w:
// w -= Rate·m / (sqrt(v)/Root + Eps).
func (a AdamStep) Apply(w, g, m, v []float32) {
	step := kernels.AdamStep(a)
	Parallel(len(w), 4, func(lo, hi int) { step.Apply(w[lo:hi], g[lo:hi], m[lo:hi], v[lo:hi]) })
}
