//go:build !amd64 || purego

package kernels

func applyFast(_ function, _, _ []float32) bool { return false }

func sum(x []float32) float64 { return sumGo(x) }

func addSum(dst, x, y []float32) float64 { return addSumGo(dst, x, y) }

func dotWide(x, y []float32) float64 { return dotWideGo(x, y) }

func squares(x []float32, shift float32) float64 { return squaresGo(x, shift) }

func dot(x, y []float32) float32 { return dotGo(x, y) }

func maximum(x []float32) float32 { return maximumGo(x) }

func axpy(alpha float32, x, y []float32) { axpyGo(alpha, x, y) }

func scale(alpha float32, src, dst []float32) { scaleGo(alpha, src, dst) }

func affine(shift, alpha float32, src, gain, bias, dst []float32) {
	affineGo(shift, alpha, src, gain, bias, dst)
}

func expSum(dst, src []float32, scale, shift float32) float64 {
	return expSumGo(dst, src, scale, shift)
}

func sumExp(src []float32, shift float32) float64 { return sumExpGo(src, shift) }
