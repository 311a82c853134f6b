//go:build !amd64 || purego

package kernels

func adamFast(_ *AdamStep, _, _, _, _ []float32) bool         { return false }
func gatedAddFast(_, _, _, _, _ []float32) bool               { return false }
func gatedBackFast(_, _, _, _ []float32, _, _ []float64) bool { return false }
