package head

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/gonum"

	"github.com/permafrost-ml/permafrost/pipeline/train/nn"
)

// shapedBLAS sums in an order that depends on the number of rows, as an
// optimized BLAS may: in pieces of m terms.
type shapedBLAS struct{ gonum.Implementation }

func (b shapedBLAS) Sgemm(tA, tB blas.Transpose, m, n, k int, alpha float32, a []float32, lda int, bb []float32, ldb int, beta float32, c []float32, ldc int) {
	if tA != blas.NoTrans || tB != blas.NoTrans || beta != 0 {
		b.Implementation.Sgemm(tA, tB, m, n, k, alpha, a, lda, bb, ldb, beta, c, ldc)
		return
	}
	for i := range m {
		for j := range n {
			var sum, part float32
			for l := range k {
				part += a[i*lda+l] * bb[l*ldb+j]
				if l%m == m-1 {
					sum, part = sum+part, 0
				}
			}
			c[i*ldc+j] = alpha * (sum + part)
		}
	}
}

// TestFrozenIsRowInvariant: a row's bits are the same alone and in any
// batch, with the default BLAS, with gonum's and with one that does not give
// that by itself.
func TestFrozenIsRowInvariant(t *testing.T) {
	for name, c := range map[string]struct {
		blas blas.Float32
		dims []int
	}{
		"own":    {nil, []int{1, 3, 64, 100, 256, 384}},
		"gonum":  {gonum.Implementation{}, []int{1, 3, 64, 100, 256, 384}},
		"shaped": {shapedBLAS{}, []int{3, 50, 100}},
	} {
		t.Run(name, func(t *testing.T) {
			nn.UseBLAS(c.blas)
			defer nn.UseBLAS(nil)
			for _, dim := range c.dims {
				rowInvariant(t, dim)
			}
		})
	}
}

func rowInvariant(t *testing.T, dim int) {
	rng := newRand(9)
	h, err := SkipConnection{Layers: 2}.New(dim, rng)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range h.Parameters() {
		if strings.HasPrefix(p.Name, "gates.") {
			clear(p.Values())
		}
	}
	const n = 2*blockRows + 7
	x := random(rng, n, dim)
	for i := 0; i < n*dim; i += 5 {
		x.Float32s()[i] = 0 // some BLAS skip zeros
	}
	f := h.Freeze()
	all := dense(n, dim, make([]float32, n*dim))
	if err := f.Apply(all, x); err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{1, 2, 5, blockRows, blockRows + 1} {
		for lo := 0; lo+size <= n; lo += 7 {
			part := dense(size, dim, make([]float32, size*dim))
			if err := f.Apply(part, dense(size, dim, slices.Clone(x.Float32s()[lo*dim:(lo+size)*dim]))); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(part.Float32s(), all.Float32s()[lo*dim:(lo+size)*dim]) {
				t.Fatalf("dim %d: rows %d to %d differ in a batch of %d and of %d", dim, lo, lo+size, size, n)
			}
		}
	}
}

func TestFrozenIsConcurrentAndApart(t *testing.T) {
	const dim, n = 32, 100
	rng := newRand(2)
	h, err := SkipConnection{}.New(dim, rng)
	if err != nil {
		t.Fatal(err)
	}
	x, want := random(rng, n, dim), dense(n, dim, make([]float32, n*dim))
	f := h.Freeze()
	if err := f.Apply(want, x); err != nil {
		t.Fatal(err)
	}
	for _, p := range h.Parameters() {
		clear(p.Values()) // training goes on
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			got := dense(n, dim, make([]float32, n*dim))
			for range 20 {
				if err := f.Apply(got, x); err != nil || !slices.Equal(got.Float32s(), want.Float32s()) {
					t.Errorf("a concurrent Apply differs (%v)", err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func BenchmarkApply(b *testing.B) {
	const dim = 384
	h, err := SkipConnection{}.New(dim, newRand(1))
	if err != nil {
		b.Fatal(err)
	}
	f := h.Freeze()
	for _, n := range []int{1, 32, 1024} {
		b.Run(fmt.Sprintf("rows=%d", n), func(b *testing.B) {
			x, dst := random(newRand(2), n, dim), random(newRand(3), n, dim)
			for b.Loop() {
				if err := f.Apply(dst, x); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(n*b.N)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}
