package head

import (
	"fmt"
	"math/rand/v2"

	"github.com/permafrost-ml/permafrost/pipeline/train/nn"
)

// dropout zeroes values with a probability and scales the others by
// 1/(1-probability). Its zero value is ready; it keeps the mask of the last
// forward.
type dropout struct {
	mask nn.Buffer // 0 or the scale
	last nn.Mat
	out  nn.Buffer
}

// forward returns x itself where p is 0. Masks are drawn in row-major order,
// half a random word a value.
func (d *dropout) forward(x nn.Mat, p float64, rng *rand.Rand) nn.Mat {
	d.last = nn.Mat{}
	if p == 0 {
		return x
	}
	d.last = d.mask.Mat(x.Rows, x.Cols)
	y := d.out.Mat(x.Rows, x.Cols)
	limit, scale := uint32(p*(1<<32)), float32(1/(1-p))
	var word uint64
	for i, v := range x.Data {
		if i%2 == 0 {
			word = rng.Uint64()
		}
		m := scale
		if uint32(word) < limit {
			m = 0
		}
		word >>= 32
		d.last.Data[i], y.Data[i] = m, v*m
	}
	return y
}

// backward masks the gradient g of the last forward's result and writes it
// to dst, which may be g.
func (d *dropout) backward(dst, g nn.Mat) {
	for i, m := range d.last.Data {
		dst.Data[i] = g.Data[i] * m
	}
}

func checkDropout(name string, p float64) error {
	if !(p >= 0 && p < 1) {
		return fmt.Errorf("%s is %v where a probability from 0 up to, not including, 1 is needed", name, p)
	}
	return nil
}

// dropoutStage is the dropout of a head's input.
type dropoutStage struct {
	dim int
	p   float64
	rng *rand.Rand
}

func (s dropoutStage) out() int          { return s.dim }
func (dropoutStage) params() []Param     { return nil }
func (s dropoutStage) newStep() step     { return &dropoutStep{stage: s} }
func (dropoutStage) freeze() frozenStage { return nil }
func (dropoutStage) describe() Step      { return nil }

type dropoutStep struct {
	stage dropoutStage
	drop  dropout
	dx    nn.Buffer
}

func (s *dropoutStep) forward(x nn.Mat) *nn.Buffer {
	s.drop.forward(x, s.stage.p, s.stage.rng)
	return &s.drop.out
}

func (s *dropoutStep) backward(dy nn.Mat, wantInput bool) *nn.Buffer {
	if !wantInput {
		return nil
	}
	s.drop.backward(s.dx.Mat(dy.Rows, dy.Cols), dy)
	return &s.dx
}
