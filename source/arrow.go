package source

import (
	"context"
	"iter"
	"os"
	"slices"

	"github.com/permafrost-ml/permafrost/internal/arrowipc"
)

// ArrowSource is a [Source] over Arrow IPC files and streams; see [Arrow]. It
// is immutable and safe for concurrent use.
type ArrowSource[T any] struct{ columnSource[T] }

var _ Projector = (*ArrowSource[Fields])(nil)

// Arrow is the dataset whose rows are those of Arrow IPC files (.arrow,
// Feather of version 2) and of files that hold an IPC stream; which of the two
// one is, its first bytes say. Paths, T and the values in Fields are as in
// [Parquet], with these differences: a duration is the int64 that is stored, a
// timestamp is a point in time where its type names a time zone, whichever. A
// dictionary is an encoding only, and does not show; views and large types are
// as their plain forms.
//
// Unions, intervals, run-end encoding and big-endian files are not supported;
// the first three are errors only if their column is asked for. A stream must
// have its end-of-stream marker: one that is cut between two record batches
// would otherwise pass for a whole one.
//
// Damaged and hostile files are errors that name file and row: the reader is
// the project's own, because Arrow's can end the process on them. Changed
// values are not found, since the format has no checksums. Memory is bounded
// by a record batch of the columns that are read, at most 1 GiB a buffer, and
// their dictionaries.
func Arrow[T any](paths ...string) *ArrowSource[T] {
	return &ArrowSource[T]{columnSource[T]{files: fileSet{patterns: slices.Clone(paths)}, open: openArrow}}
}

// With returns a source over the same files with options o.
func (s *ArrowSource[T]) With(o FileOptions) *ArrowSource[T] { return &ArrowSource[T]{s.with(o)} }

// Name returns the first path as given.
func (s *ArrowSource[T]) Name() string { return s.files.name() }

// Identity is that of [JSONLSource.Identity]; the columns of Project are part
// of it.
func (s *ArrowSource[T]) Identity(ctx context.Context) (string, error) {
	return s.identity(ctx, "arrow")
}

// Rows reads the files.
func (s *ArrowSource[T]) Rows(ctx context.Context) iter.Seq2[Row[T], error] { return s.rows(ctx) }

// Project implements [Projector].
func (s *ArrowSource[T]) Project(columns ...string) Source[T] {
	return &ArrowSource[T]{s.project(columns)}
}

// arrowFile is an open file, and a pass over its rows.
type arrowFile struct {
	*arrowipc.Reader
	ctx     context.Context
	maxRow  int
	order   []int // for each column of the pass, which of arrays it is
	arrays  []*arrowipc.Array
	at, end int64 // of the record batch
}

func openArrow(ctx context.Context, file *os.File, size int64, maxRow int) (columnFile, error) {
	r, err := arrowipc.Open(file, size)
	if err != nil {
		return nil, err
	}
	return &arrowFile{Reader: r, ctx: ctx, maxRow: maxRow}, nil
}

func (f *arrowFile) names() []string {
	names := make([]string, len(f.Fields))
	for i, field := range f.Fields {
		names[i] = field.Name
	}
	return names
}

func (f *arrowFile) read(columns []int) (columnRows, error) {
	// Record batches have the columns in the order of the schema.
	sorted := slices.Clone(columns)
	slices.Sort(sorted)
	sorted = slices.Compact(sorted)
	for _, c := range columns {
		f.order = append(f.order, slices.Index(sorted, c))
	}
	return f, f.Want(sorted)
}

func (f *arrowFile) next(values []any) error {
	for f.at == f.end {
		if f.ctx.Err() != nil {
			return context.Cause(f.ctx)
		}
		var err error
		if f.arrays, f.end, err = f.Next(); err != nil {
			return err // io.EOF at the end
		}
		f.at = 0
	}
	if f.ctx.Err() != nil {
		return context.Cause(f.ctx)
	}
	i := f.at
	f.at++
	left := f.maxRow
	for k, column := range f.order {
		a := f.arrays[column]
		v := arrowValue{left: left}
		var err error
		if values[k], err = v.of(a, i); err != nil {
			return columnError(a.Field.Name, err)
		}
		left = v.left
	}
	return nil
}
