package sampler

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/permafrost-ml/permafrost/source"
)

// Mixed declares that samples come from several splits, of each as many as its
// weight says: an epoch has as many samples as all of them together. Every
// split goes through permutations of its own, from epoch to epoch. See
// [source.Mixed].
type Mixed struct {
	// Weights are the splits by name, the one that is trained on among them,
	// with a weight above 0 each; their sum need not be 1.
	Weights map[string]float64 `json:"weights"`
}

// Type is "mixed".
func (Mixed) Type() string { return "mixed" }

// Params are the weights.
func (c Mixed) Params() map[string]any { return map[string]any{"weights": c.Weights} }

// Splits are the names of the weights, sorted.
func (c Mixed) Splits() []string { return slices.Sorted(maps.Keys(c.Weights)) }

// Columns are none.
func (Mixed) Columns() []string { return nil }

// Validate reports weights that are not above 0, their absence, and batches of
// sequential samples.
func (c Mixed) Validate(b Batching) error {
	if len(c.Weights) == 0 {
		return errors.New("weights: name the splits")
	}
	for _, name := range c.Splits() {
		if w := c.Weights[name]; !(w > 0) || math.IsInf(w, 1) {
			return fmt.Errorf("weights: that of %s is %v", name, w)
		}
	}
	if b.Sequential {
		return errOrder
	}
	return nil
}

// New returns the sampler of the rows of all splits. A split without a row that
// is sampled is an error.
func (c Mixed) New(b Batching, s Split) (source.Sampler, error) {
	var parts []source.Part
	end := int64(0)
	rest := s.Rows // in ascending order
	for _, p := range s.Parts {
		part := source.Part{Rows: p.Rows, Weight: c.Weights[p.Name]}
		if end += p.Rows; s.Rows != nil {
			n, _ := slices.BinarySearch(rest, end)
			part.Rows, rest = int64(n), rest[n:]
		}
		if part.Rows == 0 {
			return nil, fmt.Errorf("split %q has no row that is sampled", p.Name)
		}
		parts = append(parts, part)
	}
	order, err := source.Mixed(parts, b.Seed)
	if err != nil {
		return nil, err
	}
	return s.batches(b, order)
}
