package loss

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
)

// CoSENT declares the loss that ranks pairs by their scores (Su 2022,
// "CoSENT: A More Efficient Sentence Vector Scheme than Sentence-BERT",
// kexue.fm/archives/8847): with the similarity s_i of pair i it is
//
//	log(1 + Σ exp(Scale·(s_j - s_i)))
//
// over all i and j where the score of i is above that of j. Equal scores form
// no such couple; a batch without one has the loss 0. Scores are any finite
// numbers. Ids and subgroups are not used. Nothing of n² is kept or computed.
type CoSENT struct {
	// Scale multiplies the similarities: an inverse temperature, above 0.
	// Default: 20.
	Scale float64 `json:"scale"`
	// Distance gives s. Default: [Cosine].
	Distance Distance `json:"distance"`
}

// Type is "cosent".
func (CoSENT) Type() string { return "cosent" }

// Kind is [Pairs].
func (CoSENT) Kind() Kind { return Pairs }

// Params are scale and distance.
func (c CoSENT) Params() map[string]any {
	return map[string]any{"scale": or(c.Scale, 20), "distance": or(c.Distance, Cosine)}
}

// New returns the loss. It has no parameters; classes and rng are not used.
func (c CoSENT) New(dim, _ int, _ *rand.Rand) (Loss, error) {
	scale, distance := or(c.Scale, 20), or(c.Distance, Cosine)
	if err := errors.Join(above0("scale", scale), distance.check(), dimension(dim)); err != nil {
		return nil, err
	}
	return &cosent{dim: dim, table: table{measure: similarities(distance, "", scale)}}, nil
}

type cosent struct {
	dim int
	table
	order       []int32   // pairs by score
	s           []float64 // of each pair
	below, over []float64 // log of the sum over pairs of lower and of higher scores
	list        []cell
}

func (c *cosent) Parameters() []Param { return nil }

func (c *cosent) Compute(batch *Batch, grad bool) (Result, error) {
	a, b, err := batch.pairs(c.dim)
	if err != nil {
		return Result{}, err
	}
	n := a.Rows
	for i := range n {
		if y := batch.score(i); math.IsNaN(y) || math.IsInf(y, 0) {
			return Result{}, fmt.Errorf("row %d of the batch has score %v: this loss takes finite scores", i, y)
		}
	}
	c.compare(a, b)
	c.order, c.s, c.below, c.over = fit(c.order, n), fit(c.s, n), fit(c.below, n), fit(c.over, n)
	for i := range n {
		c.order[i], c.s[i] = int32(i), c.at(i, i)
	}
	slices.SortFunc(c.order, func(i, j int32) int {
		return cmp.Compare(batch.score(int(i)), batch.score(int(j)))
	})
	// Pairs of one score see the same sum.
	sums := func(dst []float64, sign float64) {
		total := math.Inf(-1)
		for lo := 0; lo < n; {
			hi := lo + 1
			for hi < n && batch.score(int(c.order[hi])) == batch.score(int(c.order[lo])) {
				hi++
			}
			for _, i := range c.order[lo:hi] {
				dst[i] = total
			}
			for _, i := range c.order[lo:hi] {
				total = logAddExp(total, sign*c.s[i])
			}
			lo = hi
		}
	}
	sums(c.below, 1)
	slices.Reverse(c.order)
	sums(c.over, -1)
	all := math.Inf(-1)
	for i := range n {
		all = logAddExp(all, c.below[i]-c.s[i])
	}
	res := Result{Value: softplus(all) + unusable(a) + unusable(b)}
	if !grad {
		return res, nil
	}
	c.list = fit(c.list, n)
	whole := logAddExp(0, all) // of 1 and all couples
	for i, s := range c.s {
		g := math.Exp(c.over[i]+s-whole) - math.Exp(c.below[i]-s-whole)
		c.list[i] = cell{int32(i), int32(i), float32(g)}
	}
	da, db := c.backwardAt(c.list, 1)
	res.DA, res.DB = da.Dense(), db.Dense()
	return res, nil
}

// logAddExp is log(e^x + e^y).
func logAddExp(x, y float64) float64 {
	if x < y {
		x, y = y, x
	}
	if math.IsInf(x, -1) {
		return x
	}
	return x + math.Log1p(math.Exp(y-x))
}
