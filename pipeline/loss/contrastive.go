package loss

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/permafrost-ml/permafrost/pipeline/train/nn"
)

// Contrastive declares the contrastive loss of pairs (Hadsell et al. 2006,
// "Dimensionality Reduction by Learning an Invariant Mapping"). A pair of
// distance d and score y, from 0 (not similar) to 1, gives
//
//	½·y·d² + ½·(1 - y)·max(0, Margin - d)²
//
// and, where a batch has several subgroups, as much as a pair of score 0 for
// each of its two objects with the object of another subgroup, on either side,
// that is nearest to it; of equals the first sides', then the first row's. An
// object of the same id is none of those. The loss is the mean over pairs.
// Memory: nothing of n², but a table of (2n)² values with subgroups.
type Contrastive struct {
	// Margin is the distance from which objects are far enough, above 0.
	// Default: 0.5.
	Margin float64 `json:"margin"`
	// Distance is d, not [DotProduct], whose squares say nothing. Default:
	// [Cosine].
	Distance Distance `json:"distance"`
	// Sum is the sum over pairs instead of the mean. Default: false.
	Sum bool `json:"sum"`
	// Variant may be [VariantQuaterion]: the nearest objects of other
	// subgroups count twice, their cosine's d is half as large, ids are not
	// looked at, 1e-6 is added to each difference of a pair's embeddings
	// (Euclidean, Manhattan), and every distance is allowed. Default: "".
	Variant string `json:"variant"`
}

// Type is "contrastive".
func (Contrastive) Type() string { return "contrastive" }

// Kind is [Pairs].
func (Contrastive) Kind() Kind { return Pairs }

// Params are margin, distance, sum and variant.
func (c Contrastive) Params() map[string]any {
	return map[string]any{"margin": or(c.Margin, 0.5), "distance": or(c.Distance, Cosine), "sum": c.Sum, "variant": c.Variant}
}

// New returns the loss. It has no parameters; classes and rng are not used.
func (c Contrastive) New(dim, _ int, _ *rand.Rand) (Loss, error) {
	c.Margin, c.Distance = or(c.Margin, 0.5), or(c.Distance, Cosine)
	own, err := quaterion(c.Variant)
	err = errors.Join(err, above0("margin", c.Margin), c.Distance.check(), dimension(dim))
	if !own && c.Distance == DotProduct {
		err = errNotSquare
	}
	if err != nil {
		return nil, err
	}
	l := &contrastive{dim: dim, margin: c.Margin, sum: c.Sum, blind: own, implicit: 0.5}
	l.given.measure = distances(c.Distance, "")
	l.others.measure = distances(c.Distance, c.Variant)
	if own {
		l.given.eps, l.implicit = 1e-6, 1
	}
	return l, nil
}

type contrastive struct {
	dim      int
	margin   float64
	sum      bool
	blind    bool // ids are not looked at
	implicit float64
	given    table // a's with b's: pairs only
	others   table // all objects with each other
	all      nn.Buffer
	cells    []cell
	nearest  []cell
}

func (c *contrastive) Parameters() []Param { return nil }

func (c *contrastive) Compute(batch *Batch, grad bool) (Result, error) {
	a, b, err := batch.pairs(c.dim)
	if err != nil {
		return Result{}, err
	}
	n := a.Rows
	c.given.compare(a, b)
	c.cells = fit(c.cells, n)
	var sum float64
	for i := range n {
		y := batch.score(i)
		if !(y >= 0 && y <= 1) {
			return Result{}, fmt.Errorf("row %d of the batch has score %v: this loss takes scores from 0 to 1", i, y)
		}
		d := c.given.at(i, i)
		v, slope := c.apart(d)
		sum += 0.5*y*d*d + 0.5*(1-y)*v
		c.cells[i] = cell{int32(i), int32(i), float32(y*d + 0.5*(1-y)*slope)}
	}
	several := c.several(batch)
	if several {
		sum += c.implicit * c.nearestOthers(batch, a, b)
	}
	factor := 1 / float64(n)
	if c.sum {
		factor = 1
	}
	res := Result{Value: factor*sum + unusable(a) + unusable(b)}
	if !grad {
		return res, nil
	}
	da, db := c.given.backwardAt(c.cells, factor)
	if several {
		dx, _ := c.others.backwardAt(c.nearest, factor*c.implicit)
		x := dx.Mat(2*n, c.dim)
		nn.Add(da.Mat(n, c.dim), nn.Mat{Rows: n, Cols: c.dim, Data: x.Data[:n*c.dim]})
		nn.Add(db.Mat(n, c.dim), nn.Mat{Rows: n, Cols: c.dim, Data: x.Data[n*c.dim:]})
	}
	res.DA, res.DB = da.Dense(), db.Dense()
	return res, nil
}

// apart is what objects give that are to be far from each other, with its
// derivative.
func (c *contrastive) apart(d float64) (v, slope float64) {
	v = max(0, c.margin-d)
	return v * v, -2 * v
}

// several reports whether a batch has more than one subgroup.
func (c *contrastive) several(b *Batch) bool {
	for _, s := range b.Subgroups {
		if s != b.Subgroups[0] {
			return true
		}
	}
	return false
}

// nearestOthers finds the nearest object of another subgroup for each object
// of the batch, first sides first, and adds up what they give.
func (c *contrastive) nearestOthers(batch *Batch, a, b nn.Mat) (sum float64) {
	n := a.Rows
	x := c.all.Mat(2*n, c.dim)
	copy(x.Data[copy(x.Data, a.Data):], b.Data)
	c.others.compareSelf(x)
	m := c.others.fill()
	c.nearest = fit(c.nearest, 2*n)
	nn.Parallel(2*n, 4*n, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			best, at := math.Inf(1), -1
			for j, d := range m.Row(i) {
				if batch.Subgroups[i%n] != batch.Subgroups[j%n] && (at < 0 || float64(d) < best) && (c.blind || !batch.same(i, j)) {
					best, at = float64(d), j
				}
			}
			c.nearest[i] = cell{int32(i), int32(at), float32(best)}
		}
	})
	left := c.nearest[:0]
	for _, k := range c.nearest {
		if k.j < 0 {
			continue
		}
		v, slope := c.apart(float64(k.g))
		sum += v
		k.g = float32(slope)
		left = append(left, k)
	}
	c.nearest = left
	return sum
}

// same reports whether two objects of a batch, first sides first, have one
// id.
func (b *Batch) same(i, j int) bool {
	p, ok := b.id(i)
	q, ok2 := b.id(j)
	return ok && ok2 && p == q
}

func (b *Batch) id(i int) (int64, bool) {
	ids, n := b.AIDs, b.Rows()
	if i >= n {
		ids, i = b.BIDs, i-n
	}
	if ids == nil {
		return 0, false
	}
	return ids[i], true
}
