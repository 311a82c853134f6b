package kernels

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// small is the number of multiply-adds below which a product is not worth a
// second goroutine: starting and ending one takes about as long as 100,000.
const small = 1 << 21

// busy counts the goroutines that compute products now, in the whole process.
var busy atomic.Int64

// take reserves processors for a product that can use want goroutines, and
// returns how many it may use: one always, for the caller, and further ones
// as far as they are free. The caller gives them back by adding the negative
// number to busy.
func take(want int) int {
	for {
		now := busy.Load()
		got := max(1, min(int64(want), int64(runtime.GOMAXPROCS(0))-now))
		if busy.CompareAndSwap(now, now+got) {
			return int(got)
		}
	}
}

// crew is a product shared among goroutines.
type crew struct {
	product
	parts  int
	byCols bool
	next   atomic.Int64
	done   sync.WaitGroup
	// work is the method value of share, kept because making one allocates.
	work func()
}

var crewPool = sync.Pool{New: func() any {
	w := new(crew)
	w.work = func() {
		defer w.done.Done()
		w.share()
	}
	return w
}}

// run computes the product with at most limit goroutines, 0 for no limit.
func (g *product) run(limit int) {
	want := int(min(int64(g.m)*int64(g.n)*int64(g.k)/small, 1<<20))
	if limit > 0 {
		want = min(want, limit)
	}
	workers := take(max(1, want))
	defer busy.Add(int64(-workers))
	if workers == 1 {
		g.block(0, g.m, 0, g.n)
		return
	}
	w := crewPool.Get().(*crew)
	w.product, w.parts, w.byCols = *g, workers, g.n > g.m
	w.next.Store(0)
	w.done.Add(workers - 1)
	for range workers - 1 {
		go w.work()
	}
	w.share()
	w.done.Wait()
	w.product = product{}
	crewPool.Put(w)
}

// share computes parts until none is left.
func (w *crew) share() {
	for {
		part := int(w.next.Add(1)) - 1
		if part >= w.parts {
			return
		}
		if w.byCols {
			lo, hi := cut(w.n, tileCols, part, w.parts)
			w.block(0, w.m, lo, hi)
		} else {
			lo, hi := cut(w.m, tileRows, part, w.parts)
			w.block(lo, hi, 0, w.n)
		}
	}
}

// cut is the part-th of parts ranges of [0, n) that begin at multiples of unit.
func cut(n, unit, part, parts int) (lo, hi int) {
	units := (n + unit - 1) / unit
	return units * part / parts * unit, min(n, units*(part+1)/parts*unit)
}
