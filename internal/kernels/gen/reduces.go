package main

import (
	"math"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

func reduces() {
	expSum("expSumVec", true)
	expSum("sumExpVec", false)
	wideSum("sumVec", "sumVec returns the sum of n values.", 1)
	wideSum("dotWideVec", "dotWideVec returns the inner product of n values in float64.", 2)
	maxVec()
	dotVec()
	axpyVec()
	scaleVec()
	shiftVec()
	affineVec()
}

// begin starts a function and loads its pointers.
func begin(name, signature, doc string, pointers ...string) (n Register, p []Register) {
	TEXT(name, NOSPLIT, signature)
	Doc(doc)
	Pragma("noescape")
	n = Load(Param("n"), GP64())
	for _, name := range pointers {
		p = append(p, Load(Param(name), GP64()))
	}
	return n, p
}

func broadcast(name string) VecVirtual {
	v := YMM()
	a, err := Param(name).Resolve()
	if err != nil {
		panic(err)
	}
	VBROADCASTSS(a.Addr, v)
	return v
}

// by runs body for each full vector of width floats and then tail, if there
// is one, for the rest, with its mask.
func by(n Register, p []Register, label string, width int, body func()) {
	SUBQ(Imm(uint64(width)), n)
	JL(LabelRef(label + "end"))
	Label(label)
	body()
	for _, r := range p {
		ADDQ(U32(uint32(4*width)), r)
	}
	SUBQ(Imm(uint64(width)), n)
	JGE(LabelRef(label))
	Label(label + "end")
	ADDQ(Imm(uint64(width)), n)
}

func zeros(n int) []VecVirtual {
	v := make([]VecVirtual, n)
	for i := range v {
		v[i] = YMM()
		VXORPS(v[i], v[i], v[i])
	}
	return v
}

// returnWide returns the sum of the lanes of the accumulators as float64.
func returnWide(acc []VecVirtual) {
	for step := len(acc) / 2; step > 0; step /= 2 {
		for i := range step {
			VADDPD(acc[i+step], acc[i], acc[i])
		}
	}
	low, high := XMM(), XMM()
	VEXTRACTF128(Imm(1), acc[0], high)
	VEXTRACTF128(Imm(0), acc[0], low)
	VADDPD(high, low, low)
	VHADDPD(low, low, low)
	Store(low, ReturnIndex(0))
	VZEROUPPER()
	RET()
}

// addWide adds the 8 floats of x to two accumulators.
func addWide(x VecVirtual, acc []VecVirtual) {
	half, low, high := XMM(), YMM(), YMM()
	VCVTPS2PD(x.AsX(), low)
	VEXTRACTF128(Imm(1), x, half)
	VCVTPS2PD(half, high)
	VADDPD(low, acc[0], acc[0])
	VADDPD(high, acc[1], acc[1])
}

// expSum generates the sum of exponentials.
func expSum(name string, store bool) {
	signature, doc := "func(n int, src *float32, shift float32) float64", name+" returns the sum of e^(src-shift) over n values."
	pointers := []string{"src"}
	if store {
		signature = "func(n int, src, dst *float32, shift float32) float64"
		doc = name + " writes e^(src-shift) of n values to dst and returns their sum."
		pointers = append(pointers, "dst")
	}
	n, p := begin(name, signature, doc, pointers...)
	shift := broadcast("shift")
	acc := zeros(2)
	by(n, p, "loop", 8, func() {
		x := YMM()
		VMOVUPS(Mem{Base: p[0]}, x)
		VSUBPS(shift, x, x)
		e := exp(x)
		if store {
			VMOVUPS(e, Mem{Base: p[1]})
		}
		addWide(e, acc)
	})
	TESTQ(n, n)
	JZ(LabelRef("done"))
	mask, x := tailMask(n), YMM()
	VMASKMOVPS(Mem{Base: p[0]}, mask, x)
	VSUBPS(shift, x, x)
	e := exp(x)
	if store {
		VMASKMOVPS(e, mask, Mem{Base: p[1]})
	}
	VANDPS(mask, e, e)
	addWide(e, acc)
	Label("done")
	returnWide(acc)
}

// wideSum generates a sum in float64 of values or of products.
func wideSum(name, doc string, operands int) {
	pointers, signature := []string{"x"}, "func(n int, x *float32) float64"
	if operands == 2 {
		pointers, signature = []string{"x", "y"}, "func(n int, x, y *float32) float64"
	}
	n, p := begin(name, signature, doc, pointers...)
	acc := zeros(4)
	add := func(i int, load func(r Register) VecVirtual) {
		x := load(p[0])
		if operands == 1 {
			VADDPD(x, acc[i], acc[i])
			return
		}
		VFMADD231PD(x, load(p[1]), acc[i])
	}
	at := func(disp int) func(r Register) VecVirtual {
		return func(r Register) VecVirtual {
			x := YMM()
			VCVTPS2PD(Mem{Base: r, Disp: disp}, x)
			return x
		}
	}
	by(n, p, "loop", 16, func() {
		for i := range acc {
			add(i, at(16*i))
		}
	})
	by(n, p, "four", 4, func() { add(0, at(0)) })
	TESTQ(n, n)
	JZ(LabelRef("done"))
	mask := tailMask(n)
	add(1, func(r Register) VecVirtual {
		x, wide := XMM(), YMM()
		VMASKMOVPS(Mem{Base: r}, mask.AsX(), x)
		VCVTPS2PD(x, wide)
		return wide
	})
	Label("done")
	returnWide(acc)
}

func maxVec() {
	n, p := begin("maxVec", "func(n int, x *float32) float32", "maxVec returns the greatest of n values, NaN if one of them is, -Inf without values.", "x")
	lowest := float(float32(math.Inf(-1)))
	acc, nan := zeros(4), zeros(2)
	for _, a := range acc {
		VMOVUPS(lowest, a)
	}
	take := func(x VecVirtual, i int) {
		unordered := YMM()
		VCMPPS(Imm(3), x, x, unordered)
		VORPS(unordered, nan[i%2], nan[i%2])
		VMAXPS(x, acc[i], acc[i])
	}
	for _, w := range []struct {
		label   string
		vectors int
	}{{"loop", 4}, {"eight", 1}} {
		by(n, p, w.label, 8*w.vectors, func() {
			for i := range w.vectors {
				x := YMM()
				VMOVUPS(Mem{Base: p[0], Disp: 32 * i}, x)
				take(x, i)
			}
		})
	}
	TESTQ(n, n)
	JZ(LabelRef("done"))
	mask, x, none := tailMask(n), YMM(), YMM()
	VMASKMOVPS(Mem{Base: p[0]}, mask, x)
	VMOVUPS(lowest, none)
	VBLENDVPS(mask, x, none, x)
	take(x, 0)
	Label("done")
	VMAXPS(acc[1], acc[0], acc[0])
	VMAXPS(acc[3], acc[2], acc[2])
	VMAXPS(acc[2], acc[0], acc[0])
	VORPS(nan[1], nan[0], nan[0])
	// All lanes set is a NaN; or-ing it in makes the result one.
	flags := GP32()
	VMOVMSKPS(nan[0], flags)
	low, high := XMM(), XMM()
	VEXTRACTF128(Imm(1), acc[0], high)
	VEXTRACTF128(Imm(0), acc[0], low)
	VMAXPS(high, low, low)
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
	n, p := begin("dotVec", "func(n int, x, y *float32) float32", "dotVec returns the inner product of n values.", "x", "y")
	acc := zeros(8)
	for _, w := range []struct {
		label   string
		vectors int
	}{{"loop", 8}, {"eight", 1}} {
		by(n, p, w.label, 8*w.vectors, func() {
			for i := range w.vectors {
				x := YMM()
				VMOVUPS(Mem{Base: p[0], Disp: 32 * i}, x)
				VFMADD231PS(Mem{Base: p[1], Disp: 32 * i}, x, acc[i])
			}
		})
	}
	TESTQ(n, n)
	JZ(LabelRef("done"))
	mask, x, y := tailMask(n), YMM(), YMM()
	VMASKMOVPS(Mem{Base: p[0]}, mask, x)
	VMASKMOVPS(Mem{Base: p[1]}, mask, y)
	VFMADD231PS(y, x, acc[1])
	Label("done")
	for step := 4; step > 0; step /= 2 {
		for i := range step {
			VADDPS(acc[i+step], acc[i], acc[i])
		}
	}
	low, high := XMM(), XMM()
	VEXTRACTF128(Imm(1), acc[0], high)
	VEXTRACTF128(Imm(0), acc[0], low)
	VADDPS(high, low, low)
	VHADDPS(low, low, low)
	VHADDPS(low, low, low)
	Store(low, ReturnIndex(0))
	VZEROUPPER()
	RET()
}

// update generates a loop that makes a vector of x and what else there is.
func update(n Register, p []Register, dst int, f func(load func(i int) VecVirtual) VecVirtual) {
	body := func(disp int) {
		y := f(func(i int) VecVirtual {
			x := YMM()
			VMOVUPS(Mem{Base: p[i], Disp: disp}, x)
			return x
		})
		VMOVUPS(y, Mem{Base: p[dst], Disp: disp})
	}
	by(n, p, "loop", 32, func() {
		for i := range 4 {
			body(32 * i)
		}
	})
	by(n, p, "eight", 8, func() { body(0) })
	TESTQ(n, n)
	JZ(LabelRef("done"))
	mask := tailMask(n)
	y := f(func(i int) VecVirtual {
		x := YMM()
		VMASKMOVPS(Mem{Base: p[i]}, mask, x)
		return x
	})
	VMASKMOVPS(y, mask, Mem{Base: p[dst]})
	Label("done")
	VZEROUPPER()
	RET()
}

func axpyVec() {
	n, p := begin("axpyVec", "func(n int, alpha float32, x, y *float32)", "axpyVec adds alpha·x to n values of y.", "x", "y")
	alpha := broadcast("alpha")
	update(n, p, 1, func(load func(i int) VecVirtual) VecVirtual {
		y := load(1)
		VFMADD231PS(load(0), alpha, y)
		return y
	})
}

func scaleVec() {
	n, p := begin("scaleVec", "func(n int, alpha float32, src, dst *float32)", "scaleVec writes alpha·src of n values to dst, which may be src.", "src", "dst")
	alpha := broadcast("alpha")
	update(n, p, 1, func(load func(i int) VecVirtual) VecVirtual {
		x := load(0)
		VMULPS(alpha, x, x)
		return x
	})
}

func shiftVec() {
	n, p := begin("shiftVec", "func(n int, shift float32, src, dst *float32)", "shiftVec writes src-shift of n values to dst, which may be src.", "src", "dst")
	shift := broadcast("shift")
	update(n, p, 1, func(load func(i int) VecVirtual) VecVirtual {
		x := load(0)
		VSUBPS(shift, x, x)
		return x
	})
}

func affineVec() {
	n, p := begin("affineVec", "func(n int, alpha float32, gain, bias, x *float32)", "affineVec replaces n values of x by alpha·x·gain + bias.", "gain", "bias", "x")
	alpha := broadcast("alpha")
	update(n, p, 2, func(load func(i int) VecVirtual) VecVirtual {
		x := load(2)
		VMULPS(alpha, x, x)
		gain, bias := load(0), load(1)
		VFMADD213PS(bias, gain, x)
		return x
	})
}
