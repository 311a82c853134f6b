package loss

import (
	"errors"
	"math/rand/v2"
)

// MultipleNegativesRanking declares the loss in which every pair's second
// side is to be found among those of the whole batch (Henderson et al. 2017,
// "Efficient Natural Language Response Suggestion for Smart Reply"): with
// the logits
//
//	l[i,j] = Scale · s(a_i, b_j)
//
// it is the mean over i of logsumexp_j(l[i,j]) - l[i,i], the cross entropy
// of row i against its own column.
//
// Pairs known to be positive are no negatives: l[i,j], i ≠ j, is left out of
// every sum where the batch's ids say that a_i and a_j are one object (b_j
// then belongs to a_i too) or b_i and b_j are. All pairs must have the score
// 1; subgroups are not used. Memory: n² float32 for n pairs. [InfoNCE] is the
// same loss, for pairs of score 0 too.
type MultipleNegativesRanking struct {
	// Scale multiplies the similarities: an inverse temperature, above 0.
	// Default: 20.
	Scale float64 `json:"scale"`
	// Distance gives s. Default: [Cosine].
	Distance Distance `json:"distance"`
	// Symmetric takes the mean of that loss and the one with the sides
	// changed over. Default: false.
	Symmetric bool `json:"symmetric"`
	// XBM remembers pairs: the remembered second sides stand beside a pair's
	// own as more negatives, under the same rule for ids, and with Symmetric
	// the first sides as well. Default: nil (no memory).
	XBM *XBM `json:"xbm"`
	// Variant may be [VariantQuaterion]: the cosine's logits are then
	// Scale · (cos(a_i, b_j) + 1) / 2, half as steep, no pair is left out, and
	// there is no XBM. Default: "".
	Variant string `json:"variant"`
}

// Type is "multiple_negatives_ranking".
func (MultipleNegativesRanking) Type() string { return "multiple_negatives_ranking" }

// Kind is [Pairs].
func (MultipleNegativesRanking) Kind() Kind { return Pairs }

// Params are scale, distance, symmetric, xbm and variant.
func (c MultipleNegativesRanking) Params() map[string]any {
	return map[string]any{
		"scale": or(c.Scale, 20), "distance": or(c.Distance, Cosine), "symmetric": c.Symmetric,
		"xbm": c.XBM.params(), "variant": c.Variant,
	}
}

// New returns the loss. It has no parameters; classes and rng are not used.
func (c MultipleNegativesRanking) New(dim, _ int, _ *rand.Rand) (Loss, error) {
	scale := or(c.Scale, 20)
	own, err := quaterion(c.Variant)
	if err := errors.Join(err, above0("scale", scale), noMemory(own, c.XBM)); err != nil {
		return nil, err
	}
	r := &ranking{symmetric: c.Symmetric, blind: own, positive: true}
	return r.init(dim, or(c.Distance, Cosine), c.Variant, scale, c.XBM)
}
