package kernels

import (
	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/gonum"
)

// BLAS is gonum's implementation of BLAS with this package's functions in
// place of its own for products of matrices and for vectors without gaps. It can be given to blas32.Use and to
// gorgonia's tensor.Use. The zero BLAS is ready.
type BLAS struct {
	gonum.Implementation
	// Workers is the most goroutines of one call. Default: one a processor.
	Workers int
}

// Sgemm computes c = alpha·op(a)·op(b) + beta·c, as [Gemm].
func (b BLAS) Sgemm(opA, opB blas.Transpose, m, n, k int, alpha float32, a []float32, lda int, x []float32, ldx int, beta float32, c []float32, ldc int) {
	Gemm(transposed(opA), transposed(opB), m, n, k, alpha, a, lda, x, ldx, beta, c, ldc, b.Workers)
}

// Sgemv computes y = alpha·op(a)·x + beta·y. A sum is taken as that of Sdot if
// a is not transposed, and row after row if it is.
func (b BLAS) Sgemv(opA blas.Transpose, m, n int, alpha float32, a []float32, lda int, x []float32, incX int, beta float32, y []float32, incY int) {
	if incX != 1 || incY != 1 || m < 0 || n < 0 {
		b.Implementation.Sgemv(opA, m, n, alpha, a, lda, x, incX, beta, y, incY)
		return
	}
	trans := transposed(opA)
	check("a", m, n, a, lda)
	if m == 0 || n == 0 {
		return
	}
	if trans {
		x, y = x[:m], y[:n]
	} else {
		x, y = x[:n], y[:m]
	}
	switch {
	case beta == 0:
		clear(y)
	case beta != 1:
		scale(beta, y, y)
	}
	if alpha == 0 {
		return
	}
	for i := range m {
		row := a[i*lda : i*lda+n]
		if trans {
			axpy(alpha*x[i], row, y)
		} else {
			y[i] += alpha * dot(row, x)
		}
	}
}

// Sdot is the inner product of two vectors, summed in float32 in an order
// that depends on n alone.
func (b BLAS) Sdot(n int, x []float32, incX int, y []float32, incY int) float32 {
	if incX != 1 || incY != 1 || n < 0 {
		return b.Implementation.Sdot(n, x, incX, y, incY)
	}
	return dot(x[:n], y[:n])
}

// Saxpy adds alpha·x to y.
func (b BLAS) Saxpy(n int, alpha float32, x []float32, incX int, y []float32, incY int) {
	if incX != 1 || incY != 1 || n < 0 {
		b.Implementation.Saxpy(n, alpha, x, incX, y, incY)
		return
	}
	axpy(alpha, x[:n], y[:n])
}

func transposed(op blas.Transpose) bool {
	switch op {
	case blas.NoTrans:
		return false
	case blas.Trans, blas.ConjTrans:
		return true
	default:
		panic("kernels: " + string(op) + " is no form of a matrix")
	}
}
