package stage

import (
	"context"
	"fmt"
	"sync/atomic"
)

// Stream is the typed output of one stage, to be given to exactly one other.
// Copies are the same stream.
type Stream[T any] struct{ e *edge[T] }

func (s Stream[T]) name() string {
	if s.e == nil {
		return "stream"
	}
	return s.e.from
}

// edge is the channel between two stages. The producer closes ch; the consumer
// ends the context when it wants no more, and then drains ch.
type edge[T any] struct {
	core  *core
	from  string // the producer
	ch    chan T
	ctx   context.Context
	done  <-chan struct{} // of ctx
	end   context.CancelCauseFunc
	taken atomic.Bool
}

func newEdge[T any](g *Group, name string, buffer int) *edge[T] {
	e := &edge[T]{core: g.core, from: name, ch: make(chan T, buffer)}
	e.ctx, e.end = context.WithCancelCause(g.ctx)
	e.done = e.ctx.Done()
	g.add(e)
	return e
}

// take makes the caller the stream's consumer. If it cannot be, the group fails
// and the edge returned is one that has ended.
func take[T any](g *Group, name string, s Stream[T]) *edge[T] {
	switch {
	case s.e == nil || s.e.core != g.core:
		g.fail(name, ErrForeign)
	case !s.e.claim():
		g.fail(s.e.from, fmt.Errorf("%w, now by %s", ErrConsumed, name))
	default:
		return s.e
	}
	e := &edge[T]{core: g.core, from: name, ch: make(chan T)}
	e.ctx, e.end = context.WithCancelCause(g.ctx)
	close(e.ch)
	return e
}

// send passes v on, or drops it and says why.
func (e *edge[T]) send(v T) error {
	select {
	case e.ch <- v:
		return nil
	case <-e.done:
		drop(v)
		return context.Cause(e.ctx)
	}
}

// all is the consumer's iter.Seq. It goes on where it was left, and several
// goroutines may range over it at once.
func (e *edge[T]) all(yield func(T) bool) {
	for {
		v, ok := e.recv()
		if !ok || !yield(v) {
			return
		}
	}
}

func (e *edge[T]) recv() (v T, ok bool) {
	select {
	case v, ok = <-e.ch:
	case <-e.core.ctx.Done():
	}
	return v, ok
}

func (e *edge[T]) claim() bool      { return e.taken.CompareAndSwap(false, true) }
func (e *edge[T]) producer() string { return e.from }
func (e *edge[T]) finish()          { close(e.ch) }
func (e *edge[T]) stop()            { e.end(ErrStopped) }

func (e *edge[T]) drain() {
	for v := range e.ch {
		drop(v)
	}
}
