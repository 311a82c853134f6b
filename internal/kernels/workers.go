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

// workersFor is the number of goroutines that so many multiply-adds are
// worth, at most limit, 0 for no limit.
func workersFor(m, n, k, limit int) int {
	want := max(1, int(min(int64(m)*int64(n)*int64(k)/small, 1<<20)))
	if limit > 0 {
		want = min(want, limit)
	}
	return want
}

// task is work that a crew shares.
type task interface {
	// units is the number of pieces of preparation; all are done before the
	// first part.
	units() int
	prepare(unit int)
	// extent is the number of rows or columns that are handed out in parts
	// that begin at multiples of grain.
	extent() (n, grain int)
	part(s *buffers, lo, hi int)
}

// buffers are one goroutine's. They grow up to the sizes of the largest
// blocks.
type buffers struct {
	panels []float32 // packed rows or columns
	bytes  []uint8   // rounded rows, with their scales and zeros
	scales []float32
	zeros  []int32
}

// room is what a task needs of buffers.
type room struct{ panels, bytes, rows int }

func (s *buffers) fit(r room) {
	s.panels, s.bytes = grown(s.panels, r.panels), grown(s.bytes, r.bytes)
	s.scales, s.zeros = grown(s.scales, r.rows), grown(s.zeros, r.rows)
}

func grown[T any](x []T, n int) []T {
	if n > len(x) {
		return make([]T, n)
	}
	return x
}

// most is the most rows or columns of a part, and finest the number of grains
// in the last parts.
const (
	most   = 192
	finest = 4
)

// crew is a number of goroutines that share a task.
type crew struct {
	task     task
	workers  int
	unit     atomic.Int64 // the next one
	prepared atomic.Int64
	at       atomic.Int64 // the next part's begin
	ids      atomic.Int64
	buffers  []buffers // by goroutine
	done     sync.WaitGroup
	// work is the method value of share, kept because making one allocates.
	work func()

	// What the tasks themselves are made in.
	product sharing
	panels  []float32
	bytes   byteProduct
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
	w.task, w.product, w.bytes = nil, sharing{}, byteProduct{}
	idle.Lock()
	defer idle.Unlock()
	if len(idle.crews) < runtime.GOMAXPROCS(0) {
		idle.crews = append(idle.crews, w)
	}
}

// run does a task with that many goroutines. Room is made beforehand for all
// of them, so that what is allocated does not depend on who is faster.
func (w *crew) run(t task, workers int, need room) {
	w.task, w.workers = t, workers
	for len(w.buffers) < workers {
		w.buffers = append(w.buffers, buffers{})
	}
	for i := range workers {
		w.buffers[i].fit(need)
	}
	w.unit.Store(0)
	w.prepared.Store(0)
	w.at.Store(0)
	w.ids.Store(0)
	w.done.Add(workers - 1)
	for range workers - 1 {
		go w.work()
	}
	w.share()
	w.done.Wait()
}

// share prepares units and then computes parts until none is left.
func (w *crew) share() {
	s := &w.buffers[w.ids.Add(1)-1]
	units := w.task.units()
	for {
		unit := int(w.unit.Add(1)) - 1
		if unit >= units {
			break
		}
		w.task.prepare(unit)
		w.prepared.Add(1)
	}
	// Others are about to finish their last unit.
	for int(w.prepared.Load()) < units {
		runtime.Gosched()
	}
	for {
		lo, hi, ok := w.next()
		if !ok {
			return
		}
		w.task.part(s, lo, hi)
	}
}

// next hands out a part: a share of what is left, so that parts become
// smaller to the end and one that is held up leaves little to wait for.
func (w *crew) next() (lo, hi int, ok bool) {
	n, grain := w.task.extent()
	for {
		at := w.at.Load()
		lo = int(at)
		if lo >= n {
			return 0, 0, false
		}
		size := n - lo
		if w.workers > 1 {
			size = max(finest*grain, min(ceil(size/(2*w.workers), grain), ceil(most, grain)))
		}
		hi = min(n, lo+size)
		if w.at.CompareAndSwap(at, int64(hi)) {
			return lo, hi, true
		}
	}
}
