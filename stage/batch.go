package stage

import (
	"context"
	"iter"
)

// Batch gathers size values into a slice; the last may be shorter. Ordered. It
// never cuts by time, so that batches are the same in every run. Each slice is
// new and belongs to the receiver. Up to size values are held.
func Batch[T any](g *Group, in Stream[T], size int) Stream[[]T] {
	name := in.name() + "/batch"
	size = g.positive(name, "batch size", size)
	return Process(g, in, name, func(ctx context.Context, in iter.Seq[T], emit func([]T) error) error {
		var batch []T
		for v := range in {
			if batch == nil {
				batch = make([]T, 0, size)
			}
			if batch = append(batch, v); len(batch) < size {
				continue
			}
			full := batch
			batch = nil
			if err := emit(full); err != nil {
				return err
			}
		}
		if ctx.Err() != nil {
			drop(batch)
			return nil
		}
		if batch == nil {
			return nil
		}
		return emit(batch)
	})
}

// Unbatch emits the elements of each slice. Ordered.
func Unbatch[T any](g *Group, in Stream[[]T]) Stream[T] {
	return Process(g, in, in.name()+"/unbatch", func(_ context.Context, in iter.Seq[[]T], emit func(T) error) error {
		for batch := range in {
			for i, v := range batch {
				if err := emit(v); err != nil {
					drop(batch[i+1:])
					return err
				}
			}
		}
		return nil
	})
}
