package sampler

import (
	"github.com/permafrost-ml/permafrost/internal/strictjson"
	"github.com/permafrost-ml/permafrost/source"
)

// NoDuplicates declares that no object comes twice in a batch: of pairs,
// neither on one side nor on both, so that the other rows of a batch are true
// negatives. Objects are equal if all encoders read the same of them. A sample
// with an object that the batch has already waits for a later one, so that the
// last batches of an epoch can be short; none is lost. The numbers of the
// objects take 8 bytes a row and side. See [source.Distinct], also for what
// going on in mid-epoch costs.
type NoDuplicates struct {
	// Of chooses the samples. Default: nil, every sample once in an epoch.
	Of Config
}

// Type is "no_duplicates".
func (NoDuplicates) Type() string { return "no_duplicates" }

// Params are what it is of.
func (c NoDuplicates) Params() map[string]any { return map[string]any{"of": Declared(c.Of)} }

// UnmarshalJSON takes what Params give.
func (c *NoDuplicates) UnmarshalJSON(b []byte) error {
	p, err := strictjson.Decode[struct {
		Of of `json:"of"`
	}](b)
	c.Of = p.Of.Config
	return err
}

// Splits are those of Of.
func (c NoDuplicates) Splits() []string { return splits(c.Of) }

// Columns are those of Of.
func (c NoDuplicates) Columns() []string { return columns(c.Of) }

// Validate reports options of Of.
func (c NoDuplicates) Validate(b Batching) error {
	b.Distinct = true
	return validate(c.Of, b)
}

// New returns the sampler of Of, in batches without equal objects.
func (c NoDuplicates) New(b Batching, s Split) (source.Sampler, error) {
	b.Distinct = true
	return New(c.Of, b, s)
}
