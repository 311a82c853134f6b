package kernels

import "math"

// The functions of this file write f of every value of src to dst, which must
// be at least as long and may be src itself, and not overlap it otherwise.
// They take every float32: denormal values and results count like others,
// infinities give the limits, and NaN gives NaN. "Units" are those in the last
// place of the correctly rounded result.

// Exp writes e^x, within 2 units.
func Exp(dst, src []float32) { apply(funcExp, dst, src) }

// Tanh writes the hyperbolic tangent, within 2 units.
func Tanh(dst, src []float32) { apply(funcTanh, dst, src) }

// Sigmoid writes 1/(1+e^-x), within 2 units.
func Sigmoid(dst, src []float32) { apply(funcSigmoid, dst, src) }

// Erf writes the error function, within 2 units.
func Erf(dst, src []float32) { apply(funcErf, dst, src) }

// GELU writes x·Φ(x), where Φ is the distribution function of the normal
// distribution (the exact form, by erf), within 4 units.
func GELU(dst, src []float32) { apply(funcGELU, dst, src) }

// function names an element-wise function.
type function int

const (
	funcExp function = iota
	funcTanh
	funcSigmoid
	funcErf
	funcGELU
)

func apply(f function, dst, src []float32) {
	dst = dst[:len(src)]
	if len(src) == 0 || applyFast(f, dst, src) {
		return
	}
	for i, v := range src {
		dst[i] = float32(f.exact(float64(v)))
	}
}

// exact is f in float64: the portable profile, rounded to float32.
func (f function) exact(x float64) float64 {
	switch f {
	case funcExp:
		return math.Exp(x)
	case funcTanh:
		return math.Tanh(x)
	case funcSigmoid:
		if x < 0 {
			e := math.Exp(x)
			return e / (1 + e)
		}
		return 1 / (1 + math.Exp(-x))
	case funcErf:
		return math.Erf(x)
	default:
		if math.IsInf(x, -1) {
			return math.Copysign(0, -1)
		}
		return 0.5 * x * math.Erfc(-x/math.Sqrt2)
	}
}
