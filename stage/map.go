package stage

import "context"

// Func turns one value into another. It owns v, also when it returns an error.
type Func[In, Out any] func(ctx context.Context, v In) (Out, error)

// Map calls fn for every value on n goroutines. Unordered: results come as they
// are ready. At most n values are held.
func Map[In, Out any](g *Group, in Stream[In], name string, n int, fn Func[In, Out]) Stream[Out] {
	n = g.positive(name, "workers", n)
	src, out := take(g, name, in), newEdge[Out](g, name, 0)
	g.run(name, n, func(ctx context.Context, _ int) error {
		for v := range src.all {
			r, err := fn(ctx, v)
			if err != nil {
				return err
			}
			if err := out.send(r); err != nil {
				return err
			}
		}
		return nil
	}, out.finish, src)
	return Stream[Out]{out}
}

// OrderedMap is [Map] with the results in the order of the values. It holds at
// most 2n values, n of them in fn; see [OrderedWorkers], also for errors.
func OrderedMap[In, Out any](g *Group, in Stream[In], name string, n int, fn Func[In, Out]) Stream[Out] {
	return OrderedWorkers(g, in, name, n,
		func(context.Context, int) (struct{}, error) { return struct{}{}, nil },
		func(ctx context.Context, _ struct{}, v In) (Out, error) { return fn(ctx, v) },
		func(struct{}) error { return nil })
}
