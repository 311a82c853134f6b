package source

import (
	"fmt"
	"math/bits"
)

// deferredBatches is how many batches of rows wait for a batch that they fit
// in: enough that rows only meet the bound where one object is in more than a
// batch's share of them, when batches must be short anyway.
const deferredBatches = 16

// Distinct are the rows of an order in batches of size rows that have no
// object twice: not in one side, and not in two. objects has, for each side of
// the samples, the number of every row's object; equal numbers are equal
// objects. A row whose own sides are equal is taken.
//
// A row that has an object of the batch being made waits, and waiting rows go
// first into the next batch, the longest waiting before the others. Every row
// of the order comes exactly once in an epoch. A batch is short where the
// order has come to its end, so that several at the end of an epoch may be, or
// where the rows that wait are 16 batches and the next row does not fit,
// either. With dropLast, all short batches are left out.
//
// The batches before one must be formed to form it: asking for a batch takes
// the time of going through the rows up to it, some 0.1 µs each, and Batches
// that of a whole epoch; no embedding is read for that. It keeps objects, which
// must not change.
func Distinct(o Order, objects [][]int64, size int, dropLast bool) (Sampler, error) {
	if size < 1 {
		return nil, fmt.Errorf("a batch of %d rows", size)
	}
	return &distinct{order: o, objects: objects, size: size, dropLast: dropLast}, nil
}

type distinct struct {
	order    Order
	objects  [][]int64
	size     int
	dropLast bool
}

func (d *distinct) Batches(epoch int) int64 {
	e := d.start(epoch)
	n := int64(0)
	for rows := e.next(nil); len(rows) > 0; rows = e.next(rows[:0]) {
		n++
	}
	return n
}

func (d *distinct) Epoch(epoch int) Draw {
	e := d.start(epoch)
	return func(dst []int64, batch int64) []int64 {
		if batch < e.formed {
			e = d.start(epoch)
		}
		before := len(dst)
		for e.formed <= batch {
			if dst = e.next(dst[:before]); len(dst) == before {
				break
			}
		}
		return dst
	}
}

func (d *distinct) start(epoch int) *distinctEpoch {
	all := d.order.Len()
	rows := int(min(int64(d.size), all)) // in a batch
	// No more than half of the set is ever full.
	slots := 1 << bits.Len(uint(2*rows*max(len(d.objects), 1)))
	return &distinctEpoch{
		distinct: d, fill: d.order.Epoch(epoch), left: all,
		waiting: make([]int64, 0, min(deferredBatches*int64(rows), all)),
		set:     objectSet{slots: make([]objectSlot, slots), shift: 64 - uint(bits.Len(uint(slots-1)))},
	}
}

// distinctEpoch forms the batches of an epoch one after the other.
type distinctEpoch struct {
	*distinct
	fill    Fill
	at      int64 // position in the order of what comes after ahead
	left    int64 // rows from at on
	block   [fillBlock]int64
	ahead   []int64 // rows of block that are next
	waiting []int64
	set     objectSet // of the batch being made
	formed  int64     // batches
}

// next appends the rows of the next batch; none at the end.
func (e *distinctEpoch) next(dst []int64) []int64 {
	for before := len(dst); ; dst = dst[:before] {
		dst = e.form(dst)
		switch n := len(dst) - before; {
		case n == 0:
			return dst
		case n == e.size || !e.dropLast:
			e.formed++
			return dst
		}
	}
}

func (e *distinctEpoch) form(dst []int64) []int64 {
	before := len(dst)
	e.set.clear()
	still := 0
	for i, row := range e.waiting {
		if len(dst)-before == e.size {
			still += copy(e.waiting[still:], e.waiting[i:])
			break
		}
		if e.take(row) {
			dst = append(dst, row)
		} else {
			e.waiting[still] = row
			still++
		}
	}
	e.waiting = e.waiting[:still]
	for len(dst)-before < e.size && e.more() {
		row := e.ahead[0]
		switch {
		case e.take(row):
			dst = append(dst, row)
		case len(e.waiting) < cap(e.waiting):
			e.waiting = append(e.waiting, row)
		default:
			return dst
		}
		e.ahead = e.ahead[1:]
	}
	return dst
}

// more reports whether the order has a next row, which is then ahead.
func (e *distinctEpoch) more() bool {
	if len(e.ahead) == 0 && e.left > 0 {
		e.ahead = e.block[:min(e.left, fillBlock)]
		e.fill(e.ahead, e.at)
		e.at += int64(len(e.ahead))
		e.left -= int64(len(e.ahead))
	}
	return len(e.ahead) > 0
}

// take adds a row's objects to those of the batch, unless it has one of them.
func (e *distinctEpoch) take(row int64) bool {
	for _, side := range e.objects {
		if e.set.has(side[row]) {
			return false
		}
	}
	for _, side := range e.objects {
		e.set.add(side[row])
	}
	return true
}

// objectSet is a hash set with open addressing that is emptied at once.
type objectSet struct {
	slots []objectSlot
	round uint64 // slots of another round are empty
	shift uint   // of a hash, to the index of a slot
}

type objectSlot struct {
	object int64
	round  uint64
}

func (s *objectSet) clear() { s.round++ }

func (s *objectSet) has(object int64) bool { return s.find(object).round == s.round }

func (s *objectSet) add(object int64) { *s.find(object) = objectSlot{object, s.round} }

// find returns the slot of an object, or the empty one where it would be.
func (s *objectSet) find(object int64) *objectSlot {
	for i := uint64(object) * golden >> s.shift; ; i++ {
		slot := &s.slots[i&uint64(len(s.slots)-1)]
		if slot.round != s.round || slot.object == object {
			return slot
		}
	}
}
