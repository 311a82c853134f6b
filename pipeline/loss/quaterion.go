package loss

import (
	"math"
	"slices"
	"sort"

	"github.com/permafrost-ml/permafrost/pipeline/train/nn"
)

// The rules of this file are Quaterion's own, see the Variant of the losses.

// masked are every row's greatest d·[positive] and least d + max d·[not
// negative], of equals the first, with their places.
type masked struct {
	far, close         []float64
	positive, negative []int32
	greatest           []int32 // of all in the row
}

func (k *masked) find(m nn.Mat, r *relation) {
	n := m.Rows
	k.far, k.close = fit(k.far, n), fit(k.close, n)
	k.positive, k.negative, k.greatest = fit(k.positive, n), fit(k.negative, n), fit(k.greatest, n)
	for i := range n {
		row := m.Row(i)
		top := 0
		for j, d := range row {
			if d > row[top] {
				top = j
			}
		}
		p, q, far, near := 0, 0, math.Inf(-1), math.Inf(1)
		for j, d := range row {
			a, b := 0.0, float64(d)
			switch r.of(i, j) {
			case positive:
				a, b = b, b+float64(row[top])
			case none:
				b += float64(row[top])
			}
			if a > far {
				p, far = j, a
			}
			if b < near {
				q, near = j, b
			}
		}
		k.far[i], k.close[i], k.positive[i], k.negative[i], k.greatest[i] = far, near, int32(p), int32(q), int32(top)
	}
}

// scaledTriplets is hard mining of all anchors, where the differences are
// divided by the batch's mean distance of a negative.
type scaledTriplets struct {
	*triplets
	masked
}

func (t *scaledTriplets) apply(m nn.Mat, r *relation, grad bool) (value, factor float64) {
	k := &t.masked
	k.find(m, r)
	n := float64(m.Rows)
	var mean float64
	for _, d := range k.close {
		mean += d / n
	}
	if t.soft {
		mean = 1
	}
	var byMean float64
	for i, far := range k.far {
		diff := (far - k.close[i]) / mean
		v, slope := t.term(diff)
		if math.IsNaN(diff) {
			v = diff
		}
		value += v / n
		byMean -= slope * diff / mean / n
		// Kept where the distances were, until all are read.
		k.far[i] = slope / mean
	}
	if t.soft {
		byMean = 0
	}
	if !grad {
		return value, 1 / n
	}
	for i, slope := range k.far {
		row := m.Row(i)
		isPositive, isNegative := r.of(i, int(k.positive[i])) == positive, r.of(i, int(k.negative[i])) == negative
		clear(row)
		if isPositive {
			row[k.positive[i]] += float32(slope)
		}
		g := float32(byMean - slope)
		row[k.negative[i]] += g
		if !isNegative {
			row[k.greatest[i]] += g
		}
	}
	return value, 1 / n
}

// clampedTriplets takes all positive pairs, those of a sample with itself
// too, with all negative ones.
type clampedTriplets struct {
	*triplets
	near, far []float32 // distances of positive and of negative pairs, sorted
	upTo      []float64 // sums of far
}

func (t *clampedTriplets) apply(m nn.Mat, r *relation, grad bool) (value, factor float64) {
	near, far := t.near[:0], t.far[:0]
	for i := range m.Rows {
		for j, d := range m.Row(i) {
			if r.labels[i] == r.others[j] {
				near = append(near, d)
			} else {
				far = append(far, d)
			}
		}
	}
	t.near, t.far = near, far
	if len(near) == 0 || len(far) == 0 {
		clear(m.Data)
		return 0, 0
	}
	slices.Sort(near)
	slices.Sort(far)
	sums := fit(t.upTo, len(far)+1)
	t.upTo = sums
	sums[0] = 0
	for k, d := range far {
		sums[k+1] = sums[k] + float64(d)
	}
	t.sums = fit(t.sums, m.Rows)
	nn.Parallel(m.Rows, 64*m.Cols, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			t.sums[i] = 0
			row := m.Row(i)
			for j, d := range row {
				v := float64(d)
				var slope int
				if r.labels[i] == r.others[j] {
					from, to := within(far, v, v+t.margin)
					slope = to - from
					t.sums[i] += float64(from)*t.margin + float64(slope)*(v+t.margin) - (sums[to] - sums[from])
				} else {
					from, to := within(near, v-t.margin, v)
					slope = from - to
				}
				if grad {
					row[j] = float32(slope)
				}
			}
		}
	})
	for _, s := range t.sums {
		value += s
	}
	factor = 1 / (float64(len(near)) * float64(len(far)))
	return value * factor, factor
}

// within is the range of sorted values between two, both left out.
func within(v []float32, least, most float64) (from, to int) {
	from = sort.Search(len(v), func(k int) bool { return float64(v[k]) > least })
	to = sort.Search(len(v), func(k int) bool { return float64(v[k]) >= most })
	return from, max(from, to)
}

// kind is of, where own takes everything that is not positive for negative,
// a sample and itself too.
func (r *relation) kind(i, j int, own bool) int {
	k := r.of(i, j)
	if own && k == none {
		return negative
	}
	return k
}

// ownHardPairs are one positive and one negative pair of each sample, where
// its pair with itself is a negative one.
type ownHardPairs struct {
	margin float64
	places [2][]int32
}

func (p *ownHardPairs) apply(m nn.Mat, r *relation, grad bool) (value, factor float64) {
	n := m.Rows
	p.places[0], p.places[1] = fit(p.places[0], n), fit(p.places[1], n)
	near, far, positives := 0.0, 0.0, 0
	for i := range n {
		least, most, closest := 0, math.Inf(-1), math.Inf(1)
		for j, v := range m.Row(i) {
			d := 0.0
			if r.of(i, j) == positive {
				d = float64(v)
			} else if float64(v) < closest {
				closest, p.places[1][i] = float64(v), int32(j)
			}
			if d > most {
				most, least = d, j
			}
		}
		p.places[0][i] = int32(least)
		near += most
		if most != 0 {
			positives++
		}
		far += max(0, p.margin-closest)
	}
	value = 0.5*mean(near, positives) + 0.5*mean(far, n)
	if !grad {
		return value, 1
	}
	byNear, byFar := float32(mean(0.5, positives)), float32(mean(0.5, n))
	for i := range n {
		row := m.Row(i)
		j, k := p.places[0][i], p.places[1][i]
		isPositive, isNear := r.of(i, int(j)) == positive, float64(row[k]) < p.margin
		clear(row)
		if isPositive {
			row[j] += byNear
		}
		if isNear {
			row[k] -= byFar
		}
	}
	return value, 1
}
