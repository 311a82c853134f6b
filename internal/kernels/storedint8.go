package kernels

import "math"

// roundInt8 is 1.5*2^23: a number below 2^22 added to it is rounded to the
// nearest whole one, ties to even, which then stands in the last bits.
const roundInt8 = 0x1.8p23

// QuantizeInt8 writes a row as 8-bit integers with one scale, which it
// returns: dst[i]*scale is about src[i]. With m the largest magnitude in src,
//
//	scale  = m/127
//	dst[i] = src[i]/scale, rounded to the nearest whole number, ties to even
//
// in float32, so that -127 <= dst[i] <= 127. Where m/127 is zero in float32,
// the scale and all of dst are zero. The values must be below 2^127 in
// magnitude. dst must be as long as src at least.
func QuantizeInt8(dst []int8, src []float32) (scale float32) {
	dst = dst[:len(src)]
	var top uint32
	for _, v := range src {
		top = max(top, math.Float32bits(v)&0x7fffffff)
	}
	scale = math.Float32frombits(top) / 127
	if scale == 0 {
		clear(dst)
		return 0
	}
	if scale < 0x1p-126 { // a denormal scale has too few bits for 127*scale to be about m
		for i, v := range src {
			dst[i] = int8(math.RoundToEven(float64(max(-127, min(127, v/scale)))))
		}
		return scale
	}
	for i, v := range src {
		dst[i] = int8(math.Float32bits(v/scale + roundInt8))
	}
	return scale
}

// DequantizeInt8 writes src[i]*scale to dst, which must be as long at least.
func DequantizeInt8(dst []float32, src []int8, scale float32) {
	dst = dst[:len(src)]
	for i, q := range src {
		dst[i] = float32(q) * scale
	}
}
