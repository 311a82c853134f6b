package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

func init() { sets["training"] = training }

// training generates steps of training that would else take several passes
// over memory. Every operation is rounded by itself, as Go's operators do.
func training() {
	adamAVX2()
	gatedAddAVX2()
	gatedBackAVX2()
}

// form is the instructions of a function for vectors of 8 values, or for
// single ones. Subtraction and division have the second operand first.
type form struct {
	register                 func() VecVirtual
	move, add, sub, mul, div func(...Op)
}

var (
	eightValues = form{YMM, VMOVUPS, VADDPS, VSUBPS, VMULPS, VDIVPS}
	oneValue    = form{XMM, VMOVSS, VADDSS, VSUBSS, VMULSS, VDIVSS}
)

func (f form) load(from Op) VecVirtual {
	v := f.register()
	f.move(from, v)
	return v
}

// constant is a parameter that was loaded into all lanes.
func (f form) constant(v VecVirtual) Op {
	if f.register().Size() < 32 {
		return v.AsX()
	}
	return v
}

func (f form) root(v VecVirtual) {
	if v.Size() == 32 {
		VSQRTPS(v, v)
	} else {
		VSQRTSS(v, v, v)
	}
}

// forms generates body for vectors and for single values.
func forms(n Register, pointers []Register, body func(f form, at int)) {
	eachValue(n, pointers, func(at int) { body(eightValues, at) }, func() { body(oneValue, 0) })
}

func adamAVX2() {
	lanes = 8
	n, p := begin("adamAVX2", "func(n int, step, w, grad, m, v *float32)",
		"does a step of Adam for n weights w of gradients grad and moments m and v. step is the fields of AdamStep.", "step", "w", "grad", "m", "v")
	step, w, g, m, v := p[0], p[1], p[2], p[3], p[4]
	numbers := make([]VecVirtual, 7)
	for i := range numbers {
		numbers[i] = YMM()
		VBROADCASTSS(Mem{Base: step, Disp: 4 * i}, numbers[i])
	}
	forms(n, []Register{w, g, m, v}, func(f form, at int) {
		c := func(i int) Op { return f.constant(numbers[i]) }
		d := f.load(Mem{Base: g, Disp: at})
		first, second := f.load(Mem{Base: m, Disp: at}), f.load(Mem{Base: v, Disp: at})
		part := f.register()
		f.mul(c(0), first, first)
		f.mul(c(1), d, part)
		f.add(part, first, first)
		f.move(first, Mem{Base: m, Disp: at})
		f.mul(c(2), second, second)
		f.mul(c(3), d, part)
		f.mul(d, part, part)
		f.add(part, second, second)
		f.move(second, Mem{Base: v, Disp: at})
		f.root(second)
		f.div(c(5), second, second)
		f.add(c(6), second, second)
		f.mul(c(4), first, first)
		f.div(second, first, first)
		value := f.load(Mem{Base: w, Disp: at})
		f.sub(first, value, value)
		f.move(value, Mem{Base: w, Disp: at})
	})
}

func gatedAddAVX2() {
	n, p := begin("gatedAddAVX2", "func(n int, x, z, bias, gate, y *float32)",
		"adds bias to n values of z and writes z·gate + x to y.", "x", "z", "bias", "gate", "y")
	x, z, bias, gate, y := p[0], p[1], p[2], p[3], p[4]
	forms(n, p, func(f form, at int) {
		v := f.load(Mem{Base: z, Disp: at})
		f.add(Mem{Base: bias, Disp: at}, v, v)
		f.move(v, Mem{Base: z, Disp: at})
		f.mul(Mem{Base: gate, Disp: at}, v, v)
		f.add(Mem{Base: x, Disp: at}, v, v)
		f.move(v, Mem{Base: y, Disp: at})
	})
}

func gatedBackAVX2() {
	n, p := begin("gatedBackAVX2", "func(n int, dy, z, gate, dz *float32, sums, gateSums *float64)",
		"writes dy·gate of n values to dz and adds that to sums, and that times z to gateSums.",
		"dy", "z", "gate", "dz", "sums", "gateSums")
	dy, z, gate, dz := p[0], p[1], p[2], p[3]
	// Sums are twice as wide, and so their pointers move on twice.
	forms(n, append(p, p[4:]...), func(f form, at int) {
		v := f.load(Mem{Base: dy, Disp: at})
		f.mul(Mem{Base: gate, Disp: at}, v, v)
		f.move(v, Mem{Base: dz, Disp: at})
		byZ := f.register()
		f.mul(Mem{Base: z, Disp: at}, v, byZ)
		for i, part := range []VecVirtual{v, byZ} {
			to := Mem{Base: p[4+i], Disp: 2 * at}
			if part.Size() < 32 {
				VCVTSS2SD(part, part, part)
				VADDSD(to, part, part)
				VMOVSD(part, to)
				continue
			}
			low, high := YMM(), YMM()
			VCVTPS2PD(part.AsX(), low)
			VEXTRACTF128(Imm(1), part, high.AsX())
			VCVTPS2PD(high.AsX(), high)
			VADDPD(to, low, low)
			VADDPD(to.Offset(32), high, high)
			VMOVUPD(low, to)
			VMOVUPD(high, to.Offset(32))
		}
	})
}
