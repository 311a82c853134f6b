package kernels

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// int8Reference is the product that GemmInt8's comment promises, value by
// value, from the weights as they were rounded.
func int8Reference(a []float32, b *PackedInt8, j int) float32 {
	steps := (b.k + 3) / 4
	low, high := float32(0), float32(0)
	for _, v := range a {
		low, high = min(low, v), max(high, v)
		if v != v || math.IsInf(float64(v), 0) {
			return float32(math.NaN())
		}
	}
	s, inverse := (high-low)/255, 255/(high-low)
	if math.IsInf(float64(s), 0) {
		return float32(math.NaN())
	}
	if math.IsInf(float64(inverse), 0) {
		return 0
	}
	z := int64(math.RoundToEven(float64(-low * inverse)))
	var dot, sum int64
	for p, v := range a {
		w := int64(b.panels[(j/16*steps+p/4)*64+j%16*4+p%4])
		q := min(255, max(0, int64(math.RoundToEven(float64(v*inverse)))+z))
		dot, sum = dot+q*w, sum+w
	}
	return float32(float32(dot-z*sum)*s) * b.scales[j]
}

// TestGemmInt8: every path and number of goroutines gives the bits that are
// promised, and nothing outside of c is touched.
func TestGemmInt8(t *testing.T) {
	profiles(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(5, 6))
		for _, s := range [][3]int{
			{1, 1, 1},
			{2, 3, 5},
			{7, 16, 4},
			{8, 32, 32},
			{9, 33, 31},
			{13, 47, 67},
			{5, 17, 0},
			{0, 4, 4},
			{4, 0, 4},
			{37, 64, 384},
			{193, 100, 129},
			{400, 50, 33},
		} {
			m, n, k := s[0], s[1], s[2]
			for _, trans := range []bool{false, true} {
				b := newMatrix(r, k, n, 3)
				if trans {
					b = newMatrix(r, n, k, 3)
				}
				packed, err := PackInt8(trans, k, n, b.data, b.ld)
				if err != nil {
					t.Fatal(err)
				}
				a, c := newMatrix(r, m, k, 5), newMatrix(r, m, n, 2)
				scatter(r, a)
				was := c.clone()
				for form := range 4 {
					add, workers := form&1 != 0, 1+form&2
					copy(c.data, was.data)
					GemmInt8(m, a.data, a.ld, packed, add, c.data, c.ld, workers)
					for i := range m {
						row := a.data[i*a.ld:][:k]
						for j := range c.ld {
							at := i*c.ld + j
							if at >= len(c.data) {
								break
							}
							want := was.data[at]
							if j < n {
								want = int8Reference(row, packed, j)
								if add {
									want += was.data[at]
								}
							}
							if got := c.data[at]; math.Float32bits(got) != math.Float32bits(want) && (got == got || want == want) {
								t.Fatalf("%dx%dx%d, transposed %v, %d workers: (%d,%d) is %v, want %v", m, n, k, trans, workers, i, j, got, want)
							}
						}
					}
				}
			}
		}
	})
}

// scatter puts rows of special values into a matrix.
func scatter(r *rand.Rand, a matrix) {
	if a.cols == 0 {
		return
	}
	for i := range a.rows {
		row := a.data[i*a.ld:][:a.cols]
		at := r.IntN(len(row))
		switch i % 12 {
		case 1:
			row[at] = float32(math.NaN())
		case 2:
			row[at] = float32(math.Inf(1 - 2*(i&1)))
		case 3:
			clear(row)
		case 4:
			for p := range row {
				row[p] = float32(math.Abs(float64(row[p])))
			}
		case 5:
			for p := range row {
				row[p] = -float32(math.Abs(float64(row[p])))
			}
		case 6:
			for p := range row {
				row[p] *= 1e-40
			}
		case 7:
			for p := range row {
				row[p] *= 1e37
			}
		case 8:
			row[at] = math.MaxFloat32
		}
	}
}

// TestGemmInt8Extremes: the largest bytes with the largest weights saturate
// on no path.
func TestGemmInt8Extremes(t *testing.T) {
	profiles(t, func(t *testing.T) {
		const k, n, m = 512, 40, 9
		for _, pair := range [][2]float32{{127, 0}, {0, 127}, {63.5, 63.5}, {64.6, 62.4}, {1.5, 125.5}} {
			a, b, c := make([]float32, m*k), make([]float32, k*n), make([]float32, m*n)
			for i := range a {
				a[i] = 255
			}
			for i := range b {
				b[i] = pair[i/n%2]
				if i%n%2 == 1 {
					b[i] = -b[i]
				}
			}
			packed, err := PackInt8(false, k, n, b, n)
			if err != nil {
				t.Fatal(err)
			}
			sum := 0
			for _, v := range packed.panels[:2] {
				sum += int(v)
			}
			if sum < 127 || sum > 128 || packed.scales[0] != 1 {
				t.Fatalf("%v becomes %v times %v", pair, packed.panels[:2], packed.scales[0])
			}
			GemmInt8(m, a, k, packed, false, c, n, 1)
			for i, got := range c {
				want := float32(255 * sum * k / 2)
				if i%n%2 == 1 {
					want = -want
				}
				if got != want {
					t.Fatalf("%v: value %d is %v, want %v", pair, i, got, want)
				}
			}
		}
	})
}

