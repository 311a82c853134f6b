//go:build !linux

package kernels

import "testing"

// guarded returns n floats; pages are protected on Linux only.
func guarded(_ testing.TB, n int, _ bool) []float32 { return make([]float32, n) }
