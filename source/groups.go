package source

import (
	"fmt"
	"math/bits"
)

// maxGroupBatch is the number of rows that a batch balanced by group may have:
// the rows of the table do not bound it.
const maxGroupBatch = 1 << 24

// GroupOptions say how batches are balanced by group.
type GroupOptions struct {
	// Groups is the number of groups in a batch, all different. There must be
	// as many.
	Groups int
	// Samples is the number of rows of each of them.
	Samples int
	// Seed chooses the orders. Default: 0.
	Seed uint64
}

// GroupBalanced are batches of so many rows of each of so many groups; the
// rows of a group stand side by side. groups has the number of every row's
// group, from 0; rows are those that are sampled, all if it is nil.
//
// Groups come in permutations, one after the other through all epochs: each
// group once before one comes again, but for those that are left when a
// permutation has fewer than a batch needs, others each time. The rows of a
// group do the same whenever it comes: none comes twice in a batch. A group
// with fewer rows than Samples gives all of them, and again from the first
// until there are enough. So groups are seen alike whatever their size; an
// epoch, which has as many batches as its rows fill, at least one, does not see
// every row of the large ones.
//
// Any batch is found at once. The index of the groups takes 8 bytes a row, and
// is made by a counting sort, which takes 8 bytes more for each number of a
// group until it is done.
func GroupBalanced(groups []int32, rows []int64, o GroupOptions) (Sampler, error) {
	if o.Groups < 1 || o.Samples < 1 {
		return nil, fmt.Errorf("a batch of %d groups with %d rows each", o.Groups, o.Samples)
	}
	if o.Groups > maxGroupBatch/o.Samples {
		return nil, fmt.Errorf("a batch of %d groups with %d rows each is more than %d rows", o.Groups, o.Samples, maxGroupBatch)
	}
	for row, g := range groups {
		if g < 0 {
			return nil, fmt.Errorf("row %d is of the group %d", row, g)
		}
	}
	for _, row := range rows {
		if row < 0 || row >= int64(len(groups)) {
			return nil, fmt.Errorf("row %d of %d", row, len(groups))
		}
	}
	b := &groupBalanced{GroupOptions: o}
	b.index(groups, rows)
	n := len(b.ends)
	if n < o.Groups {
		return nil, fmt.Errorf("a batch of %d groups of rows that have %d", o.Groups, n)
	}
	b.round = uint64(n / o.Groups)
	b.batches = max(int64(len(b.rows))/int64(o.Groups)/int64(o.Samples), 1)
	return b, nil
}

type groupBalanced struct {
	GroupOptions
	rows    []int64 // of all groups, one group after the other
	ends    []int64 // of the groups in rows; no group is empty
	batches int64   // of an epoch
	round   uint64  // batches of a permutation of the groups
}

// index sorts the rows by their group.
func (b *groupBalanced) index(groups []int32, rows []int64) {
	each := func(fn func(row int64)) {
		for row := range groups {
			if rows == nil {
				fn(int64(row))
			}
		}
		for _, row := range rows {
			fn(row)
		}
	}
	var next []int64 // the count of each group, then where its next row goes
	n := int64(0)
	each(func(row int64) {
		n++
		for int(groups[row]) >= len(next) {
			next = append(next, 0)
		}
		next[groups[row]]++
	})
	end := int64(0)
	for g, count := range next {
		next[g] = end
		if end += count; count > 0 {
			b.ends = append(b.ends, end)
		}
	}
	b.rows = make([]int64, n)
	each(func(row int64) {
		g := groups[row]
		b.rows[next[g]] = row
		next[g]++
	})
}

func (b *groupBalanced) Batches(int) int64 { return b.batches }

func (b *groupBalanced) Epoch(epoch int) Draw {
	orders := passes{n: int64(len(b.ends)), seed: mix(b.Seed + golden)}
	return func(dst []int64, batch int64) []int64 {
		if batch < 0 || batch >= b.batches {
			return dst
		}
		at := uint64(epoch)*uint64(b.batches) + uint64(batch)
		visit, first := at/b.round, int64(at%b.round)*int64(b.Groups)
		dst, rows := extend(dst, b.Groups*b.Samples)
		orders.pass(visit).Fill(rows[:b.Groups], first)
		for i, k := b.Groups-1, b.Samples; i >= 0; i-- { // backwards: the numbers of groups are in the way
			b.sample(rows[i*k:(i+1)*k], rows[i], visit)
		}
		return dst
	}
}

// sample sets dst to the rows of a group when it is visited for that time.
func (b *groupBalanced) sample(dst []int64, group int64, visit uint64) {
	rows := b.rows[:b.ends[group]]
	if group > 0 {
		rows = rows[b.ends[group-1]:]
	}
	n := int64(len(rows))
	k := int64(len(dst))
	round := uint64(max(n/k, 1)) // visits of a permutation of the rows
	first := int64(visit%round) * k
	seed := mix(b.Seed + uint64(group+2)*golden)
	own := dst[:min(n, k)]
	if n <= smallGroup {
		shuffleSmall(own, n, first, epochState(seed, int(visit/round)))
	} else {
		p := NewPermutation(n, seed, int(visit/round))
		p.Fill(own, first)
	}
	for i := range own {
		own[i] = rows[own[i]]
	}
	for i := n; i < k; i++ {
		dst[i] = dst[i-n]
	}
}

// smallGroup is how many rows are shuffled faster than their order is computed
// index by index.
const smallGroup = 64

// shuffleSmall sets dst to the numbers at the positions from first on of 0..n-1
// shuffled: Durstenfeld, "Algorithm 235: Random permutation", 1964.
func shuffleSmall(dst []int64, n, first int64, state uint64) {
	var order [smallGroup]uint8
	for i := range order {
		order[i] = uint8(i)
	}
	for i := range first + int64(len(dst)) {
		j, _ := bits.Mul64(mix(state+uint64(i+1)*golden), uint64(n-i))
		j += uint64(i)
		order[i], order[j] = order[j], order[i]
	}
	for i := range dst {
		dst[i] = int64(order[first+int64(i)])
	}
}
