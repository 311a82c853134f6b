package head

import (
	"math/rand/v2"

	"gorgonia.org/tensor"

	"github.com/permafrost-ml/permafrost/pipeline/train/nn"
)

// Empty declares the head that gives embeddings as they are. It has no
// parameters; it serves losses that have some, and as a baseline.
type Empty struct{}

// Type is "empty".
func (Empty) Type() string { return "empty" }

// Params is empty: there are no options.
func (Empty) Params() map[string]any { return map[string]any{} }

// New returns the head. rng is not used.
func (Empty) New(in int, _ *rand.Rand) (Head, error) {
	if err := checkIn(in); err != nil {
		return nil, err
	}
	return empty{in}, nil
}

type empty struct{ dim int }

func (e empty) In() int           { return e.dim }
func (e empty) Out() int          { return e.dim }
func (empty) Parameters() []Param { return nil }
func (e empty) NewPass() Pass     { return e }
func (e empty) Freeze() Frozen    { return e }

// Forward returns x itself.
func (e empty) Forward(x *tensor.Dense) (*tensor.Dense, error) {
	_, err := nn.ViewCols(x, e.dim)
	return x, err
}

func (e empty) Backward(dy *tensor.Dense, wantInput bool) (*tensor.Dense, error) {
	if _, err := nn.ViewCols(dy, e.dim); err != nil || !wantInput {
		return nil, err
	}
	return dy, nil
}

func (e empty) Apply(dst, x *tensor.Dense) error {
	d, s, err := applyViews(dst, x, e.dim, e.dim)
	if err != nil {
		return err
	}
	copy(d.Data, s.Data)
	return nil
}
