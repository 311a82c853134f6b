package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// The tiles of the int8 product. Four terms of a column are neighbours, and
// the 16 columns of a panel after one another, so that 64 bytes of it meet
// four bytes of a row.
const (
	byteRows = 4 // with AVX2: the sums of 16-bit pairs need registers, too
	wideRows = 8 // with VNNI
)

func int8s() {
	lanes = 8
	for rows := 1; rows <= byteRows; rows++ {
		byteTile(fmt.Sprintf("bytes%dx16", rows), rows, pairs)
	}
	spread()
	quantize()
}

func vnni() {
	lanes = 16
	for rows := 1; rows <= wideRows; rows++ {
		byteTile(fmt.Sprintf("bytes%dx32", rows), rows, dotBytes)
	}
}

// products adds the products of four unsigned bytes of a row, in every lane of
// x, with the signed ones of columns in b to the lanes of acc.
type products func(x, b, acc VecVirtual)

// pairs are products by AVX2: of bytes, summed in pairs to 16 bits, which the
// range of the weights keeps from saturating, and these in pairs to 32.
func pairs() products {
	ones := vector()
	VMOVUPS(Mem(word(0x00010001)), ones)
	return func(x, b, acc VecVirtual) {
		t := vector()
		VPMADDUBSW(b, x, t)
		VPMADDWD(ones, t, t)
		VPADDD(t, acc, acc)
	}
}

// dotBytes are products by AVX-512 VNNI.
func dotBytes() products {
	return func(x, b, acc VecVirtual) { VPDPBUSD(b, x, acc) }
}

// byteTile generates the product of rows rows of bytes and two vectors of
// columns: one panel, or two.
func byteTile(name string, rows int, math func() products) {
	cols, width := 2*lanes, 4*lanes // columns, bytes of a vector
	TEXT(name, NOSPLIT, "func(steps int, a *uint8, lda int, b *int8, scales *float32, zeros *int32, colScales *float32, colSums *int32, c *float32, ldc int, add bool)")
	Doc(fmt.Sprintf("%s writes the product of %d rows of bytes, lda bytes apart, and %d packed columns over 4·steps terms to c,", name, rows, cols),
		"whose rows are ldc floats apart: (sum - zeros[i]·colSums[j])·scales[i]·colScales[j]. With add it adds it to what is there.")
	Pragma("noescape")
	steps := Load(Param("steps"), GP64())
	a := Load(Param("a"), GP64())
	lda := Load(Param("lda"), GP64())
	b := Load(Param("b"), GP64())
	acc := make([]group, rows)
	for i := range acc {
		acc[i] = zeros(2)
	}
	multiply := math()
	// The second vector of columns is in the same panel, or in the next one.
	second := Mem{Base: b, Disp: width}
	if cols > 16 {
		right := GP64()
		MOVQ(steps, right)
		SHLQ(Imm(6), right)
		ADDQ(b, right)
		second = Mem{Base: right}
	}
	lda3 := GP64()
	if rows > 3 {
		LEAQ(Mem{Base: lda, Index: lda, Scale: 2}, lda3)
	}
	heads := []Register{a}
	if rows > 4 {
		heads = append(heads, GP64())
		LEAQ(Mem{Base: a, Index: lda, Scale: 4}, heads[1])
	}

	Label("loop")
	b0, b1 := vector(), vector()
	VMOVUPS(Mem{Base: b}, b0)
	VMOVUPS(second, b1)
	for i := range acc {
		x := vector()
		VPBROADCASTD(fourRows(heads[i/4], lda, lda3)[i%4], x)
		multiply(x, b0, acc[i][0])
		multiply(x, b1, acc[i][1])
	}
	for _, h := range heads {
		ADDQ(Imm(4), h)
	}
	ADDQ(Imm(64), b)
	if cols > 16 {
		ADDQ(Imm(64), second.Base)
	}
	DECQ(steps)
	JNZ(LabelRef("loop"))

	scales := Load(Param("scales"), GP64())
	zeros := Load(Param("zeros"), GP64())
	colScales := Load(Param("colScales"), GP64())
	colSums := Load(Param("colSums"), GP64())
	c := Load(Param("c"), GP64())
	ldc := Load(Param("ldc"), GP64())
	SHLQ(Imm(2), ldc)
	add := Load(Param("add"), GP8())
	for i := range acc {
		z, s, t := vector(), vector(), vector()
		VPBROADCASTD(Mem{Base: zeros, Disp: 4 * i}, z)
		VBROADCASTSS(Mem{Base: scales, Disp: 4 * i}, s)
		for half, v := range acc[i] {
			at := width * half
			VPMULLD(Mem{Base: colSums, Disp: at}, z, t)
			VPSUBD(t, v, v)
			VCVTDQ2PS(v, v)
			VMULPS(s, v, v)
			VMULPS(Mem{Base: colScales, Disp: at}, v, v)
		}
	}
	TESTB(add, add)
	JZ(LabelRef("store"))
	row := GP64()
	MOVQ(c, row)
	for i := range acc {
		for half, v := range acc[i] {
			VADDPS(Mem{Base: row, Disp: width * half}, v, v)
		}
		if i < rows-1 {
			ADDQ(ldc, row)
		}
	}
	Label("store")
	for i := range acc {
		for half, v := range acc[i] {
			VMOVUPS(v, Mem{Base: c, Disp: width * half})
		}
		if i < rows-1 {
			ADDQ(ldc, c)
		}
	}
	VZEROUPPER()
	RET()
}

