package loss

import (
	"errors"
	"math"
	"math/rand/v2"

	"github.com/permafrost-ml/permafrost/internal/kernels"
	"github.com/permafrost-ml/permafrost/pipeline/train/nn"
)

// Circle declares circle loss (Sun et al. 2020, "Circle Loss: A Unified
// Perspective of Pair Similarity Optimization", equation 6 with 8 and 9). An
// anchor with the similarities s(p) of its positives and s(n) of its negatives
// gives, with m the Margin and γ the Scale,
//
//	log(1 + Σ_n exp(γ·α_n·(s(n) - m)) · Σ_p exp(-γ·α_p·(s(p) - 1 + m)))
//	α_n = max(0, s(n) + m)   α_p = max(0, 1 + m - s(p))
//
// where the weights α count as constants in gradients. The loss is the mean
// over the anchors that have a positive and a negative, 0 without one. Objects
// of one id form no pair. Memory: a table of n² values for n samples. An error
// of 1e-7 in a similarity, what float32 allows, is one of up to γ·1e-7 in the
// weights of the gradient.
type Circle struct {
	// Margin is m, above 0. Default: 0.25.
	Margin float64 `json:"margin"`
	// Scale is γ, above 0. Default: 256.
	Scale float64 `json:"scale_factor"`
	// Distance gives s, which is to be 1 for equal objects. Default:
	// [Cosine].
	Distance Distance `json:"distance"`
	// XBM remembers earlier batches: anchors against remembered positives
	// and negatives. Default: nil (no memory).
	XBM *XBM `json:"xbm"`
	// Variant may be [VariantQuaterion]: α_n = max(0, s(n) - m), α_p =
	// max(0, 1 + m + s(p)), both sums are over all of the batch's pairs, each
	// once, and nothing is averaged; the cosine's s is (cos + 1)/2, and ids
	// are not looked at. There is no XBM. Default: "".
	Variant string `json:"variant"`
}

// Type is "circle".
func (Circle) Type() string { return "circle" }

// Kind is [Groups].
func (Circle) Kind() Kind { return Groups }

// Params are margin, scale_factor, distance, xbm and variant.
func (c Circle) Params() map[string]any {
	d := c.filled()
	return map[string]any{"margin": d.Margin, "scale_factor": d.Scale, "distance": d.Distance, "xbm": d.XBM.params(), "variant": d.Variant}
}

func (c Circle) filled() Circle {
	c.Margin, c.Scale, c.Distance = or(c.Margin, 0.25), or(c.Scale, 256), or(c.Distance, Cosine)
	return c
}

// New returns the loss. It has no parameters; classes and rng are not used.
func (c Circle) New(dim, _ int, _ *rand.Rand) (Loss, error) {
	c = c.filled()
	own, err := quaterion(c.Variant)
	if err := errors.Join(err, above0("margin", c.Margin), above0("scale_factor", c.Scale), c.Distance.check(), noMemory(own, c.XBM)); err != nil {
		return nil, err
	}
	r := &circle{margin: c.Margin, scale: c.Scale, own: own}
	return newGrouped(r, similarities(c.Distance, c.Variant, 1), dim, c.XBM, own)
}

type circle struct {
	margin, scale float64
	own           bool
	rowwise
	near, far []float64 // log Σexp of each anchor's positives and negatives
}

// exponent is that of a pair, with its derivative by the similarity.
func (c *circle) exponent(kind int, s float64) (e, slope float64) {
	if kind == negative {
		alpha := s + c.margin
		if c.own {
			alpha = s - c.margin
		}
		alpha = c.scale * max(0, alpha)
		return alpha * (s - c.margin), alpha
	}
	alpha := 1 + c.margin - s
	if c.own {
		alpha = 1 + c.margin + s
	}
	alpha = c.scale * max(0, alpha)
	return -alpha * (s - 1 + c.margin), -alpha
}

// pair is what j is to i; the variant takes every pair once.
func (c *circle) pair(r *relation, i, j int) int {
	if c.own && j < i {
		return none
	}
	return r.of(i, j)
}

func (c *circle) apply(m nn.Mat, r *relation, grad bool) (value, factor float64) {
	n := m.Rows
	c.near, c.far = fit(c.near, n), fit(c.far, n)
	c.each(n, 32*m.Cols, func(i int, l *lane) {
		// Of positives and of negatives, each less their greatest.
		l.floats = l.floats[:0]
		row := m.Row(i)
		top := [...]float64{positive: math.Inf(-1), negative: math.Inf(-1)}
		for j, s := range row {
			if k := c.pair(r, i, j); k != none {
				e, _ := c.exponent(k, float64(s))
				top[k] = max(top[k], e)
			}
		}
		var sums [3]float64
		for _, k := range [...]int{positive, negative} {
			l.floats = l.floats[:0]
			for j, s := range row {
				if c.pair(r, i, j) == k {
					e, _ := c.exponent(k, float64(s))
					l.floats = append(l.floats, float32(e-top[k]))
				}
			}
			sums[k] = kernels.ExpSum(l.floats, l.floats, 0)
		}
		c.near[i], c.far[i] = top[positive]+math.Log(sums[positive]), top[negative]+math.Log(sums[negative])
	})
	if c.own {
		near, far := logSumExp(c.near), logSumExp(c.far)
		for i := range n {
			c.near[i], c.far[i] = near, far
		}
		value, factor = softplus(near+far), 1
	} else {
		anchors := 0
		for i, p := range c.near {
			if q := c.far[i]; !math.IsInf(p, -1) && !math.IsInf(q, -1) {
				value += softplus(p + q)
				anchors++
			}
		}
		value, factor = mean(value, anchors), mean(1, anchors)
	}
	if !grad {
		return value, factor
	}
	c.each(n, 32*m.Cols, func(i int, l *lane) {
		row := m.Row(i)
		near, far := c.near[i], c.far[i]
		if math.IsInf(near, -1) || math.IsInf(far, -1) {
			clear(row)
			return
		}
		l.floats = fit(l.floats, len(row))
		for j, s := range row {
			e := math.Inf(-1)
			switch k := c.pair(r, i, j); k {
			case positive:
				e, _ = c.exponent(k, float64(s))
				e -= near
			case negative:
				e, _ = c.exponent(k, float64(s))
				e -= far
			}
			l.floats[j] = float32(e)
		}
		kernels.Exp(l.floats, l.floats)
		z := sigmoid(near + far)
		for j, s := range row {
			g := 0.0
			if k := c.pair(r, i, j); k != none {
				_, slope := c.exponent(k, float64(s))
				g = z * slope * float64(l.floats[j])
			}
			row[j] = float32(g)
		}
	})
	return value, factor
}

// logSumExp is log Σe^x, -Inf without values that are not.
func logSumExp(v []float64) float64 {
	top := math.Inf(-1)
	for _, x := range v {
		top = max(top, x)
	}
	if math.IsInf(top, 0) {
		return top
	}
	var s float64
	for _, x := range v {
		s += math.Exp(x - top)
	}
	return top + math.Log(s)
}
