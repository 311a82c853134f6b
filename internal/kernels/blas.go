package kernels

import (
	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/gonum"
)

// BLAS is gonum's implementation of BLAS with this package's functions in
// place of its own where there are any. It can be given to blas32.Use and to
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
