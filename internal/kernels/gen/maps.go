package main

import (
	"fmt"
	"math"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
)

// Adding magic to a small number leaves the nearest integer in the low bits.
const magic = 1.5 * (1 << 23)

// The high part of ln2 has 16 bits, so that its product with an integer of 8
// is exact.
const (
	ln2High = 0.693145751953125
	ln2Low  = math.Ln2 - ln2High
)

// expPoly is minimax for e^r, |r| <= ln2/2, within 3e-9.
var expPoly = []float32{1, 1, 0.4999999403953552, 0.1666652113199234, 0.04166838899254799, 0.008368735201656818, 0.001381455920636654}

// scaled are the coefficients of the polynomial at s·x.
func scaled(c []float32, s float32) []float32 {
	out, f := make([]float32, len(c)), float32(1)
	for i, v := range c {
		out[i] = v * f
		f *= s
	}
	return out
}

// reduce finds n and r with s·x = n·ln2 + s·r, where s is a power of 2 or minus
// one, and |s·r| is at most ln2/2. It returns n + bias in the low bits of a
// float, and r. low, which may be nil, is what x lacks.
func reduce(x, low group, s float32, bias float32) (turns, r group) {
	turns = float(magic + bias).load(x)
	plusProduct(turns, x, float(s*math.Log2E))
	n := sub(turns, float(magic+bias))
	r = clone(x)
	minusProduct(r, n, float(ln2High/s))
	if low == nil {
		minusProduct(r, n, float(float32(ln2Low)/s))
		return turns, r
	}
	low = clone(low)
	minusProduct(low, n, float(float32(ln2Low)/s))
	return turns, add(r, low)
}

// raise is p·2^n for results that are normal numbers.
func raise(p, turns group) group { return addInt(p, shiftLeft(turns, 23)) }

// raiseFar is p·2^n for any n from -256 to 256, rounded once, in two steps,
// because 2^n alone may be no normal number.
func raiseFar(p, turns group) group {
	n := subInt(turns, float(magic))
	half := halve(n)
	left := subInt(n, half)
	for _, f := range []group{half, left} {
		p = mul(p, shiftLeft(addInt(f, word(127)), 23))
	}
	return p
}

const sign = 1 << 31

func absolute(x group) group { return and(x, word(sign-1)) }

// function computes values: usual ones quickly, without bounds or steps that
// they do not need. To load x again costs less than to keep it in registers.
type function struct {
	name, what string
	// quick is right where the size of x is at most limit, if that is not 0.
	quick func(load func() group) group
	limit float32
	// slow is right where quick is not, and has the same bits elsewhere unless
	// only is set.
	slow func(x group) group
	only bool
	// keep says that there are registers for x with AVX2, too.
	keep bool
	// size is the number of vectors that are taken together, for AVX2 and
	// AVX-512.
	size [2]int
}

func (f function) unusual(x group) condition { return above(absolute(x), float(f.limit)) }

// apply generates the values of f, but for unusual ones, where it jumps to what
// mend generates. Labels begin with label.
func (f function) apply(label string, load func() group) group {
	if f.limit == 0 {
		return f.quick(load)
	}
	x := load()
	unusual := f.unusual(x).any()
	if lanes == 16 || f.keep {
		load = func() group { return x }
	}
	y := f.quick(load)
	TESTL(unusual, unusual)
	JNZ(LabelRef(label + "mend"))
	Label(label + "mended")
	return y
}

// mend generates the values that apply left, in y.
func (f function) mend(label string, load func() group, y group) {
	if f.limit == 0 {
		return
	}
	Label(label + "mend")
	x := load()
	for i := range x {
		x, y := x[i:i+1], y[i:i+1]
		s := f.slow(x)
		if f.only {
			choose(f.unusual(x), s, y)
		} else {
			VMOVAPS(s[0], y[0])
		}
	}
	JMP(LabelRef(label + "mended"))
}

var exp = function{
	name: "exp", what: "the exponential", size: [2]int{4, 2}, limit: 87, keep: true,
	quick: func(load func() group) group {
		x := load()
		turns, r := reduce(x, nil, 1, 0)
		return raise(poly(r, expPoly...), turns)
	},
	slow: func(x group) group {
		// Beyond these, the result is 0 or infinite by itself.
		turns, r := reduce(atMost(89, atLeast(-104, x)), nil, 1, 0)
		return raiseFar(poly(r, expPoly...), turns)
	},
}

// sigmoid is 1/(1+e^-x), where 1 + e^-x = (1 + 2^n) + (less·2^n + lost), and
// lost is what the first sum rounds away.
var sigmoid = function{
	name: "sigmoid", what: "the logistic function", size: [2]int{2, 2}, limit: 87, only: true, keep: true,
	quick: func(load func() group) group {
		x := load()
		turns, r := reduce(x, nil, -1, 127)
		less := mul(poly(r, scaled(expPoly, -1)[1:]...), r)
		power := shiftLeft(turns, 23)
		bottom := add(power, float(1))
		lost := sub(float(1).spread(x), sub(bottom, power))
		plusProduct(lost, power, less)
		return div(float(1).spread(x), add(bottom, lost))
	},
	// 1 + e^x is 1 there.
	slow: func(x group) group { return exp.slow(atMost(0, x)) },
}

