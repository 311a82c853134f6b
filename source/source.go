package source

import (
	"context"
	"fmt"
	"iter"
)

// Source is a dataset: an ordered list of rows of type T.
type Source[T any] interface {
	// Name is short and for messages: a file's path, "slice".
	Name() string
	// Identity names the content: it changes whenever the rows can change,
	// and does not depend on where or under what name they lie. It is empty
	// where the content cannot be known without reading the rows; then the
	// rows are read at every fill.
	Identity(ctx context.Context) (string, error)
	// Rows starts a new pass; each pass gives the same rows in the same
	// order. A bad row comes as a [*RowError], after which the pass may be
	// continued; any other error ends the pass. A Row belongs to whoever
	// receives it: nothing of it is reused.
	Rows(ctx context.Context) iter.Seq2[Row[T], error]
}

// Row is one row with its place.
type Row[T any] struct {
	Value T
	Pos   Pos
	// Raw is the source text of the row where there is one, for quarantine.
	Raw []byte
}

// Pos is the place of a row: a file and the 1-based number of its line, or of
// its row in a file of columns, or only a 1-based row number where Name is not
// a file.
type Pos struct {
	Name string
	Line int64
}

// String returns name:line.
func (p Pos) String() string { return fmt.Sprintf("%s:%d", p.Name, p.Line) }

// RowError is a row that could not be read; rows after it may be fine.
type RowError struct {
	Pos Pos
	Raw []byte // a copy of the source text, may be nil
	Err error
}

// Error returns place and reason.
func (e *RowError) Error() string { return e.Pos.String() + ": " + e.Err.Error() }

// Unwrap returns the reason.
func (e *RowError) Unwrap() error { return e.Err }

// Fields is a row of a dataset whose columns are known by name only, as
// config files declare them: string, int64, float64, bool, []byte, nil, or
// for nested JSON json.RawMessage.
type Fields map[string]any
