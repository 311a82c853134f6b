package kernels

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"
)

// matrix is a row-major matrix in the middle of other numbers.
type matrix struct {
	rows, cols, ld int
	data           []float32
}

func newMatrix(r *rand.Rand, rows, cols, gap int) matrix {
	m := matrix{rows, cols, max(1, cols) + gap, nil}
	if rows > 0 {
		m.data = values(r, (rows-1)*m.ld+cols)
	}
	return m
}

func values(r *rand.Rand, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(r.NormFloat64())
	}
	return x
}

func (m matrix) clone() matrix { m.data = slices.Clone(m.data); return m }

func (m matrix) at(trans bool, i, j int) float32 {
	if trans {
		i, j = j, i
	}
	return m.data[i*m.ld+j]
}

// fma32 is x*y+z, rounded once: the sum is rounded to odd in float64, which
// has more than two bits more than float32.
func fma32(x, y, z float32) float32 {
	p := float64(x) * float64(y)
	s := p + float64(z)
	if math.IsInf(s, 0) || s != s {
		return float32(s)
	}
	back := s - p
	e := (p - (s - back)) + (float64(z) - back)
	if b := math.Float64bits(s); e != 0 && b&1 == 0 {
		if (e > 0) == (s > 0) {
			s = math.Float64frombits(b + 1)
		} else {
			s = math.Float64frombits(b - 1)
		}
	}
	return float32(s)
}

// chain is the element that the package comment promises, and bound how far
// another order of rounding may take it.
func chain(transA, transB bool, alpha float32, a, b matrix, beta float32, c matrix, i, j, k int) (exact float32, near, bound float64) {
	var s float32
	var sum, size float64
	if beta != 0 {
		s = beta * c.at(false, i, j)
		sum, size = float64(s), math.Abs(float64(s))
	}
	for p := range k {
		x, y := a.at(transA, i, p), b.at(transB, p, j)
		s = fma32(alpha*x, y, s)
		term := float64(alpha) * float64(x) * float64(y)
		sum += term
		size += math.Abs(term)
	}
	return s, sum, size * float64(k+4) * 0x1p-24
}

func transposable(r *rand.Rand, trans bool, rows, cols, gap int) matrix {
	if trans {
		rows, cols = cols, rows
	}
	return newMatrix(r, rows, cols, gap)
}

func (m matrix) gemm(transA, transB bool, k int, alpha float32, a, b matrix, beta float32, workers int) {
	Gemm(transA, transB, m.rows, m.cols, k, alpha, a.data, a.ld, b.data, b.ld, beta, m.data, m.ld, workers)
}

// checkGemm compares every element of a product, and that what lies between
// the rows of c stays.
func checkGemm(t *testing.T, transA, transB bool, k int, alpha float32, a, b matrix, beta float32, c matrix) {
	t.Helper()
	got, packed := c.clone(), c.clone()
	got.gemm(transA, transB, k, alpha, a, b, beta, 1)
	GemmPacked(transA, c.rows, alpha, a.data, a.ld, Pack(transB, k, c.cols, b.data, b.ld), beta, packed.data, c.ld, 1)
	if !sameBits(packed.data, got.data) {
		t.Fatal("with b packed before the bits are others")
	}
	if !transA && c.cols > 0 {
		checkAffine(t, k, a, Pack(transB, k, c.cols, b.data, b.ld), c)
	}
	for at := range c.data {
		i, j := at/c.ld, at%c.ld
		if j >= c.cols {
			if got.data[at] != c.data[at] {
				t.Fatalf("the value between rows at %d,%d is changed", i, j)
			}
			continue
		}
		exact, near, bound := chain(transA, transB, alpha, a, b, beta, c, i, j, k)
		v := got.data[at]
		if fast && alpha != 0 && v != exact {
			t.Fatalf("%d,%d is %v, the chain gives %v", i, j, v, exact)
		}
		if !(math.Abs(float64(v)-near) <= bound) {
			t.Fatalf("%d,%d is %v, want %v within %v", i, j, v, near, bound)
		}
	}
}

