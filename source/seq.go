package source

import (
	"context"
	"errors"
	"fmt"
	"iter"
)

// SeqSource is a [Source] over a Go iterator; see [Seq] and [SeqFunc].
type SeqSource[T any] struct {
	name    string
	version string
	pass    func(context.Context) iter.Seq2[T, error]
}

var _ Source[Fields] = (*SeqSource[Fields])(nil)

// Seq is the dataset of what seq yields. Every range over seq must give the
// same rows in the same order. An error beside a value ends the pass, unless it
// is a [*RowError].
func Seq[T any](name string, seq iter.Seq2[T, error]) *SeqSource[T] {
	return SeqFunc(name, func(context.Context) iter.Seq2[T, error] { return seq })
}

// SeqFunc is [Seq] for iterators that want the context of the pass.
func SeqFunc[T any](name string, pass func(context.Context) iter.Seq2[T, error]) *SeqSource[T] {
	return &SeqSource[T]{name: name, pass: pass}
}

// WithVersion returns a source over the same rows whose identity is the name
// and a version, which the caller changes whenever the rows change. An empty
// version declares nothing.
func (s *SeqSource[T]) WithVersion(version string) *SeqSource[T] {
	return &SeqSource[T]{s.name, version, s.pass}
}

// Name returns the name given.
func (s *SeqSource[T]) Name() string { return s.name }

// Identity is empty unless a version is declared.
func (s *SeqSource[T]) Identity(context.Context) (string, error) {
	if s.version == "" {
		return "", nil
	}
	h := newIdentityHash("seq")
	h.add(s.name)
	h.add(s.version)
	return h.identity(), nil
}

// Rows ranges over the iterator and numbers the rows from 1.
func (s *SeqSource[T]) Rows(ctx context.Context) iter.Seq2[Row[T], error] {
	return func(yield func(Row[T], error) bool) {
		pos := Pos{Name: s.name}
		for v, err := range s.pass(ctx) {
			pos.Line++
			if ctx.Err() != nil {
				yield(Row[T]{}, context.Cause(ctx))
				return
			}
			bad := (*RowError)(nil)
			switch {
			case err == nil:
				if !yield(Row[T]{Value: v, Pos: pos}, nil) {
					return
				}
			case errors.As(err, &bad):
				if bad.Pos == (Pos{}) {
					bad = &RowError{Pos: pos, Raw: bad.Raw, Err: bad.Err}
				}
				if !yield(Row[T]{}, bad) {
					return
				}
			default:
				yield(Row[T]{}, fmt.Errorf("%s: %w", pos, err))
				return
			}
		}
	}
}
