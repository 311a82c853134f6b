package stage

import (
	"context"
	"iter"
	"reflect"
	"sync"
)

// Tee sends every value to n streams, in order. A value is offered to all
// branches at once, and the next is taken when each has taken it: the slowest
// branch sets the pace, and a graph that empties one branch before it reads
// another does not end. A branch that has stopped is passed over. Values with a
// Retain method, also in a slice, are retained once for each branch after the
// first; the branches share the memory of all others and must not write to it.
func Tee[T any](g *Group, in Stream[T], n int) []Stream[T] {
	name := in.name() + "/tee"
	return Split(g, in, name, n, func(_ context.Context, in iter.Seq[T], emit func(int, T) error) error {
		errs := make([]error, n)
		counted := n > 1 && mayHold[Retainer](reflect.TypeFor[T]())
		for v := range in {
			if counted {
				retain(v, n-1)
			}
			var wg sync.WaitGroup
			for i := 1; i < n; i++ {
				wg.Go(func() {
					errs[i] = g.guard(name, func() error { return emit(i, v) })
				})
			}
			errs[0] = emit(0, v)
			wg.Wait()
			for _, err := range errs {
				if err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// Merge sends the values of all streams to one, as they come. The order within
// each stream is kept.
func Merge[T any](g *Group, ins ...Stream[T]) Stream[T] {
	if len(ins) == 0 {
		return Concat(g, ins...)
	}
	name := ins[0].name() + "/merge"
	srcs, out := takeAll(g, name, ins), newEdge[T](g, name, 0)
	g.run(name, len(srcs), func(_ context.Context, i int) error {
		return forward(srcs[i], out)
	}, out.finish, inputs(srcs)...)
	return Stream[T]{out}
}

// Concat sends all values of the first stream, then all of the second, and so
// on. The stages of the later streams wait meanwhile with their first value.
func Concat[T any](g *Group, ins ...Stream[T]) Stream[T] {
	name := "concat"
	if len(ins) > 0 {
		name = ins[0].name() + "/concat"
	}
	srcs, out := takeAll(g, name, ins), newEdge[T](g, name, 0)
	g.run(name, 1, func(context.Context, int) error {
		for _, src := range srcs {
			if err := forward(src, out); err != nil {
				return err
			}
		}
		return nil
	}, out.finish, inputs(srcs)...)
	return Stream[T]{out}
}

// Prefetch lets the stage before it run ahead: it holds up to depth values for
// its receiver. It is the only stage that buffers. Ordered.
func Prefetch[T any](g *Group, in Stream[T], depth int) Stream[T] {
	name := in.name() + "/prefetch"
	depth = g.positive(name, "depth", depth)
	// One value is in the stage's hand.
	src, out := take(g, name, in), newEdge[T](g, name, depth-1)
	g.run(name, 1, func(context.Context, int) error {
		return forward(src, out)
	}, out.finish, src)
	return Stream[T]{out}
}

func takeAll[T any](g *Group, name string, ins []Stream[T]) []*edge[T] {
	srcs := make([]*edge[T], len(ins))
	for i, in := range ins {
		srcs[i] = take(g, name, in)
	}
	return srcs
}

func inputs[T any](srcs []*edge[T]) []input {
	ins := make([]input, len(srcs))
	for i, src := range srcs {
		ins[i] = src
	}
	return ins
}

func forward[T any](src, out *edge[T]) error {
	for v := range src.all {
		if err := out.send(v); err != nil {
			return err
		}
	}
	return nil
}
