package train

import (
	"errors"
	"fmt"

	"github.com/permafrost-ml/permafrost/pipeline/train/nn"
)

// SGD declares stochastic gradient descent with momentum in the arithmetic
// of PyTorch's: with the gradient g of the weights w,
//
//	g ← g + weight_decay·w
//	v ← momentum·v + g          (v = g at the first step)
//	g ← g + momentum·v          (nesterov), else g ← v
//	w ← w - lr·g
//
// and without momentum w ← w - lr·g at once.
type SGD struct {
	// LR is the learning rate, above 0. Default: 0.001.
	LR float64 `json:"lr"`
	// Momentum is from 0 to less than 1. Default: 0.
	Momentum float64 `json:"momentum"`
	// Nesterov looks ahead along the velocity; it needs momentum.
	// Default: false.
	Nesterov bool `json:"nesterov"`
	// WeightDecay is the factor of the weights in their gradients, from 0.
	// Default: 0.
	WeightDecay float64 `json:"weight_decay"`
}

// Type is "sgd".
func (SGD) Type() string { return "sgd" }

// Params are lr, momentum, nesterov and weight_decay.
func (s SGD) Params() map[string]any {
	return map[string]any{"lr": s.Rate(), "momentum": s.Momentum, "nesterov": s.Nesterov, "weight_decay": s.WeightDecay}
}

// Rate is LR or its default.
func (s SGD) Rate() float64 {
	if s.LR == 0 {
		return 1e-3
	}
	return s.LR
}

// New returns SGD without a velocity yet. Options out of range are errors.
func (s SGD) New(params []nn.Param) (Stepper, error) {
	err := errors.Join(checkRate(s.Rate()), checkDecay(s.WeightDecay))
	if !(s.Momentum >= 0 && s.Momentum < 1) {
		err = errors.Join(err, fmt.Errorf("momentum is %v where a number from 0 up to, not including, 1 is needed", s.Momentum))
	}
	if s.Nesterov && s.Momentum == 0 {
		err = errors.Join(err, errors.New("nesterov needs momentum"))
	}
	if err != nil {
		return nil, err
	}
	o := &sgd{SGD: s, params: params}
	if s.Momentum > 0 {
		o.state.Moments = newMoments(params, "velocity")
	}
	return o, nil
}

type sgd struct {
	SGD
	params []nn.Param
	state  State
}

func (o *sgd) State() *State { return &o.state }

func (o *sgd) Step(rate float64) {
	c := nn.SGDStep{
		Rate: float32(rate), Decay: float32(o.WeightDecay),
		Momentum: float32(o.Momentum), Nesterov: o.Nesterov, First: o.state.Steps == 0,
	}
	o.state.Steps++
	for i, p := range o.params {
		var v []float32
		if len(o.state.Moments) > 0 {
			v = o.state.Moments[0].Values[i]
		}
		c.Apply(p.Values(), p.Grads(), v)
	}
}
