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

// partsEach is the number of parts that a product is cut into for each
// goroutine, so that one that is held up leaves work to the others, and
// leastSide the least number of rows or columns of a part: packing costs more
// the smaller parts are.
const (
	partsEach = 4
	leastSide = 128
)

// crew is a product shared among goroutines.
type crew struct {
	product
	rows, cols int // parts in each direction
	next       atomic.Int64
	ids        atomic.Int64
	buffers    []buffers // by goroutine
	done       sync.WaitGroup
	// work is the method value of share, kept because making one allocates.
	work func()
}

func newCrew() *crew {
	w := new(crew)
	w.work = func() {
		defer w.done.Done()
		w.share()
	}
	return w
}

// idle keeps crews for the next products, the last used one on top. A
// sync.Pool would lose them to garbage collections and hide those of one
// processor from the others.
var idle struct {
	sync.Mutex
	crews []*crew
}

func hire() *crew {
	idle.Lock()
	defer idle.Unlock()
	n := len(idle.crews)
	if n == 0 {
		return newCrew()
	}
	w := idle.crews[n-1]
	idle.crews = idle.crews[:n-1]
	return w
}

// dismiss keeps a crew unless there are as many as can be busy at once.
func (w *crew) dismiss() {
	w.product = product{}
	idle.Lock()
	defer idle.Unlock()
	if len(idle.crews) < runtime.GOMAXPROCS(0) {
		idle.crews = append(idle.crews, w)
	}
}

// run computes the product with at most limit goroutines, 0 for no limit.
func (g *product) run(limit int) {
	want := int(min(int64(g.m)*int64(g.n)*int64(g.k)/small, 1<<20))
	if limit > 0 {
		want = min(want, limit)
	}
	workers := take(max(1, want))
	defer busy.Add(int64(-workers))
	w := hire()
	defer w.dismiss()
	w.product = *g
	w.cut(workers)
	for len(w.buffers) < workers {
		w.buffers = append(w.buffers, buffers{})
	}
	// Whoever gets a part has room, so that what is allocated does not depend
	// on who is faster.
	rows, cols := ceil(g.m, tileRows)/w.rows+tileRows, ceil(g.n, tileCols)/w.cols+tileCols
	for i := range workers {
		w.buffers[i].fit(min(rows, g.m), min(cols, g.n), g.k)
	}
	w.next.Store(0)
	w.ids.Store(0)
	w.done.Add(workers - 1)
	for range workers - 1 {
		go w.work()
	}
	w.share()
	w.done.Wait()
}

// cut chooses the parts for that many goroutines.
func (w *crew) cut(workers int) {
	w.rows, w.cols = 1, 1
	if workers == 1 {
		return
	}
	for w.rows*w.cols < partsEach*workers {
		height, width := w.m/w.rows, w.n/w.cols
		switch {
		case max(height, width) < 2*leastSide && w.rows*w.cols >= workers:
			return
		case height >= width:
			w.rows *= 2
		default:
			w.cols *= 2
		}
	}
}

// share computes parts until none is left.
func (w *crew) share() {
	s := &w.buffers[w.ids.Add(1)-1]
	for {
		part := int(w.next.Add(1)) - 1
		if part >= w.rows*w.cols {
			return
		}
		i0, i1 := span(w.m, tileRows, part/w.cols, w.rows)
		j0, j1 := span(w.n, tileCols, part%w.cols, w.cols)
		w.block(s, i0, i1, j0, j1)
	}
}

// span is the part-th of parts ranges of [0, n) that begin at multiples of unit.
func span(n, unit, part, parts int) (lo, hi int) {
	units := (n + unit - 1) / unit
	return units * part / parts * unit, min(n, units*(part+1)/parts*unit)
}
