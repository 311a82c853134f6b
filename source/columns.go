package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"
)

// columnFile is an open file of columns. Its errors do not name the file.
type columnFile interface {
	// names are the names of the columns, in order.
	names() []string
	// read starts a pass over the rows of some columns, by their numbers.
	read(columns []int) (columnRows, error)
}

// columnRows is a pass over rows.
type columnRows interface {
	// next reads the next row: a value of [Fields] for each column of the
	// pass. The error is io.EOF behind the last row, a *badCell for a row
	// after which the pass goes on, or any other, which ends it.
	next(values []any) error
}

// badCell is a row that was read but cannot be used.
type badCell struct{ err error }

func (e *badCell) Error() string { return e.err.Error() }
func (e *badCell) Unwrap() error { return e.err }

func badCellf(format string, args ...any) error { return &badCell{fmt.Errorf(format, args...)} }

// columnSource is what the sources of files of columns have in common.
type columnSource[T any] struct {
	files   fileSet
	columns []string // those that Project names, sorted; nil for all
	// open reads the head of a file. maxRow bounds a row, in bytes.
	open func(ctx context.Context, file *os.File, size int64, maxRow int) (columnFile, error)
}

func (s columnSource[T]) with(o FileOptions) columnSource[T] {
	s.files.opts = o
	return s
}

func (s columnSource[T]) project(columns []string) columnSource[T] {
	s.columns = slices.Clone(columns)
	slices.Sort(s.columns)
	s.columns = slices.Compact(s.columns)
	return s
}

func (s columnSource[T]) identity(ctx context.Context, format string) (string, error) {
	options := fmt.Sprintf("maxline=%d columns=%q", s.files.opts.maxLine(), s.columns)
	return s.files.identity(ctx, format, options, nil)
}

func (s columnSource[T]) rows(ctx context.Context) iter.Seq2[Row[T], error] {
	return func(yield func(Row[T], error) bool) {
		paths, err := s.files.paths()
		if err != nil {
			yield(Row[T]{}, err)
			return
		}
		for _, path := range paths {
			if !s.readFile(ctx, path, yield) {
				return
			}
		}
	}
}

func (s columnSource[T]) readFile(ctx context.Context, path string, yield func(Row[T], error) bool) bool {
	pos := Pos{Name: path}
	fail := func(err error) bool {
		if err != nil && !errors.Is(err, context.Cause(ctx)) {
			err = fmt.Errorf("read %s: %w", path, err)
		}
		yield(Row[T]{}, err)
		return false
	}
	file, err := os.Open(path)
	if err != nil {
		yield(Row[T]{}, err)
		return false
	}
	defer func() { _ = file.Close() }() // it was only read
	info, err := file.Stat()
	switch {
	case err != nil:
		return fail(err)
	case info.IsDir():
		return fail(errors.New("it is a directory, not a file"))
	case !info.Mode().IsRegular():
		return fail(errors.New("it is no regular file; files of columns are read at any place, not in order"))
	}
	f, err := s.open(ctx, file, info.Size(), s.files.opts.maxLine())
	if err != nil {
		return fail(err)
	}
	columns, decode, err := columnDecoder[T](f.names(), s.columns)
	if err != nil {
		return fail(err)
	}
	rows, err := f.read(columns)
	if err != nil {
		return fail(err)
	}
	values := make([]any, len(columns))
	for {
		clear(values)
		err := rows.next(values)
		pos.Line++
		bad := (*badCell)(nil)
		switch {
		case errors.Is(err, io.EOF):
			return true
		case ctx.Err() != nil:
			return fail(context.Cause(ctx))
		case err != nil && !errors.As(err, &bad):
			yield(Row[T]{}, fmt.Errorf("%s: %w", pos, err))
			return false
		}
		row := Row[T]{Pos: pos}
		if err == nil {
			err = decode(values, &row.Value)
		} else {
			err = bad.err
		}
		if err != nil {
			if !yield(Row[T]{}, &RowError{Pos: pos, Err: err}) {
				return false
			}
		} else if !yield(row, nil) {
			return false
		}
	}
}

// Projector is a source of [Fields] that can leave columns of its files
// unread.
type Projector interface {
	Source[Fields]
	// Project returns a source of the same rows with only these columns. A
	// file without one of them ends the pass with an error.
	Project(columns ...string) Source[Fields]
}

// Project returns s with only the named columns where it is a [Projector],
// else s itself, whose rows then have others besides.
func Project(s Source[Fields], columns ...string) Source[Fields] {
	if p, ok := s.(Projector); ok {
		return p.Project(columns...)
	}
	return s
}
