package loss

import (
	"math"
	"runtime"
	"slices"

	"github.com/permafrost-ml/permafrost/internal/kernels"
	"github.com/permafrost-ml/permafrost/pipeline/train/nn"
)

// relation says what two samples of groups are to each other. An object is
// nothing to itself: samples of one id are neither positive nor negative,
// whatever their labels, and a sample of a batch is nothing to itself.
type relation struct {
	labels, others []int32
	ids, otherIDs  []int64 // nil: all differ
	self           bool    // others are the same samples
}

// positive, negative and none are what of returns.
const (
	none = iota
	positive
	negative
)

// of is what sample j of the others is to sample i.
func (r *relation) of(i, j int) int {
	switch {
	case r.self && i == j, r.ids != nil && r.ids[i] == r.otherIDs[j]:
		return none
	case r.labels[i] == r.others[j]:
		return positive
	}
	return negative
}

// rule is a loss of groups as a function of a table of anchors and others.
type rule interface {
	// apply returns the loss and, with grad, leaves its gradient, divided by
	// factor, in m.
	apply(m nn.Mat, r *relation, grad bool) (value, factor float64)
}

// grouped is the loss of groups that a rule gives.
type grouped struct {
	rule   rule
	dim    int
	blind  bool // ids are not looked at
	batch  table
	past   table // the batch against the memory
	memory *memory
	rel    relation
}

// newGrouped returns the loss of a rule over a measure.
func newGrouped(r rule, m measure, dim int, xbm *XBM, blind bool) (*grouped, error) {
	if err := dimension(dim); err != nil {
		return nil, err
	}
	mem, err := newMemory(xbm, dim, 1)
	if err != nil {
		return nil, err
	}
	return &grouped{rule: r, dim: dim, blind: blind, batch: table{measure: m}, past: table{measure: m, constant: true}, memory: mem}, nil
}

func (g *grouped) Parameters() []Param          { return nil }
func (g *grouped) State() []State               { return g.memory.state() }
func (g *grouped) SetState(state []State) error { return g.memory.setState(state) }

func (g *grouped) Compute(b *Batch, grad bool) (Result, error) {
	x, err := nn.ViewCols(b.A, g.dim)
	if err != nil {
		return Result{}, err
	}
	if err := b.lengths(x.Rows); err != nil {
		return Result{}, err
	}
	if b.Labels == nil {
		return Result{}, errNoLabels
	}
	ids := b.AIDs
	if g.blind {
		ids = nil
	}
	g.batch.compareSelf(x)
	g.rel = relation{labels: b.Labels, others: b.Labels, ids: ids, otherIDs: ids, self: true}
	value, factor := g.rule.apply(g.batch.fill(), &g.rel, grad)
	res := Result{Value: value + unusable(x)}
	if !grad {
		return res, nil
	}
	dx, _ := g.batch.backward(factor)
	if g.memory.begin() {
		if err := g.memory.fits(ids); err != nil {
			return Result{}, err
		}
		if g.memory.rows() > 0 {
			value, more := g.against(x, b.Labels, ids)
			res.Value += g.memory.Weight * value
			nn.Add(dx.Mat(x.Rows, x.Cols), more.Mat(x.Rows, x.Cols))
		}
		for i := max(0, x.Rows-g.memory.Size); i < x.Rows; i++ {
			s := sample{vectors: [2][]float32{x.Row(i)}, label: b.Labels[i]}
			if ids != nil {
				s.ids[0] = ids[i]
			}
			g.memory.keep(s, true, [2]bool{ids != nil})
		}
	}
	res.DA = dx.Dense()
	return res, nil
}

// against is the loss of the batch against the memory.
func (g *grouped) against(x nn.Mat, labels []int32, ids []int64) (float64, *nn.Buffer) {
	g.past.compare(x, g.memory.side(0))
	g.rel = relation{labels: labels, others: g.memory.labels, ids: ids, otherIDs: g.memory.ids[0]}
	// Quaterion takes batches of equal labels for one batch.
	g.rel.self = g.blind && slices.Equal(labels, g.memory.labels)
	value, factor := g.rule.apply(g.past.fill(), &g.rel, true)
	dx, _ := g.past.backward(g.memory.Weight * factor)
	return value, dx
}

// unusable is NaN for embeddings with a NaN or an infinity, else 0: what
// looks for the least or the greatest of some values may not meet them.
func unusable(x nn.Mat) float64 { return 0 * kernels.Sum(x.Data) }

// rowwise runs a function over rows with memory that rows in work at one time
// do not share. The zero rowwise is ready.
type rowwise struct{ lanes []lane }

// lane is scratch; its slices may be too short and are grown by their users.
type lane struct {
	keys   []uint64
	sums   []float64
	counts []int32
	floats []float32
}

// each calls fn for every row up to n; cost is the number of values behind
// one.
func (w *rowwise) each(n, cost int, fn func(i int, l *lane)) {
	lanes := min(n, runtime.GOMAXPROCS(0))
	for len(w.lanes) < lanes {
		w.lanes = append(w.lanes, lane{})
	}
	nn.Parallel(lanes, n*cost/max(1, lanes), func(lo, hi int) {
		for p := lo; p < hi; p++ {
			for i := n * p / lanes; i < n*(p+1)/lanes; i++ {
				fn(i, &w.lanes[p])
			}
		}
	})
}

// softplus is log(1 + e^x).
func softplus(x float64) float64 { return max(x, 0) + math.Log1p(math.Exp(-math.Abs(x))) }

// sigmoid is 1/(1 + e^-x), softplus's derivative.
func sigmoid(x float64) float64 {
	if x < 0 {
		e := math.Exp(x)
		return e / (1 + e)
	}
	return 1 / (1 + math.Exp(-x))
}
