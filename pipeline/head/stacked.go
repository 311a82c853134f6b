package head

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
)

// StackedProjection declares the head of linear maps with an activation
// function f between them:
//
//	x ← drop(x)·W₀ᵀ + b₀,   x ← f(x)·Wᵢᵀ + bᵢ  for i = 1, 2, ...
//
// The parameters of map i are "_stack.i.weight" W [out, in] and
// "_stack.i.bias" b [out], both first drawn from U(-1/√in, 1/√in) as
// PyTorch's Linear does. Source: Quaterion's StackedProjectionHead.
type StackedProjection struct {
	// OutputSizes are the number of values after each map, from 1 up. At
	// least one is needed.
	OutputSizes []int `json:"output_sizes"`
	// Activation is f, one of [Activations]. Default: "relu".
	Activation string `json:"activation_fn"`
	// Dropout is the probability with which training zeroes a value of the
	// head's input; the others are scaled by 1/(1-Dropout). From 0 up to,
	// not including, 1. Default: 0.
	Dropout float64 `json:"dropout"`
}

// Type is "stacked_projection".
func (StackedProjection) Type() string { return "stacked_projection" }

// Params are output_sizes, activation_fn and dropout.
func (c StackedProjection) Params() map[string]any {
	return map[string]any{"output_sizes": append([]int{}, c.OutputSizes...), "activation_fn": activationOf(c.Activation), "dropout": c.Dropout}
}

func activationOf(name string) string {
	if name == "" {
		return relu
	}
	return name
}

// New returns the head. No output sizes, one below 1, an unknown activation
// function and a dropout outside [0, 1) are errors.
func (c StackedProjection) New(in int, rng *rand.Rand) (Head, error) {
	if len(c.OutputSizes) == 0 {
		return nil, errors.New("output_sizes: name the number of values after each map")
	}
	return stacked(in, c.OutputSizes, c.Activation, c.Dropout, rng)
}

// stacked is a head of linear maps.
func stacked(in int, sizes []int, activationFn string, p float64, rng *rand.Rand) (Head, error) {
	h, err := newChain(in, p, rng)
	if err != nil {
		return nil, err
	}
	f, err := findActivation(activationFn)
	if err != nil {
		return nil, err
	}
	for i, size := range sizes {
		if err := checkSize("output_sizes", size); err != nil {
			return nil, err
		}
		if i > 0 && f != identity {
			h.add(activation{f, h.Out()})
		}
		h.add(newLinear("_stack."+strconv.Itoa(i), h.Out(), size, rng))
	}
	return h, nil
}

// maxSize is the most values that a row of a head's output may have.
const maxSize = 1 << 20

func checkSize(name string, size int) error {
	if size < 1 || size > maxSize {
		return fmt.Errorf("%s: %d values are none from 1 to %d", name, size, maxSize)
	}
	return nil
}

// Widening declares the head of two linear maps, to more values and back:
//
//	y = f(drop(x)·W₀ᵀ + b₀)·W₁ᵀ + b₁
//
// Input and output have one dimension D, between them are
// int(D·ExpansionFactor) values. Parameters and their first values are those
// of [StackedProjection]. Source: Quaterion's WideningHead.
type Widening struct {
	// ExpansionFactor is how many times more values there are in the middle,
	// above 0. Default: 4.
	ExpansionFactor float64 `json:"expansion_factor"`
	// Activation is f, one of [Activations]. Default: "relu".
	Activation string `json:"activation_fn"`
	// Dropout is the probability with which training zeroes a value of the
	// head's input; the others are scaled by 1/(1-Dropout). From 0 up to,
	// not including, 1. Default: 0.
	Dropout float64 `json:"dropout"`
}

// Type is "widening".
func (Widening) Type() string { return "widening" }

// Params are expansion_factor, activation_fn and dropout.
func (c Widening) Params() map[string]any {
	return map[string]any{"expansion_factor": c.factor(), "activation_fn": activationOf(c.Activation), "dropout": c.Dropout}
}

func (c Widening) factor() float64 {
	if c.ExpansionFactor == 0 {
		return 4
	}
	return c.ExpansionFactor
}

// New returns the head. A factor that leaves no value, or more than 2^20, an
// unknown activation function and a dropout outside [0, 1) are errors.
func (c Widening) New(in int, rng *rand.Rand) (Head, error) {
	wide := c.factor() * float64(in)
	if in > 0 && !(wide >= 1 && wide <= maxSize) {
		return nil, fmt.Errorf("expansion_factor: %v makes %v values of %d, want from 1 to %d", c.factor(), wide, in, maxSize)
	}
	return stacked(in, []int{int(wide), in}, c.Activation, c.Dropout, rng)
}
