//go:build openblas

package nn

import (
	"math/rand/v2"
	"slices"
	"testing"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/gonum"
)

// TestOpenBLAS: products of this build are near those of the kernels and of
// gonum, and neither's bits, for Gemm and for tensors.
func TestOpenBLAS(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 8))
	const m, k, n = 20, 2000, 30 // with fewer terms the bits are the kernels'
	a, b := Mat{m, k, random(r, m*k)}, Mat{k, n, random(r, k*n)}
	product := func() []float32 {
		c := Mat{m, n, make([]float32, m*n)}
		Gemm(AsIs, AsIs, 1, a, b, 0, c)
		return c.Data
	}
	linked := product()
	tensors, err := Wrap(a).MatMul(Wrap(b))
	if err != nil || !slices.Equal(tensors.Float32s(), linked) {
		t.Errorf("tensors multiply to other bits, or %v", err)
	}
	UseBLAS(BLAS(0))
	kernels := product()
	UseBLAS(nil)
	pure := make([]float32, m*n)
	gonum.Implementation{}.Sgemm(blas.NoTrans, blas.NoTrans, m, n, k, 1, a.Data, k, b.Data, n, 0, pure, n)
	for name, other := range map[string][]float32{"the kernels": kernels, "gonum": pure} {
		if slices.Equal(linked, other) || !alike(linked, other, 1e-4) {
			t.Errorf("products are those of %s, or far from them", name)
		}
	}
	if !slices.Equal(product(), linked) {
		t.Error("UseBLAS(nil) is not OpenBLAS again")
	}
}
