package head

import "fmt"

// Step is one map of a head at inference, with a copy of its weights: a
// [Linear], [Activation], [Scale], [Softmax], [Norm] or [Route].
type Step interface{ step() }

// Linear is y = x·Wᵀ + b. The skip and the gate of a [SkipConnection] are
// folded into it.
type Linear struct {
	In, Out int
	Weight  []float32 // W [Out, In], row-major
	Bias    []float32 // b [Out]
}

// Activation is y = f(x), one of [Activations] but identity.
type Activation struct{ Name string }

// Scale is y = x ∘ By.
type Scale struct{ By []float32 }

// Softmax is the softmax of every group of neighbouring values.
type Softmax struct{ Groups, Size int }

// Norm is y = (x - mean(x))/√(var(x) + Eps) ∘ Weight + Bias.
type Norm struct {
	Weight, Bias []float32
	Eps          float64
}

// Route is the steps of the option that a row's object chose.
type Route struct {
	Names   []string // of the options, sorted
	Options [][]Step // in the order of Names
}

func (Linear) step()     {}
func (Activation) step() {}
func (Scale) step()      {}
func (Softmax) step()    {}
func (Norm) step()       {}
func (Route) step()      {}

// Steps returns what a head of this package computes at inference, for its
// export to other formats: no steps give the input itself. Their result is
// within rounding of what a [Frozen] gives.
func Steps(h Head) ([]Step, error) {
	d, ok := h.(interface{ steps() ([]Step, error) })
	if !ok {
		return nil, fmt.Errorf("a head of the type %T cannot be taken apart", h)
	}
	return d.steps()
}
