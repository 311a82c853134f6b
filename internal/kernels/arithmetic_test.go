package kernels

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestArithmetic: the bits of Go's operators, wherever the result goes.
func TestArithmetic(t *testing.T) {
	special := []float32{0, float32(math.Copysign(0, -1)), 1, -1, 1e-45, -1e-45, 1e-20, 3e38, -3e38, infinity, -infinity, nan}
	ops := map[string]struct {
		vectors func(dst, x, y []float32)
		exact   func(x, y float32) float32
	}{
		"add": {Add, func(x, y float32) float32 { return x + y }},
		"sub": {Sub, func(x, y float32) float32 { return x - y }},
		"mul": {Mul, func(x, y float32) float32 { return x * y }},
		"shift": {
			func(dst, x, _ []float32) { Shift(1.1, x, dst) },
			func(x, _ float32) float32 { return x - 1.1 },
		},
	}
	profiles(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(3, 3))
		for name, op := range ops {
			for _, n := range []int{0, 1, 7, 8, 9, 31, 32, 33, 41, 1023} {
				x, y := values(r, n), values(r, n)
				for i := range min(n, len(special)*len(special)) {
					x[i], y[i] = special[i%len(special)], special[i/len(special)]
				}
				for place, operands := range map[string]func() (dst, x, y []float32){
					"elsewhere": func() (_, _, _ []float32) { return make([]float32, n+1), slices.Clone(x), slices.Clone(y) },
					"x":         func() (_, _, _ []float32) { d := slices.Clone(x); return d, d, slices.Clone(y) },
					"y":         func() (_, _, _ []float32) { d := slices.Clone(y); return d, slices.Clone(x), d },
					"both":      func() (_, _, _ []float32) { d := slices.Clone(x); return d, d, d },
				} {
					dst, a, b := operands()
					want := make([]float32, n)
					for i := range want {
						want[i] = op.exact(a[i], b[i])
					}
					op.vectors(dst, a, b)
					for i := range want {
						if math.Float32bits(dst[i]) != math.Float32bits(want[i]) && (dst[i] == dst[i] || want[i] == want[i]) {
							t.Fatalf("%s of %d values in %s: value %d of %v and %v is %v, want %v", name, n, place, i, x[i], y[i], dst[i], want[i])
						}
					}
				}
			}
		}
	})
}

// TestArithmeticGuarded: nothing outside the operands is read or written.
func TestArithmeticGuarded(t *testing.T) {
	for _, n := range []int{0, 1, 7, 8, 9, 31, 33, 40, 67} {
		for _, atEnd := range []bool{false, true} {
			x, y, dst := guarded(t, n, atEnd), guarded(t, n, atEnd), guarded(t, n, atEnd)
			Add(dst, x, y)
			Sub(dst, x, y)
			Mul(dst, x, y)
			Shift(1, x, dst)
		}
	}
}
