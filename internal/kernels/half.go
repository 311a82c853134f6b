package kernels

import "math"

// FromFloat16 writes the values of IEEE half-precision numbers to dst, which
// must be as long at least. Every one has an exact float32; NaNs become quiet.
func FromFloat16(dst []float32, src []uint16) {
	dst = dst[:len(src)]
	for i := fromHalfFast(dst, src); i < len(src); i++ {
		dst[i] = fromHalf(src[i])
	}
}

// ToFloat16 rounds numbers to the nearest IEEE half-precision ones, ties to
// even, in dst, which must be as long at least. From 65520 on they become
// infinite.
func ToFloat16(dst []uint16, src []float32) {
	dst = dst[:len(src)]
	for i := toHalfFast(dst, src); i < len(src); i++ {
		dst[i] = toHalf(src[i])
	}
}

func fromHalf(h uint16) float32 {
	sign, exponent, fraction := uint32(h>>15)<<31, uint32(h>>10&31), uint32(h&0x3ff)
	switch exponent {
	case 0:
		return math.Float32frombits(sign | math.Float32bits(float32(fraction)*0x1p-24))
	case 31:
		if fraction != 0 {
			fraction |= 0x200 // quiet
		}
		return math.Float32frombits(sign | 0x7f800000 | fraction<<13)
	default:
		return math.Float32frombits(sign | (exponent+127-15)<<23 | fraction<<13)
	}
}

func toHalf(f float32) uint16 {
	b := math.Float32bits(f)
	sign, abs := uint16(b>>16&0x8000), b&0x7fffffff
	switch {
	case abs > 0x7f800000:
		return sign | 0x7e00 | uint16(abs>>13&0x3ff)
	case abs >= 0x47800000: // 65536
		return sign | 0x7c00
	case abs < 0x38800000: // 2^-14, the least normal number
		// The last place of 0.5 is that of denormal halves.
		return sign | uint16(math.Float32bits(math.Float32frombits(abs)+0.5)-0x3f000000)
	default:
		return sign | uint16((abs+0xfff+abs>>13&1-(127-15)<<23)>>13)
	}
}
