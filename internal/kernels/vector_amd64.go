//go:build amd64 && !purego

package kernels

// The functions of this file are given slices of one length, dst after src,
// and choose the path. Where there is no wide one, it would not be faster.

func applyFast(f function, dst, src []float32) bool {
	if !fast {
		return false
	}
	n, d, s := len(src), &dst[0], &src[0]
	if wide {
		switch f {
		case funcExp:
			expAVX512(n, s, d)
		case funcTanh:
			tanhAVX512(n, s, d)
		case funcSigmoid:
			sigmoidAVX512(n, s, d)
		case funcErf:
			erfAVX512(n, s, d)
		case funcGELU:
			geluAVX512(n, s, d)
		}
		return true
	}
	switch f {
	case funcExp:
		expAVX2(n, s, d)
	case funcTanh:
		tanhAVX2(n, s, d)
	case funcSigmoid:
		sigmoidAVX2(n, s, d)
	case funcErf:
		erfAVX2(n, s, d)
	case funcGELU:
		geluAVX2(n, s, d)
	}
	return true
}

func sum(x []float32) float64 {
	if fast && len(x) > 0 {
		return sumAVX2(len(x), &x[0])
	}
	return sumGo(x)
}

func addSum(dst, x, y []float32) float64 {
	if fast && len(x) > 0 {
		return addSumAVX2(len(x), &x[0], &y[0], &dst[0])
	}
	return addSumGo(dst, x, y)
}

func dotWide(x, y []float32) float64 {
	if fast && len(x) > 0 {
		return dotWideAVX2(len(x), &x[0], &y[0])
	}
	return dotWideGo(x, y)
}

func squares(x []float32, shift float32) float64 {
	if fast && len(x) > 0 {
		return squaresAVX2(len(x), &x[0], shift)
	}
	return squaresGo(x, shift)
}

func dot(x, y []float32) float32 {
	if fast && len(x) > 0 {
		return dotAVX2(len(x), &x[0], &y[0])
	}
	return dotGo(x, y)
}

func maximum(x []float32) float32 {
	if fast && len(x) > 0 {
		return maxAVX2(len(x), &x[0])
	}
	return maximumGo(x)
}

func axpy(alpha float32, x, y []float32) {
	if fast && len(x) > 0 {
		axpyAVX2(len(x), alpha, &x[0], &y[0])
		return
	}
	axpyGo(alpha, x, y)
}

func scale(alpha float32, src, dst []float32) {
	if fast && len(src) > 0 {
		scaleAVX2(len(src), alpha, &src[0], &dst[0])
		return
	}
	scaleGo(alpha, src, dst)
}

func affine(shift, alpha float32, src, gain, bias, dst []float32) {
	if fast && len(src) > 0 {
		affineAVX2(len(src), shift, alpha, &src[0], &gain[0], &bias[0], &dst[0])
		return
	}
	affineGo(shift, alpha, src, gain, bias, dst)
}

func expSum(dst, src []float32, scale, shift float32) float64 {
	switch {
	case !fast || len(src) == 0:
		return expSumGo(dst, src, scale, shift)
	case wide:
		return expSumAVX512(len(src), &src[0], &dst[0], scale, shift)
	default:
		return expSumAVX2(len(src), &src[0], &dst[0], scale, shift)
	}
}

func sumExp(src []float32, shift float32) float64 {
	switch {
	case !fast || len(src) == 0:
		return sumExpGo(src, shift)
	case wide:
		return sumExpAVX512(len(src), &src[0], 1, shift)
	default:
		return sumExpAVX2(len(src), &src[0], 1, shift)
	}
}
