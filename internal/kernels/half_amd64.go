//go:build amd64 && !purego

package kernels

import "golang.org/x/sys/cpu"

var fastHalves = cpu.X86.HasF16C

// fromHalfFast converts whole vectors and returns how many values that is.
func fromHalfFast(dst []float32, src []uint16) int {
	n := len(src) &^ 7
	if !fast || !fastHalves || n == 0 {
		return 0
	}
	fromHalfAVX2(n, &src[0], &dst[0])
	return n
}

func toHalfFast(dst []uint16, src []float32) int {
	n := len(src) &^ 7
	if !fast || !fastHalves || n == 0 {
		return 0
	}
	toHalfAVX2(n, &src[0], &dst[0])
	return n
}
