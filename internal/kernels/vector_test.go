package kernels

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/gonum"
)

// near reports whether two numbers differ by at most rel of size.
func near(got, want, size, rel float64) bool { return math.Abs(got-want) <= rel*size+1e-300 }

// TestVectors compares every length up to a few vectors, against protected
// pages, with plain loops in float64.
func TestVectors(t *testing.T) {
	profiles(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(1, 2))
		for n := range 140 {
			x, y, z := guarded(t, n, true), guarded(t, n, n%2 == 0), guarded(t, n, true)
			copy(x, values(r, n))
			copy(y, values(r, n))
			var sum, sumAbs, product, productAbs, exps float64
			top := math.Inf(-1)
			for i, v := range x {
				a, b := float64(v), float64(y[i])
				sum, sumAbs, product, productAbs = sum+a, sumAbs+math.Abs(a), product+a*b, productAbs+math.Abs(a*b)
				top, exps = max(top, a), exps+math.Exp(a)
			}
			if got := Sum(x); !near(got, sum, sumAbs, 3e-7) {
				t.Errorf("n=%d: sum %v, want %v", n, got, sum)
			}
			if got := Dot(x, y); !near(got, product, productAbs, 1e-15) {
				t.Errorf("n=%d: dot %v, want %v", n, got, product)
			}
			if got := (BLAS{}).Sdot(n, x, 1, y, 1); !near(float64(got), product, productAbs, 1e-5) {
				t.Errorf("n=%d: Sdot %v, want %v", n, got, product)
			}
			if got := Max(x); float64(got) != top {
				t.Errorf("n=%d: max %v, want %v", n, got, top)
			}
			if got, want := LogSumExp(x), math.Log(exps); n > 0 && !near(float64(got), want, 1+math.Abs(want), 3e-7) {
				t.Errorf("n=%d: log-sum-exp %v, want %v", n, got, want)
			}
			Softmax(z, x)
			for i, v := range z {
				if want := math.Exp(float64(x[i])) / exps; !near(float64(v), want, want, 1e-6) {
					t.Errorf("n=%d: softmax %d is %v, want %v", n, i, v, want)
				}
			}
			scaled := 0.0
			for _, v := range x {
				scaled += math.Exp(0.125 * float64(v))
			}
			ScaledSoftmax(z, x, 0.125)
			for i, v := range z {
				if want := math.Exp(0.125*float64(x[i])) / scaled; !near(float64(v), want, want, 1e-6) {
					t.Errorf("n=%d: scaled softmax %d is %v, want %v", n, i, v, want)
				}
			}
			inverse, length := Normalize(z, x, 1e-12), math.Sqrt(dotWideGo(x, x))
			for i, v := range z {
				if want := float64(x[i]) / length; !near(float64(v), want, math.Abs(want), 2e-7) {
					t.Errorf("n=%d: normalized %d is %v, want %v", n, i, v, want)
				}
			}
			if n > 0 && !near(float64(inverse), 1/length, 1/length, 1e-7) {
				t.Errorf("n=%d: inverse length %v, want %v", n, inverse, 1/length)
			}
			copy(z, y)
			Axpy(0.3, x, z)
			for i, v := range z {
				if want := float64(float32(0.3))*float64(x[i]) + float64(y[i]); !near(float64(v), want, math.Abs(float64(y[i]))+math.Abs(want), 2e-7) {
					t.Errorf("n=%d: axpy %d is %v, want %v", n, i, v, want)
				}
			}
			Scale(-2, x, z)
			for i, v := range z {
				if v != -2*x[i] {
					t.Errorf("n=%d: scaled %d is %v", n, i, v)
				}
			}
		}
	})
}

func TestLayerNorm(t *testing.T) {
	profiles(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(8, 8))
		for n := range 70 {
			const eps = 1e-5
			row, gain, bias, dst := guarded(t, n, true), guarded(t, n, true), guarded(t, n, true), guarded(t, n, true)
			copy(gain, values(r, n))
			copy(bias, values(r, n))
			var sum, squares float64
			for i, v := range values(r, n) {
				row[i] = 3*v + 5
				sum += float64(row[i])
			}
			mean := sum / float64(n)
			for _, v := range row {
				squares += (float64(v) - mean) * (float64(v) - mean)
			}
			LayerNorm(dst, row, gain, bias, eps)
			for i, v := range dst {
				want := (float64(row[i])-mean)/math.Sqrt(squares/float64(n)+eps)*float64(gain[i]) + float64(bias[i])
				if !near(float64(v), want, 10, 1e-6) {
					t.Errorf("n=%d: value %d is %v, want %v", n, i, v, want)
				}
			}
			x, y, sums := guarded(t, n, true), guarded(t, n, true), make([]float32, n)
			copy(x, values(r, n))
			copy(y, values(r, n))
			for i := range sums {
				sums[i] = x[i] + y[i]
			}
			AddLayerNorm(x, x, y, gain, bias, eps)
			LayerNorm(sums, sums, gain, bias, eps)
			if !sameBits(x, sums) {
				t.Errorf("n=%d: other bits of a sum", n)
			}
			if LayerNorm(row, row, gain, bias, eps); !sameBits(row, dst) {
				t.Errorf("n=%d: other bits in place", n)
			}
		}
	})
}

