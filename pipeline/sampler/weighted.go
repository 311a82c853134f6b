package sampler

import (
	"errors"
	"fmt"
	"slices"

	"github.com/apache/arrow/go/v15/arrow/array"

	"github.com/permafrost-ml/permafrost/source"
)

// Weighted declares that samples are drawn with replacement, each with the
// probability of its weight over the sum of all: as many in an epoch as are
// sampled, some more than once, some not at all. See [source.Weighted].
type Weighted struct {
	// Column is a kept column of numbers, the weights: 0 or more, not all 0.
	// Default: none, then InverseFrequency is needed.
	Column string `json:"column"`
	// InverseFrequency is a column of texts or integers, such as label. The
	// weight of a row is 1 over the number of rows with an equal value, so that
	// all values come alike. Default: none, then Column is needed.
	InverseFrequency string `json:"inverse_frequency"`
}

// Type is "weighted".
func (Weighted) Type() string { return "weighted" }

// Params are column and inverse_frequency.
func (c Weighted) Params() map[string]any {
	return map[string]any{"column": c.Column, "inverse_frequency": c.InverseFrequency}
}

// Splits are none.
func (Weighted) Splits() []string { return nil }

// Columns are the one that is named.
func (c Weighted) Columns() []string {
	return slices.DeleteFunc([]string{c.Column, c.InverseFrequency}, func(name string) bool { return name == "" })
}

// Validate reports that not one of the columns is named, and batches of
// sequential samples.
func (c Weighted) Validate(b Batching) error {
	if (c.Column == "") == (c.InverseFrequency == "") {
		return errors.New("name a column of weights, or one for the inverse_frequency of its values")
	}
	if b.Sequential {
		return errOrder
	}
	return nil
}

// New returns the sampler. A column that is not there, or has other values, is
// an error.
func (c Weighted) New(b Batching, s Split) (source.Sampler, error) {
	weights, err := c.weights(s)
	if err != nil {
		return nil, err
	}
	order, err := source.Weighted(weights, b.Seed)
	if err != nil {
		return nil, fmt.Errorf("column %q: %w", c.Column, err)
	}
	return s.batches(b, order)
}

// weights returns those of the sampled rows.
func (c Weighted) weights(s Split) ([]float64, error) {
	out := make([]float64, s.sampled())
	if c.InverseFrequency != "" {
		numbers, names, err := s.classes(c.InverseFrequency)
		if err != nil {
			return nil, err
		}
		counts := make([]int, len(names))
		for i := range out {
			counts[numbers[s.row(int64(i))]]++
		}
		for i := range out {
			out[i] = 1 / float64(counts[numbers[s.row(int64(i))]])
		}
		return out, nil
	}
	col, err := s.Column(c.Column)
	if err != nil {
		return nil, err
	}
	var value func(i int) float64
	switch a := col.(type) {
	case *array.Float64:
		value = a.Value
	case *array.Float32:
		value = func(i int) float64 { return float64(a.Value(i)) }
	case *array.Int64:
		value = func(i int) float64 { return float64(a.Value(i)) }
	default:
		return nil, fmt.Errorf("column %q is of type %v, not of numbers", c.Column, col.DataType())
	}
	for i := range out {
		row := int(s.row(int64(i)))
		if col.IsNull(row) {
			return nil, fmt.Errorf("column %q has no value in row %d", c.Column, row)
		}
		out[i] = value(row)
	}
	return out, nil
}
