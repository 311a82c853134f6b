package loss

import (
	"errors"
	"fmt"
	"math"

	"github.com/permafrost-ml/permafrost/internal/kernels"
	"github.com/permafrost-ml/permafrost/pipeline/train/nn"
)

// ranking computes the cross entropy of pairs against a batch's other pairs:
// see [MultipleNegativesRanking] and [InfoNCE].
type ranking struct {
	dim       int
	symmetric bool
	blind     bool // ids are not looked at
	positive  bool // every pair has score 1

	logits table // a's with b's
	past   [2]table
	memory *memory

	rows, cols []float32 // logsumexp of a pair's row and column
	sums       []float64
	own        []float32 // gradients by the pairs' own logits, of the memory
	values     []float64 // of the memory
	equal      equal
}

func (r *ranking) init(dim int, d Distance, variant string, scale float64, xbm *XBM) (Loss, error) {
	if err := errors.Join(dimension(dim), d.check()); err != nil {
		return nil, err
	}
	sides := 1
	if r.symmetric {
		sides = 2
	}
	m, err := newMemory(xbm, dim, sides)
	if err != nil {
		return nil, err
	}
	r.dim, r.memory = dim, m
	s := similarities(d, variant, scale)
	r.logits.measure = s
	for k := range r.past {
		r.past[k] = table{measure: s, constant: true}
	}
	return r, nil
}

func (r *ranking) Parameters() []Param          { return nil }
func (r *ranking) State() []State               { return r.memory.state() }
func (r *ranking) SetState(state []State) error { return r.memory.setState(state) }

func (r *ranking) Compute(batch *Batch, grad bool) (Result, error) {
	a, b, err := batch.pairs(r.dim)
	if err != nil {
		return Result{}, err
	}
	n, anchors := a.Rows, 0
	for i := range n {
		switch s := batch.score(i); {
		case s == 1:
			anchors++
		case r.positive:
			return Result{}, fmt.Errorf("row %d of the batch has score %v: this loss takes positive pairs only, with score 1", i, s)
		case s != 0:
			return Result{}, fmt.Errorf("row %d of the batch has score %v: this loss takes the scores 0 and 1", i, s)
		}
	}
	r.logits.compare(a, b)
	l := r.logits.fill()
	r.mask(batch, l)
	r.rows, r.cols, r.sums = fit(r.rows, n), fit(r.cols, n), fit(r.sums, n)
	nn.LogSumExpRows(r.rows, l)
	if r.symmetric {
		nn.LogSumExpCols(r.cols, r.sums, l)
	}
	var sum float64
	for i := range n {
		if batch.score(i) == 0 {
			continue
		}
		d := float64(l.Data[i*n+i])
		sum += float64(r.rows[i]) - d
		if r.symmetric {
			sum += float64(r.cols[i]) - d
		}
	}
	count := float64(max(anchors, 1))
	if r.symmetric {
		count *= 2
	}
	// Pairs of score 0 may be in no sum at all, and a NaN of theirs with them.
	res := Result{Value: sum/count + unusable(a) + unusable(b)}
	if !grad {
		return res, nil
	}
	past, err := r.remembered(batch, a, b, l, 1/count)
	if err != nil {
		return Result{}, err
	}
	res.Value += past.value
	r.gradient(batch, l, 1/count)
	if past.da != nil {
		for i, g := range r.own {
			l.Data[i*n+i] += g
		}
	}
	da, db := r.logits.backward(1)
	for k, d := range [...]*nn.Buffer{da, db} {
		if more := past.gradients()[k]; more != nil {
			nn.Add(d.Mat(n, r.dim), more.Mat(n, r.dim))
		}
	}
	res.DA, res.DB = da.Dense(), db.Dense()
	return res, nil
}

