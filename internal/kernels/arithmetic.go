package kernels

import "math"

// The functions of this file write to dst, which must be as long as the other
// operands at least, and may be one of them and not overlap them otherwise.
// Every value is rounded once, as by Go's operators.

// Add writes x + y.
func Add(dst, x, y []float32) {
	for len(x) > 0 {
		d, a, b := cut(&dst, &x, &y)
		switch {
		case &d[0] == &b[0]:
			axpy(1, a, d)
		default:
			move(d, a)
			axpy(1, b, d)
		}
	}
}

// Sub writes x - y.
func Sub(dst, x, y []float32) {
	for len(x) > 0 {
		d, a, b := cut(&dst, &x, &y)
		switch {
		case &d[0] == &b[0] && &d[0] != &a[0]:
			scale(-1, d, d)
			axpy(1, a, d)
		default:
			move(d, a)
			axpy(-1, b, d)
		}
	}
}

// Mul writes x·y, value by value.
func Mul(dst, x, y []float32) {
	for len(x) > 0 {
		d, a, b := cut(&dst, &x, &y)
		if &d[0] == &b[0] {
			a, b = b, a
		}
		move(d, a)
		affine(1, b, minusZeros[:len(d)], d)
	}
}

// Shift writes src - by.
func Shift(by float32, src, dst []float32) { shift(by, src, dst[:len(src)]) }

// passBlock is the number of values that an operation of several passes looks at
// together: they stay in the first-level cache.
const passBlock = 1024

// minusZeros are what changes no number that they are added to: 0 would turn
// -0 into 0.
var minusZeros = func() (z [passBlock]float32) {
	for i := range z {
		z[i] = float32(math.Copysign(0, -1))
	}
	return z
}()

// cut takes the next values off all three operands.
func cut(dst, x, y *[]float32) (d, a, b []float32) {
	n := min(passBlock, len(*x))
	d, a, b = (*dst)[:n], (*x)[:n], (*y)[:n]
	*dst, *x, *y = (*dst)[n:], (*x)[n:], (*y)[n:]
	return d, a, b
}

func move(dst, src []float32) {
	if &dst[0] != &src[0] {
		copy(dst, src)
	}
}
