package main

import (
	"fmt"

	"github.com/permafrost-ml/permafrost/internal/kernels"
)

// int8s measures products in 8 bits, rounding of the rows included, against
// our own in float32 with a packed operand, which is the fastest one.
func int8s(seconds float64) error {
	for _, s := range []shape{{"4096x384x384", 4096, 384, 384, false}, {"4096x1536x384", 4096, 1536, 384, false}} {
		a, b, c := random(s.m*s.k), random(s.k*s.n), make([]float32, s.m*s.n)
		wide := kernels.Pack(false, s.k, s.n, b, s.n)
		narrow, err := kernels.PackInt8(false, s.k, s.n, b, s.n)
		if err != nil {
			return err
		}
		best := race(seconds,
			func() { kernels.GemmInt8(s.m, a, s.k, narrow, false, c, s.n, 1) },
			func() { kernels.GemmPacked(false, s.m, 1, a, s.k, wide, 0, c, s.n, 1) })
		fmt.Printf("int8_%s %.1f %.1f\n", s.name, s.gflops(best[0]), s.gflops(best[1]))
	}
	return nil
}
