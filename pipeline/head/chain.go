package head

import (
	"fmt"
	"math/rand/v2"

	"gorgonia.org/tensor"

	"github.com/permafrost-ml/permafrost/pipeline/train/nn"
)

// stage is one map of a head, from rows of values to rows of values.
type stage interface {
	// out is the number of values of a row after it.
	out() int
	params() []Param
	// newStep returns what one pass keeps of the stage.
	newStep() step
	// freeze returns the stage for inference with a copy of its weights; nil
	// for one that does nothing there.
	freeze() frozenStage
	// describe is the stage as a [Step] with a copy of its weights; nil for
	// one that does nothing at inference.
	describe() Step
}

// step is a stage within a pass.
type step interface {
	// forward returns the output for x, which does not change until backward
	// has returned.
	forward(x nn.Mat) *nn.Buffer
	// backward takes the gradient of the last output, which it must not
	// change, adds those of the parameters and returns that of x; without
	// wantInput it may return nil.
	backward(dy nn.Mat, wantInput bool) *nn.Buffer
}

// chain is a head of stages, one after the other.
type chain struct {
	in     int
	stages []stage
}

// newChain checks what all heads have in common and begins their chain, with
// dropout if there is any.
func newChain(in int, p float64, rng *rand.Rand) (*chain, error) {
	if err := checkIn(in); err != nil {
		return nil, err
	}
	if err := checkDropout("dropout", p); err != nil {
		return nil, err
	}
	c := &chain{in: in}
	if p > 0 {
		c.add(dropoutStage{in, p, rng})
	}
	return c, nil
}

func (c *chain) add(s stage) { c.stages = append(c.stages, s) }

func (c *chain) In() int { return c.in }

func (c *chain) Out() int {
	if n := len(c.stages); n > 0 {
		return c.stages[n-1].out()
	}
	return c.in
}

func (c *chain) Parameters() (all []Param) {
	for _, s := range c.stages {
		all = append(all, s.params()...)
	}
	return all
}

func (c *chain) NewPass() Pass {
	p := &chainPass{chain: c}
	trained := false
	for _, s := range c.stages {
		p.steps = append(p.steps, s.newStep())
		p.trained = append(p.trained, trained)
		trained = trained || len(s.params()) > 0
	}
	return p
}

func (c *chain) steps() (steps []Step, err error) {
	for _, s := range c.stages {
		if d := s.describe(); d != nil {
			steps = append(steps, d)
		}
	}
	return steps, nil
}

type chainPass struct {
	chain   *chain
	steps   []step
	trained []bool // by step: one before it has parameters
	rows    int    // of the last Forward
}

func (p *chainPass) Forward(x *tensor.Dense) (*tensor.Dense, error) {
	m, err := nn.ViewCols(x, p.chain.in)
	if err != nil {
		return nil, err
	}
	p.rows = m.Rows
	for i, s := range p.steps {
		y := s.forward(m)
		m = y.Mat(m.Rows, p.chain.stages[i].out())
		x = y.Dense()
	}
	return x, nil
}

func (p *chainPass) Backward(dy *tensor.Dense, wantInput bool) (*tensor.Dense, error) {
	g, err := gradientView(dy, p.chain.Out(), p.rows)
	if err != nil {
		return nil, err
	}
	for i := len(p.steps) - 1; i >= 0; i-- {
		want := wantInput || p.trained[i]
		dx := p.steps[i].backward(g, want)
		if !want {
			return nil, nil
		}
		cols := p.chain.in
		if i > 0 {
			cols = p.chain.stages[i-1].out()
		}
		g = dx.Mat(g.Rows, cols)
		dy = dx.Dense()
	}
	if !wantInput {
		return nil, nil
	}
	return dy, nil
}

// gradientView checks the gradient of an output of rows by cols.
func gradientView(dy *tensor.Dense, cols, rows int) (nn.Mat, error) {
	g, err := nn.ViewCols(dy, cols)
	if err == nil && g.Rows != rows {
		err = fmt.Errorf("the gradient has %d rows, the output had %d", g.Rows, rows)
	}
	return g, err
}
