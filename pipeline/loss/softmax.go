package loss

import "math/rand/v2"

// Softmax declares the loss of a linear classifier over the labels: with
// the logits
//
//	l = E · W / Temperature
//
// it is the mean over rows of logsumexp(l[i]) - l[i, label_i]. Embeddings
// are not normalised; ids are not used. Its own parameter "kernel"
// W [dim, classes] is first drawn from N(0, 0.01²) and trained with the head.
type Softmax struct {
	// Temperature divides the logits, above 0. Default: 0.05.
	Temperature float64 `json:"temperature"`
}

// Type is "softmax".
func (Softmax) Type() string { return "softmax" }

// Kind is [Groups].
func (Softmax) Kind() Kind { return Groups }

// Params is temperature.
func (c Softmax) Params() map[string]any {
	return map[string]any{"temperature": or(c.Temperature, 0.05)}
}

// New returns the loss with a fresh kernel.
func (c Softmax) New(dim, classes int, rng *rand.Rand) (Loss, error) {
	t := or(c.Temperature, 0.05)
	if err := above0("temperature", t); err != nil {
		return nil, err
	}
	return newClassifier(dim, classes, 1/t, nil, rng)
}
