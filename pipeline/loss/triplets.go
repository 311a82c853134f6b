package loss

import (
	"math"
	"slices"

	"github.com/permafrost-ml/permafrost/internal/kernels"
	"github.com/permafrost-ml/permafrost/pipeline/train/nn"
)

// triplets are the options and the memory of the rules that choose triplets.
type triplets struct {
	margin  float64
	soft    bool
	hardest hardest
	rowwise
	sums   []float64 // of a row's triplets
	counts []int     // of them
}

// term is t of a difference of distances, with its derivative.
func (t *triplets) term(diff float64) (value, slope float64) {
	switch v := diff + t.margin; {
	case t.soft:
		return softplus(diff), sigmoid(diff)
	case v > 0:
		return v, 1
	}
	return 0, 0
}

// anchors is the mean of the triplets that fn adds to those of row i, with the
// factor of its gradient. l.keys are the row's sorted positives.
func (t *triplets) anchors(m nn.Mat, r *relation, fn func(i int, row []float32, l *lane, negatives int)) (value, factor float64) {
	t.sums, t.counts = fit(t.sums, m.Rows), fit(t.counts, m.Rows)
	t.each(m.Rows, 8*m.Cols, func(i int, l *lane) {
		row := m.Row(i)
		t.sums[i], t.counts[i] = 0, 0
		fn(i, row, l, positives(l, row, r, i))
	})
	var sum float64
	n := 0
	for i, s := range t.sums {
		sum += s
		n += t.counts[i]
	}
	if n == 0 {
		return 0, 0
	}
	return sum / float64(n), 1 / float64(n)
}

type hardTriplets struct{ *triplets }

func (t hardTriplets) apply(m nn.Mat, r *relation, grad bool) (value, factor float64) {
	h := &t.hardest
	h.find(m, r)
	if grad {
		clear(m.Data)
	}
	n := 0
	for i, p := range h.positive {
		q := h.negative[i]
		if p < 0 || q < 0 {
			continue
		}
		n++
		v, slope := t.term(h.far[i] - h.close[i])
		value += v
		if grad {
			row := m.Row(i)
			row[p], row[q] = float32(slope), -float32(slope)
		}
	}
	if n == 0 {
		return 0, 0
	}
	return value / float64(n), 1 / float64(n)
}

// sortable is a number whose order is that of the distance and, of equal
// ones, of the index.
func sortable(d float32, j int) uint64 {
	if d == 0 {
		d = 0 // not -0
	}
	b := math.Float32bits(d)
	if b>>31 != 0 {
		b = ^b
	} else {
		b |= 1 << 31
	}
	return uint64(b)<<32 | uint64(uint32(j))
}

// sorted is what sortable was made of.
func sorted(k uint64) (d float32, j int) {
	b := uint32(k >> 32)
	if b>>31 != 0 {
		b &^= 1 << 31
	} else {
		b = ^b
	}
	return math.Float32frombits(b), int(uint32(k))
}

// positives sorts row i's positives by distance into l.keys and counts its
// negatives.
func positives(l *lane, row []float32, r *relation, i int) (negatives int) {
	l.keys = l.keys[:0]
	for j, d := range row {
		switch r.of(i, j) {
		case positive:
			l.keys = append(l.keys, sortable(d, j))
		case negative:
			negatives++
		}
	}
	slices.Sort(l.keys)
	return negatives
}

// allTriplets takes the mean of what is above 0, or of all if soft.
type allTriplets struct{ *triplets }

func (t allTriplets) apply(m nn.Mat, r *relation, grad bool) (value, factor float64) {
	return t.anchors(m, r, func(i int, row []float32, l *lane, negatives int) {
		switch {
		case negatives == 0 || len(l.keys) == 0:
			if grad {
				clear(row)
			}
		case t.soft:
			t.softRow(l, row, r, i, grad)
		default:
			t.hingeRow(l, row, r, i, grad)
		}
	})
}