// checkAffine: a map begins its chains with the bias, as a product does with
// rows of c that are the bias.
func checkAffine(t *testing.T, k int, x matrix, w *Packed, c matrix) {
	t.Helper()
	bias := values(rand.New(rand.NewPCG(1, 1)), c.cols)
	for _, bias := range [][]float32{bias, nil} {
		got, want := c.clone(), c.clone()
		for i := range c.rows {
			row := want.data[i*c.ld:][:c.cols]
			clear(row)
			copy(row, bias)
		}
		GemmPacked(false, c.rows, 1, x.data, x.ld, w, 1, want.data, c.ld, 1)
		Affine(c.rows, x.data, x.ld, w, bias, got.data, c.ld, 1)
		if !sameBits(got.data, want.data) {
			t.Fatalf("%d x %d x %d: a bias of %d values gives other bits", c.rows, c.cols, k, len(bias))
		}
	}
}

func TestGemm(t *testing.T) {
	shapes := [][3]int{ // m, n, k
		{0, 0, 0},
		{0, 5, 3},
		{5, 0, 3},
		{3, 4, 0},
		{1, 1, 1},
		{1, 17, 2},
		{17, 1, 3},
		{1, 64, 131},
		{5, 15, 7},
		{6, 16, 4},
		{7, 17, 5},
		{13, 31, 29},
		{12, 32, 8},
		{23, 47, 11},
		{61, 67, 71},
		{191, 19, 37},
		{193, 65, 41},
		{199, 129, 9},
		{11, 23, 383},
		{11, 23, 384},
		{11, 23, 385},
		{7, 18, 1153},
		{197, 1031, 5},
		{32, 48, 64},
	}
	profiles(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(1, 2))
		for _, s := range shapes {
			m, n, k := s[0], s[1], s[2]
			t.Run(fmt.Sprintf("%dx%dx%d", m, n, k), func(t *testing.T) {
				for form := range 4 {
					transA, transB := form&1 != 0, form&2 != 0
					if raceOn && m*n*k > 100_000 {
						continue
					}
					for v, scalars := range [][2]float32{{1, 0}, {1, 1}, {-0.75, 0.3}, {0, 2}, {0, 0}} {
						if v > 1 && m*n*k > 100_000 {
							continue
						}
						a := transposable(r, transA, m, k, v*form)
						b := transposable(r, transB, k, n, form)
						checkGemm(t, transA, transB, k, scalars[0], a, b, scalars[1], newMatrix(r, m, n, v))
					}
				}
			})
		}
	})
}

// TestGemmStripes: what does not fit into one stripe of packed values is
// computed in several.
func TestGemmStripes(t *testing.T) {
	defer func(was int) { panelLimit = was }(panelLimit)
	profiles(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(7, 2))
		for _, panelLimit = range []int{1, 500, 5000} {
			for _, s := range [][3]int{{3, 100, 37}, {197, 83, 41}, {100, 50, 0}, {47, 5, 401}} {
				m, n, k := s[0], s[1], s[2]
				a, b := newMatrix(r, m, k, 1), newMatrix(r, n, k, 0)
				checkGemm(t, false, true, k, 1.5, a, b, 0.5, newMatrix(r, m, n, 2))
			}
		}
	})
}

// TestGemmBatch: a row of a product has the same bits alone, among others and
// with fewer columns, at any place in memory.
func TestGemmBatch(t *testing.T) {
	profiles(t, func(t *testing.T) {
		const m, n, k = 211, 83, 401
		r := rand.New(rand.NewPCG(3, 4))
		for form := range 4 {
			transA, transB := form&1 != 0, form&2 != 0
			a, b := transposable(r, transA, m, k, 0), transposable(r, transB, k, n, 0)
			c := newMatrix(r, m, n, 0)
			whole := c.clone()
			whole.gemm(transA, transB, k, 0.7, a, b, 0.5, 1)
			for _, cut := range [][4]int{{0, 1, 0, n}, {5, 1, 0, n}, {210, 1, 3, 1}, {2, 5, 1, 16}, {100, 37, 7, 60}, {0, 200, 80, 3}} {
				i0, rows, j0, cols := cut[0], cut[1], cut[2], cut[3]
				part := newMatrix(r, rows, cols, 3)
				for i := range rows {
					copy(part.data[i*part.ld:], c.data[(i0+i)*c.ld+j0:][:cols])
				}
				pa, pb := a, b
				if pa.data = a.data[i0*a.ld:]; transA {
					pa.data = a.data[i0:]
				}
				if pb.data = b.data[j0:]; transB {
					pb.data = b.data[j0*b.ld:]
				}
				part.gemm(transA, transB, k, 0.7, pa, pb, 0.5, 1)
				for i := range rows {
					if !sameBits(part.data[i*part.ld:][:cols], whole.data[(i0+i)*c.ld+j0:][:cols]) {
						t.Fatalf("form %d, rows %d+%d, columns %d+%d: row %d differs", form, i0, rows, j0, cols, i)
					}
				}
			}
		}
	})
}

