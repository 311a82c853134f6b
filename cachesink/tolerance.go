package cachesink

import (
	"math"
	"slices"

	"github.com/permafrost-ml/permafrost/internal/kernels"
)

// What another processor's order of additions may change, in an embedding of
// norm n, before it is rounded to its dtype: arithmetic·n a value. Rounding
// then may fall to the next step, which is halfStep of a value or leastHalf in
// float16, and the scale in int8.
const (
	arithmetic = 1e-5
	halfStep   = 1e-3 // a little more than 2^-10
	leastHalf  = 0x1p-24
)

// comparison is how a stored embedding differs from a new one.
type comparison struct {
	equal      bool    // to the bit
	stale      bool    // by more than arithmetic explains
	difference float64 // the largest of a value, divided by the norm
}

// compareStored compares an embedding as it is replayed with a new one, once
// that is rounded as it would be stored.
func compareStored(d DType, stored, fresh []float32) comparison {
	replayed, step := rounded(d, fresh)
	norm := max(norm(stored), norm(replayed))
	if d == Int8 {
		_, other := rounded(d, stored)
		step = max(step, other)
	}
	c := comparison{equal: true}
	for i, v := range replayed {
		diff := math.Abs(float64(v) - float64(stored[i]))
		c.equal = c.equal && math.Float32bits(v) == math.Float32bits(stored[i])
		limit := arithmetic * norm
		switch d {
		case Float16:
			limit += halfStep*math.Max(math.Abs(float64(v)), math.Abs(float64(stored[i]))) + leastHalf
		case Int8:
			limit += step
		}
		c.stale = c.stale || diff > limit
		if diff > 0 {
			c.difference = max(c.difference, diff/norm)
		}
	}
	return c
}

// rounded returns what is replayed of an embedding once it is stored, and of
// int8 its scale. One that the dtype cannot hold stays as it is.
func rounded(d DType, vec []float32) (out []float32, scale float64) {
	limit := d.limit()
	if d == Float32 || slices.ContainsFunc(vec, func(v float32) bool { return math.Float32bits(v)&0x7fffffff >= limit }) {
		return vec, 0
	}
	out = make([]float32, len(vec))
	if d == Float16 {
		half := make([]uint16, len(vec))
		kernels.ToFloat16(half, vec)
		kernels.FromFloat16(out, half)
		return out, 0
	}
	vals := make([]int8, len(vec))
	s := kernels.QuantizeInt8(vals, vec)
	kernels.DequantizeInt8(out, vals, s)
	return out, float64(s)
}

func norm(vec []float32) float64 {
	sum := 0.0
	for _, v := range vec {
		sum += float64(v) * float64(v)
	}
	return math.Sqrt(sum)
}
