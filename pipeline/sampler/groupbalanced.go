package sampler

import (
	"cmp"
	"errors"
	"fmt"

	"github.com/permafrost-ml/permafrost/source"
)

// GroupBalanced declares batches of so many samples of each of so many groups,
// whatever size the groups have; training's batch size has no say. A group
// with fewer samples gives them more than once. See [source.GroupBalanced] for
// the order in which groups and samples come, and for what an epoch is.
type GroupBalanced struct {
	// Groups is the number of groups in a batch. The split must have as many.
	// Default: 16.
	Groups int `json:"groups"`
	// Samples is the number of samples of each group. Default: 4.
	Samples int `json:"samples"`
	// Column says which rows are one group: those with equal values of this
	// column, of texts or integers. Default: label.
	Column string `json:"column"`
}

// Type is "group_balanced".
func (GroupBalanced) Type() string { return "group_balanced" }

func (c GroupBalanced) withDefaults() GroupBalanced {
	return GroupBalanced{Groups: cmp.Or(c.Groups, 16), Samples: cmp.Or(c.Samples, 4), Column: cmp.Or(c.Column, "label")}
}

// Params are groups, samples and column.
func (c GroupBalanced) Params() map[string]any {
	c = c.withDefaults()
	return map[string]any{"groups": c.Groups, "samples": c.Samples, "column": c.Column}
}

// Splits are none.
func (GroupBalanced) Splits() []string { return nil }

// Columns are the one of the groups.
func (c GroupBalanced) Columns() []string { return []string{c.withDefaults().Column} }

// Validate reports a negative number and batches of distinct or sequential
// samples.
func (c GroupBalanced) Validate(b Batching) error {
	switch {
	case c.Groups < 0 || c.Samples < 0:
		return fmt.Errorf("groups is %d and samples is %d", c.Groups, c.Samples)
	case b.Distinct:
		return errors.New("it has samples of few groups, and again those of small ones: it does not go with no_duplicates")
	case b.Sequential:
		return errOrder
	}
	return nil
}

// New returns the sampler. A column that is not there, or has other values,
// and fewer groups than a batch has are errors.
func (c GroupBalanced) New(b Batching, s Split) (source.Sampler, error) {
	c = c.withDefaults()
	groups, _, err := s.classes(c.Column)
	if err != nil {
		return nil, err
	}
	return source.GroupBalanced(groups, s.Rows, source.GroupOptions{Groups: c.Groups, Samples: c.Samples, Seed: b.Seed})
}
