package main

import (
	"math"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// What memory limits, or the conversion to float64, is written for AVX2 alone:
// wider vectors gain nothing there.
func reduces() {
	both("expSum", func(name string) { expSum(name, true) })
	both("sumExp", func(name string) { expSum(name, false) })
	lanes = 8
	sum("sumAVX2", false)
	sum("addSumAVX2", true)
	wideSum("squaresAVX2", false)
	wideSum("dotWideAVX2", true)
	maxVec()
	dotVec()
	axpyVec()
	scaleVec()
	normVec()
}

func zeros(n int) group {
	g := vectors(n)
	for _, v := range g {
		if lanes == 16 {
			VPXORD(v, v, v)
		} else {
			VXORPS(v, v, v)
		}
	}
	return g
}

// upper and lower are halves of a vector; upper is a copy.
func upper(v VecVirtual) VecVirtual {
	if v.Size() == 64 {
		half := YMM()
		VEXTRACTF64X4(Imm(1), v, half)
		return half
	}
	half := XMM()
	VEXTRACTF128(Imm(1), v, half)
	return half
}

func lower(v VecVirtual) Register {
	if v.Size() == 64 {
		return v.AsY()
	}
	return v.AsX()
}

// eight adds the vectors of a group until 8 floats are left: lane i and lane
// i + half, for halves from the greatest one to 8.
func eight(g group) VecVirtual {
	for len(g) > 1 {
		half := len(g) / 2
		g = add(g[:half], g[half:])
	}
	v := g[0]
	if lanes == 16 {
		low := YMM()
		VADDPS(upper(v), lower(v), low)
		return low
	}
	return v
}

// addEight adds 8 floats to as many float64.
func addEight(acc group, v VecVirtual) {
	if lanes == 16 {
		wide := ZMM()
		VCVTPS2PD(v, wide)
		VADDPD(wide, acc[0], acc[0])
		return
	}
	low, high := YMM(), YMM()
	VCVTPS2PD(lower(v), low)
	VCVTPS2PD(upper(v), high)
	VADDPD(low, acc[0], acc[0])
	VADDPD(high, acc[1], acc[1])
}

// returnWide returns the sum of float64 lanes, 8 or a multiple.
func returnWide(acc group) {
	for len(acc) > 1 {
		half := len(acc) / 2
		for i := range half {
			VADDPD(acc[i+half], acc[i], acc[i])
		}
		acc = acc[:half]
	}
	v := acc[0]
	if lanes == 16 {
		v = YMM()
		VADDPD(upper(acc[0]), lower(acc[0]), v)
	}
	low := XMM()
	VADDPD(upper(v), lower(v), low)
	VHADDPD(low, low, low)
	Store(low, ReturnIndex(0))
	VZEROUPPER()
	RET()
}

// expSum generates the sum of exponentials.
func expSum(name string, store bool) {
	signature, doc := "func(n int, src *float32, scale, shift float32) float64", "returns the sum of e^(scale·src-shift) over n values."
	pointers := []string{"src"}
	if store {
		signature = "func(n int, src, dst *float32, scale, shift float32) float64"
		doc = "writes e^(scale·src-shift) of n values to dst and returns their sum."
		pointers = append(pointers, "dst")
	}
	n, p := begin(name, signature, doc, pointers...)
	acc := zeros(16 / lanes)
	at := func(x group) group {
		scale, shift := parameter("scale", len(x)), parameter("shift", len(x))
		for i := range x {
			VFMSUB213PS(shift[i], scale[i], x[i])
		}
		return x
	}
	load := func() group { return at(loadGroup(32/lanes, Mem{Base: p[0]})) }
	var y, last group
	by(n, p, "loop", 32, func() {
		y = exp.apply("loop", load)
		if store {
			y.store(Mem{Base: p[1]})
		}
		addEight(acc, eight(y))
	})
	var some func() group
	rest(n, p, func(first prefix) {
		some = func() group { return at(first.load(Mem{Base: p[0]})) }
		last = exp.apply("rest", some)
		if store {
			first.store(last, Mem{Base: p[1]})
		}
		first.clear(last)
		addEight(acc, eight(last))
	})
	returnWide(acc)
	exp.mend("loop", load, y)
	exp.mend("rest", some, last)
}

// sum generates a sum of values: 128 at a time are added up to 8 lanes as
// float32, and those as float64. With one more operand, the values are sums of
// two, which are stored.
func sum(name string, two bool) {
	signature, doc := "func(n int, x *float32) float64", "returns the sum of n values."
	pointers := []string{"x"}
	if two {
		signature = "func(n int, x, y, dst *float32) float64"
		doc = "writes x + y of n values to dst and returns the sum of what it wrote."
		pointers = []string{"x", "y", "dst"}
	}
	n, p := begin(name, signature, doc, pointers...)
	acc := zeros(16 / lanes)
	by(n, p, "loop", 128, func() {
		var total group
		for part := range 4 {
			at := func(i int) Mem { return Mem{Base: p[i], Disp: 128 * part} }
			x := loadGroup(32/lanes, at(0))
			if two {
				x = add(x, loadGroup(32/lanes, at(1)))
				x.store(at(2))
			}
			if part == 0 {
				total = x
			} else {
				total = add(total, x)
			}
		}
		addEight(acc, eight(total))
	})
	rest(n, p, func(first prefix) {
		x := first.load(Mem{Base: p[0]})
		if two {
			x = add(x, first.load(Mem{Base: p[1]}))
			first.store(x, Mem{Base: p[2]})
		}
		addEight(acc, eight(x))
	})
	returnWide(acc)
}

// wideSum generates a sum in float64 of products, or of squares of
// differences. There are 16 lanes, for places modulo 16.
func wideSum(name string, products bool) {
	signature, doc := "func(n int, x *float32, shift float32) float64", "returns the sum of (x-shift)² over n values in float64."
	pointers := []string{"x"}
	if products {
		signature, doc = "func(n int, x, y *float32) float64", "returns the inner product of n values in float64."
		pointers = []string{"x", "y"}
	}
	n, p := begin(name, signature, doc, pointers...)
	acc := zeros(32 / lanes)
	var shift, wide group
	if !products {
		shift, wide = parameter("shift", len(acc)/2), vectors(1)
		VCVTPS2PD(lower(shift[0]), wide[0])
	}
	step := func(get func(i int) group) {
		x := get(0)
		y := x
		if products {
			y = get(1)
		} else {
			for i := range x {
				VSUBPD(wide[0], x[i], x[i])
			}
		}
		for i := range acc {
			VFMADD231PD(y[i], x[i], acc[i])
		}
	}
	by(n, p, "loop", 16, func() {
		step(func(i int) group {
			x := vectors(len(acc))
			for j, v := range x {
				VCVTPS2PD(Mem{Base: p[i], Disp: 2 * lanes * j}, v)
			}
			return x
		})
	})
	rest(n, p, func(first prefix) {
		step(func(i int) group {
			narrow, x := first.load(Mem{Base: p[i]}), vectors(len(acc))
			if !products {
				// What is not there must not count as a difference.
				none := clone(shift)
				choose(first.condition(), narrow, none)
				narrow = none
			}
			for j, v := range narrow {
				VCVTPS2PD(lower(v), x[2*j])
				VCVTPS2PD(upper(v), x[2*j+1])
			}
			return x
		})
	})
	returnWide(acc)
}

func maxVec() {
	n, p := begin("maxAVX2", "func(n int, x *float32) float32", "returns the greatest of n values, NaN if one of them is, -Inf without values.", "x")
	lowest := float(float32(math.Inf(-1)))
	nan := zeros(2)
	acc := lowest.load(make(group, 4))
	take := func(x VecVirtual, i int) {
		unordered := YMM()
		VCMPPS(Imm(3), x, x, unordered)
		VORPS(unordered, nan[i%2], nan[i%2])
		VMAXPS(x, acc[i], acc[i])
	}
	by(n, p, "loop", 32, func() {
		for i, x := range loadGroup(32/lanes, Mem{Base: p[0]}) {
			take(x, i)
		}
	})
	rest(n, p, func(first prefix) {
		x := first.load(Mem{Base: p[0]})
		y := lowest.load(x)
		choose(first.condition(), x, y)
		for i, v := range y {
			take(v, i)
		}
	})
	VMAXPS(acc[1], acc[0], acc[0])
	VMAXPS(acc[3], acc[2], acc[2])
	VMAXPS(acc[2], acc[0], acc[0])
	VORPS(nan[1], nan[0], nan[0])
	// All lanes set is a NaN; or-ing it in makes the result one.
	flags := GP32()
	VMOVMSKPS(nan[0], flags)
	low, high := XMM(), XMM()
	VMAXPS(upper(acc[0]), lower(acc[0]), low)
	VPERMILPS(Imm(0x4e), low, high)
	VMAXPS(high, low, low)
	VPERMILPS(Imm(0xb1), low, high)
	VMAXPS(high, low, low)
	TESTL(flags, flags)
	JZ(LabelRef("plain"))
	VPCMPEQD(low, low, low)
	Label("plain")
	Store(low, ReturnIndex(0))
	VZEROUPPER()
	RET()
}

func dotVec() {
	n, p := begin("dotAVX2", "func(n int, x, y *float32) float32", "returns the inner product of n values.", "x", "y")
	acc := zeros(8)
	by(n, p, "loop", 64, func() {
		for i := range acc {
			x := YMM()
			VMOVUPS(Mem{Base: p[0], Disp: 32 * i}, x)
			VFMADD231PS(Mem{Base: p[1], Disp: 32 * i}, x, acc[i])
		}
	})
	rest(n, p, func(first prefix) {
		x, y := first.load(Mem{Base: p[0]}), first.load(Mem{Base: p[1]})
		plusProduct(acc[:2], x, y)
	})
	v := eight(acc)
	low := XMM()
	VADDPS(upper(v), lower(v), low)
	VHADDPS(low, low, low)
	VHADDPS(low, low, low)
	Store(low, ReturnIndex(0))
	VZEROUPPER()
	RET()
}

// update generates a loop that makes values from those of some operands.
func update(n Register, p []Register, dst int, f func(load func(i int) group) group) {
	by(n, p, "loop", 32, func() {
		f(func(i int) group { return loadGroup(32/lanes, Mem{Base: p[i]}) }).store(Mem{Base: p[dst]})
	})
	rest(n, p, func(first prefix) {
		first.store(f(func(i int) group { return first.load(Mem{Base: p[i]}) }), Mem{Base: p[dst]})
	})
	VZEROUPPER()
	RET()
}

func axpyVec() {
	n, p := begin("axpyAVX2", "func(n int, alpha float32, x, y *float32)", "adds alpha·x to n values of y.", "x", "y")
	alpha := parameter("alpha", 4)
	update(n, p, 1, func(load func(i int) group) group {
		y := load(1)
		plusProduct(y, load(0), alpha)
		return y
	})
}

func scaleVec() {
	n, p := begin("scaleAVX2", "func(n int, alpha float32, src, dst *float32)", "writes alpha·src of n values to dst, which may be src.", "src", "dst")
	alpha := parameter("alpha", 4)
	update(n, p, 1, func(load func(i int) group) group { return mul(load(0), alpha) })
}

func normVec() {
	n, p := begin("affineAVX2", "func(n int, shift, alpha float32, src, gain, bias, dst *float32)",
		"writes (src-shift)·alpha·gain + bias of n values to dst, which may be src.", "src", "gain", "bias", "dst")
	shift, alpha := parameter("shift", 4), parameter("alpha", 4)
	update(n, p, 3, func(load func(i int) group) group {
		x := mul(sub(load(0), shift), alpha)
		timesPlus(x, load(1), load(2))
		return x
	})
}
