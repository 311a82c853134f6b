package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
)

// Memory limits these: AVX-512 would gain nothing.
func halves() {
	convert("fromHalfAVX2", "func(n int, src *uint16, dst *float32)", "converts n half-precision numbers; n is a multiple of 8.", 16, 32,
		func(src, dst Mem) {
			x := YMM()
			VCVTPH2PS(src, x)
			VMOVUPS(x, dst)
		})
	convert("toHalfAVX2", "func(n int, src *float32, dst *uint16)", "rounds n numbers to half precision; n is a multiple of 8.", 32, 16,
		func(src, dst Mem) {
			// Straight to memory, this instruction takes twice as long.
			x, h := YMM(), XMM()
			VMOVUPS(src, x)
			VCVTPS2PH(Imm(0), x, h)
			VMOVUPS(h, dst)
		})
}

func convert(name, signature, doc string, srcStep, dstStep int, body func(src, dst Mem)) {
	n, p := begin(name, signature, doc, "src", "dst")
	loop := func(label string, vectors int) {
		SUBQ(U32(uint32(8*vectors)), n)
		JL(LabelRef(label + "end"))
		Label(label)
		for i := range vectors {
			body(Mem{Base: p[0], Disp: srcStep * i}, Mem{Base: p[1], Disp: dstStep * i})
		}
		ADDQ(U32(uint32(srcStep*vectors)), p[0])
		ADDQ(U32(uint32(dstStep*vectors)), p[1])
		SUBQ(U32(uint32(8*vectors)), n)
		JGE(LabelRef(label))
		Label(label + "end")
		ADDQ(U32(uint32(8*vectors)), n)
	}
	loop("loop", 4)
	loop("eight", 1)
	VZEROUPPER()
	RET()
}
