package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

func gemm512() {
	for rows := 1; rows <= tileRows; rows++ {
		wideTile(rows)
	}
	wideTile(2 * tileRows)
}

// wideTile generates the product of one or two packed panels of rows and two
// of columns, which lie one after the other. It has the multiplications of
// tile in the same order for each element.
func wideTile(rows int) {
	name := fmt.Sprintf("tile%dx32", rows)
	TEXT(name, NOSPLIT, "func(k int, a, b, c *float32, ldc int, zero bool)")
	doc := fmt.Sprintf("%s adds the product of %d packed rows and 2 panels of 16 packed columns over k terms to c,", name, rows)
	if rows > tileRows {
		doc = fmt.Sprintf("%s adds the product of 2 panels of packed rows and 2 of 16 packed columns over k terms to c,", name)
	}
	Doc(doc, "whose rows are ldc floats apart, or to zeros if zero is set.")
	Pragma("noescape")
	k := Load(Param("k"), GP64())
	a := Load(Param("a"), GP64())
	b := Load(Param("b"), GP64())
	c := Load(Param("c"), GP64())
	ld := Load(Param("ldc"), GP64())
	SHLQ(Imm(2), ld)
	zero := Load(Param("zero"), GP8())

	// The second panels are k terms behind the first ones.
	low := a
	if rows > tileRows {
		low = GP64()
		LEAQ(Mem{Base: k, Index: k, Scale: 2}, low)
		LEAQ(Mem{Base: a, Index: low, Scale: 8}, low)
	}
	right := GP64()
	MOVQ(k, right)
	SHLQ(Imm(6), right)
	ADDQ(b, right)

	acc := make([][2]VecVirtual, rows)
	for i := range acc {
		acc[i] = [2]VecVirtual{ZMM(), ZMM()}
	}
	TESTB(zero, zero)
	JZ(LabelRef("load"))
	for i := range acc {
		VPXORD(acc[i][0], acc[i][0], acc[i][0])
		VPXORD(acc[i][1], acc[i][1], acc[i][1])
	}
	JMP(LabelRef("begin"))
	Label("load")
	row := GP64()
	MOVQ(c, row)
	for i := range acc {
		VMOVUPS(Mem{Base: row}, acc[i][0])
		VMOVUPS(Mem{Base: row, Disp: 64}, acc[i][1])
		if i < rows-1 {
			ADDQ(ld, row)
		}
	}

	Label("begin")
	steps := GP64()
	MOVQ(k, steps)
	SHRQ(Imm(2), steps)
	JZ(LabelRef("tail"))
	b0, b1, x := ZMM(), ZMM(), ZMM()
	term := func(t int) {
		VMOVUPS(Mem{Base: b, Disp: 64 * t}, b0)
		VMOVUPS(Mem{Base: right, Disp: 64 * t}, b1)
		for i := range acc {
			panel, r := a, i
			if i >= tileRows {
				panel, r = low, i-tileRows
			}
			VBROADCASTSS(Mem{Base: panel, Disp: 4 * (tileRows*t + r)}, x)
			VFMADD231PS(b0, x, acc[i][0])
			VFMADD231PS(b1, x, acc[i][1])
		}
	}
	advance := func(terms int) {
		ADDQ(Imm(uint64(4*tileRows*terms)), a)
		if rows > tileRows {
			ADDQ(Imm(uint64(4*tileRows*terms)), low)
		}
		ADDQ(U32(uint32(64*terms)), b)
		ADDQ(U32(uint32(64*terms)), right)
	}
	Label("loop")
	for t := range unroll {
		term(t)
	}
	advance(unroll)
	DECQ(steps)
	JNZ(LabelRef("loop"))

	Label("tail")
	ANDQ(U32(unroll-1), k)
	JZ(LabelRef("store"))
	Label("one")
	term(0)
	advance(1)
	DECQ(k)
	JNZ(LabelRef("one"))

	Label("store")
	for i := range acc {
		VMOVUPS(acc[i][0], Mem{Base: c})
		VMOVUPS(acc[i][1], Mem{Base: c, Disp: 64})
		if i < rows-1 {
			ADDQ(ld, c)
		}
	}
	VZEROUPPER()
	RET()
}
