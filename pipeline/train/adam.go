package train

import (
	"errors"
	"fmt"
	"math"

	"github.com/permafrost-ml/permafrost/internal/kernels"
	"github.com/permafrost-ml/permafrost/pipeline/train/nn"
)

// Adam declares Adam (Kingma and Ba 2015, algorithm 1, with bias
// correction) in the arithmetic of PyTorch's: epsilon is added after the
// correction, and there is no weight decay.
type Adam struct {
	// LR is the learning rate, above 0. Default: 0.001.
	LR float64 `json:"lr"`
	// Beta1 is the decay of the mean of gradients, from 0 to less than 1.
	// Default: 0.9.
	Beta1 float64 `json:"beta1"`
	// Beta2 is the decay of the mean of their squares. Default: 0.999.
	Beta2 float64 `json:"beta2"`
	// Eps keeps the division away from 0. Default: 1e-8.
	Eps float64 `json:"eps"`
}

// Type is "adam".
func (Adam) Type() string { return "adam" }

// Params are lr, beta1, beta2 and eps.
func (a Adam) Params() map[string]any {
	a = a.withDefaults()
	return map[string]any{"lr": a.LR, "beta1": a.Beta1, "beta2": a.Beta2, "eps": a.Eps}
}

// Rate is LR or its default.
func (a Adam) Rate() float64 { return a.withDefaults().LR }

func (a Adam) withDefaults() Adam {
	if a.LR == 0 {
		a.LR = 1e-3
	}
	if a.Beta1 == 0 {
		a.Beta1 = 0.9
	}
	if a.Beta2 == 0 {
		a.Beta2 = 0.999
	}
	if a.Eps == 0 {
		a.Eps = 1e-8
	}
	return a
}

// New returns Adam with moments of zero. Options out of range are errors.
func (a Adam) New(params []nn.Param) (Stepper, error) { return newAdam(a, 0, params) }

// AdamW declares Adam with decoupled weight decay (Loshchilov and Hutter
// 2019, algorithm 2) in the arithmetic of PyTorch's: before each step of Adam
// the weights are multiplied by 1 - lr·weight_decay.
type AdamW struct {
	// LR is the learning rate, above 0. Default: 0.001.
	LR float64 `json:"lr"`
	// Beta1, Beta2 and Eps are those of [Adam]. Default: 0.9, 0.999 and 1e-8.
	Beta1 float64 `json:"beta1"`
	Beta2 float64 `json:"beta2"`
	Eps   float64 `json:"eps"`
	// WeightDecay is from 0. Default: nil, 0.01.
	WeightDecay *float64 `json:"weight_decay"`
}

// Type is "adamw".
func (AdamW) Type() string { return "adamw" }

// Params are lr, beta1, beta2, eps and weight_decay.
func (a AdamW) Params() map[string]any {
	p := a.adam().Params()
	p["weight_decay"] = a.decay()
	return p
}

// Rate is LR or its default.
func (a AdamW) Rate() float64 { return a.adam().Rate() }

// New returns AdamW with moments of zero. Options out of range are errors.
func (a AdamW) New(params []nn.Param) (Stepper, error) {
	if err := checkDecay(a.decay()); err != nil {
		return nil, err
	}
	return newAdam(a.adam(), a.decay(), params)
}

func (a AdamW) adam() Adam { return Adam{LR: a.LR, Beta1: a.Beta1, Beta2: a.Beta2, Eps: a.Eps} }

func (a AdamW) decay() float64 {
	if a.WeightDecay == nil {
		return 0.01
	}
	return *a.WeightDecay
}

func newAdam(a Adam, decay float64, params []nn.Param) (Stepper, error) {
	a = a.withDefaults()
	err := checkRate(a.LR)
	if !(a.Beta1 > 0 && a.Beta1 < 1) || !(a.Beta2 > 0 && a.Beta2 < 1) {
		err = errors.Join(err, fmt.Errorf("beta1 and beta2 are %v and %v where numbers between 0 and 1 are needed", a.Beta1, a.Beta2))
	}
	if !(a.Eps > 0) || math.IsInf(a.Eps, 0) {
		err = errors.Join(err, fmt.Errorf("eps is %v where a number above 0 is needed", a.Eps))
	}
	if err != nil {
		return nil, err
	}
	return &adam{Adam: a, decay: decay, params: params, state: State{Moments: newMoments(params, "first", "second")}}, nil
}

type adam struct {
	Adam
	decay  float64
	params []nn.Param
	state  State // the means of gradients and of their squares
}

func (s *adam) State() *State { return &s.state }

func (s *adam) Step(rate float64) {
	s.state.Steps++
	t := float64(s.state.Steps)
	c := nn.AdamStep{
		Keep1: float32(s.Beta1), Add1: float32(1 - s.Beta1),
		Keep2: float32(s.Beta2), Add2: float32(1 - s.Beta2),
		Rate: float32(rate / (1 - math.Pow(s.Beta1, t))), Root: float32(math.Sqrt(1 - math.Pow(s.Beta2, t))), Eps: float32(s.Eps),
	}
	first, second := s.state.Moments[0].Values, s.state.Moments[1].Values
	for i, p := range s.params {
		if s.decay > 0 {
			kernels.Scale(float32(1-rate*s.decay), p.Values(), p.Values())
		}
		c.Apply(p.Values(), p.Grads(), first[i], second[i])
	}
}
