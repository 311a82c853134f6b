package stage

import (
	"context"
	"fmt"
	"iter"
)

// From is the source stage: it emits what rows yields. The first error that
// rows yields ends the group; the value beside it is ignored.
func From[T any](g *Group, name string, rows func(ctx context.Context) iter.Seq2[T, error]) Stream[T] {
	out := newEdge[T](g, name, 0)
	g.run(name, 1, func(ctx context.Context, _ int) error {
		if ctx.Err() != nil {
			return nil
		}
		for v, err := range rows(ctx) {
			if err != nil {
				return err
			}
			if err := out.send(v); err != nil {
				return err
			}
		}
		return nil
	}, out.finish)
	return Stream[T]{out}
}

// Process is the general stage of one input and one output: fn ranges over in
// and emits any number of values.
//
// in ends when the stage before has ended or ctx has; when in has ended and
// ctx.Err() is nil, fn has been given every value there was. After leaving a
// loop over in, a new one goes on with the next value. emit blocks until the
// receiver takes the value, which is the receiver's from then on; on an error
// it has released the value, and fn should return that error. fn may use in and
// emit from several goroutines, but no longer than it runs.
func Process[In, Out any](g *Group, in Stream[In], name string, fn func(ctx context.Context, in iter.Seq[In], emit func(Out) error) error) Stream[Out] {
	src, out := take(g, name, in), newEdge[Out](g, name, 0)
	g.run(name, 1, func(ctx context.Context, _ int) error {
		if ctx.Err() != nil {
			return nil
		}
		return fn(ctx, src.all, out.send)
	}, out.finish, src)
	return Stream[Out]{out}
}

// Split is [Process] with n outputs; emit sends to output i of them. An output
// whose receiver has stopped swallows its values, until all have: then emit
// returns [ErrStopped].
func Split[In, Out any](g *Group, in Stream[In], name string, n int, fn func(ctx context.Context, in iter.Seq[In], emit func(i int, v Out) error) error) []Stream[Out] {
	n = g.positive(name, "outputs", n)
	src := take(g, name, in)
	outs, streams := make([]*edge[Out], n), make([]Stream[Out], n)
	for i := range n {
		outs[i] = newEdge[Out](g, fmt.Sprintf("%s[%d]", name, i), 0)
		streams[i] = Stream[Out]{outs[i]}
	}
	emit := func(i int, v Out) error {
		if i < 0 || i >= n {
			drop(v)
			return fmt.Errorf("emit to output %d of %d", i, n)
		}
		err := outs[i].send(v)
		if err != nil && g.ctx.Err() == nil {
			for _, o := range outs {
				if o.ctx.Err() == nil {
					return nil
				}
			}
		}
		return err
	}
	g.run(name, 1, func(ctx context.Context, _ int) error {
		if ctx.Err() != nil {
			return nil
		}
		return fn(ctx, src.all, emit)
	}, func() {
		for _, o := range outs {
			o.finish()
		}
	}, src)
	return streams
}

// Consume is the general last stage: [Process] without an output.
func Consume[T any](g *Group, in Stream[T], name string, fn func(ctx context.Context, in iter.Seq[T]) error) {
	src := take(g, name, in)
	g.run(name, 1, func(ctx context.Context, _ int) error {
		if ctx.Err() != nil {
			return nil
		}
		return fn(ctx, src.all)
	}, func() {}, src)
}

// Each is the last stage that calls fn for every value, one at a time and in
// order. fn owns the value. [ErrStopped] ends the stage without an error.
func Each[T any](g *Group, in Stream[T], name string, fn func(ctx context.Context, v T) error) {
	Consume(g, in, name, func(ctx context.Context, in iter.Seq[T]) error {
		for v := range in {
			if err := fn(ctx, v); err != nil {
				return err
			}
		}
		return nil
	})
}
