package main

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"slices"

	"github.com/permafrost-ml/permafrost/internal/kernels"
)

// The functions run over about 100,000 values: one row, rows of 1,000, or rows
// as wide as a small encoder's embeddings.
const (
	values    = 100_000
	wide      = 1000
	embedding = 384
	tokens    = 260
)

// functions are calls by name, which peer_torch.py has the same of.
func functions() map[string]func() {
	x, y := normal(values), make([]float32, values)
	gain, bias := normal(embedding), normal(embedding)
	half := make([]uint16, values)
	kernels.ToFloat16(half, x)
	rows := func(width, n int, f func(dst, row []float32)) func() {
		return func() {
			for i := range n {
				f(y[i*width:(i+1)*width], x[i*width:(i+1)*width])
			}
		}
	}
	return map[string]func(){
		"exp":            func() { kernels.Exp(y, x) },
		"tanh":           func() { kernels.Tanh(y, x) },
		"sigmoid":        func() { kernels.Sigmoid(y, x) },
		"erf":            func() { kernels.Erf(y, x) },
		"gelu":           func() { kernels.GELU(y, x) },
		"softmax":        func() { kernels.Softmax(y, x) },
		"softmax_rows":   rows(wide, values/wide, kernels.Softmax),
		"logsumexp":      func() { kernels.LogSumExp(x) },
		"logsumexp_rows": rows(wide, values/wide, func(dst, row []float32) { dst[0] = kernels.LogSumExp(row) }),
		"layernorm":      rows(embedding, tokens, func(dst, row []float32) { kernels.LayerNorm(dst, row, gain, bias, 1e-5) }),
		"normalize":      rows(embedding, tokens, func(dst, row []float32) { kernels.Normalize(dst, row, 1e-12) }),
		"sum":            func() { kernels.Sum(x) },
		"max":            func() { kernels.Max(x) },
		"to_float16":     func() { kernels.ToFloat16(half, x) },
		"from_float16":   func() { kernels.FromFloat16(y, half) },
	}
}

// serve answers each name read with the seconds of the best call in a turn.
func serve(r io.Reader, w io.Writer, turn float64) error {
	calls := functions()
	for lines := bufio.NewScanner(r); lines.Scan(); {
		call, ok := calls[lines.Text()]
		if !ok {
			return fmt.Errorf("no function %q", lines.Text())
		}
		fmt.Fprintln(w, race(turn, call)[0])
	}
	return nil
}

// normal returns values with a standard deviation of 2, made from uniform ones.
func normal(n int) []float32 {
	u := slices.Concat(random(n), random(n+1))
	x := make([]float32, n)
	for i := range x {
		r, phi := float64(u[i])/2+0.5, float64(u[n+i])*math.Pi
		x[i] = float32(2 * math.Sqrt(-2*math.Log(1-r*0.999999)) * math.Cos(phi))
	}
	return x
}
