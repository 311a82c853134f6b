package nn

import (
	"fmt"
	"math"

	"gorgonia.org/tensor"
)

// Param is one trained tensor of a head or a loss.
type Param struct {
	// Name is unique within its head or loss, such as "fc.0.weight". Files
	// of weights use it.
	Name string
	// Value is the tensor that optimizers change in place.
	Value *tensor.Dense
	// Grad has Value's shape. Backward passes add to it; the trainer clears
	// it before each step.
	Grad *tensor.Dense
}

// NewParam returns a parameter of zeros of the given shape.
func NewParam(name string, shape ...int) Param {
	return Param{Name: name, Value: zeros(shape), Grad: zeros(shape)}
}

func zeros(shape []int) *tensor.Dense {
	return tensor.New(tensor.Of(tensor.Float32), tensor.WithShape(shape...), withEngine)
}

// Values is the parameter's memory, in row-major order.
func (p Param) Values() []float32 { return p.Value.Float32s() }

// Grads is the gradient's memory, in row-major order.
func (p Param) Grads() []float32 { return p.Grad.Float32s() }

// ZeroGrads clears the gradients of all params.
func ZeroGrads(params []Param) {
	for _, p := range params {
		clear(p.Grads())
	}
}

// CheckFinite reports the first parameter that holds a NaN or an infinity.
func CheckFinite(params []Param) error {
	for _, p := range params {
		for i, v := range p.Values() {
			if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
				return fmt.Errorf("parameter %q is %v at value %d", p.Name, v, i)
			}
		}
	}
	return nil
}
