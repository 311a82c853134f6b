package source

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
)

// Part is one of the parts of a [Mixed] order.
type Part struct {
	// Rows is the number of its rows.
	Rows int64
	// Weight is its share of an epoch over the sum of all weights.
	Weight float64
}

// Mixed is an order of the rows of several parts, which are numbered one part
// after the other. An epoch has as many rows as all parts together, and of
// each part as many as its weight gives it, rounded by largest remainder; they
// come in an order shuffled by the seed and the epoch. A part's rows come in
// permutations of their own: each of its rows once, before one comes again, and
// an epoch goes on where the one before has stopped. So a part of small weight
// is seen in the course of several epochs, and one of large weight more than
// once in each. Any position is found in time that depends on the number of
// parts alone. A weight that is no number from 0 is an error, and so is one above
// 0 of a part without rows, and a sum of 0 over any rows.
func Mixed(parts []Part, seed uint64) (Order, error) {
	m := &mixed{seed: seed}
	sum := 0.0
	for i, p := range parts {
		if !(p.Weight >= 0) || math.IsInf(p.Weight, 1) || p.Rows < 0 {
			return nil, fmt.Errorf("part %d has the weight %v and %d rows", i, p.Weight, p.Rows)
		}
		if p.Weight > 0 && p.Rows == 0 {
			return nil, fmt.Errorf("part %d has the weight %v and no rows", i, p.Weight)
		}
		m.parts = append(m.parts, mixedPart{first: m.rows, rows: p.Rows})
		m.rows += p.Rows
		sum += p.Weight
	}
	if m.rows > 0 && (sum == 0 || math.IsInf(sum, 1)) {
		return nil, errors.New("the weights are all 0, or their sum is infinite")
	}
	m.share(parts, sum)
	return m, nil
}

type mixed struct {
	parts []mixedPart
	rows  int64
	seed  uint64
}

type mixedPart struct {
	first, rows int64 // of the part
	quota       int64 // how many rows of an epoch are the part's
	end         int64 // of the quotas up to this one
}

// share gives each part its quota.
func (m *mixed) share(parts []Part, sum float64) {
	if m.rows == 0 {
		return
	}
	left := m.rows
	rest := make([]float64, len(parts))
	order := make([]int, len(parts))
	for i, p := range parts {
		exact := p.Weight / sum * float64(m.rows)
		m.parts[i].quota = min(int64(exact), left)
		rest[i] = exact - math.Floor(exact)
		left -= m.parts[i].quota
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(rest[b], rest[a]) })
	for k := 0; left > 0; k++ {
		if i := order[k%len(order)]; parts[i].Weight > 0 {
			m.parts[i].quota++
			left--
		}
	}
	end := int64(0)
	for i := range m.parts {
		end += m.parts[i].quota
		m.parts[i].end = end
	}
}

func (m *mixed) Len() int64 { return m.rows }

func (m *mixed) Epoch(epoch int) Fill {
	slots := NewPermutation(m.rows, m.seed, epoch)
	orders := make([]passes, len(m.parts))
	for i, p := range m.parts {
		orders[i] = passes{n: p.rows, seed: mix(m.seed + uint64(i+1)*golden)}
	}
	return func(dst []int64, first int64) {
		slots.Fill(dst, first)
		for k, slot := range dst {
			i := 0
			for slot >= m.parts[i].end {
				i++
			}
			p := &m.parts[i]
			at := uint64(epoch)*uint64(p.quota) + uint64(slot-(p.end-p.quota))
			dst[k] = p.first + orders[i].pass(at/uint64(p.rows)).At(int64(at%uint64(p.rows)))
		}
	}
}
