package head

import (
	"fmt"
	"slices"
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
				rowInvariant(t, "skip_connection", newHead(t, SkipConnection{Layers: 2}, dim))
			}
			if name == "gonum" {
				return // the slowest, and not the hardest
			}
			for name, config := range heads() {
				rowInvariant(t, name, newHead(t, config, 37))
			}
		})
	}
}

func rowInvariant(t *testing.T, name string, h Head) {
	dim, out := h.In(), h.Out()
	const n = 2*blockRows + 7
	x, chosen := random(newRand(3), n, dim), choices(n)
	for i := 0; i < n*dim; i += 5 {
		x.Float32s()[i] = 0 // some BLAS skip zeros
	}
	f := h.Freeze()
	if f.In() != dim || f.Out() != out {
		t.Fatalf("%s is frozen from %d to %d values, not %d to %d", name, f.In(), f.Out(), dim, out)
	}
	all := dense(n, out, make([]float32, n*out))
	if err := Apply(f, all, x, chosen); err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{1, 2, 5, blockRows, blockRows + 1} {
		for lo := 0; lo+size <= n; lo += 7 {
			part := dense(size, out, make([]float32, size*out))
			if err := Apply(f, part, dense(size, dim, slices.Clone(x.Float32s()[lo*dim:(lo+size)*dim])), chosen[lo:lo+size]); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(part.Float32s(), all.Float32s()[lo*out:(lo+size)*out]) {
				t.Fatalf("%s of %d values: rows %d to %d differ in a batch of %d and of %d", name, dim, lo, lo+size, size, n)
			}
		}
	}
}

func TestFrozenIsConcurrentAndApart(t *testing.T) {
	const dim, n = 32, 100
	for name, c := range heads() {
		h := newHead(t, c, dim)
		x, chosen := random(newRand(2), n, dim), choices(n)
		want := dense(n, h.Out(), make([]float32, n*h.Out()))
		f := h.Freeze()
		if err := Apply(f, want, x, chosen); err != nil {
			t.Fatal(err)
		}
		for _, p := range h.Parameters() {
			clear(p.Values()) // training goes on
		}
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				got := dense(n, h.Out(), make([]float32, n*h.Out()))
				for range 10 {
					if err := Apply(f, got, x, chosen); err != nil || !slices.Equal(got.Float32s(), want.Float32s()) {
						t.Errorf("%s: a concurrent Apply differs (%v)", name, err)
						return
					}
				}
			})
		}
		wg.Wait()
	}
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