func TestVectorsAtEdges(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	profiles(t, func(t *testing.T) {
		for n := 1; n < 80; n++ {
			x := slices.Repeat([]float32{-3}, n)
			for i := range x {
				x[i] = nan
				if got := Max(x); got == got {
					t.Fatalf("NaN at %d of %d: max %v", i, n, got)
				}
				if x[i] = 7; Max(x) != 7 {
					t.Fatalf("7 at %d of %d: max %v", i, n, Max(x))
				}
				x[i] = -3
			}
		}
		if got := LogSumExp([]float32{-inf, -inf}); got != -inf {
			t.Errorf("log-sum-exp of nothing is %v", got)
		}
		if got := LogSumExp([]float32{1, inf}); got != inf {
			t.Errorf("log-sum-exp with +Inf is %v", got)
		}
		if got := LogSumExp([]float32{1000, 1000, -inf}); math.Abs(float64(got)-1000-math.Ln2) > 1e-4 {
			t.Errorf("log-sum-exp of large values is %v", got)
		}
		row := []float32{1e4, -inf, 1e4}
		Softmax(row, row)
		if row[0] != 0.5 || row[1] != 0 || row[2] != 0.5 {
			t.Errorf("softmax is %v", row)
		}
		row = []float32{-inf, -inf}
		Softmax(row, row)
		if row[0] == row[0] {
			t.Errorf("softmax of nothing is %v", row)
		}
		row = []float32{0, 0, 0}
		if inverse := Normalize(row, row, 1e-12); inverse != 0 || row[1] != 0 {
			t.Errorf("zeros become %v, inverse %v", row, inverse)
		}
		row = []float32{3e30, 4e30}
		if Normalize(row, row, 1e-12); !near(float64(row[0]), 0.6, 1, 1e-7) || !near(float64(row[1]), 0.8, 1, 1e-7) {
			t.Errorf("large values become %v", row)
		}
	})
}

func TestGemv(t *testing.T) {
	profiles(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(5, 5))
		for _, s := range [][2]int{{0, 3}, {3, 0}, {1, 1}, {7, 33}, {33, 7}, {64, 100}} {
			for form := range 24 {
				op, alpha, inc := blas.NoTrans, float32(1.5), 1+form%2
				beta := []float32{0, 1, -0.5}[form/2%3]
				if form >= 12 {
					op = blas.Trans
				}
				m, n := s[0], s[1]
				a := newMatrix(r, m, n, form%3)
				in, out := n, m
				if op == blas.Trans {
					in, out = m, n
				}
				x, got := values(r, 1+in*inc), values(r, 1+out*inc)
				want := slices.Clone(got)
				BLAS{}.Sgemv(op, m, n, alpha, a.data, a.ld, x, inc, beta, got, inc)
				gonum.Implementation{}.Sgemv(op, m, n, alpha, a.data, a.ld, x, inc, beta, want, inc)
				for i := 0; i < out*inc; i += inc {
					if !near(float64(got[i]), float64(want[i]), 30, 1e-6) {
						t.Fatalf("%d x %d, form %d: value %d is %v, want %v", m, n, form, i, got[i], want[i])
					}
				}
			}
		}
	})
}

func TestVectorsAllocateNothing(t *testing.T) {
	x, y, z := make([]float32, 77), make([]float32, 77), make([]uint16, 77)
	profiles(t, func(t *testing.T) {
		for name, f := range map[string]func(){
			"GELU":          func() { GELU(y, x) },
			"ScaledSoftmax": func() { ScaledSoftmax(y, x, 2) },
			"LogSumExp":     func() { LogSumExp(x) },
			"LayerNorm":     func() { LayerNorm(y, x, x, x, 1) },
			"AddLayerNorm":  func() { AddLayerNorm(y, x, x, x, x, 1) },
			"Normalize":     func() { Normalize(y, x, 1) },
			"ToFloat16":     func() { ToFloat16(z, x) },
		} {
			if n := testing.AllocsPerRun(10, f); n != 0 {
				t.Errorf("%s allocates %v times", name, n)
			}
		}
	})
}
