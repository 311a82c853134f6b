package main

import (
	"fmt"
	"math"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// The functions of maps.go, and the sums of exponentials in reduces.go, are
// written once for vectors of either width. A value takes the same operations
// in both, and so gets the same bits; a sum has the same order, because what
// AVX-512 does to one vector, AVX2 does to two.

// lanes is the number of floats in a vector of the path being generated: 8
// for AVX2, 16 for AVX-512.
var lanes int

// both generates a function for each path, with the path in its name.
func both(name string, f func(name string)) {
	for _, path := range []struct {
		lanes int
		name  string
	}{{8, "AVX2"}, {16, "AVX512"}} {
		lanes = path.lanes
		f(name + path.name)
	}
}

// group is vectors of consecutive values, for which instructions are emitted
// side by side: each of them takes 4 cycles, and two can begin in every cycle.
type group []VecVirtual

func vector() VecVirtual {
	if lanes == 16 {
		return ZMM()
	}
	return YMM()
}

// vectors returns that many uninitialized vectors.
func vectors(n int) group {
	g := make(group, n)
	for i := range g {
		g[i] = vector()
	}
	return g
}

// operand is a group, or a constant that stands for one.
type operand interface{ at(i int) Op }

func (g group) at(i int) Op { return g[i] }

// constant is a word in memory, as often as AVX2 needs it; AVX-512 needs it
// once.
type constant Mem

func (c constant) at(int) Op { return Mem(c) }

var constants = map[uint32]constant{}

func word(v uint32) constant {
	c, ok := constants[v]
	if !ok {
		c = constant(GLOBL(fmt.Sprintf("w%08x", v), 8|16)) // RODATA|NOPTR
		for i := range 8 {
			DATA(4*i, U32(v))
		}
		constants[v] = c
	}
	return c
}

func float(v float32) constant { return word(math.Float32bits(v)) }

// load is a group of the size of g, all of it c, to be overwritten.
func (c constant) load(g group) group {
	out := c.spread(g)
	for i := 1; i < len(out); i++ {
		v := vector()
		VMOVAPS(out[0], v)
		out[i] = v
	}
	return out
}

// spread is a group of the size of g that is c in one vector.
func (c constant) spread(g group) group {
	v, out := vector(), make(group, len(g))
	if lanes == 16 {
		VBROADCASTSS(Mem(c), v)
	} else {
		VMOVUPS(Mem(c), v)
	}
	for i := range out {
		out[i] = v
	}
	return out
}

// instruction is one with a form that broadcasts a word from memory.
type instruction struct{ plain, broadcast func(...Op) }

var (
	addPS  = instruction{VADDPS, VADDPS_BCST}
	subPS  = instruction{VSUBPS, VSUBPS_BCST}
	mulPS  = instruction{VMULPS, VMULPS_BCST}
	divPS  = instruction{VDIVPS, VDIVPS_BCST}
	minPS  = instruction{VMINPS, VMINPS_BCST}
	maxPS  = instruction{VMAXPS, VMAXPS_BCST}
	andPS  = instruction{VANDPS, VANDPS_BCST}
	orPS   = instruction{VORPS, VORPS_BCST}
	fma213 = instruction{VFMADD213PS, VFMADD213PS_BCST}
	fma231 = instruction{VFMADD231PS, VFMADD231PS_BCST}
	fms231 = instruction{VFMSUB231PS, VFMSUB231PS_BCST}
	fnm231 = instruction{VFNMADD231PS, VFNMADD231PS_BCST}
	addD   = instruction{VPADDD, VPADDD_BCST}
	minU   = instruction{VPMINUD, VPMINUD_BCST}
	subD   = instruction{VPSUBD, VPSUBD_BCST}
)

// emit gives an instruction its operands, the last of which it writes.
func (in instruction) emit(first Op, rest ...Op) {
	form := in.plain
	if _, ok := first.(Mem); ok && lanes == 16 {
		form = in.broadcast
	}
	form(append([]Op{first}, rest...)...)
}

// two is a new group of an instruction's results; only y may be in memory.
func two(in instruction, x group, y operand) group {
	out, y := vectors(len(x)), near(x, y)
	for i := range out {
		in.emit(y.at(i), x[i], out[i])
	}
	return out
}

func add(x group, y operand) group    { return two(addPS, x, y) }
func sub(x group, y operand) group    { return two(subPS, x, y) }
func mul(x group, y operand) group    { return two(mulPS, x, y) }
func div(x group, y operand) group    { return two(divPS, x, y) }
func and(x group, y operand) group    { return two(andPS, x, y) }
func or(x group, y operand) group     { return two(orPS, x, y) }
func addInt(x group, y operand) group { return two(addD, x, y) }
func subInt(x group, y operand) group { return two(subD, x, y) }

// atMost and atLeast bound x and let NaN pass.
func atMost(v float32, x group) group  { return two(minPS, float(v).spread(x), x) }
func atLeast(v float32, x group) group { return two(maxPS, float(v).spread(x), x) }

func shiftLeft(x group, bits uint64) group {
	out := vectors(len(x))
	for i := range out {
		VPSLLD(Imm(bits), x[i], out[i])
	}
	return out
}

func halve(x group) group {
	out := vectors(len(x))
	for i := range out {
		VPSRAD(Imm(1), x[i], out[i])
	}
	return out
}

// These three update s with one rounding: to s + x·y, s - x·y and s·x + y.
func plusProduct(s, x group, y operand)  { three(fma231, s, x, y) }
func minusProduct(s, x group, y operand) { three(fnm231, s, x, y) }
func timesPlus(s, x group, y operand)    { three(fma213, s, x, y) }

func three(in instruction, s, x group, y operand) {
	y = near(x, y)
	for i := range s {
		in.emit(y.at(i), x[i], s[i])
	}
}

// near brings a constant into a vector if it is used more than once. With AVX2,
// loading it again and again would take longer than the arithmetic.
func near(x group, y operand) operand {
	if c, ok := y.(constant); ok && lanes == 8 && len(x) > 1 {
		return c.spread(x)
	}
	return y
}

func clone(x group) group {
	out := vectors(len(x))
	for i := range out {
		VMOVAPS(x[i], out[i])
	}
	return out
}

// polynomial is one with these coefficients, the constant first.
type polynomial struct {
	x group
	c []float32
}

// evaluate takes polynomials step by step together, which hides the time that
// each step takes. Constants stay in memory where all registers are taken.
func evaluate(ps ...polynomial) []group {
	out, longest, registers := make([]group, len(ps)), 0, 0
	for i, p := range ps {
		longest, registers = max(longest, len(p.c)), registers+2*len(p.x)
		out[i] = float(p.c[len(p.c)-1]).load(p.x)
	}
	for step := 2; step <= longest; step++ {
		for i, p := range ps {
			if at := len(p.c) - step; at >= 0 {
				if c := float(p.c[at]); registers < 16 {
					timesPlus(out[i], p.x, c)
				} else {
					for j := range out[i] {
						fma213.emit(c.at(j), p.x[j], out[i][j])
					}
				}
			}
		}
	}
	return out
}

func poly(x group, c ...float32) group { return evaluate(polynomial{x, c})[0] }

// parked is a group in the stack frame.
type parked []Mem

func (p parked) at(i int) Op { return p[i] }

// park makes room in registers with AVX2, which has half of them.
func (g group) park() operand {
	if lanes == 16 {
		return g
	}
	p := make(parked, len(g))
	for i := range g {
		p[i] = AllocLocal(32)
		VMOVUPS(g[i], p[i])
	}
	return p
}

// condition is a choice per lane: the mask registers of AVX-512, or vectors.
type condition []Op

func newCondition(n int) condition {
	c := make(condition, n)
	for i := range c {
		if c[i] = YMM(); lanes == 16 {
			c[i] = K()
		}
	}
	return c
}

// below is x < c.
func below(x group, c constant) condition {
	y, out := near(x, c), newCondition(len(x))
	for i := range x {
		if m, ok := y.at(i).(Mem); ok && lanes == 16 {
			VCMPPS_BCST(Imm(1), m, x[i], out[i])
		} else {
			VCMPPS(Imm(1), y.at(i), x[i], out[i])
		}
	}
	return out
}

// above is x > c for integers, and so for floats without a sign; there, NaN is
// above infinity.
func above(x group, c constant) condition {
	y, out := near(x, c), newCondition(len(x))
	for i := range x {
		instruction{VPCMPGTD, VPCMPGTD_BCST}.emit(y.at(i), x[i], out[i])
	}
	return out
}

// choose replaces the lanes of no with those of yes where c holds.
func choose(c condition, yes, no group) {
	for i := range no {
		if lanes == 16 {
			VMOVAPS(yes[i], c[i], no[i])
		} else {
			VBLENDVPS(c[i], yes[i], no[i], no[i])
		}
	}
}

// any is a register that is 0 if a condition holds nowhere; it is lost.
func (c condition) any() Register {
	for i := 1; i < len(c); i++ {
		if lanes == 16 {
			KORW(c[i], c[0], c[0])
		} else {
			VORPS(c[i], c[0], c[0])
		}
	}
	flags := GP32()
	if lanes == 16 {
		KMOVW(c[0], flags)
	} else {
		VMOVMSKPS(c[0], flags)
	}
	return flags
}

// loadGroup reads that many vectors.
func loadGroup(count int, from Mem) group {
	g := vectors(count)
	for i, v := range g {
		VMOVUPS(from.Offset(4*lanes*i), v)
	}
	return g
}

func (g group) store(to Mem) {
	for i, v := range g {
		VMOVUPS(v, to.Offset(4*lanes*i))
	}
}

// prefix is the first n of 16 values, n less than 17. Its masks are loaded
// where they are needed, which is less than registers cost.
type prefix struct{ masks Mem }

// first makes a prefix; n is lost.
func first(n Register) prefix {
	p := GP64()
	LEAQ(maskTable(), p)
	SHLQ(Imm(2), n)
	SUBQ(n, p)
	return prefix{Mem{Base: p, Disp: 64}}
}

func (p prefix) condition() condition {
	out := make(condition, 16/lanes)
	for i := range out {
		v := vector()
		VMOVUPS(p.masks.Offset(4*lanes*i), v)
		if out[i] = v; lanes == 16 {
			out[i] = K()
			VPMOVD2M(v, out[i])
		}
	}
	return out
}

// load reads the values and makes others 0.
func (p prefix) load(from Mem) group {
	c := p.condition()
	g := vectors(len(c))
	for i, v := range g {
		if m := from.Offset(4 * lanes * i); lanes == 16 {
			VMOVUPS_Z(m, c[i], v)
		} else {
			VMASKMOVPS(m, c[i], v)
		}
	}
	return g
}

func (p prefix) store(g group, to Mem) {
	c := p.condition()
	for i, v := range g {
		if m := to.Offset(4 * lanes * i); lanes == 16 {
			VMOVUPS(v, c[i], m)
		} else {
			VMASKMOVPS(v, c[i], m)
		}
	}
}

// clear makes the others 0.
func (p prefix) clear(g group) {
	c := p.condition()
	for i, v := range g {
		if lanes == 16 {
			VMOVAPS_Z(v, c[i], v)
		} else {
			VANDPS(c[i], v, v)
		}
	}
}

var masks Mem

// maskTable is 16 words of ones, and 16 of zeros.
func maskTable() Mem {
	if masks.Base == nil {
		masks = GLOBL("masks", 8|16)
		for i := range 32 {
			v := uint32(0)
			if i < 16 {
				v = math.MaxUint32
			}
			DATA(4*i, U32(v))
		}
	}
	return masks
}

// begin starts a function and loads its pointers.
func begin(name, signature, doc string, pointers ...string) (n Register, p []Register) {
	TEXT(name, NOSPLIT, signature)
	Doc(name + " " + doc)
	Pragma("noescape")
	n = Load(Param("n"), GP64())
	for _, name := range pointers {
		p = append(p, Load(Param(name), GP64()))
	}
	return n, p
}

// parameter is a float of the signature in all lanes of count vectors, which
// are one.
func parameter(name string, count int) group {
	a, err := Param(name).Resolve()
	if err != nil {
		panic(err)
	}
	v, g := vector(), make(group, count)
	VBROADCASTSS(a.Addr, v)
	for i := range g {
		g[i] = v
	}
	return g
}

// by runs body for each full group of width values.
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

// rest runs body for what is left, up to 16 values at a time, so that it is
// generated once.
func rest(n Register, p []Register, body func(some prefix)) {
	TESTQ(n, n)
	JZ(LabelRef("done"))
	Label("rest")
	count := GP64()
	MOVQ(n, count)
	CMPQ(count, Imm(16))
	JLE(LabelRef("some"))
	MOVQ(U32(16), count)
	Label("some")
	body(first(count))
	for _, r := range p {
		ADDQ(Imm(64), r)
	}
	SUBQ(Imm(16), n)
	JG(LabelRef("rest"))
	Label("done")
}
