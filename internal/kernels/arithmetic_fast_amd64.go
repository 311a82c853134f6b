//go:build amd64 && !purego

package kernels

// The functions of this file are given slices of one length that is not 0,
// and report whether they did it. AVX-512 would not be faster: these wait for
// memory.

func plusFast(dst, x, y []float32) bool {
	if fast {
		plusAVX2(len(x), &x[0], &y[0], &dst[0])
	}
	return fast
}

func minusFast(dst, x, y []float32) bool {
	if fast {
		minusAVX2(len(x), &x[0], &y[0], &dst[0])
	}
	return fast
}

func timesFast(dst, x, y []float32) bool {
	if fast {
		timesAVX2(len(x), &x[0], &y[0], &dst[0])
	}
	return fast
}

func lessFast(by float32, src, dst []float32) bool {
	if fast {
		lessAVX2(len(src), by, &src[0], &dst[0])
	}
	return fast
}
