package main

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/permafrost-ml/permafrost/internal/kernels"
)

// rate is the number of products of 1024^3 a second with that many workers.
func rate(workers int, seconds float64) float64 {
	const n = 1024
	a, b, c := random(n*n), random(n*n), make([]float32, n*n)
	kernels.Gemm(false, false, n, n, n, 1, a, n, b, n, 0, c, n, workers)
	begin, products := time.Now(), 0
	for time.Since(begin).Seconds() < seconds {
		kernels.Gemm(false, false, n, n, n, 1, a, n, b, n, 0, c, n, workers)
		products++
	}
	return float64(products) / time.Since(begin).Seconds()
}

// pair measures products shared by two goroutines, and two processes of one
// goroutine each, in turn; it prints the best rate of each.
func pair(rounds int, seconds float64) error {
	var shared, apart float64
	for range rounds {
		shared = max(shared, rate(2, seconds))
		var out [2]strings.Builder
		var procs [2]*exec.Cmd
		for i := range procs {
			procs[i] = exec.Command(os.Args[0], "-alone", fmt.Sprint(seconds))
			procs[i].Stdout, procs[i].Stderr = &out[i], os.Stderr
			if err := procs[i].Start(); err != nil {
				return err
			}
		}
		sum := 0.0
		for i, p := range procs {
			if err := p.Wait(); err != nil {
				return err
			}
			r, err := strconv.ParseFloat(strings.TrimSpace(out[i].String()), 64)
			if err != nil {
				return err
			}
			sum += r
		}
		apart = max(apart, sum)
	}
	fmt.Printf("two %.2f %.2f\n", shared, apart)
	return nil
}
