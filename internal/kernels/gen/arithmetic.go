package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

func init() { sets["arithmetic"] = arithmetic }

func arithmetic() {
	pairwise("plusAVX2", "x + y", VADDPS, VADDSS)
	pairwise("minusAVX2", "x - y", VSUBPS, VSUBSS)
	pairwise("timesAVX2", "x·y", VMULPS, VMULSS)
	lessAVX2()
}

// pairwise generates an operation on two vectors. The instructions subtract
// their first operand from their second.
func pairwise(name, result string, vector, scalar func(ops ...Op)) {
	TEXT(name, NOSPLIT, "func(n int, x, y, dst *float32)")
	Doc(name + " writes " + result + " of n values to dst, which may be x or y.")
	Pragma("noescape")
	n := Load(Param("n"), GP64())
	x, y, dst := Load(Param("x"), GP64()), Load(Param("y"), GP64()), Load(Param("dst"), GP64())
	eachValue(n, []Register{x, y, dst}, func(at int) {
		v := YMM()
		VMOVUPS(Mem{Base: x, Disp: at}, v)
		vector(Mem{Base: y, Disp: at}, v, v)
		VMOVUPS(v, Mem{Base: dst, Disp: at})
	}, func() {
		v := XMM()
		VMOVSS(Mem{Base: x}, v)
		scalar(Mem{Base: y}, v, v)
		VMOVSS(v, Mem{Base: dst})
	})
}

func lessAVX2() {
	TEXT("lessAVX2", NOSPLIT, "func(n int, by float32, src, dst *float32)")
	Doc("lessAVX2 writes src - by of n values to dst, which may be src.")
	Pragma("noescape")
	n := Load(Param("n"), GP64())
	src, dst := Load(Param("src"), GP64()), Load(Param("dst"), GP64())
	by := YMM()
	addr, err := Param("by").Resolve()
	if err != nil {
		panic(err)
	}
	VBROADCASTSS(addr.Addr, by)
	eachValue(n, []Register{src, dst}, func(at int) {
		v := YMM()
		VMOVUPS(Mem{Base: src, Disp: at}, v)
		VSUBPS(by, v, v)
		VMOVUPS(v, Mem{Base: dst, Disp: at})
	}, func() {
		v := XMM()
		VMOVSS(Mem{Base: src}, v)
		VSUBSS(by.AsX(), v, v)
		VMOVSS(v, Mem{Base: dst})
	})
}

// eachValue runs eight for vectors of 8 values, at a distance in bytes, four
// at a time, and one for single ones at the end. It moves the pointers on.
func eachValue(n Register, pointers []Register, eight func(at int), one func()) {
	steps := []struct {
		label string
		count int
		body  func()
	}{
		{"many", 32, func() {
			for i := range 4 {
				eight(32 * i)
			}
		}},
		{"some", 8, func() { eight(0) }},
		{"last", 1, one},
	}
	for _, s := range steps {
		Label(s.label)
		CMPQ(n, Imm(uint64(s.count)))
		JL(LabelRef(s.label + "Done"))
		s.body()
		for _, p := range pointers {
			ADDQ(Imm(uint64(4*s.count)), p)
		}
		SUBQ(Imm(uint64(s.count)), n)
		JMP(LabelRef(s.label))
		Label(s.label + "Done")
	}
	VZEROUPPER()
	RET()
}
