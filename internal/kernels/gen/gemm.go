package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// The tile of the micro-kernel: 6 rows of 2 vectors leave 4 of the 16 vector
// registers for operands, and need fewer loads than multiplications. With the
// 32 of AVX-512 there is room for 12 rows, of two panels.
const (
	tileRows = 6
	tileCols = 16
	unroll   = 4
)

func gemm() {
	lanes = 8
	for rows := 1; rows <= tileRows; rows++ {
		tile(rows)
	}
	packRows16()
	packCols16()
	packRows6()
	packCols6()
}

func gemm512() {
	lanes = 16
	for rows := 1; rows <= tileRows; rows++ {
		tile(rows)
	}
	tile(2 * tileRows)
}

// tile generates the product of packed rows and two vectors of packed columns:
// one panel with AVX2, two with AVX-512. More rows than a panel has are of two
// panels. An element has the same multiplications in the same order in all.
func tile(rows int) {
	cols, width := 2*lanes, 4*lanes // columns, bytes of a vector
	name := fmt.Sprintf("tile%dx%d", rows, cols)
	TEXT(name, NOSPLIT, "func(k int, a, b, c *float32, ldc int, zero bool)")
	Doc(fmt.Sprintf("%s adds the product of %d packed rows and %d packed columns over k terms to c,", name, rows, cols),
		"whose rows are ldc floats apart, or to zeros if zero is set.")
	Pragma("noescape")
	k := Load(Param("k"), GP64())
	a := Load(Param("a"), GP64())
	b := Load(Param("b"), GP64())
	c := Load(Param("c"), GP64())
	ld := Load(Param("ldc"), GP64())
	SHLQ(Imm(2), ld)
	zero := Load(Param("zero"), GP8())

	// Panels lie one after the other, k terms each.
	low := a
	if rows > tileRows {
		low = GP64()
		LEAQ(Mem{Base: k, Index: k, Scale: 2}, low)
		LEAQ(Mem{Base: a, Index: low, Scale: 8}, low)
	}
	right := Mem{Base: b, Disp: width}
	if cols > tileCols {
		right = Mem{Base: GP64()}
		MOVQ(k, right.Base)
		SHLQ(Imm(6), right.Base)
		ADDQ(b, right.Base)
	}

	acc := make([]group, rows)
	for i := range acc {
		acc[i] = vectors(2)
	}
	TESTB(zero, zero)
	JZ(LabelRef("load"))
	for _, v := range acc {
		VXORPS(v[0], v[0], v[0])
		VXORPS(v[1], v[1], v[1])
	}
	JMP(LabelRef("begin"))
	Label("load")
	row := GP64()
	MOVQ(c, row)
	for i, v := range acc {
		VMOVUPS(Mem{Base: row}, v[0])
		VMOVUPS(Mem{Base: row, Disp: width}, v[1])
		if i < rows-1 {
			ADDQ(ld, row)
		}
	}

	Label("begin")
	steps := GP64()
	MOVQ(k, steps)
	SHRQ(Imm(2), steps)
	JZ(LabelRef("tail"))
	b0, b1, x := vector(), vector(), vector()
	term := func(t int) {
		VMOVUPS(Mem{Base: b, Disp: 64 * t}, b0)
		VMOVUPS(right.Offset(64*t), b1)
		for i, v := range acc {
			panel, r := a, i
			if i >= tileRows {
				panel, r = low, i-tileRows
			}
			VBROADCASTSS(Mem{Base: panel, Disp: 4 * (tileRows*t + r)}, x)
			VFMADD231PS(b0, x, v[0])
			VFMADD231PS(b1, x, v[1])
		}
	}
	advance := func(terms int) {
		ADDQ(Imm(uint64(4*tileRows*terms)), a)
		if low != a {
			ADDQ(Imm(uint64(4*tileRows*terms)), low)
		}
		ADDQ(U32(uint32(64*terms)), b)
		if right.Base != b {
			ADDQ(U32(uint32(64*terms)), right.Base)
		}
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
	for i, v := range acc {
		VMOVUPS(v[0], Mem{Base: c})
		VMOVUPS(v[1], Mem{Base: c, Disp: width})
		if i < rows-1 {
			ADDQ(ld, c)
		}
	}
	VZEROUPPER()
	RET()
}

// packRows16 copies rows of 16 floats.
func packRows16() {
	TEXT("packRows16", NOSPLIT, "func(k int, src *float32, ld int, dst *float32)")
	Doc("packRows16 copies k rows of 16 floats that are ld floats apart.")
	Pragma("noescape")
	k := Load(Param("k"), GP64())
	src := Load(Param("src"), GP64())
	ld := Load(Param("ld"), GP64())
	dst := Load(Param("dst"), GP64())
	SHLQ(Imm(2), ld)
	x, y := YMM(), YMM()
	Label("loop")
	VMOVUPS(Mem{Base: src}, x)
	VMOVUPS(Mem{Base: src, Disp: 32}, y)
	VMOVUPS(x, Mem{Base: dst})
	VMOVUPS(y, Mem{Base: dst, Disp: 32})
	ADDQ(ld, src)
	ADDQ(Imm(64), dst)
	DECQ(k)
	JNZ(LabelRef("loop"))
	VZEROUPPER()
	RET()
}

// fourRows are the addresses of four rows from base on.
func fourRows(base, ld, ld3 Register) [4]Mem {
	return [4]Mem{
		{Base: base},
		{Base: base, Index: ld, Scale: 1},
		{Base: base, Index: ld, Scale: 2},
		{Base: base, Index: ld3, Scale: 1},
	}
}

// transpose4 transposes the 4x4 blocks in each 128-bit lane of r.
func transpose4(r [4]VecVirtual, like func() VecVirtual) [4]VecVirtual {
	t0, t1, t2, t3 := like(), like(), like(), like()
	VUNPCKLPS(r[1], r[0], t0)
	VUNPCKLPS(r[3], r[2], t1)
	VUNPCKHPS(r[1], r[0], t2)
	VUNPCKHPS(r[3], r[2], t3)
	o := [4]VecVirtual{like(), like(), like(), like()}
	VSHUFPS(Imm(0x44), t1, t0, o[0])
	VSHUFPS(Imm(0xee), t1, t0, o[1])
	VSHUFPS(Imm(0x44), t3, t2, o[2])
	VSHUFPS(Imm(0xee), t3, t2, o[3])
	return o
}

// packCols16 transposes 16 rows.
func packCols16() {
	TEXT("packCols16", NOSPLIT, "func(k int, src *float32, ld int, dst *float32)")
	Doc("packCols16 writes the first k columns of 16 rows that are ld floats apart, one after another.",
		"k must be a positive multiple of 4.")
	Pragma("noescape")
	k := Load(Param("k"), GP64())
	src := Load(Param("src"), GP64())
	ld := Load(Param("ld"), GP64())
	dst := Load(Param("dst"), GP64())
	SHLQ(Imm(2), ld)
	ld3 := GP64()
	LEAQ(Mem{Base: ld, Index: ld, Scale: 2}, ld3)
	p := [4]Register{src, GP64(), GP64(), GP64()}
	for i := 1; i < 4; i++ {
		LEAQ(Mem{Base: p[i-1], Index: ld, Scale: 4}, p[i])
	}
	Label("loop")
	for half := range 2 {
		lo, hi := fourRows(p[2*half], ld, ld3), fourRows(p[2*half+1], ld, ld3)
		var r [4]VecVirtual
		for i := range r {
			x := XMM()
			r[i] = YMM()
			VMOVUPS(lo[i], x)
			VINSERTF128(Imm(1), hi[i], x.AsY(), r[i])
		}
		for i, o := range transpose4(r, YMM) {
			VMOVUPS(o, Mem{Base: dst, Disp: 64*i + 32*half})
		}
	}
	for i := range p {
		ADDQ(Imm(16), p[i])
	}
	ADDQ(U32(256), dst)
	SUBQ(Imm(4), k)
	JNZ(LabelRef("loop"))
	VZEROUPPER()
	RET()
}

// packRows6 copies rows of 6 floats, times alpha.
func packRows6() {
	TEXT("packRows6", NOSPLIT, "func(k int, alpha float32, src *float32, ld int, dst *float32)")
	Doc("packRows6 copies k rows of 6 floats that are ld floats apart, times alpha.")
	Pragma("noescape")
	k := Load(Param("k"), GP64())
	alpha := XMM()
	a, err := Param("alpha").Resolve()
	if err != nil {
		panic(err)
	}
	VBROADCASTSS(a.Addr, alpha)
	src := Load(Param("src"), GP64())
	ld := Load(Param("ld"), GP64())
	dst := Load(Param("dst"), GP64())
	SHLQ(Imm(2), ld)
	x, y := XMM(), XMM()
	Label("loop")
	VMOVUPS(Mem{Base: src}, x)
	VMOVSD(Mem{Base: src, Disp: 16}, y)
	VMULPS(alpha, x, x)
	VMULPS(alpha, y, y)
	VMOVUPS(x, Mem{Base: dst})
	VMOVSD(y, Mem{Base: dst, Disp: 16})
	ADDQ(ld, src)
	ADDQ(Imm(24), dst)
	DECQ(k)
	JNZ(LabelRef("loop"))
	RET()
}

// packCols6 transposes 6 rows, times alpha.
func packCols6() {
	TEXT("packCols6", NOSPLIT, "func(k int, alpha float32, src *float32, ld int, dst *float32)")
	Doc("packCols6 writes the first k columns of 6 rows that are ld floats apart, one after another, times",
		"alpha. k must be a positive multiple of 4.")
	Pragma("noescape")
	k := Load(Param("k"), GP64())
	alpha := XMM()
	a, err := Param("alpha").Resolve()
	if err != nil {
		panic(err)
	}
	VBROADCASTSS(a.Addr, alpha)
	src := Load(Param("src"), GP64())
	ld := Load(Param("ld"), GP64())
	dst := Load(Param("dst"), GP64())
	SHLQ(Imm(2), ld)
	ld3, low := GP64(), GP64()
	LEAQ(Mem{Base: ld, Index: ld, Scale: 2}, ld3)
	LEAQ(Mem{Base: src, Index: ld, Scale: 4}, low)
	Label("loop")
	var r [4]VecVirtual
	for i, m := range fourRows(src, ld, ld3) {
		r[i] = XMM()
		VMULPS(m, alpha, r[i])
	}
	r4, r5, even, odd := XMM(), XMM(), XMM(), XMM()
	VMULPS(Mem{Base: low}, alpha, r4)
	VMULPS(Mem{Base: low, Index: ld, Scale: 1}, alpha, r5)
	VUNPCKLPS(r5, r4, even)
	VUNPCKHPS(r5, r4, odd)
	for i, o := range transpose4(r, XMM) {
		VMOVUPS(o, Mem{Base: dst, Disp: 24 * i})
	}
	VMOVLPS(even, Mem{Base: dst, Disp: 16})
	VMOVHPS(even, Mem{Base: dst, Disp: 40})
	VMOVLPS(odd, Mem{Base: dst, Disp: 64})
	VMOVHPS(odd, Mem{Base: dst, Disp: 88})
	ADDQ(Imm(16), src)
	ADDQ(Imm(16), low)
	ADDQ(Imm(96), dst)
	SUBQ(Imm(4), k)
	JNZ(LabelRef("loop"))
	RET()
}
