package stage_test

import (
	"context"
	"errors"
	"iter"
	"sync/atomic"
	"testing"
	"time"

	"github.com/permafrost-ml/permafrost/stage"
)

// ledger counts the references of the items it made.
type ledger struct {
	made, live, bad atomic.Int64
}

// item is a counted value with a place in the order.
type item struct {
	l    *ledger
	n    int
	refs atomic.Int64
}

func (l *ledger) item(n int) *item {
	l.made.Add(1)
	l.live.Add(1)
	it := &item{l: l, n: n}
	it.refs.Store(1)
	return it
}

func (it *item) Retain() {
	it.l.live.Add(1)
	if it.refs.Add(1) <= 1 {
		it.l.bad.Add(1)
	}
}

func (it *item) Release() {
	it.l.live.Add(-1)
	if it.refs.Add(-1) < 0 {
		it.l.bad.Add(1)
	}
}

// check fails the test unless all references are given back, once.
func (l *ledger) check(t *testing.T) {
	t.Helper()
	if n := l.live.Load(); n != 0 {
		t.Errorf("%d live references, want 0", n)
	}
	if n := l.bad.Load(); n != 0 {
		t.Errorf("%d releases or retains of dead items", n)
	}
}

// source emits n items, or any number if n is negative, and fails at failAt.
func (l *ledger) source(n, failAt int) func(context.Context) iter.Seq2[*item, error] {
	return func(context.Context) iter.Seq2[*item, error] {
		return func(yield func(*item, error) bool) {
			for i := 0; i != n; i++ {
				if i == failAt {
					yield(nil, errBoom)
					return
				}
				if !yield(l.item(i), nil) {
					return
				}
			}
		}
	}
}

var (
	errBoom  = errors.New("boom")
	errCause = errors.New("the caller's reason")
)

// step returns a function that takes some time, then fails at one item or
// panics at one, or passes the item on.
func step(failAt, panicAt int) stage.Func[*item, *item] {
	return func(ctx context.Context, it *item) (*item, error) {
		if err := pause(ctx, time.Duration(1+it.n*7%5)*time.Millisecond); err != nil {
			it.Release()
			return nil, err
		}
		switch it.n {
		case failAt:
			it.Release()
			return nil, errBoom
		case panicAt:
			it.Release()
			panic("boom")
		}
		return it, nil
	}
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// numbers emits 0 to n-1.
func numbers(n int) func(context.Context) iter.Seq2[int, error] {
	return func(context.Context) iter.Seq2[int, error] {
		return func(yield func(int, error) bool) {
			for i := range n {
				if !yield(i, nil) {
					return
				}
			}
		}
	}
}

// list appends what it is given; read it after Wait.
func list[T any](g *stage.Group, in stage.Stream[T]) *[]T {
	var got []T
	stage.Each(g, in, "list", func(_ context.Context, v T) error {
		got = append(got, v)
		return nil
	})
	return &got
}