// tanh is x + x³p(x²) near 0 and 1 - 2/(e^2|x| + 1) elsewhere.
var tanh = function{
	name: "tanh", what: "the hyperbolic tangent", size: [2]int{2, 2},
	quick: func(load func() group) group {
		a := absolute(load())
		turns, r := reduce(atMost(10, a), nil, 2, 127)
		sq := mul(a, a)
		p := evaluate(polynomial{r, scaled(expPoly, 2)},
			polynomial{sq, []float32{-0.3333328068256378, 0.13331441581249237, -0.05373971536755562, 0.02063908614218235, -0.005704986862838268}})
		bottom := p[0]
		timesPlus(bottom, shiftLeft(turns, 23), float(1))
		y := sub(float(1).spread(a), div(float(2).spread(a), bottom))
		small := p[1]
		timesPlus(small, mul(sq, a), a)
		choose(below(a, float(0.625)), small, y)
		return or(y, and(load(), word(sign)))
	},
}

// gelu is x·Φ(x) = max(x, 0) - a·Φ(-a) with a = |x|, where a·Φ(-a) =
// e^(-a²/2)·v·p(v) with v = a/(a+3). a² is taken in two parts: its rounding
// error would count 64-fold.
var gelu = function{
	name: "gelu", what: "x·Φ(x)", size: [2]int{4, 2}, limit: 8, only: true,
	quick: func(load func() group) group {
		high, low := square(absolute(load()))
		turns := float(magic).load(high)
		plusProduct(turns, high, float(-0.5*math.Log2E))
		power := shiftLeft(turns, 23).park()
		// What is left out of ln2 here grows with a², and is in geluNear.
		minusProduct(high, sub(turns, float(magic)), float(-2*float32(math.Ln2)))
		r := add(high, low)
		a := absolute(load())
		v := div(a, add(a, float(3)))
		ps := evaluate(polynomial{v, geluNear}, polynomial{r, scaled(expPoly, -0.5)[1:]})
		y := mul(ps[0], v)
		plusProduct(y, mul(ps[1], r), clone(y))
		return sub(positive(load()), addInt(y, power))
	},
	// Here, v is a/(a+5), and the polynomial one in 2v-1.
	slow: func(x group) group {
		a := atMost(15, absolute(x))
		high, low := square(a)
		turns, r := reduce(high, low, -0.5, 0)
		v := div(a, add(a, float(5)))
		t := float(-1).load(v)
		plusProduct(t, v, float(2))
		y := mul(poly(t, geluFar...), v)
		return sub(positive(x), raiseFar(mul(y, poly(r, scaled(expPoly, -0.5)...)), turns))
	},
}

// Both polynomials are minimax, within 2^-27 up to 8 and 2^-25 up to 14.
var (
	geluNear = []float32{
		1.5, -2.0904793739318848, 1.0689818859100342, 0.20807257294654846, -0.26793327927589417,
		-0.0831313207745552, -0.05027573183178902, 0.19315916299819946, -0.0796143040060997,
	}
	geluFar = []float32{
		0.7691930532455444, -0.6653825044631958, 0.4953063726425171, -0.3135341703891754, 0.16500689089298248,
		-0.06911379843950272, 0.02087794430553913, -0.0029664833564311266, -0.000979325850494206, 0.00040189584251493216,
	}
)

// square is a² as the sum of two floats.
func square(a group) (high, low group) {
	high = mul(a, a)
	low = clone(high)
	three(fms231, low, a, a) // a·a - high
	return high, low
}

// positive is max(x, 0), where -0 is less than 0, and NaN stays.
func positive(x group) group { return two(minU, x, word(sign)) }

// erf is x + x·p(x²) up to 1 and 1 - e^(-x·q(x)) beyond, within 2^-29.
var erf = function{
	name: "erf", what: "the error function", size: [2]int{2, 2},
	quick: func(load func() group) group {
		x := load()
		a := atMost(4, absolute(x))
		sq := mul(a, a)
		p := evaluate(
			polynomial{a, []float32{
				-1.128697156906128, -0.6349583268165588, -0.10654908418655396, 0.02402549423277378,
				-0.003764653578400612, 0.0003523305058479309, -1.4133672266325448e-05,
			}},
			polynomial{sq, []float32{
				0.12837916612625122, -0.3761262595653534, 0.1128358542919159, -0.026853812858462334,
				0.005188327748328447, -0.0008010193705558777, 7.853861461626366e-05,
			}})
		turns, r := reduce(mul(p[0], a), nil, 1, 127)
		e := poly(r, expPoly...)
		y := float(1).load(e)
		minusProduct(y, e, shiftLeft(turns, 23))
		small := p[1]
		timesPlus(small, a, a)
		choose(below(a, float(1)), small, y)
		return or(y, and(load(), word(sign)))
	},
}

func maps() {
	for _, f := range []function{erf, exp, sigmoid, tanh, gelu} {
		both(f.name, func(name string) { each(name, f) })
	}
}

// each generates a function that applies f to n values.
func each(name string, f function) {
	n, p := begin(name, "func(n int, src, dst *float32)",
		fmt.Sprintf("writes %s of n values to dst, which may be src.", f.what), "src", "dst")
	size := f.size[lanes/16]
	load := func() group { return loadGroup(size, Mem{Base: p[0]}) }
	var some func() group
	var y, last group
	by(n, p, "loop", lanes*size, func() {
		y = f.apply("loop", load)
		y.store(Mem{Base: p[1]})
	})
	rest(n, p, func(first prefix) {
		some = func() group { return first.load(Mem{Base: p[0]}) }
		last = f.apply("rest", some)
		first.store(last, Mem{Base: p[1]})
	})
	VZEROUPPER()
	RET()
	f.mend("loop", load, y)
	f.mend("rest", some, last)
}
