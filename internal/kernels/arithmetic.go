package kernels

//go:generate go -C gen run . -set arithmetic -out ../arithmetic_amd64.s -stubs ../arithmetic_amd64.go -pkg kernels

// The functions of this file write to dst, which must be as long as the other
// operands at least, and may be one of them and not overlap them otherwise.
// Every value is rounded once, as by Go's operators.

// Add writes x + y.
func Add(dst, x, y []float32) {
	dst, y = dst[:len(x)], y[:len(x)]
	if len(x) == 0 || plusFast(dst, x, y) {
		return
	}
	for i, v := range x {
		dst[i] = v + y[i]
	}
}

// Sub writes x - y.
func Sub(dst, x, y []float32) {
	dst, y = dst[:len(x)], y[:len(x)]
	if len(x) == 0 || minusFast(dst, x, y) {
		return
	}
	for i, v := range x {
		dst[i] = v - y[i]
	}
}

// Mul writes x·y, value by value.
func Mul(dst, x, y []float32) {
	dst, y = dst[:len(x)], y[:len(x)]
	if len(x) == 0 || timesFast(dst, x, y) {
		return
	}
	for i, v := range x {
		dst[i] = v * y[i]
	}
}

// Shift writes src - by.
func Shift(by float32, src, dst []float32) {
	dst = dst[:len(src)]
	if len(src) == 0 || lessFast(by, src, dst) {
		return
	}
	for i, v := range src {
		dst[i] = v - by
	}
}
