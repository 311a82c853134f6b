package source

import "fmt"

// Sampler says which rows are in which batch of an epoch: a pure function of
// the epoch and the batch's number. It is immutable, and safe for concurrent
// use.
type Sampler interface {
	// Batches is the number of batches of an epoch.
	Batches(epoch int) int64
	// Epoch returns the batches of an epoch.
	Epoch(epoch int) Draw
}

// Draw appends the rows of a batch to dst; none where the epoch does not have
// the batch. It is for one goroutine at a time, which best asks for batches in
// the order of their numbers; some may be left out. Once dst is large enough,
// it allocates nothing.
type Draw func(dst []int64, batch int64) []int64

// Batches are the rows of an order, so many a batch; the last one of an epoch
// may be smaller, or is left out. Any batch is found at once.
func Batches(o Order, size int, dropLast bool) (Sampler, error) {
	if size < 1 {
		return nil, fmt.Errorf("a batch of %d rows", size)
	}
	b := batches{Order: o, size: int64(size), n: o.Len() / int64(size)}
	if !dropLast && o.Len()%int64(size) > 0 {
		b.n++
	}
	return b, nil
}

type batches struct {
	Order
	size, n int64
}

func (b batches) Batches(int) int64 { return b.n }

func (b batches) Epoch(epoch int) Draw {
	fill := b.Order.Epoch(epoch)
	return func(dst []int64, batch int64) []int64 {
		if batch < 0 || batch >= b.n {
			return dst
		}
		first := batch * b.size
		dst, rows := extend(dst, int(min(b.size, b.Len()-first)))
		fill(rows, first)
		return dst
	}
}

// extend appends n rows to dst, and returns them, too.
func extend(dst []int64, n int) (all, added []int64) {
	at := len(dst)
	if cap(dst)-at < n {
		dst = append(make([]int64, 0, at+n), dst...)
	}
	return dst[:at+n], dst[at : at+n]
}