func sameBits(a, b []float32) bool {
	return slices.EqualFunc(a, b, func(x, y float32) bool { return math.Float32bits(x) == math.Float32bits(y) })
}

// TestGemmWorkers: the bits do not depend on the number of goroutines, nor on
// what else runs.
func TestGemmWorkers(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(8))
	profiles(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(5, 6))
		for _, s := range [][3]int{{401, 211, 203}, {203, 411, 209}, {3, 1501, 1003}, {1501, 2, 1003}, {230, 1100, 1003}} {
			a, b, c := newMatrix(r, s[0], s[2], 1), newMatrix(r, s[2], s[1], 0), newMatrix(r, s[0], s[1], 2)
			want, packed := c.clone(), Pack(false, s[2], s[1], b.data, b.ld)
			want.gemm(false, false, s[2], 1, a, b, 1, 1)
			var wg sync.WaitGroup
			for _, workers := range []int{0, 2, 3, 7, 1000} {
				wg.Go(func() {
					got := c.clone()
					got.gemm(false, false, s[2], 1, a, b, 1, workers)
					if !sameBits(got.data, want.data) {
						t.Errorf("%v: %d workers give other bits", s, workers)
					}
					got = c.clone()
					GemmPacked(false, s[0], 1, a.data, a.ld, packed, 1, got.data, got.ld, workers)
					if !sameBits(got.data, want.data) {
						t.Errorf("%v, packed: %d workers give other bits", s, workers)
					}
				})
			}
			wg.Wait()
		}
	})
	if n := busy.Load(); n != 0 {
		t.Errorf("%d processors are still taken", n)
	}
}

// TestTake: callers share the processors; each gets one at least.
func TestTake(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(4))
	var got []int
	for _, want := range []int{2, 8, 8, 1} {
		got = append(got, take(want))
	}
	if want := []int{2, 2, 1, 1}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for _, n := range got {
		busy.Add(int64(-n))
	}
}

func TestGemmSpecialValues(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	profiles(t, func(t *testing.T) {
		c := []float32{nan, inf}
		Gemm(false, false, 1, 2, 1, 1, []float32{2}, 1, []float32{3, 4}, 2, 0, c, 2, 1)
		if c[0] != 6 || c[1] != 8 {
			t.Errorf("beta 0 reads c: %v", c)
		}
		Gemm(false, false, 1, 2, 1, 0, []float32{nan}, 1, []float32{inf, 4}, 2, 1, c, 2, 1)
		if c[0] != 6 || c[1] != 8 {
			t.Errorf("alpha 0 reads a: %v", c)
		}
		Gemm(false, false, 1, 2, 2, 1, []float32{0, 1}, 2, []float32{inf, 1, 1, 1}, 2, 0, c, 2, 1)
		if c[0] == c[0] || c[1] != 1 {
			t.Errorf("zero times infinity gives %v", c)
		}
	})
}

// TestGemmGuarded: nothing outside the operands is touched.
func TestGemmGuarded(t *testing.T) {
	profiles(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(7, 8))
		for _, m := range []int{1, 2, 3, 4, 5, 6, 7, 13} {
			for _, n := range []int{1, 3, 15, 16, 17, 33} {
				for _, k := range []int{1, 3, 4, 5, 8, 11} {
					for form := range 8 {
						transA, transB, atEnd := form&1 != 0, form&2 != 0, form&4 != 0
						if (m+n+k+form)%3 != 0 {
							continue
						}
						place := func(x matrix) matrix {
							data := guarded(t, len(x.data), atEnd)
							copy(data, x.data)
							x.data = data
							return x
						}
						a, b := place(transposable(r, transA, m, k, 1)), place(transposable(r, transB, k, n, 2))
						c := newMatrix(r, m, n, 1)
						want, alpha := c.clone(), float32(1+k%2)
						want.gemm(transA, transB, k, alpha, a.clone(), b.clone(), 0, 1)
						c = place(c)
						c.gemm(transA, transB, k, alpha, a, b, 0, 1)
						if !sameBits(c.data, want.data) {
							t.Fatalf("%d x %d x %d, form %d: other bits at another place", m, n, k, form)
						}
					}
				}
			}
		}
	})
}

