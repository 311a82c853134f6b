package loss

import (
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/permafrost-ml/permafrost/pipeline/train/nn"
)

// VariantQuaterion selects formulas as Quaterion computes them.
const VariantQuaterion = "quaterion"

// MultipleNegativesRanking declares the loss in which every pair's second
// side is to be found among those of the whole batch (Henderson et al. 2017,
// "Efficient Natural Language Response Suggestion for Smart Reply"): with
// the logits
//
//	l[i,j] = Scale · cos(a_i, b_j)
//
// it is the mean over i of logsumexp_j(l[i,j]) - l[i,i], the cross entropy
// of row i against its own column.
//
// Pairs known to be positive are no negatives: l[i,j], i ≠ j, is left out of
// every sum where the batch's ids say that a_i and a_j are one object (b_j
// then belongs to a_i too) or b_i and b_j are. All pairs must have the score
// 1; subgroups are not used. Memory: n² float32 for n pairs.
type MultipleNegativesRanking struct {
	// Scale multiplies the similarities: an inverse temperature, above 0.
	// Default: 20.
	Scale float64 `json:"scale"`
	// Symmetric takes the mean of that loss and the one with the sides
	// changed over. Default: false.
	Symmetric bool `json:"symmetric"`
	// Variant may be [VariantQuaterion]: logits are then
	// Scale · (cos(a_i, b_j) + 1) / 2, half as steep, and no pair is left
	// out. Default: "".
	Variant string `json:"variant"`
}

// Type is "multiple_negatives_ranking".
func (MultipleNegativesRanking) Type() string { return "multiple_negatives_ranking" }

// Kind is [Pairs].
func (MultipleNegativesRanking) Kind() Kind { return Pairs }

// Params are scale, symmetric and variant.
func (c MultipleNegativesRanking) Params() map[string]any {
	return map[string]any{"scale": c.scale(), "symmetric": c.Symmetric, "variant": c.Variant}
}

func (c MultipleNegativesRanking) scale() float64 {
	if c.Scale == 0 {
		return 20
	}
	return c.Scale
}

// New returns the loss. It has no parameters; classes and rng are not used.
func (c MultipleNegativesRanking) New(dim, _ int, _ *rand.Rand) (Loss, error) {
	if dim <= 0 {
		return nil, fmt.Errorf("embeddings have %d values", dim)
	}
	scale := c.scale()
	if !(scale > 0) || math.IsInf(scale, 0) {
		return nil, fmt.Errorf("scale is %v where a number above 0 is needed", scale)
	}
	m := &mnr{dim: dim, steep: float32(scale), symmetric: c.Symmetric, mask: true}
	switch c.Variant {
	case "":
	case VariantQuaterion:
		m.steep, m.shift, m.mask = float32(scale/2), float32(scale/2), false
	default:
		return nil, fmt.Errorf("variant is %q where %q or nothing is known", c.Variant, VariantQuaterion)
	}
	return m, nil
}

// mnr computes l = steep·cos + shift and everything after it.
type mnr struct {
	dim          int
	steep, shift float32
	symmetric    bool
	mask         bool

	a, b, logits nn.Buffer // unit rows of A and B; l and then its gradient
	da, db       nn.Buffer
	inva, invb   []float32 // inverse lengths of A's and B's rows
	rows, cols   []float32 // logsumexp
	sums         []float64
	equal        equal
}

func (m *mnr) Parameters() []Param { return nil }

func (m *mnr) Compute(batch *Batch, grad bool) (Result, error) {
	a, err := nn.ViewCols(batch.A, m.dim)
	if err != nil {
		return Result{}, fmt.Errorf("first side: %w", err)
	}
	b, err := nn.ViewCols(batch.B, m.dim)
	if err != nil {
		return Result{}, fmt.Errorf("second side: %w", err)
	}
	n := a.Rows
	if b.Rows != n {
		return Result{}, fmt.Errorf("a batch has %d first and %d second sides", n, b.Rows)
	}
	if err := batch.lengths(n); err != nil {
		return Result{}, err
	}
	for i, s := range batch.Scores {
		if s != 1 {
			return Result{}, fmt.Errorf("row %d of the batch has score %v: this loss takes positive pairs only, with score 1", i, s)
		}
	}
	m.fit(n)
	ua, ub, l := m.a.Mat(n, m.dim), m.b.Mat(n, m.dim), m.logits.Mat(n, n)
	nn.Normalize(ua, a, m.inva)
	nn.Normalize(ub, b, m.invb)
	nn.Gemm(nn.AsIs, nn.Transposed, m.steep, ua, ub, 0, l)
	if m.shift != 0 {
		nn.AddScalar(l, m.shift)
	}
	if m.mask {
		absent := float32(math.Inf(-1)) // adds nothing to a sum of exponentials
		exclude := func(i, j int32) { l.Data[int(i)*n+int(j)] = absent }
		m.equal.each(batch.AIDs, exclude)
		m.equal.each(batch.BIDs, exclude)
	}

	nn.LogSumExpRows(m.rows, l)
	if m.symmetric {
		nn.LogSumExpCols(m.cols, m.sums, l)
	}
	var sum float64
	for i := range n {
		d := float64(l.Data[i*n+i])
		sum += float64(m.rows[i]) - d
		if m.symmetric {
			sum += float64(m.cols[i]) - d
		}
	}
	count := float64(n)
	if m.symmetric {
		count *= 2
	}
	res := Result{Value: sum / count}
	if !grad {
		return res, nil
	}
	cols := m.cols
	if !m.symmetric {
		cols = nil
	}
	nn.CrossEntropyBackward(l, m.rows, cols, float32(float64(m.steep)/count))
	da, db := m.da.Mat(n, m.dim), m.db.Mat(n, m.dim)
	nn.Gemm(nn.AsIs, nn.AsIs, 1, l, ub, 0, da)
	nn.Gemm(nn.Transposed, nn.AsIs, 1, l, ua, 0, db)
	nn.NormalizeBackward(da, ua, m.inva)
	nn.NormalizeBackward(db, ub, m.invb)
	res.DA, res.DB = m.da.Dense(), m.db.Dense()
	return res, nil
}

// fit makes the scratch large enough for n rows and cuts it to n.
func (m *mnr) fit(n int) {
	if cap(m.inva) < n {
		m.inva, m.invb = make([]float32, n), make([]float32, n)
		m.rows, m.cols, m.sums = make([]float32, n), make([]float32, n), make([]float64, n)
	}
	m.inva, m.invb = m.inva[:n], m.invb[:n]
	m.rows, m.cols, m.sums = m.rows[:n], m.cols[:n], m.sums[:n]
}
