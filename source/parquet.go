package source

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"os"
	"slices"
	"strconv"

	"github.com/permafrost-ml/permafrost/internal/parquet"
)

// ParquetSource is a [Source] over Parquet files; see [Parquet]. It is
// immutable and safe for concurrent use.
type ParquetSource[T any] struct{ columnSource[T] }

var _ Projector = (*ParquetSource[Fields])(nil)

// Parquet is the dataset whose rows are those of Parquet files. Paths are as
// in [JSONL]; a file is known by its content, whatever it is called. Only the
// columns that are asked for are read, page by page: those that a struct T has
// fields for, or those of [ParquetSource.Project].
//
// T is a struct or [Fields]. A field of a struct is filled from the column that
// its json tag names, else its own name, in any case if none has it exactly;
// "-" leaves it out. A file without that column is an error unless the tag says
// omitempty. Null is nil in Fields, and leaves a field of a struct alone.
//
// In Fields, and into structs as far as they fit:
//
//	text, enum, JSON                  string, which must be UTF-8
//	bytes, byte arrays of one length  []byte
//	integers                          int64, beyond its range float64
//	floats, of 16 bits too            float64
//	bool                              bool
//	timestamp                         string, RFC 3339: 2006-01-02T15:04:05.999Z, without Z if it is local
//	date, time of day                 string: 2006-01-02, 15:04:05.999
//	decimal                           string with all its digits
//	UUID                              string, hexadecimal with dashes
//	list, struct, map                 json.RawMessage; a map whose keys are no text is a list of its pairs
//
// In lists, structs and maps bytes are in base64. A dictionary is an encoding
// only, and does not show.
//
// Codecs are snappy, gzip, zstd, LZ4 and none; encryption is not supported. A
// value that breaks these rules, and a row of more than MaxLine bytes, is a
// [*RowError]; everything else that is wrong with a file ends the pass with an
// error that names file and row. Damaged files are found where their structure
// shows it or where pages have checksums. Rows count from 1, and have no Raw.
// Memory is bounded by a page of at most 256 MiB and a dictionary for each
// column that is read.
func Parquet[T any](paths ...string) *ParquetSource[T] {
	return &ParquetSource[T]{columnSource[T]{files: fileSet{patterns: slices.Clone(paths)}, open: openParquet}}
}

// With returns a source over the same files with options o.
func (s *ParquetSource[T]) With(o FileOptions) *ParquetSource[T] {
	return &ParquetSource[T]{s.with(o)}
}

// Name returns the first path as given.
func (s *ParquetSource[T]) Name() string { return s.files.name() }

// Identity is that of [JSONLSource.Identity]; the columns of Project are part
// of it.
func (s *ParquetSource[T]) Identity(ctx context.Context) (string, error) {
	return s.identity(ctx, "parquet")
}

// Rows reads the files.
func (s *ParquetSource[T]) Rows(ctx context.Context) iter.Seq2[Row[T], error] { return s.rows(ctx) }

// Project implements [Projector].
func (s *ParquetSource[T]) Project(columns ...string) Source[T] {
	return &ParquetSource[T]{s.project(columns)}
}

type parquetFile struct {
	*parquet.File
	ctx    context.Context
	maxRow int
}

func openParquet(ctx context.Context, file *os.File, size int64, maxRow int) (columnFile, error) {
	f, err := parquet.Open(file, size)
	if err != nil {
		return nil, err
	}
	return &parquetFile{f, ctx, maxRow}, nil
}

func (f *parquetFile) names() []string {
	names := make([]string, len(f.Root.Children))
	for i, n := range f.Root.Children {
		names[i] = n.Name
	}
	return names
}

func (f *parquetFile) read(columns []int) (columnRows, error) {
	r := &parquetRows{f: f}
	for _, c := range columns {
		col, err := newParquetColumn(f.Root.Children[c])
		if err != nil {
			return nil, err
		}
		r.columns = append(r.columns, col)
	}
	return r, nil
}

// parquetRows reads row group after row group.
type parquetRows struct {
	f       *parquetFile
	columns []*parquetColumn
	group   int   // the next one
	left    int64 // rows of the one before
}

