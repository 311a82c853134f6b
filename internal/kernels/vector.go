package kernels

import "math"

// Sums have an order that depends on the length alone. Those of products and of
// squares are taken in float64; of exponentials, up to 4 are added as float32
// before.

// Sum is the sum of the values: 8 sums of up to 16 of them as float32 for every
// 128, which are added as float64.
func Sum(x []float32) float64 { return sum(x) }

// Dot is the inner product of two vectors of one length, summed in float64.
func Dot(x, y []float32) float64 { return dotWide(x, y[:len(x)]) }

// Max is the greatest value: NaN if one is NaN, -Inf if there is none.
func Max(x []float32) float32 { return maximum(x) }

// Axpy adds alpha·x to y, which must be as long at least.
func Axpy(alpha float32, x, y []float32) { axpy(alpha, x, y[:len(x)]) }

// Scale writes alpha·src to dst, which must be as long at least and may be src.
func Scale(alpha float32, src, dst []float32) { scale(alpha, src, dst[:len(src)]) }

// Softmax writes e^x/Σe^x of a row to dst, which must be as long at least and
// may be the row. Values of -Inf get 0; a row of nothing else, or with NaN or
// +Inf, gets NaN.
func Softmax(dst, row []float32) { ScaledSoftmax(dst, row, 1) }

// ScaledSoftmax is Softmax of scale·x, where scale is positive. The exponent is
// scale·x minus the rounded scale·max, rounded once.
func ScaledSoftmax(dst, row []float32, scale float32) {
	if len(row) == 0 {
		return
	}
	dst = dst[:len(row)]
	s := expSum(dst, row, scale, scale*Max(row))
	Scale(float32(1/s), dst, dst)
}

// ExpSum writes e^(src-shift) to dst, which must be as long at least and may
// be src, and returns the sum of what it wrote.
func ExpSum(dst, src []float32, shift float32) float64 { return expSum(dst[:len(src)], src, 1, shift) }

// LogSumExp is log(Σe^x) of a row, -Inf without values.
func LogSumExp(row []float32) float32 {
	top := Max(row)
	if math.IsInf(float64(top), 0) {
		return top
	}
	return top + float32(math.Log(sumExp(row, top)))
}

// Normalize writes a row divided by its Euclidean length, or by least if that
// is more, to dst, which must be as long at least and may be the row. It
// returns the inverse of the divisor; a row of zeros stays zeros and has the
// inverse 0.
func Normalize(dst, row []float32, least float64) float32 {
	length := math.Sqrt(squares(row, 0))
	var inverse float32
	if length != 0 {
		inverse = float32(1 / max(length, least))
	}
	Scale(inverse, row, dst)
	return inverse
}

// LayerNorm writes (row - mean)/√(variance + eps)·gain + bias to dst, where
// mean and variance (the biased one) are the row's. gain and bias are as long
// as the row, dst at least; dst may be the row.
func LayerNorm(dst, row, gain, bias []float32, eps float64) {
	n := len(row)
	if n == 0 {
		return
	}
	layerNorm(dst[:n], row, gain[:n], bias[:n], Sum(row), eps)
}

// AddLayerNorm is LayerNorm of the row x + y, as after a layer with a residual
// connection. y is as long as x, dst at least; dst may be one of them.
func AddLayerNorm(dst, x, y, gain, bias []float32, eps float64) {
	n := len(x)
	if n == 0 {
		return
	}
	dst = dst[:n]
	layerNorm(dst, dst, gain[:n], bias[:n], addSum(dst, x, y[:n]), eps)
}

func layerNorm(dst, row, gain, bias []float32, sum, eps float64) {
	mean := float32(sum / float64(len(row)))
	variance := squares(row, mean) / float64(len(row))
	affine(mean, float32(1/math.Sqrt(variance+eps)), row, gain, bias, dst)
}

func affineGo(shift, alpha float32, src, gain, bias, dst []float32) {
	for i, v := range src {
		dst[i] = (v-shift)*alpha*gain[i] + bias[i]
	}
}

func sumGo(x []float32) float64 {
	var s float64
	for _, v := range x {
		s += float64(v)
	}
	return s
}

func addSumGo(dst, x, y []float32) float64 {
	var s float64
	for i, v := range x {
		dst[i] = v + y[i]
		s += float64(dst[i])
	}
	return s
}

func dotWideGo(x, y []float32) float64 {
	var s float64
	for i, v := range x {
		s += float64(v) * float64(y[i])
	}
	return s
}

func squaresGo(x []float32, shift float32) float64 {
	var s float64
	for _, v := range x {
		d := float64(v) - float64(shift)
		s += d * d
	}
	return s
}

func dotGo(x, y []float32) float32 {
	var s float32
	for i, v := range x {
		s += v * y[i]
	}
	return s
}

func maximumGo(x []float32) float32 {
	top := float32(math.Inf(-1))
	for _, v := range x {
		top = max(top, v)
	}
	return top
}

func axpyGo(alpha float32, x, y []float32) {
	for i, v := range x {
		y[i] += alpha * v
	}
}

func scaleGo(alpha float32, src, dst []float32) {
	for i, v := range src {
		dst[i] = alpha * v
	}
}

func expSumGo(dst, src []float32, scale, shift float32) float64 {
	var s float64
	for i, v := range src {
		dst[i] = float32(math.Exp(float64(scale)*float64(v) - float64(shift)))
		s += float64(dst[i])
	}
	return s
}

func sumExpGo(src []float32, shift float32) float64 {
	var s float64
	for _, v := range src {
		s += math.Exp(float64(v - shift))
	}
	return s
}
