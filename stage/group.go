package stage

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
)

// Group runs the stages of one graph. Stages run from the moment they are
// added; [Group.Wait] must be called once the graph is complete, also when
// building it was given up. A Group is safe for concurrent use.
type Group struct {
	*core
	scope *sync.WaitGroup // counts what was started through this handle, if not nil
}

// core is what all handles of a group share.
type core struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	eg     errgroup.Group
	failed atomic.Bool // the context's cause is a stage's error

	mu      sync.Mutex
	edges   []claimant // all edges made, until Wait
	waiting bool
	late    []error
}

// claimant is an edge of any type.
type claimant interface {
	claim() bool // whether the caller is the first to consume the edge
	producer() string
	input
}

// input is what a stage takes values from.
type input interface {
	stop()  // tells the stage before that no more is wanted
	drain() // drops what is still sent, until that stage has ended
}

// NewGroup returns a group and the context that its stages run under: it ends
// with the first error, with ctx, and when Wait returns.
func NewGroup(ctx context.Context) (*Group, context.Context) {
	ctx, cancel := context.WithCancelCause(ctx)
	return &Group{core: &core{ctx: ctx, cancel: cancel}}, ctx
}

// Go runs fn beside the stages. Its error, wrapped with name, ends the group.
func (g *Group) Go(name string, fn func(ctx context.Context) error) {
	g.start(func() error {
		return g.settle(name, g.guard(name, func() error { return fn(g.ctx) }))
	})
}

// Wait waits until every stage has ended and every value that was dropped is
// released. It returns the first error as an [*Error] that names its stage, or
// the cause of the end of the context given to NewGroup, or nil. Errors of
// closing workers that come after it are joined to it.
func (g *Group) Wait() error {
	g.mu.Lock()
	edges := g.edges
	g.edges, g.waiting = nil, true
	g.mu.Unlock()
	var loose []claimant
	for _, e := range edges {
		if e.claim() {
			g.fail(e.producer(), ErrUnconsumed)
			loose = append(loose, e)
		}
	}
	for _, e := range loose {
		e.stop()
	}
	for _, e := range loose {
		g.start(func() error {
			return g.call(e.producer(), e.drain)
		})
	}
	err := g.eg.Wait()
	if err == nil && g.failed.Load() {
		err = context.Cause(g.ctx)
	}
	g.cancel(nil)
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.late) > 0 {
		err = errors.Join(append([]error{err}, g.late...)...)
	}
	return err
}

// start runs fn in the errgroup.
func (g *Group) start(fn func() error) {
	if g.scope != nil {
		g.scope.Add(1)
	}
	g.eg.Go(func() error {
		if g.scope != nil {
			defer g.scope.Done()
		}
		return fn()
	})
}

// run is the life of every stage: body on n goroutines and, when the last has
// returned, finish, which closes the outputs. What failed has ended the context
// by then; so whoever sees an output close under a living context has seen all
// of it. At last the inputs are given back, which takes as long as the stages
// before this one: all are stopped before the first is drained, because one may
// not end before another has.
func (g *Group) run(name string, n int, body func(ctx context.Context, worker int) error, finish func(), inputs ...input) {
	stop := func() {
		for _, in := range inputs {
			in.stop()
		}
	}
	var left atomic.Int64
	left.Store(int64(n))
	for w := range n {
		g.start(func() error {
			defer func() {
				if left.Add(-1) > 0 {
					return
				}
				_ = g.call(name, finish)
				stop()
				for _, in := range inputs {
					_ = g.call(name, in.drain)
				}
			}()
			err := g.guard(name, func() error { return body(g.ctx, w) })
			cause := g.settle(name, err)
			if err != nil {
				stop() // a quiet stop of one worker is the stage's
			}
			if cause == nil && g.ctx.Err() != nil {
				return context.Cause(g.ctx)
			}
			return cause
		})
	}
}

// call runs a part of a stage that cannot fail but by a panic.
func (g *Group) call(name string, fn func()) error {
	return g.settle(name, g.guard(name, func() error { fn(); return nil }))
}

// guard calls fn and turns a panic into an error.
func (g *Group) guard(name string, fn func() error) (err error) {
	returned := false
	defer func() {
		if returned {
			return
		}
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: debug.Stack()}
			return
		}
		g.fail(name, errGoexit)
	}()
	err = fn()
	returned = true
	return err
}

// settle makes err, if it is the first, the group's, and returns what the
// goroutine returns to the errgroup: the cause that ended the group.
func (g *Group) settle(name string, err error) error {
	if err == nil {
		return nil
	}
	if g.ctx.Err() == nil {
		if errors.Is(err, ErrStopped) {
			return nil
		}
		g.fail(name, err)
	}
	return context.Cause(g.ctx)
}

// fail ends the group, if nothing has yet.
func (c *core) fail(name string, err error) {
	e := &Error{Stage: name, Err: err}
	c.cancel(e)
	if context.Cause(c.ctx) == error(e) {
		c.failed.Store(true)
	}
}

// failLate is fail for an error that is worth reporting after another, too.
func (c *core) failLate(name string, err error) {
	if c.ctx.Err() == nil {
		c.fail(name, err)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.late = append(c.late, &Error{Stage: name, Err: err})
}

// add registers an edge.
func (c *core) add(e claimant) {
	c.mu.Lock()
	waiting := c.waiting
	if !waiting {
		c.edges = append(c.edges, e)
	}
	c.mu.Unlock()
	if waiting {
		c.fail(e.producer(), ErrWaiting)
	}
}

// positive returns n, or fails the group and returns 1.
func (c *core) positive(name, what string, n int) int {
	if n >= 1 {
		return n
	}
	c.fail(name, fmt.Errorf("%s: got %d, need at least 1", what, n))
	return 1
}
