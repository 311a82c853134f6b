package source

import (
	"context"
	"iter"
)

// SliceSource is a [Source] over rows in memory; see [Slice].
type SliceSource[T any] struct{ rows []T }

var _ Source[Fields] = (*SliceSource[Fields])(nil)

// Slice is the dataset of the given rows. They are borrowed: neither they nor
// what they point to may change while the source is in use.
func Slice[T any](rows []T) *SliceSource[T] { return &SliceSource[T]{rows} }

// Name returns "slice".
func (s *SliceSource[T]) Name() string { return "slice" }

// Identity returns "sha256:" and a digest of the rows with everything that
// they hold, unexported fields too. It is empty where that cannot be known: T
// holds a function, a channel, a cycle or a struct of the standard library
// with unexported fields (a [time.Time], a lock).
func (s *SliceSource[T]) Identity(ctx context.Context) (string, error) {
	h := newIdentityHash("slice")
	v := valueHash{identityHash: h}
	for i := range s.rows {
		if i%1024 == 0 && ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		if !v.addRow(&s.rows[i]) {
			return "", nil
		}
	}
	return h.identity(), nil
}

// Rows gives the rows, numbered from 1. Values are copied as an assignment
// does.
func (s *SliceSource[T]) Rows(ctx context.Context) iter.Seq2[Row[T], error] {
	return func(yield func(Row[T], error) bool) {
		for i, v := range s.rows {
			if ctx.Err() != nil {
				yield(Row[T]{}, context.Cause(ctx))
				return
			}
			if !yield(Row[T]{Value: v, Pos: Pos{"slice", int64(i) + 1}}, nil) {
				return
			}
		}
	}
}
