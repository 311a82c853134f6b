package loss

import (
	"errors"
	"fmt"
	"math/rand/v2"

	"github.com/permafrost-ml/permafrost/pipeline/train/nn"
)

// OnlineContrastive declares the contrastive loss of a batch's own pairs:
// positive ones of one label, negative ones of two. It is
//
//	½·mean d(p)² + ½·mean max(0, Margin - d(n))²
//
// over positive pairs p and negative pairs n (Hadsell et al. 2006,
// "Dimensionality Reduction by Learning an Invariant Mapping", with a mean of
// its own for each kind of pair, so that the many negative ones do not
// outweigh the others). Mining says which pairs: hard takes every sample's
// farthest positive and nearest negative, where it has one, all takes all. A
// mean of nothing is 0. Of equal distances the first sample's counts. Objects
// of one id form no pair. Memory: a table of n² values for n samples.
type OnlineContrastive struct {
	// Margin is the distance from which negatives are far enough, above 0.
	// Default: 0.5.
	Margin float64 `json:"margin"`
	// Distance is d, not [DotProduct], whose squares say nothing. Default:
	// [Cosine].
	Distance Distance `json:"distance"`
	// Mining is [MiningHard] or [MiningAll]. Default: hard.
	Mining string `json:"mining"`
	// XBM remembers earlier batches: samples form pairs with remembered ones.
	// Default: nil (no memory).
	XBM *XBM `json:"xbm"`
	// Variant may be [VariantQuaterion]: nothing is squared, the cosine's d
	// is half as large, ids are not looked at, every distance is allowed, and
	// a sample is a negative of itself, so that with hard the second mean is
	// Margin for all distances that are 0 there. hard divides the sum of
	// d(p) by the number of those that are not 0. There is no XBM. Default:
	// "".
	Variant string `json:"variant"`
}

// Type is "online_contrastive".
func (OnlineContrastive) Type() string { return "online_contrastive" }

// Kind is [Groups].
func (OnlineContrastive) Kind() Kind { return Groups }

// Params are margin, distance, mining, xbm and variant.
func (c OnlineContrastive) Params() map[string]any {
	d := c.filled()
	return map[string]any{"margin": d.Margin, "distance": d.Distance, "mining": d.Mining, "xbm": d.XBM.params(), "variant": d.Variant}
}

func (c OnlineContrastive) filled() OnlineContrastive {
	c.Margin, c.Distance, c.Mining = or(c.Margin, 0.5), or(c.Distance, Cosine), or(c.Mining, MiningHard)
	return c
}

// New returns the loss. It has no parameters; classes and rng are not used.
func (c OnlineContrastive) New(dim, _ int, _ *rand.Rand) (Loss, error) {
	c = c.filled()
	own, err := quaterion(c.Variant)
	err = errors.Join(err, above0("margin", c.Margin), c.Distance.check(), oneOf("mining", c.Mining, MiningHard, MiningAll), noMemory(own, c.XBM))
	if !own && c.Distance == DotProduct {
		err = errNotSquare
	}
	if err != nil {
		return nil, err
	}
	var r rule = &hardPairs{margin: c.Margin}
	switch {
	case c.Mining == MiningAll:
		r = &allPairs{margin: c.Margin, own: own}
	case own:
		r = &ownHardPairs{margin: c.Margin}
	}
	return newGrouped(r, distances(c.Distance, c.Variant), dim, c.XBM, own)
}

var errNotSquare = fmt.Errorf("distance: %s has no place in this loss, which squares distances", DotProduct)

// hardPairs are one positive and one negative pair of each sample.
type hardPairs struct {
	margin  float64
	hardest hardest
}

func (p *hardPairs) apply(m nn.Mat, r *relation, grad bool) (value, factor float64) {
	h := &p.hardest
	h.find(m, r)
	near, far, positives, negatives := 0.0, 0.0, 0, 0
	for i := range m.Rows {
		if h.positive[i] >= 0 {
			near += h.far[i] * h.far[i]
			positives++
		}
		if h.negative[i] >= 0 {
			v := max(0, p.margin-h.close[i])
			far += v * v
			negatives++
		}
	}
	value = 0.5*mean(near, positives) + 0.5*mean(far, negatives)
	if !grad {
		return value, 1
	}
	clear(m.Data)
	for i := range m.Rows {
		row := m.Row(i)
		if j := h.positive[i]; j >= 0 {
			row[j] = float32(h.far[i] / float64(positives))
		}
		if j := h.negative[i]; j >= 0 {
			row[j] = -float32(max(0, p.margin-h.close[i]) / float64(negatives))
		}
	}
	return value, 1
}

// mean is sum/n, 0 without any.
func mean(sum float64, n int) float64 {
	if n == 0 {
		return 0
	}
	return sum / float64(n)
}

// allPairs are all pairs of a batch; its own is Quaterion's.
type allPairs struct {
	margin    float64
	own       bool
	near, far []float64 // sums of each row's positives and negatives
	sizes     [2][]int
}

func (p *allPairs) apply(m nn.Mat, r *relation, grad bool) (value, factor float64) {
	n := m.Rows
	p.near, p.far, p.sizes[0], p.sizes[1] = fit(p.near, n), fit(p.far, n), fit(p.sizes[0], n), fit(p.sizes[1], n)
	nn.Parallel(n, 4*m.Cols, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			near, far, positives, negatives := 0.0, 0.0, 0, 0
			for j, d := range m.Row(i) {
				switch r.kind(i, j, p.own) {
				case positive:
					near += p.power(float64(d))
					positives++
				case negative:
					far += p.power(max(0, p.margin-float64(d)))
					negatives++
				}
			}
			p.near[i], p.far[i], p.sizes[0][i], p.sizes[1][i] = near, far, positives, negatives
		}
	})
	near, far, positives, negatives := 0.0, 0.0, 0, 0
	for i := range n {
		near, far = near+p.near[i], far+p.far[i]
		positives, negatives = positives+p.sizes[0][i], negatives+p.sizes[1][i]
	}
	value = 0.5*mean(near, positives) + 0.5*mean(far, negatives)
	if !grad {
		return value, 1
	}
	byNear, byFar := mean(0.5, positives), mean(0.5, negatives)
	nn.Parallel(n, 4*m.Cols, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			row := m.Row(i)
			for j, d := range row {
				g := 0.0
				switch v := float64(d); r.kind(i, j, p.own) {
				case positive:
					g = byNear * p.slope(v)
				case negative:
					if v < p.margin {
						g = -byFar * p.slope(p.margin-v)
					}
				}
				row[j] = float32(g)
			}
		}
	})
	return value, 1
}

// power is what a pair gives.
func (p *allPairs) power(v float64) float64 {
	if p.own {
		return v
	}
	return v * v
}

// slope is power's derivative.
func (p *allPairs) slope(v float64) float64 {
	if p.own {
		return 1
	}
	return 2 * v
}
