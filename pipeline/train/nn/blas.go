package nn

import (
	"sync/atomic"

	"gonum.org/v1/gonum/blas"
	"gorgonia.org/tensor"

	"github.com/permafrost-ml/permafrost/internal/kernels"
)

// BLAS is this module's own BLAS, the one that [Gemm] uses: matrix products
// in Go assembly with at most workers goroutines each (0 is one a processor),
// everything else gonum's. Programs can give it to blas32.Use and tensor.Use,
// so that products of their own run at the same speed; [Engine] does more for
// tensors.
func BLAS(workers int) tensor.BLAS { return kernels.BLAS{Workers: workers} }

// other is what [UseBLAS] set.
var other atomic.Pointer[blas.Float32]

// UseBLAS makes [Gemm] and [Engine] use another BLAS in the whole process, for
// matrix products; nil is the build's again: [BLAS], or OpenBLAS with the
// build tag openblas. With another BLAS than this module's, results may depend
// on the number of rows and of threads. Encoders and metrics are not touched:
// they call the module's kernels, so what a cache holds does not change.
func UseBLAS(b blas.Float32) {
	if b == nil {
		other.Store(nil)
		return
	}
	other.Store(&b)
}

// The two forms of a matrix in [Gemm].
const (
	AsIs       = blas.NoTrans
	Transposed = blas.Trans
)

// Gemm computes c = alpha·op(a)·op(b) + beta·c. With beta 0 what was in c
// does not matter. With the module's own BLAS a row of c has the same bits
// whatever the rows around it and the number of threads. Shapes that do not
// fit are a programmer's error and panic.
func Gemm(opA, opB blas.Transpose, alpha float32, a, b Mat, beta float32, c Mat) {
	rowsA, k := a.Rows, a.Cols
	if opA != AsIs {
		rowsA, k = k, rowsA
	}
	rowsB, colsB := b.Rows, b.Cols
	if opB != AsIs {
		rowsB, colsB = colsB, rowsB
	}
	if rowsA != c.Rows || colsB != c.Cols || rowsB != k {
		panic("nn: the shapes of a product do not fit")
	}
	gemm(opA != AsIs, opB != AsIs, c.Rows, c.Cols, k, alpha, a.Data, max(1, a.Cols), b.Data, max(1, b.Cols), beta, c.Data, max(1, c.Cols), 0)
}

// gemm is the product of the BLAS in use, with the arguments of
// [kernels.Gemm].
func gemm(transA, transB bool, m, n, k int, alpha float32, a []float32, lda int, b []float32, ldb int, beta float32, c []float32, ldc, workers int) {
	o := other.Load()
	if o == nil {
		o = linked
	}
	if o != nil {
		(*o).Sgemm(form(transA), form(transB), m, n, k, alpha, a, lda, b, ldb, beta, c, ldc)
		return
	}
	kernels.Gemm(transA, transB, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc, workers)
}

func form(trans bool) blas.Transpose {
	if trans {
		return blas.Trans
	}
	return blas.NoTrans
}
