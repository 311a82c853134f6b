package stage

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// OrderedWorkers is an ordered map on n goroutines, each with a state of its
// own: an encoder, a connection, a stream on a device.
//
// A worker calls open at its first value, with its number below n, fn for each
// of its values, and close when the stage ends, all on one goroutine that does
// nothing else. Where nothing arrives, nothing is opened. The results come in
// the order of the values. At most n values are in fn and at most 2n are held,
// so that one slow value does not stop the other workers at once.
//
// The first error in the order of the values is the stage's, after the results
// before it were sent on; so it is the same for every n. Errors of close are
// joined, and are not lost behind another error.
func OrderedWorkers[S, In, Out any](g *Group, in Stream[In], name string, n int,
	open func(ctx context.Context, worker int) (S, error),
	fn func(ctx context.Context, s S, v In) (Out, error),
	close func(S) error,
) Stream[Out] {
	n = g.positive(name, "workers", n)
	w := &workers[S, In, Out]{
		g: g, name: name, open: open, fn: fn, close: close,
		in: take(g, name, in), out: newEdge[Out](g, name, 0),
		turn: make(chan int, 1), window: make(chan struct{}, 2*n), quit: make(chan struct{}),
		slots: make([]chan slot[Out], 2*n), closed: make([]error, n),
	}
	for i := range w.slots {
		w.slots[i] = make(chan slot[Out], 1)
	}
	w.turn <- 0
	g.run(name, n+1, func(ctx context.Context, i int) error {
		if i == n {
			return w.collect()
		}
		return w.work(ctx, i)
	}, w.finish, w.in)
	return Stream[Out]{w.out}
}

// workers is the state of one OrderedWorkers stage. The worker whose turn it is
// waits for room in the window, takes the next value, passes the turn on and
// works; the collector empties the slots in order and makes the room.
type workers[S, In, Out any] struct {
	g     *Group
	name  string
	open  func(ctx context.Context, worker int) (S, error)
	fn    func(ctx context.Context, s S, v In) (Out, error)
	close func(S) error

	in  *edge[In]
	out *edge[Out]

	turn   chan int         // the number of the next value; closed when there is none
	window chan struct{}    // an element for each value held
	slots  []chan slot[Out] // value i's result goes to slot i modulo the window's size
	quit   chan struct{}    // closed when no more values are to be taken
	once   sync.Once        // closes quit
	closed []error          // by worker
}

// slot is the result of one value, or the end of the stream.
type slot[Out any] struct {
	v   Out
	err error
	end bool
}

func (w *workers[S, In, Out]) stop() { w.once.Do(func() { close(w.quit) }) }

// work is one worker's life.
func (w *workers[S, In, Out]) work(ctx context.Context, worker int) error {
	var s S
	opened := false
	defer func() {
		if !opened {
			return
		}
		if err := w.g.guard(w.name, func() error { return w.close(s) }); err != nil {
			w.closed[worker] = fmt.Errorf("close worker %d: %w", worker, err)
		}
	}()
	for i := range w.turn {
		v, ok := w.next(i)
		if !ok {
			close(w.turn)
			return nil
		}
		w.turn <- i + 1
		w.do(i, func() (out Out, err error) {
			if !opened {
				if s, err = w.open(ctx, worker); err != nil {
					drop(v)
					return out, fmt.Errorf("open worker %d: %w", worker, err)
				}
				opened = true
			}
			return w.fn(ctx, s, v)
		})
	}
	return nil
}

// next takes value i, or reports that there is none.
func (w *workers[S, In, Out]) next(i int) (v In, ok bool) {
	select {
	case <-w.quit:
		return v, false
	default:
	}
	select {
	case <-w.quit:
		return v, false
	case w.window <- struct{}{}:
	}
	if v, ok = w.in.recv(); !ok {
		w.slots[i%len(w.slots)] <- slot[Out]{end: true}
	}
	return v, ok
}

// do fills slot i, whatever fn does.
func (w *workers[S, In, Out]) do(i int, fn func() (Out, error)) {
	r := slot[Out]{err: errGoexit}
	defer func() {
		if r.err != nil {
			w.stop()
		}
		w.slots[i%len(w.slots)] <- r
	}()
	r.err = w.g.guard(w.name, func() (err error) {
		r.v, err = fn()
		return err
	})
}

// collect sends the results on until the end or the first error.
func (w *workers[S, In, Out]) collect() error {
	defer w.stop()
	for i := 0; ; i++ {
		r := <-w.slots[i%len(w.slots)]
		if r.end || r.err != nil {
			return r.err
		}
		if err := w.out.send(r.v); err != nil {
			return err
		}
		<-w.window
	}
}

// finish runs after the last worker has closed its state.
func (w *workers[S, In, Out]) finish() {
	defer w.out.finish()
	for _, s := range w.slots {
		select {
		case r := <-s:
			if r.err == nil && !r.end {
				drop(r.v)
			}
		default:
		}
	}
	if err := errors.Join(w.closed...); err != nil {
		w.g.failLate(w.name, err)
	}
}
