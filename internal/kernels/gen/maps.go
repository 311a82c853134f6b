package main

import (
	"fmt"
	"math"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

var words = map[uint32]Mem{}

// word is a vector of 8 equal words in memory.
func word(v uint32) Mem {
	m, ok := words[v]
	if !ok {
		m = GLOBL(fmt.Sprintf("w%08x", v), 8|16) // RODATA|NOPTR
		for i := range 8 {
			DATA(4*i, U32(v))
		}
		words[v] = m
	}
	return m
}

func float(v float32) Mem { return word(math.Float32bits(v)) }

// polynomial evaluates the polynomial with these coefficients, the constant
// first, at x.
func polynomial(x VecVirtual, c ...float32) VecVirtual {
	p := YMM()
	VMOVUPS(float(c[len(c)-1]), p)
	for i := len(c) - 2; i >= 0; i-- {
		VFMADD213PS(float(c[i]), x, p)
	}
	return p
}

var masks Mem

// maskTable is a table whose 8 words from word 8-n on are the mask of n lanes.
func maskTable() Mem {
	if masks.Base == nil {
		masks = GLOBL("masks", 8|16)
		for i := range 16 {
			v := uint32(0)
			if i < 8 {
				v = math.MaxUint32
			}
			DATA(4*i, U32(v))
		}
	}
	return masks
}

// tailMask returns the mask of the first n of 8 lanes; n is less than 8 and
// is lost.
func tailMask(n Register) VecVirtual {
	p, mask := GP64(), YMM()
	LEAQ(maskTable(), p)
	NEGQ(n)
	VMOVUPS(Mem{Base: p, Index: n, Scale: 4, Disp: 32}, mask)
	return mask
}

// power is e^x = p·2^n, where p = 1 + less is near 1.
type power struct{ p, less, n VecVirtual }

// exponential takes e^(x+low), where x is at most 128 in size and low is
// tiny; low may be nil. x = n·ln2 + r, and e^r = 1 + r + r²q(r) with a
// minimax q, within 3e-9.
func exponential(x, low VecVirtual) power {
	n, r := YMM(), YMM()
	VMULPS(float(math.Log2E), x, n)
	VROUNDPS(Imm(8), n, n)
	// The high part of ln2 has 16 bits, so that its product with n is exact.
	const high = 0.693145751953125
	VMOVAPS(x, r)
	VFNMADD231PS(float(high), n, r)
	VFNMADD231PS(float(float32(math.Ln2-high)), n, r)
	if low != nil {
		VADDPS(low, r, r)
	}
	q := polynomial(r, 0.4999999403953552, 0.1666652113199234, 0.04166838899254799, 0.008368735201656818, 0.001381455920636654)
	sq := YMM()
	VMULPS(r, r, sq)
	VFMADD213PS(r, sq, q)
	p := YMM()
	VADDPS(float(1), q, p)
	VCVTPS2DQ(n, n)
	return power{p, q, n}
}

// scale is v·2^n, rounded once, in two steps, because 2^n alone may be no
// normal number.
func (e power) scale(v VecVirtual) VecVirtual {
	half, rest, out := YMM(), YMM(), YMM()
	VPSRAD(Imm(1), e.n, half)
	VPSUBD(half, e.n, rest)
	for _, f := range []VecVirtual{half, rest} {
		VPADDD(word(127), f, f)
		VPSLLD(Imm(23), f, f)
	}
	VMULPS(half, v, out)
	VMULPS(rest, out, out)
	return out
}

func (e power) value() VecVirtual { return e.scale(e.p) }

// atMost and atLeast bound x and let NaN pass.
func atMost(v float32, x VecVirtual) VecVirtual {
	y := YMM()
	VMOVUPS(float(v), y)
	VMINPS(x, y, y)
	return y
}

func atLeast(v float32, x VecVirtual) VecVirtual {
	y := YMM()
	VMOVUPS(float(v), y)
	VMAXPS(x, y, y)
	return y
}

func and(m Op, x VecVirtual) VecVirtual {
	y := YMM()
	VANDPS(m, x, y)
	return y
}

const sign = 1 << 31

func exp(x VecVirtual) VecVirtual {
	// Beyond these, the result is 0 or infinite by itself.
	return exponential(atMost(89, atLeast(-104, x)), nil).value()
}

// sigmoid is 1/(1+e^-x), as e^x/(1+e^x) for negative x, which keeps results
// near 0 exact.
func sigmoid(x VecVirtual) VecVirtual {
	neg := YMM()
	VORPS(word(sign), x, neg)
	e := exponential(atLeast(-104, neg), nil).value()
	one, top, bottom, lost := YMM(), YMM(), YMM(), YMM()
	VMOVUPS(float(1), one)
	VBLENDVPS(x, e, one, top)
	VADDPS(e, one, bottom)
	// What 1+e rounds away is taken off the quotient, which is off by as much
	// for small e.
	VSUBPS(one, bottom, lost)
	VSUBPS(lost, e, lost)
	VDIVPS(bottom, top, top)
	VFNMADD231PS(lost, top, top)
	return top
}

// tanh is x + x³p(x²) near 0 and 1 - 2/(e^2|x| + 1) elsewhere.
func tanh(x VecVirtual) VecVirtual {
	a := and(word(sign-1), x)
	twice := YMM()
	VADDPS(a, a, twice)
	e := exponential(atMost(20, twice), nil)
	VPADDD(word(127), e.n, e.n)
	VPSLLD(Imm(23), e.n, e.n)
	VMULPS(e.n, e.p, e.p)
	VADDPS(float(1), e.p, e.p)
	big := YMM()
	VMOVUPS(float(2), big)
	VDIVPS(e.p, big, e.p)
	VMOVUPS(float(1), big)
	VSUBPS(e.p, big, big)

	sq := YMM()
	VMULPS(a, a, sq)
	small := polynomial(sq, -0.3333328068256378, 0.13331441581249237, -0.05373971536755562, 0.02063908614218235, -0.005704986862838268)
	VMULPS(a, sq, sq)
	VFMADD213PS(a, sq, small)

	near := YMM()
	VCMPPS(Imm(1), float(0.625), a, near)
	VBLENDVPS(near, small, big, big)
	VORPS(and(word(sign), x), big, big)
	return big
}

// gelu is x·Φ(x), where Φ(-a) = e^(-a²/2)·R(a) with a = |x| and a smooth R:
// (a+1)·R(a) is a polynomial in (a-c)/(a+c) within 2^-28.
func gelu(x VecVirtual) VecVirtual {
	a := atMost(15, and(word(sign-1), x))
	// a² is taken in two parts: its rounding error would count 100-fold.
	high, low := YMM(), YMM()
	VMULPS(a, a, high)
	VMOVAPS(high, low)
	VFMSUB231PS(a, a, low) // a·a - high
	VMULPS(float(-0.5), low, low)
	VMULPS(float(-0.5), high, high)
	e := exponential(high, low)

	t, den := YMM(), YMM()
	VADDPS(float(geluShift), a, den)
	VSUBPS(float(geluShift), a, t)
	VDIVPS(den, t, t)
	r := polynomial(t, geluR...)
	VADDPS(float(1), a, den)
	VDIVPS(den, r, r)

	y := YMM()
	VORPS(and(word(sign), x), a, y)
	VMULPS(r, y, y)
	VFMADD231PS(e.less, y, y)
	y = e.scale(y)
	out := YMM()
	VSUBPS(y, x, out)
	VBLENDVPS(x, y, out, out)

	// Near 0, where Φ is near 1/2, x/2 + x²·p(x²) rounds less often.
	sq, half, near := YMM(), YMM(), YMM()
	VMULPS(a, a, sq)
	small := polynomial(sq, 0.3989422917366028, -0.06649037450551987, 0.009973445907235146, -0.0011860813247039914, 0.00010969085997203365)
	VMULPS(float(0.5), x, half)
	VFMADD213PS(half, sq, small)
	VCMPPS(Imm(1), float(0.5), a, near)
	VBLENDVPS(near, small, out, out)
	VORPS(and(word(sign), x), out, out)
	return out
}

const geluShift = 4

var geluR = []float32{
	0.472053200006485, -0.09670346975326538, 0.01399959996342659, 0.028599968180060387, -0.03219734877347946,
	0.017940226942300797, -0.0050039468333125114, -0.0003034412511624396, 0.0006922144093550742,
	-6.154252332635224e-05, -7.198203820735216e-05,
}

// erf is x + x·p(x²) up to 1 and 1 - e^(-x·q(x)) beyond, within 2^-29.
func erf(x VecVirtual) VecVirtual {
	a := atMost(4, and(word(sign-1), x))
	w := polynomial(a, -1.128697156906128, -0.6349583268165588, -0.10654908418655396, 0.02402549423277378,
		-0.003764653578400612, 0.0003523305058479309, -1.4133672266325448e-05)
	VMULPS(a, w, w)
	e := exponential(w, nil)
	VPADDD(word(127), e.n, e.n)
	VPSLLD(Imm(23), e.n, e.n)
	VMULPS(e.n, e.p, e.p)
	big := YMM()
	VMOVUPS(float(1), big)
	VSUBPS(e.p, big, big)

	sq := YMM()
	VMULPS(a, a, sq)
	small := polynomial(sq, 0.12837916612625122, -0.3761262595653534, 0.1128358542919159, -0.026853812858462334,
		0.005188327748328447, -0.0008010193705558777, 7.853861461626366e-05)
	VFMADD213PS(a, a, small)

	near := YMM()
	VCMPPS(Imm(1), float(1), a, near)
	VBLENDVPS(near, small, big, big)
	VORPS(and(word(sign), x), big, big)
	return big
}

func maps() {
	eachMap("erfVec", "the error function", erf)
	eachMap("expVec", "the exponential", exp)
	eachMap("sigmoidVec", "the logistic function", sigmoid)
	eachMap("tanhVec", "the hyperbolic tangent", tanh)
	eachMap("geluVec", "x·Φ(x)", gelu)
}

// eachMap generates a function that applies f to n values.
func eachMap(name, what string, f func(x VecVirtual) VecVirtual) {
	TEXT(name, NOSPLIT, "func(n int, src, dst *float32)")
	Doc(fmt.Sprintf("%s writes %s of n values to dst, which may be src.", name, what))
	Pragma("noescape")
	n := Load(Param("n"), GP64())
	src := Load(Param("src"), GP64())
	dst := Load(Param("dst"), GP64())
	SUBQ(Imm(8), n)
	JL(LabelRef("tail"))
	Label("loop")
	x := YMM()
	VMOVUPS(Mem{Base: src}, x)
	VMOVUPS(f(x), Mem{Base: dst})
	ADDQ(Imm(32), src)
	ADDQ(Imm(32), dst)
	SUBQ(Imm(8), n)
	JGE(LabelRef("loop"))
	Label("tail")
	ADDQ(Imm(8), n)
	JZ(LabelRef("done"))
	mask, last := tailMask(n), YMM()
	VMASKMOVPS(Mem{Base: src}, mask, last)
	VMASKMOVPS(f(last), mask, Mem{Base: dst})
	Label("done")
	VZEROUPPER()
	RET()
}
