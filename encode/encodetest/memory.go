package encodetest

import (
	"bytes"
	"context"
	"math"
	"slices"

	"github.com/permafrost-ml/permafrost/encode"
)

// poison is a NaN that no computation gives: what dst holds at first and what
// lies on both sides of it.
const poison = 0x7fe5a5a5

// guard is how many values lie on each side of dst.
const guard = 64

func isPoison(v float32) bool { return math.Float32bits(v) == poison }

// encode encodes a batch into memory filled with fill, between guards. It
// returns nil and false after a violation. The result has no spare capacity.
func (c *checker) encode(ctx context.Context, enc encode.Encoder, batch []encode.Input, fill float32) ([]float32, bool) {
	n := len(batch) * enc.Dim()
	if n < 0 {
		c.failf("dim", "the encoder says %d", enc.Dim())
		return nil, false
	}
	memory := make([]float32, guard+n+guard)
	for i := range memory {
		memory[i] = math.Float32frombits(poison)
	}
	// The capacity reaches beyond, so that an append to dst shows.
	dst := memory[guard : guard+n]
	for i := range dst {
		dst[i] = fill
	}
	lent := make([]encode.Input, len(batch))
	for i, in := range batch {
		lent[i] = slices.Clone(in)
	}
	if err := enc.Encode(ctx, lent, dst); err != nil {
		c.failf("encode", "%d inputs: %v", len(batch), err)
		return nil, false
	}
	for i := range lent {
		if !bytes.Equal(encode.AppendInput(nil, lent[i]), encode.AppendInput(nil, batch[i])) {
			c.failf("input", "the encoder changed input %d of %d", i, len(batch))
			return nil, false
		}
	}
	for i := range guard {
		if !isPoison(memory[i]) || !isPoison(memory[guard+n+i]) {
			c.failf("dst", "the encoder wrote outside of dst, with %d inputs", len(batch))
			return nil, false
		}
	}
	return slices.Clip(dst), true
}

// same reports whether got has want's bits, else a violation.
func (c *checker) same(rule, what string, batch []encode.Input, got, want []float32, dim int) bool {
	for i := range want {
		if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
			c.failf(rule, "%s: value %d of input %.60q is %v, was %v", what, i%dim, batch[i/dim].Text(), got[i], want[i])
			return false
		}
	}
	return true
}

// repeat returns n inputs, going round as often as needed.
func repeat(inputs []encode.Input, n int) []encode.Input {
	out := make([]encode.Input, n)
	for i := range out {
		out[i] = inputs[i%len(inputs)]
	}
	return out
}

// stride returns the least number from at on that has no common divisor with n.
func stride(n, at int) int {
	for ; ; at++ {
		a, b := n, at
		for b != 0 {
			a, b = b, a%b
		}
		if a == 1 {
			return at
		}
	}
}
