package loss

import "math/rand/v2"

// InfoNCE declares the loss in which every similar pair's second side is to be
// told from those of the whole batch (van den Oord et al. 2018,
// "Representation Learning with Contrastive Predictive Coding"; with
// Symmetric as in Radford et al. 2021, "CLIP"): with the logits
//
//	l[i,j] = s(a_i, b_j) / Temperature
//
// it is the mean over the pairs i of score 1 of logsumexp_j(l[i,j]) - l[i,i],
// 0 without one. Pairs of score 0 have no such term: their second sides are
// negatives of all others, and of their own first side wherever it comes
// again. Other scores are errors; subgroups are not used.
//
// l[i,j], i ≠ j, is left out of every sum where the batch's ids say that b_j
// is the object b_i, or that pair j has score 1 and a_j is the object a_i:
// b_j then belongs to a_i. Memory: n² float32 for n pairs.
type InfoNCE struct {
	// Temperature divides the similarities, above 0. Default: 0.05.
	Temperature float64 `json:"temperature"`
	// Distance gives s. Default: [Cosine].
	Distance Distance `json:"distance"`
	// Symmetric takes the mean of that loss and the one with the sides
	// changed over. Default: false.
	Symmetric bool `json:"symmetric"`
	// XBM remembers pairs of score 1: the remembered second sides stand
	// beside a pair's own as more negatives, under the same rule for ids, and
	// with Symmetric the first sides as well. Default: nil (no memory).
	XBM *XBM `json:"xbm"`
}

// Type is "info_nce".
func (InfoNCE) Type() string { return "info_nce" }

// Kind is [Pairs].
func (InfoNCE) Kind() Kind { return Pairs }

// Params are temperature, distance, symmetric and xbm.
func (c InfoNCE) Params() map[string]any {
	return map[string]any{
		"temperature": or(c.Temperature, 0.05), "distance": or(c.Distance, Cosine),
		"symmetric": c.Symmetric, "xbm": c.XBM.params(),
	}
}

// New returns the loss. It has no parameters; classes and rng are not used.
func (c InfoNCE) New(dim, _ int, _ *rand.Rand) (Loss, error) {
	t := or(c.Temperature, 0.05)
	if err := above0("temperature", t); err != nil {
		return nil, err
	}
	r := &ranking{symmetric: c.Symmetric}
	return r.init(dim, or(c.Distance, Cosine), "", 1/t, c.XBM)
}
