package nn

import (
	"testing"

	"gonum.org/v1/gonum/blas"
)

// counted counts the products that it is asked for.
type counted struct {
	blas.Float32
	n int
}

func (c *counted) Sgemm(opA, opB blas.Transpose, m, n, k int, alpha float32, a []float32, lda int, b []float32, ldb int, beta float32, x []float32, ldx int) {
	c.n++
	c.Float32.Sgemm(opA, opB, m, n, k, alpha, a, lda, b, ldb, beta, x, ldx)
}

func TestUseBLAS(t *testing.T) {
	a, b := Mat{2, 3, []float32{1, 2, 3, 4, 5, 6}}, Mat{2, 3, []float32{1, 0, 1, 0, 1, 0}}
	want := []float32{4, 2, 10, 5}
	c := &counted{Float32: BLAS(1)}
	for i, use := range []blas.Float32{nil, c, nil} {
		UseBLAS(use)
		got := Mat{2, 2, make([]float32, 4)}
		Gemm(AsIs, Transposed, 1, a, b, 0, got)
		for j, v := range want {
			if got.Data[j] != v {
				t.Errorf("turn %d: %v, want %v", i, got.Data, want)
			}
		}
	}
	if c.n != 1 {
		t.Errorf("the other BLAS was asked for %d products, want 1", c.n)
	}
}

func TestGemmRefusesShapes(t *testing.T) {
	m := Mat{2, 3, make([]float32, 6)}
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	Gemm(AsIs, AsIs, 1, m, m, 0, m)
}