// TestGemmInt8Near: the product is near the exact one.
func TestGemmInt8Near(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 9))
	const m, n, k = 64, 96, 384
	a, b := newMatrix(r, m, k, 0), newMatrix(r, n, k, 0)
	packed, err := PackInt8(true, k, n, b.data, b.ld)
	if err != nil {
		t.Fatal(err)
	}
	got, want := make([]float32, m*n), make([]float32, m*n)
	GemmInt8(m, a.data, a.ld, packed, false, got, n, 1)
	Gemm(false, true, m, n, k, 1, a.data, a.ld, b.data, b.ld, 0, want, n, 1)
	var diff, size float64
	for i := range want {
		d := float64(got[i] - want[i])
		diff, size = diff+d*d, size+float64(want[i])*float64(want[i])
	}
	if rel := math.Sqrt(diff / size); rel > 0.015 || rel == 0 {
		t.Errorf("off by %v of the product's size", rel)
	}
}

func TestPackInt8Refuses(t *testing.T) {
	for _, bad := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		if _, err := PackInt8(false, 1, 2, []float32{1, float32(bad)}, 2); err == nil {
			t.Errorf("%v is accepted", bad)
		}
	}
	if _, err := PackInt8(false, int8Terms+1, 1, make([]float32, int8Terms+1), 1); err == nil {
		t.Error("a sum that may not fit is accepted")
	}
	b := []float32{1e-44, 3e-45, 0, 1e-40}
	packed, err := PackInt8(false, 4, 1, b, 1)
	if err != nil {
		t.Fatal(err)
	}
	for p := range 2 {
		if v := packed.panels[2*p : 2*p+2]; math.Abs(float64(v[0]))+math.Abs(float64(v[1])) > int8Pair {
			t.Errorf("weights %v", v)
		}
	}
}

// TestGemmInt8Guarded: nothing outside the operands is read or written.
func TestGemmInt8Guarded(t *testing.T) {
	profiles(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(3, 4))
		for _, s := range [][3]int{{1, 1, 1}, {5, 19, 7}, {8, 32, 32}, {11, 49, 95}} {
			for _, atEnd := range []bool{false, true} {
				m, n, k := s[0], s[1], s[2]
				a, c := guarded(t, m*k, atEnd), guarded(t, m*n, atEnd)
				copy(a, values(r, m*k))
				packed, err := PackInt8(false, k, n, values(r, k*n), n)
				if err != nil {
					t.Fatal(err)
				}
				GemmInt8(m, a, k, packed, false, c, n, 1)
				for i := range m {
					for j := range n {
						if want := int8Reference(a[i*k:(i+1)*k], packed, j); c[i*n+j] != want {
							t.Fatalf("%v: (%d,%d) is %v, want %v", s, i, j, c[i*n+j], want)
						}
					}
				}
			}
		}
	})
}

func TestGemmInt8Allocates(t *testing.T) {
	if raceOn {
		t.Skip("the race detector allocates")
	}
	r := rand.New(rand.NewPCG(1, 2))
	packed, err := PackInt8(false, 256, 256, values(r, 256*256), 256)
	if err != nil {
		t.Fatal(err)
	}
	a, c := values(r, 300*256), make([]float32, 300*256)
	for _, workers := range []int{1, 2} {
		if n := testing.AllocsPerRun(20, func() { GemmInt8(300, a, 256, packed, false, c, 256, workers) }); n != 0 {
			t.Errorf("%v allocations with %d workers", n, workers)
		}
	}
}

func FuzzGemmInt8(f *testing.F) {
	f.Add(uint8(3), uint8(17), uint8(9), uint64(1))
	f.Fuzz(func(t *testing.T, m, n, k uint8, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 1))
		b := newMatrix(r, int(k), int(n), 1)
		packed, err := PackInt8(false, int(k), int(n), b.data, b.ld)
		if err != nil {
			t.Fatal(err)
		}
		a, c := newMatrix(r, int(m), int(k), 0), newMatrix(r, int(m), int(n), 0)
		scatter(r, a)
		GemmInt8(int(m), a.data, a.ld, packed, false, c.data, c.ld, 2)
		for i := range int(m) {
			for j := range int(n) {
				got, want := c.data[i*c.ld+j], int8Reference(a.data[i*a.ld:][:k], packed, j)
				if math.Float32bits(got) != math.Float32bits(want) && (got == got || want == want) {
					t.Fatalf("(%d,%d) is %v, want %v", i, j, got, want)
				}
			}
		}
	})
}

func BenchmarkGemmInt8(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 1))
	for _, s := range [][3]int{{4096, 384, 384}, {4096, 1536, 384}, {4096, 384, 1536}, {32, 384, 384}} {
		b.Run(fmt.Sprintf("%dx%dx%d", s[0], s[1], s[2]), func(b *testing.B) {
			packed, err := PackInt8(false, s[2], s[1], values(r, s[2]*s[1]), s[1])
			if err != nil {
				b.Fatal(err)
			}
			x, z := values(r, s[0]*s[2]), make([]float32, s[0]*s[1])
			for b.Loop() {
				GemmInt8(s[0], x, s[2], packed, false, z, s[1], 1)
			}
			b.ReportMetric(2*float64(s[0]*s[1]*s[2])*float64(b.N)/b.Elapsed().Seconds()/1e9, "Gop/s")
		})
	}
}
