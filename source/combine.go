package source

import (
	"context"
	"iter"
	"strconv"
	"strings"
)

// Limit is the first n good rows of s; bad rows between them come too. Without
// a limit, n <= 0, it is s itself.
func Limit[T any](s Source[T], n int64) Source[T] {
	if n <= 0 {
		return s
	}
	return &limit[T]{s, n}
}

type limit[T any] struct {
	Source[T]
	n int64
}

// Identity is another one than that of the whole source, and empty where that
// is.
func (l *limit[T]) Identity(ctx context.Context) (string, error) {
	return derivedIdentity(ctx, "limit "+strconv.FormatInt(l.n, 10), l.Source)
}

func (l *limit[T]) Rows(ctx context.Context) iter.Seq2[Row[T], error] {
	return func(yield func(Row[T], error) bool) {
		left := l.n
		for row, err := range l.Source.Rows(ctx) {
			if err == nil {
				left--
			}
			// The source is left with the last row: a further one need not be
			// there, or be good.
			if !yield(row, err) || left == 0 {
				return
			}
		}
	}
}

// Concat is the rows of the sources, one source after the other.
func Concat[T any](sources ...Source[T]) Source[T] { return concat[T](sources) }

type concat[T any] []Source[T]

func (c concat[T]) Name() string {
	names := make([]string, len(c))
	for i, s := range c {
		names[i] = s.Name()
	}
	return strings.Join(names, ", ")
}

// Identity is empty where one of a source is.
func (c concat[T]) Identity(ctx context.Context) (string, error) {
	return derivedIdentity(ctx, "concat", c...)
}

func (c concat[T]) Rows(ctx context.Context) iter.Seq2[Row[T], error] {
	return func(yield func(Row[T], error) bool) {
		for _, s := range c {
			for row, err := range s.Rows(ctx) {
				if !yield(row, err) || err != nil && !isRowError(err) {
					return
				}
			}
		}
	}
}

// derivedIdentity is the identity of what is made of the sources' rows.
func derivedIdentity[T any](ctx context.Context, format string, sources ...Source[T]) (string, error) {
	h := newIdentityHash(format)
	for _, s := range sources {
		id, err := s.Identity(ctx)
		if err != nil || id == "" {
			return "", err
		}
		h.add(id)
	}
	return h.identity(), nil
}
