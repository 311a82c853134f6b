package main

import (
	"fmt"
	"math"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// The tile of the micro-kernel: 6 rows of 2 vectors leave 4 of the 16 vector
// registers for operands, and need fewer loads than multiplications. With the
// 32 of AVX-512 there is room for 12 rows, of two panels of columns.
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
}

func gemm512() {
	lanes = 16
	for rows := 1; rows <= tileRows; rows++ {
		tile(rows)
	}
	tile(2 * tileRows)
}

// tile generates the product of rows and two vectors of packed columns: one
// panel with AVX2, two with AVX-512. An element has the same multiplications in
// the same order in all.
func tile(rows int) {
	cols, width := 2*lanes, 4*lanes // columns, bytes of a vector
	name := fmt.Sprintf("tile%dx%d", rows, cols)
	TEXT(name, NOSPLIT, "func(count, k int, a *float32, lda int, b, from *float32, ldf int, c *float32, ldc int)")
	Doc(fmt.Sprintf("%s writes the product of count times %d rows and %d packed columns over k terms to", name, rows, cols),
		"c. The sums begin with what is in from, or with zeros if that is nil. Rows of a, from and c",
		"are lda, ldf and ldc floats apart.")
	Pragma("noescape")
	// The panels behind these are read into the second-level cache, a line for
	// every four terms.
	ahead := skip(Load(Param("b"), GP64()), cols)
	Label("tile")
	k := Load(Param("k"), GP64())
	a := addresses(rows, "a", "lda")
	b := Load(Param("b"), GP64())

	// Panels lie one after the other, k terms each.
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
	from := Load(Param("from"), GP64())
	TESTQ(from, from)
	JNZ(LabelRef("load"))
	for _, v := range acc {
		VXORPS(v[0], v[0], v[0])
		VXORPS(v[1], v[1], v[1])
	}
	JMP(LabelRef("begin"))
	Label("load")
	eachRow("from", "ldf", acc, func(v group, row Mem) {
		VMOVUPS(row, v[0])
		VMOVUPS(row.Offset(width), v[1])
	})

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
			VBROADCASTSS(a[i].Offset(4*t), x)
			VFMADD231PS(b0, x, v[0])
			VFMADD231PS(b1, x, v[1])
		}
	}
	advance := func(terms int) {
		for i := 0; i < rows; i += 4 {
			ADDQ(Imm(uint64(4*terms)), a[i].Base)
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
	PREFETCHT1(Mem{Base: ahead})
	ADDQ(Imm(64), ahead)
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
	eachRow("c", "ldc", acc, func(v group, row Mem) {
		VMOVUPS(v[0], row)
		VMOVUPS(v[1], row.Offset(width))
	})
	// They are there. From then on it costs nothing.
	b = Load(Param("b"), b)
	CMPQ(ahead, skip(skip(b, cols), cols))
	CMOVQCC(b, ahead)
	// The rows of the next tile.
	next, step := Load(Param("a"), GP64()), Load(Param("lda"), GP64())
	IMUL3Q(Imm(uint64(4*rows)), step, step)
	ADDQ(step, next)
	Store(next, Param("a"))
	count := Load(Param("count"), GP64())
	DECQ(count)
	Store(count, Param("count"))
	JNZ(LabelRef("tile"))
	VZEROUPPER()
	RET()
}

// skip is the address behind so many packed columns.
func skip(panels Register, cols int) Register {
	size := Load(Param("k"), GP64())
	SHLQ(Imm(uint64(math.Ilogb(float64(4*cols)))), size)
	ADDQ(panels, size)
	return size
}

// eachRow runs do for each of the sums, with the address of its row, and moves
// the pointer on to the rows of the next tile.
func eachRow(pointer, ld string, acc []group, do func(v group, row Mem)) {
	row, step := Load(Param(pointer), GP64()), Load(Param(ld), GP64())
	SHLQ(Imm(2), step)
	for _, v := range acc {
		do(v, Mem{Base: row})
		ADDQ(step, row)
	}
	Store(row, Param(pointer))
}

// addresses are those of rows that begin at a pointer, a base register for
// every four.
func addresses(rows int, pointer, ld string) []Mem {
	base, step := Load(Param(pointer), GP64()), Load(Param(ld), GP64())
	SHLQ(Imm(2), step)
	step3 := GP64()
	LEAQ(Mem{Base: step, Index: step, Scale: 2}, step3)
	var out []Mem
	for {
		for _, m := range fourRows(base, step, step3) {
			if out = append(out, m); len(out) == rows {
				return out
			}
		}
		next := GP64()
		LEAQ(Mem{Base: base, Index: step, Scale: 4}, next)
		base = next
	}
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
	TEXT("packCols16", NOSPLIT, "func(k int, src *float32, ld int, dst *float32, ldd int)")
	Doc("packCols16 writes the first k columns of 16 rows that are ld floats apart to rows ldd floats apart.",
		"k must be a positive multiple of 4.")
	Pragma("noescape")
	k := Load(Param("k"), GP64())
	p := addresses(16, "src", "ld")
	dst := addresses(4, "dst", "ldd")
	Label("loop")
	for half := range 2 {
		lo, hi := p[8*half:], p[8*half+4:]
		var r [4]VecVirtual
		for i := range r {
			x := XMM()
			r[i] = YMM()
			VMOVUPS(lo[i], x)
			VINSERTF128(Imm(1), hi[i], x.AsY(), r[i])
		}
		for i, o := range transpose4(r, YMM) {
			VMOVUPS(o, dst[i].Offset(32*half))
		}
	}
	for i := 0; i < len(p); i += 4 {
		ADDQ(Imm(16), p[i].Base)
	}
	LEAQ(Mem{Base: dst[0].Base, Index: dst[1].Index, Scale: 4}, dst[0].Base)
	SUBQ(Imm(4), k)
	JNZ(LabelRef("loop"))
	VZEROUPPER()
	RET()
}
