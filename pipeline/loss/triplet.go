package loss

import (
	"errors"
	"math/rand/v2"
)

// Triplet declares the loss that wants an anchor a nearer to a positive p, of
// its label, than to a negative n, of another: with
//
//	t(a, p, n) = max(0, d(a, p) - d(a, n) + Margin)
//
// or, with Soft, log(1 + exp(d(a, p) - d(a, n))), it is the mean of t over the
// triplets that Mining chooses:
//
//   - hard: one for every anchor that has a positive and a negative, the
//     farthest and the nearest (Hermans et al. 2017, "In Defense of the Triplet
//     Loss for Person Re-Identification", batch hard);
//   - all: all of those above 0 (the same, batch all without zeros), and all
//     at all with Soft;
//   - semi_hard: one for every anchor and positive, with the nearest negative
//     that is farther than the positive, or the farthest of all if none is
//     (Schroff et al. 2015, "FaceNet", 3.2).
//
// Without a triplet it is 0. Of equal distances the first sample's counts, and
// t has the gradient 0 where it is 0. Objects of one id form no pair. Memory:
// a table of n² values for n samples. Time: a product of matrices, and for
// all with Soft every triplet, up to n³/4 of them.
type Triplet struct {
	// Margin is the least difference that is wanted, above 0. Default: 0.5.
	Margin float64 `json:"margin"`
	// Distance is d. Default: [Cosine].
	Distance Distance `json:"distance"`
	// Mining is [MiningHard], [MiningAll] or [MiningSemiHard]. Default:
	// hard.
	Mining string `json:"mining"`
	// Soft replaces the margin by a smooth one. Default: false.
	Soft bool `json:"soft"`
	// XBM remembers earlier batches: anchors against remembered positives
	// and negatives. Default: nil (no memory).
	XBM *XBM `json:"xbm"`
	// Variant may be [VariantQuaterion]. The cosine's d is then half as
	// large, and ids are not looked at. hard takes all anchors, with a
	// positive's distance of 0 where there is none, and divides d(a, p) -
	// d(a, n) by the batch's mean of d(a, n). semi_hard is the mean of
	// min(t, Margin) over all positive pairs, those of a sample with itself
	// too, with all negative pairs, whatever their anchors; in a batch without
	// one of them it is 0 (Quaterion's is NaN). Soft counts for hard alone,
	// and with all a memory counts nothing. Default: "".
	Variant string `json:"variant"`
}

// Type is "triplet".
func (Triplet) Type() string { return "triplet" }

// Kind is [Groups].
func (Triplet) Kind() Kind { return Groups }

// Params are margin, distance, mining, soft, xbm and variant.
func (c Triplet) Params() map[string]any {
	d := c.filled()
	return map[string]any{
		"margin": d.Margin, "distance": d.Distance, "mining": d.Mining, "soft": d.Soft,
		"xbm": d.XBM.params(), "variant": d.Variant,
	}
}

func (c Triplet) filled() Triplet {
	c.Margin, c.Distance, c.Mining = or(c.Margin, 0.5), or(c.Distance, Cosine), or(c.Mining, MiningHard)
	return c
}

// New returns the loss. It has no parameters; classes and rng are not used.
func (c Triplet) New(dim, _ int, _ *rand.Rand) (Loss, error) {
	c = c.filled()
	own, err := quaterion(c.Variant)
	if err := errors.Join(err, above0("margin", c.Margin), c.Distance.check(), oneOf("mining", c.Mining, MiningHard, MiningAll, MiningSemiHard)); err != nil {
		return nil, err
	}
	t := &triplets{margin: c.Margin, soft: c.Soft}
	var r rule
	switch {
	case c.Mining == MiningAll:
		t.soft = c.Soft && !own
		r = allTriplets{t}
	case c.Mining == MiningHard && own:
		r = &scaledTriplets{triplets: t}
	case c.Mining == MiningHard:
		r = hardTriplets{t}
	case own:
		r = &clampedTriplets{triplets: t}
	default:
		r = semiHardTriplets{t}
	}
	g, err := newGrouped(r, distances(c.Distance, c.Variant), dim, c.XBM, own)
	if err != nil {
		return nil, err
	}
	if own && c.Mining == MiningAll {
		g.memory = nil
	}
	return g, nil
}
