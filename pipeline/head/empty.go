package head

import "math/rand/v2"

// Empty declares the head that gives embeddings as they are:
//
//	y = drop(x)
//
// It has no parameters; it serves losses that have some, and as a baseline.
type Empty struct {
	// Dropout is the probability with which training zeroes a value of the
	// head's input; the others are scaled by 1/(1-Dropout). From 0 up to,
	// not including, 1. Default: 0.
	Dropout float64 `json:"dropout"`
}

// Type is "empty".
func (Empty) Type() string { return "empty" }

// Params is dropout.
func (c Empty) Params() map[string]any { return map[string]any{"dropout": c.Dropout} }

// New returns the head. A dropout outside [0, 1) is an error.
func (c Empty) New(in int, rng *rand.Rand) (Head, error) {
	h, err := newChain(in, c.Dropout, rng)
	if err != nil {
		return nil, err
	}
	return h, nil
}