func TestGemmRefuses(t *testing.T) {
	x := make([]float32, 12)
	for name, call := range map[string]func(){
		"negative":      func() { Gemm(false, false, -1, 2, 2, 1, x, 2, x, 2, 0, x, 2, 1) },
		"short a":       func() { Gemm(false, false, 4, 3, 3, 1, x[:11], 3, x, 3, 0, x, 3, 1) },
		"short b":       func() { Gemm(false, true, 3, 4, 3, 1, x, 3, x[:11], 3, 0, x, 4, 1) },
		"short c":       func() { Gemm(false, false, 3, 4, 3, 1, x, 3, x, 4, 0, x[:11], 4, 1) },
		"rows overlap":  func() { Gemm(false, false, 2, 2, 3, 1, x, 2, x, 2, 0, x, 2, 1) },
		"no row stride": func() { Gemm(false, false, 0, 0, 0, 1, nil, 1, nil, 1, 0, nil, 0, 1) },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			call()
		})
	}
}

func TestGemmAllocates(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(4))
	r := rand.New(rand.NewPCG(9, 10))
	a, b, c := newMatrix(r, 210, 210, 0), newMatrix(r, 210, 210, 0), newMatrix(r, 210, 210, 0)
	for _, workers := range []int{1, 4} {
		const calls = 100
		run := func() { c.gemm(false, true, 210, 1, a, b, 0, workers) }
		for range calls {
			run()
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range calls {
			run()
		}
		runtime.ReadMemStats(&after)
		// The runtime itself allocates now and then, such as for a goroutine
		// that ended on another processor than the next one begins on. A
		// product that allocates does so for each of its goroutines.
		if n := after.Mallocs - before.Mallocs; n > calls {
			t.Errorf("%d workers: %d allocations in %d products", workers, n, calls)
		}
	}
}

func FuzzGemm(f *testing.F) {
	f.Add(uint8(3), uint16(20), uint16(9), uint8(1), float32(1), float32(0))
	f.Add(uint8(200), uint16(70), uint16(400), uint8(2), float32(-2), float32(1))
	f.Fuzz(func(t *testing.T, m uint8, n, k uint16, form uint8, alpha, beta float32) {
		if !(math.Abs(float64(alpha)) < 1e6 && math.Abs(float64(beta)) < 1e6) {
			return
		}
		if alpha != 0 && math.Abs(float64(alpha)) < 1e-6 || beta != 0 && math.Abs(float64(beta)) < 1e-6 {
			return
		}
		rows, cols, terms := int(m), int(n)%300, int(k)%500
		transA, transB := form&1 != 0, form&2 != 0
		r := rand.New(rand.NewPCG(uint64(n), uint64(k)))
		a := transposable(r, transA, rows, terms, int(form>>2&3))
		b := transposable(r, transB, terms, cols, int(form>>4&3))
		checkGemm(t, transA, transB, terms, alpha, a, b, beta, newMatrix(r, rows, cols, int(form>>6)))
	})
}

func BenchmarkGemm(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 1))
	for _, s := range [][3]int{{1024, 1024, 1024}, {512, 384, 384}, {32, 384, 384}, {1, 384, 384}} {
		b.Run(fmt.Sprintf("%dx%dx%d", s[0], s[1], s[2]), func(b *testing.B) {
			x, y, z := newMatrix(r, s[0], s[2], 0), newMatrix(r, s[2], s[1], 0), newMatrix(r, s[0], s[1], 0)
			for b.Loop() {
				z.gemm(false, false, s[2], 1, x, y, 0, 1)
			}
			b.ReportMetric(2*float64(s[0]*s[1]*s[2])*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOPS")
		})
	}
}