// spread generates the search for the range of a row.
func spread() {
	n, p := begin("spreadVec", "func(n int, x *float32) (low, high, odd float32)",
		"returns the least and the greatest of n values and 0, and a NaN if one is none or infinite. n is a positive multiple of 32.", "x")
	x := p[0]
	low, high, odd := zeros(2), zeros(2), zeros(2)
	Label("loop")
	for i := range 4 {
		v, d := YMM(), YMM()
		VMOVUPS(Mem{Base: x, Disp: 32 * i}, v)
		VMINPS(v, low[i%2], low[i%2])
		VMAXPS(v, high[i%2], high[i%2])
		VSUBPS(v, v, d)
		VORPS(d, odd[i%2], odd[i%2])
	}
	ADDQ(U32(128), x)
	SUBQ(Imm(32), n)
	JNZ(LabelRef("loop"))
	VMINPS(low[1], low[0], low[0])
	VMAXPS(high[1], high[0], high[0])
	VORPS(odd[1], odd[0], odd[0])
	for i, r := range []struct {
		v  VecVirtual
		op func(...Op)
	}{{low[0], VMINPS}, {high[0], VMAXPS}, {odd[0], VORPS}} {
		lo, hi := XMM(), XMM()
		VEXTRACTF128(Imm(1), r.v, hi)
		VEXTRACTF128(Imm(0), r.v, lo)
		r.op(hi, lo, lo)
		VPERMILPS(Imm(0x4e), lo, hi)
		r.op(hi, lo, lo)
		VPERMILPS(Imm(0xb1), lo, hi)
		r.op(hi, lo, lo)
		Store(lo, ReturnIndex(i))
	}
	VZEROUPPER()
	RET()
}

// quantize generates the rounding of a row to bytes.
func quantize() {
	n, p := begin("quantizeVec", "func(n int, x *float32, inverse float32, zero int32, dst *uint8)",
		"rounds n values of x, times inverse, to even, adds zero and bounds the result to 0 to 255. n is a positive multiple of 32.", "x", "dst")
	inverse, zero, order := parameter("inverse", 1)[0], YMM(), YMM()
	z, low := Load(Param("zero"), GP32()), XMM()
	VMOVD(z, low)
	VPBROADCASTD(low, zero)
	perm := GLOBL("unpack", 8|16) // RODATA|NOPTR
	for i, v := range []uint32{0, 4, 1, 5, 2, 6, 3, 7} {
		DATA(4*i, U32(v))
	}
	VMOVDQU(perm, order)
	Label("loop")
	var v [4]VecVirtual
	for i := range v {
		v[i] = YMM()
		VMULPS(Mem{Base: p[0], Disp: 32 * i}, inverse, v[i])
		VCVTPS2DQ(v[i], v[i])
		VPADDD(zero, v[i], v[i])
	}
	VPACKSSDW(v[1], v[0], v[0])
	VPACKSSDW(v[3], v[2], v[2])
	VPACKUSWB(v[2], v[0], v[0])
	// Packing works in each half of a register.
	VPERMD(v[0], order, v[0])
	VMOVDQU(v[0], Mem{Base: p[1]})
	ADDQ(U32(128), p[0])
	ADDQ(Imm(32), p[1])
	SUBQ(Imm(32), n)
	JNZ(LabelRef("loop"))
	VZEROUPPER()
	RET()
}
