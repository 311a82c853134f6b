//go:build amd64 && !purego

package kernels

var fastHalves = fast && cpuF16C()

// fromHalfFast converts whole vectors and returns how many values that is.
func fromHalfFast(dst []float32, src []uint16) int {
	n := len(src) &^ 7
	if !fast || !fastHalves || n == 0 {
		return 0
	}
	fromHalfVec(n, &src[0], &dst[0])
	return n
}

func toHalfFast(dst []uint16, src []float32) int {
	n := len(src) &^ 7
	if !fast || !fastHalves || n == 0 {
		return 0
	}
	toHalfVec(n, &src[0], &dst[0])
	return n
}