// mask takes what is no negative out of the sums.
func (r *ranking) mask(batch *Batch, l nn.Mat) {
	if r.blind {
		return
	}
	n := l.Rows
	absent := float32(math.Inf(-1)) // adds nothing to a sum of exponentials
	r.equal.each(batch.AIDs, func(i, j int32) {
		if batch.score(int(j)) == 1 {
			l.Data[int(i)*n+int(j)] = absent
		}
	})
	r.equal.each(batch.BIDs, func(i, j int32) {
		if batch.score(int(i)) == 1 {
			l.Data[int(i)*n+int(j)] = absent
		}
	})
}

// gradient replaces the logits by the gradient of scale times their loss.
func (r *ranking) gradient(batch *Batch, l nn.Mat, scale float64) {
	cols := r.cols
	if !r.symmetric {
		cols = nil
	}
	inf := float32(math.Inf(1)) // a sum that leaves nothing of its terms
	for i := range r.rows {
		if batch.score(i) == 0 {
			r.rows[i] = inf
			r.cols[i] = inf
		}
	}
	nn.CrossEntropyBackward(l, r.rows, cols, float32(scale))
	for i := range r.rows {
		if batch.score(i) == 0 {
			l.Data[i*l.Cols+i] = 0
		}
	}
}

// past is what the memory gives.
type past struct {
	value  float64
	da, db *nn.Buffer
}

func (p past) gradients() [2]*nn.Buffer { return [2]*nn.Buffer{p.da, p.db} }

// remembered is scale times the loss of a batch against the memory, which
// then takes the batch. Gradients by the batch's own logits go to r.own.
func (r *ranking) remembered(batch *Batch, a, b nn.Mat, l nn.Mat, scale float64) (p past, err error) {
	m := r.memory
	if !m.begin() {
		return p, nil
	}
	ids := [2][]int64{batch.AIDs, batch.BIDs}
	if err := m.fits(ids[:]...); err != nil {
		return p, err
	}
	if m.rows() > 0 {
		r.own, r.values = fit(r.own, a.Rows), fit(r.values, a.Rows)
		clear(r.own)
		scale *= m.Weight
		p.da = r.against(0, batch, a, l, scale)
		p.value = r.total(scale)
		if r.symmetric {
			p.db = r.against(1, batch, b, l, scale)
			p.value += r.total(scale)
		}
	}
	for i := range a.Rows {
		if batch.score(i) == 0 {
			continue
		}
		s := sample{vectors: [2][]float32{b.Row(i), a.Row(i)}}
		for k, v := range ids {
			if v != nil {
				s.ids[k] = v[i]
			}
		}
		m.keep(s, false, [2]bool{ids[0] != nil, ids[1] != nil})
	}
	return p, nil
}

func (r *ranking) total(scale float64) (sum float64) {
	for _, v := range r.values {
		sum += v
	}
	return scale * sum
}

// against is the part of one side's anchors x with the remembered other side:
// it leaves their losses in r.values, adds to r.own, and returns the gradient
// by x.
func (r *ranking) against(side int, batch *Batch, x, l nn.Mat, scale float64) *nn.Buffer {
	t := &r.past[side]
	t.compare(x, r.memory.side(side))
	g := t.fill()
	absent := float32(math.Inf(-1))
	nn.Parallel(g.Rows, 8*g.Cols, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			row := g.Row(i)
			r.values[i] = 0
			if batch.score(i) == 0 {
				clear(row)
				continue
			}
			for k, ids := range [...][]int64{batch.AIDs, batch.BIDs} {
				if ids == nil {
					continue
				}
				for j, id := range r.memory.ids[k] {
					if id == ids[i] {
						row[j] = absent
					}
				}
			}
			own := float64(l.Data[i*l.Cols+i])
			lse := logAddExp(own, float64(kernels.LogSumExp(row)))
			r.values[i] = lse - own
			kernels.ExpSum(row, row, float32(lse))
			kernels.Scale(float32(scale), row, row)
			r.own[i] += float32(scale * math.Expm1(own-lse))
		}
	})
	dx, _ := t.backward(1)
	return dx
}
