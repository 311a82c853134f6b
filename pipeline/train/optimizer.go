package train

import (
	"fmt"
	"math"

	"github.com/permafrost-ml/permafrost/pipeline/train/nn"
)

// Optimizer declares how gradients change weights. Its zero value is valid,
// and every option's zero value is its default.
type Optimizer interface {
	// Type is the optimizer's name in configuration files.
	Type() string
	// Params are the options with defaults filled in, under their names in
	// configuration files.
	Params() map[string]any
	// New returns the optimizer for params, with fresh state.
	New(params []nn.Param) (Stepper, error)
}

// Stepper changes the values of parameters by their gradients.
type Stepper interface {
	// Step makes one step. It reads the gradients and does not clear them.
	Step()
}

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
func (a Adam) New(params []nn.Param) (Stepper, error) {
	a = a.withDefaults()
	switch {
	case !(a.LR > 0) || math.IsInf(a.LR, 0):
		return nil, fmt.Errorf("lr is %v where a number above 0 is needed", a.LR)
	case !(a.Beta1 > 0 && a.Beta1 < 1) || !(a.Beta2 > 0 && a.Beta2 < 1):
		return nil, fmt.Errorf("beta1 and beta2 are %v and %v where numbers between 0 and 1 are needed", a.Beta1, a.Beta2)
	case !(a.Eps > 0) || math.IsInf(a.Eps, 0):
		return nil, fmt.Errorf("eps is %v where a number above 0 is needed", a.Eps)
	}
	s := &adam{Adam: a, params: params, pow1: 1, pow2: 1}
	for _, p := range params {
		n := len(p.Values())
		s.first = append(s.first, make([]float32, n))
		s.second = append(s.second, make([]float32, n))
	}
	return s, nil
}

type adam struct {
	Adam
	params        []nn.Param
	first, second [][]float32 // the moments of each parameter
	pow1, pow2    float64     // Beta1 and Beta2 to the power of steps done
}

func (s *adam) Step() {
	s.pow1 *= s.Beta1
	s.pow2 *= s.Beta2
	c := nn.AdamStep{
		Keep1: float32(s.Beta1), Add1: float32(1 - s.Beta1),
		Keep2: float32(s.Beta2), Add2: float32(1 - s.Beta2),
		Rate: float32(s.LR / (1 - s.pow1)), Root: float32(math.Sqrt(1 - s.pow2)), Eps: float32(s.Eps),
	}
	for i, p := range s.params {
		c.Apply(p.Values(), p.Grads(), s.first[i], s.second[i])
	}
}
