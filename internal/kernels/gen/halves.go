package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

func halves() {
	TEXT("cpuF16C", NOSPLIT, "func() bool")
	Doc("cpuF16C reports whether the processor converts half-precision numbers.")
	MOVL(U32(1), EAX)
	XORL(ECX, ECX)
	CPUID()
	SHRL(Imm(29), ECX)
	ANDL(Imm(1), ECX)
	Store(CL, ReturnIndex(0))
	RET()

	convert("fromHalfVec", "func(n int, src *uint16, dst *float32)", "fromHalfVec converts n half-precision numbers; n is a positive multiple of 8.", 16, 32,
		func(src, dst Mem, x VecVirtual) {
			VCVTPH2PS(src, x)
			VMOVUPS(x, dst)
		})
	convert("toHalfVec", "func(n int, src *float32, dst *uint16)", "toHalfVec rounds n numbers to half precision; n is a positive multiple of 8.", 32, 16,
		func(src, dst Mem, x VecVirtual) {
			VMOVUPS(src, x)
			VCVTPS2PH(Imm(0), x, dst)
		})
}

func convert(name, signature, doc string, srcStep, dstStep uint64, body func(src, dst Mem, x VecVirtual)) {
	n, p := begin(name, signature, doc, "src", "dst")
	x := YMM()
	Label("loop")
	body(Mem{Base: p[0]}, Mem{Base: p[1]}, x)
	ADDQ(Imm(srcStep), p[0])
	ADDQ(Imm(dstStep), p[1])
	SUBQ(Imm(8), n)
	JNZ(LabelRef("loop"))
	VZEROUPPER()
	RET()
}