func (r *parquetRows) next(values []any) error {
	for r.left == 0 {
		if r.group == r.f.Groups() {
			return io.EOF
		}
		r.left = r.f.Rows(r.group)
		for _, c := range r.columns {
			c.open(r.f.File, r.group)
		}
		r.group++
	}
	if r.f.ctx.Err() != nil {
		return context.Cause(r.f.ctx)
	}
	r.left--
	bad := error(nil)
	size := 0
	for i, c := range r.columns {
		n, err := c.row(r.f.maxRow - size)
		if err != nil {
			return fmt.Errorf("column %s: %w", c.node.Name, err)
		}
		if size += n; size > r.f.maxRow {
			bad = badCellf("larger than MaxLine, %d bytes", r.f.maxRow)
		}
		if bad != nil {
			continue // the other columns have to go on too
		}
		switch values[i], err = c.value(); {
		case errors.Is(err, errLevels):
			return fmt.Errorf("column %s: %w", c.node.Name, err)
		case err != nil:
			bad = badCellf("column %s: %w", c.node.Name, err)
		}
	}
	if r.left == 0 {
		for _, c := range r.columns {
			if err := c.end(); err != nil {
				return fmt.Errorf("column %s: %w", c.node.Name, err)
			}
		}
	}
	return bad
}

// parquetValue returns the function that makes the value of [Fields] of a
// leaf's cell.
func parquetValue(n *parquet.Node) func(c *parquet.Cell) (any, error) {
	small := n.Kind == parquet.Int32
	switch n.Meaning {
	case parquet.Text:
		return func(c *parquet.Cell) (any, error) { return textOf(c.Bytes) }
	case parquet.Date:
		return func(c *parquet.Cell) (any, error) { return dateOf(c.Int) }
	case parquet.Time:
		return func(c *parquet.Cell) (any, error) { return timeOf(c.Int, int64(n.Unit)) }
	case parquet.Timestamp:
		return func(c *parquet.Cell) (any, error) { return timestampOf(c.Int, int64(n.Unit), n.UTC) }
	case parquet.Decimal:
		if n.Kind == parquet.Int32 || n.Kind == parquet.Int64 {
			return func(c *parquet.Cell) (any, error) {
				return decimalText(strconv.FormatInt(c.Int, 10), n.Scale), nil
			}
		}
		return func(c *parquet.Cell) (any, error) { return bigDecimalOf(c.Bytes, n.Scale) }
	case parquet.Unsigned:
		return func(c *parquet.Cell) (any, error) {
			if small {
				return int64(uint32(c.Int)), nil
			}
			return unsignedOf(uint64(c.Int)), nil
		}
	case parquet.UUID:
		return func(c *parquet.Cell) (any, error) { return uuidOf(c.Bytes), nil }
	case parquet.Half:
		return func(c *parquet.Cell) (any, error) { return halfOf(binary.LittleEndian.Uint16(c.Bytes)), nil }
	}
	switch n.Kind {
	case parquet.Bool:
		return func(c *parquet.Cell) (any, error) { return c.Int != 0, nil }
	case parquet.Float:
		return func(c *parquet.Cell) (any, error) { return float64(math.Float32frombits(uint32(c.Int))), nil }
	case parquet.Double:
		return func(c *parquet.Cell) (any, error) { return math.Float64frombits(uint64(c.Int)), nil }
	case parquet.Int96:
		return func(c *parquet.Cell) (any, error) { return int96Of(c.Bytes) }
	case parquet.Bytes, parquet.FixedBytes:
		return func(c *parquet.Cell) (any, error) { return slices.Clone(c.Bytes), nil }
	default:
		return func(c *parquet.Cell) (any, error) { return c.Int, nil }
	}
}

// int96Of returns the text of an older timestamp: nanoseconds of the day, and
// the Julian day.
func int96Of(b []byte) (any, error) {
	const julian1970 = 2440588
	nanos := int64(binary.LittleEndian.Uint64(b))
	days := int64(binary.LittleEndian.Uint32(b[8:])) - julian1970
	if nanos < 0 || nanos >= 86400e9 || days < -1e6 || days > 3e6 {
		return nil, fmt.Errorf("the timestamp is %d ns of day %d from 1970", nanos, days)
	}
	return timestampOf(days*86400*1e6+nanos/1000, 1e6, false)
}