// hingeRow adds up a row's triplets without a step for each: for a negative,
// those above 0 are the farthest of the sorted positives.
func (t allTriplets) hingeRow(l *lane, row []float32, r *relation, i int, grad bool) {
	p := len(l.keys)
	l.sums, l.counts = fit(l.sums, p+1), fit(l.counts, p+1)
	clear(l.counts)
	l.sums[p] = 0
	for k := p - 1; k >= 0; k-- { // sums of the farthest positives
		d, _ := sorted(l.keys[k])
		l.sums[k] = l.sums[k+1] + float64(d)
	}
	for j, d := range row {
		kind, slope := r.of(i, j), 0
		if kind == negative {
			lo, hi := 0, p // the first positive with a triplet above 0
			for lo < hi {
				mid := (lo + hi) / 2
				if far, _ := sorted(l.keys[mid]); float64(far)-float64(d)+t.margin > 0 {
					hi = mid
				} else {
					lo = mid + 1
				}
			}
			slope = p - lo
			l.counts[lo]++
			t.sums[i] += l.sums[lo] + float64(slope)*(t.margin-float64(d))
			t.counts[i] += slope
		}
		if grad {
			row[j] = -float32(slope)
		}
	}
	if !grad {
		return
	}
	n := int32(0)
	for k, key := range l.keys {
		_, j := sorted(key)
		n += l.counts[k]
		row[j] = float32(n)
	}
}

// softRow takes one positive after the other with all negatives.
func (t allTriplets) softRow(l *lane, row []float32, r *relation, i int, grad bool) {
	l.counts, l.floats = l.counts[:0], l.floats[:0]
	for j, d := range row {
		if r.of(i, j) == negative {
			l.counts, l.floats = append(l.counts, int32(j)), append(l.floats, d)
		}
	}
	n := len(l.floats)
	l.floats = append(l.floats, l.floats...)
	d, e := l.floats[:n], l.floats[n:]
	l.sums = fit(l.sums, n)
	clear(l.sums)
	if grad {
		clear(row)
	}
	for _, key := range l.keys {
		far, p := sorted(key)
		for k, v := range d {
			e[k] = -float32(math.Abs(float64(far) - float64(v)))
		}
		kernels.Exp(e, e)
		var sum, slopes float64
		product := 1.0 // of 1 + e, at most 2 each
		for k, v := range d {
			f := 1 + float64(e[k])
			if product *= f; product > 1e300 {
				sum += math.Log(product)
				product = 1
			}
			slope := float64(e[k]) / f
			if far > v {
				sum += float64(far) - float64(v)
				slope = 1 / f
			}
			slopes += slope
			l.sums[k] += slope
		}
		t.sums[i] += sum + math.Log(product)
		t.counts[i] += n
		if grad {
			row[p] = float32(slopes)
		}
	}
	if grad {
		for k, j := range l.counts {
			row[j] = -float32(l.sums[k])
		}
	}
}

type semiHardTriplets struct{ *triplets }

func (t semiHardTriplets) apply(m nn.Mat, r *relation, grad bool) (value, factor float64) {
	return t.anchors(m, r, func(i int, row []float32, l *lane, negatives int) {
		if negatives > 0 {
			t.choose(l, row, r, i)
		}
		if grad {
			clear(row)
		}
		if negatives == 0 {
			return
		}
		for k, key := range l.keys {
			d, j := sorted(key)
			v, slope := t.term(float64(d) - float64(l.floats[k]))
			t.sums[i] += v
			t.counts[i]++
			if grad {
				row[j] += float32(slope)
				row[l.counts[k]] -= float32(slope)
			}
		}
	})
}

// choose finds the negative of each of the sorted positives of a row with
// negatives: its distance in l.floats, its index in l.counts.
func (t semiHardTriplets) choose(l *lane, row []float32, r *relation, i int) {
	p := len(l.keys)
	l.floats, l.counts = fit(l.floats, p), fit(l.counts, p)
	for k := range p {
		l.counts[k] = -1
	}
	far, at := float32(0), int32(-1)
	for j, d := range row {
		if r.of(i, j) != negative {
			continue
		}
		if at < 0 || d > far {
			far, at = d, int32(j)
		}
		// The positives nearer than this one are the first k.
		k, _ := slices.BinarySearch(l.keys, sortable(d, 0))
		if k > 0 && (l.counts[k-1] < 0 || d < l.floats[k-1]) {
			l.floats[k-1], l.counts[k-1] = d, int32(j)
		}
	}
	// What is farther than the next positive is so than this one, too.
	for k := p - 1; k >= 0; k-- {
		if l.counts[k] >= 0 {
			far, at = l.floats[k], l.counts[k]
		}
		l.floats[k], l.counts[k] = far, at
	}
}
