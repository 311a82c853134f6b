//go:build amd64 && !purego

package kernels

// The functions of this file are given slices of one length, dst after src,
// and choose the profile.

func applyFast(f function, dst, src []float32) bool {
	if !fast {
		return false
	}
	n, d, s := len(src), &dst[0], &src[0]
	switch f {
	case funcExp:
		expVec(n, s, d)
	case funcTanh:
		tanhVec(n, s, d)
	case funcSigmoid:
		sigmoidVec(n, s, d)
	case funcErf:
		erfVec(n, s, d)
	case funcGELU:
		geluVec(n, s, d)
	}
	return true
}

func sum(x []float32) float64 {
	if fast && len(x) > 0 {
		return sumVec(len(x), &x[0])
	}
	return sumGo(x)
}

func dotWide(x, y []float32) float64 {
	if fast && len(x) > 0 {
		return dotWideVec(len(x), &x[0], &y[0])
	}
	return dotWideGo(x, y)
}

func dot(x, y []float32) float32 {
	if fast && len(x) > 0 {
		return dotVec(len(x), &x[0], &y[0])
	}
	return dotGo(x, y)
}

func maximum(x []float32) float32 {
	if fast && len(x) > 0 {
		return maxVec(len(x), &x[0])
	}
	return maximumGo(x)
}

func axpy(alpha float32, x, y []float32) {
	if fast && len(x) > 0 {
		axpyVec(len(x), alpha, &x[0], &y[0])
		return
	}
	axpyGo(alpha, x, y)
}

func scale(alpha float32, src, dst []float32) {
	if fast && len(src) > 0 {
		scaleVec(len(src), alpha, &src[0], &dst[0])
		return
	}
	scaleGo(alpha, src, dst)
}

func shift(by float32, src, dst []float32) {
	if fast && len(src) > 0 {
		shiftVec(len(src), by, &src[0], &dst[0])
		return
	}
	shiftGo(by, src, dst)
}

func affine(alpha float32, gain, bias, x []float32) {
	if fast && len(x) > 0 {
		affineVec(len(x), alpha, &gain[0], &bias[0], &x[0])
		return
	}
	affineGo(alpha, gain, bias, x)
}

func expSum(dst, src []float32, shift float32) float64 {
	if fast && len(src) > 0 {
		return expSumVec(len(src), &src[0], &dst[0], shift)
	}
	return expSumGo(dst, src, shift)
}

func sumExp(src []float32, shift float32) float64 {
	if fast && len(src) > 0 {
		return sumExpVec(len(src), &src[0], shift)
	}
	return sumExpGo(src, shift)
}
