package kernels

import (
	"math/rand/v2"
	"testing"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/gonum"
	"gorgonia.org/tensor"
)

var _ tensor.BLAS = BLAS{}

// TestBLAS: the forms of gonum's interface mean what they mean there.
func TestBLAS(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	a, b := values(r, 12), values(r, 12)
	for _, opA := range []blas.Transpose{blas.NoTrans, blas.Trans, blas.ConjTrans} {
		for _, opB := range []blas.Transpose{blas.NoTrans, blas.Trans, blas.ConjTrans} {
			got := values(r, 12)
			want := append([]float32(nil), got...)
			BLAS{}.Sgemm(opA, opB, 3, 3, 3, 2, a, 4, b, 4, 0.5, got, 4)
			gonum.Implementation{}.Sgemm(opA, opB, 3, 3, 3, 2, a, 4, b, 4, 0.5, want, 4)
			for i := range want {
				if d := got[i] - want[i]; d > 1e-5 || d < -1e-5 {
					t.Errorf("%c%c: value %d is %v, gonum's %v", opA, opB, i, got[i], want[i])
				}
			}
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("no panic for an unknown form")
		}
	}()
	BLAS{}.Sgemm('x', blas.NoTrans, 1, 1, 1, 1, a, 1, b, 1, 0, a, 1)
}
