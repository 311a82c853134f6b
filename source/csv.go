package source

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"
)

// CSVOptions are the options of [CSVSource.With]. The zero value is the
// default.
type CSVOptions struct {
	FileOptions
	// Comma separates cells. Default a comma, and a tab in files named .tsv.
	Comma rune
	// Columns are the names of the columns of files that have no header line.
	// Default none: the first line of every file names its columns.
	Columns []string
}

// CSVSource is a [Source] over CSV files; see [CSV]. It is immutable and safe
// for concurrent use.
type CSVSource[T any] struct {
	files   fileSet
	comma   rune
	columns []string
}

var _ Source[Fields] = (*CSVSource[Fields])(nil)

// CSV is the dataset whose rows are the records of CSV files (RFC 4180), each
// with a header line. Paths, compression and what does not matter are as in
// [JSONL]. A cell in quotes holds commas, line ends, as they are, and doubled
// quotes; a quote inside a cell that does not begin with one is part of it.
// The line of a row is the one that it begins on.
//
// T is [Fields], in which every value is a string, or a struct. A field of a
// struct is filled from the column that its csv tag names, else its json tag,
// else its own name in any case; "-" leaves it out. A file without that column
// is an error unless the tag says omitempty; columns of no field are left out.
// Fields are strings, integers, floats, bools, [encoding.TextUnmarshaler]s or
// pointers to these, which stay nil where the cell is empty; so does the zero
// of an omitempty field that is no string.
//
// A record that is not UTF-8, has not as many cells as the header, has
// anything behind a closing quote, lacks one or does not fit T is a
// [*RowError]. A record longer than MaxLine ends the pass, because it mostly
// is a quote left open, behind which nothing can be trusted.
func CSV[T any](paths ...string) *CSVSource[T] {
	return &CSVSource[T]{files: fileSet{patterns: slices.Clone(paths)}}
}

// With returns a source over the same files with options o.
func (s *CSVSource[T]) With(o CSVOptions) *CSVSource[T] {
	return &CSVSource[T]{fileSet{s.files.patterns, o.FileOptions}, o.Comma, slices.Clone(o.Columns)}
}

// Name returns the first path as given.
func (s *CSVSource[T]) Name() string { return s.files.name() }

// Identity is that of [JSONLSource.Identity], with the options of CSV.
func (s *CSVSource[T]) Identity(ctx context.Context) (string, error) {
	options := fmt.Sprintf("maxline=%d columns=%q", s.files.opts.maxLine(), s.columns)
	return s.files.identity(ctx, "csv", options, func(path string) string { return string(s.commaOf(path)) })
}

func (s *CSVSource[T]) commaOf(path string) rune {
	if s.comma != 0 {
		return s.comma
	}
	base := strings.ToLower(filepath.Base(path))
	base = strings.TrimSuffix(strings.TrimSuffix(base, ".gz"), ".zst")
	if filepath.Ext(base) == ".tsv" {
		return '\t'
	}
	return ','
}

// Rows reads the files.
func (s *CSVSource[T]) Rows(ctx context.Context) iter.Seq2[Row[T], error] {
	return func(yield func(Row[T], error) bool) {
		fail := func(err error) bool {
			yield(Row[T]{}, err)
			return false
		}
		s.files.readFiles(ctx, fail, func(path string, lines *lineReader) bool {
			comma := s.commaOf(path)
			if !validComma(comma) {
				return fail(fmt.Errorf("read %s: %q cannot separate cells", path, comma))
			}
			r := &csvReader{lines: lines, comma: string(comma)}
			columns, err := s.header(r)
			if err != nil {
				return fail(fmt.Errorf("%s: %w", Pos{path, max(r.start, 1)}, err))
			}
			decode, err := csvDecoder[T](columns)
			if err != nil {
				return fail(fmt.Errorf("%s: %w", Pos{path, max(r.start, 1)}, err))
			}
			for {
				err := r.next()
				bad := (*recordError)(nil)
				switch {
				case errors.Is(err, io.EOF):
					return true
				case err != nil && !errors.As(err, &bad):
					return fail(fmt.Errorf("%s: %w", Pos{path, r.start}, err))
				case ctx.Err() != nil:
					return fail(context.Cause(ctx))
				}
				row := Row[T]{Pos: Pos{path, r.start}, Raw: bytes.Clone(trimEnd(r.raw))}
				if err == nil {
					if r.cells() != len(columns) {
						err = fmt.Errorf("%d cells, but there are %d columns", r.cells(), len(columns))
					} else {
						err = decode(r, &row.Value)
					}
				}
				if err != nil {
					if !yield(Row[T]{}, &RowError{Pos: row.Pos, Raw: row.Raw, Err: err}) {
						return false
					}
				} else if !yield(row, nil) {
					return false
				}
			}
		})
	}
}

func validComma(c rune) bool {
	return utf8.ValidRune(c) && c != utf8.RuneError && c != '"' && c != '\r' && c != '\n'
}

// header returns the names of the columns.
func (s *CSVSource[T]) header(r *csvReader) ([]string, error) {
	columns := s.columns
	if len(columns) == 0 {
		err := r.next()
		if errors.Is(err, io.EOF) {
			return nil, errors.New("no header line")
		}
		if err != nil {
			return nil, fmt.Errorf("header: %w", err)
		}
		for i := range r.cells() {
			columns = append(columns, r.cell(i))
		}
	}
	for i, c := range columns {
		if slices.Contains(columns[:i], c) {
			return nil, fmt.Errorf("header: two columns are named %q", c)
		}
	}
	return columns, nil
}

// recordError is a record after which reading goes on.
type recordError struct{ reason string }

func (e *recordError) Error() string { return e.reason }

// csvReader reads records; all it gives is valid until the next call of next.
type csvReader struct {
	lines *lineReader
	comma string

	start int64  // line on which the record begins
	raw   []byte // the record's text with its line end
	text  []byte // the cells' contents, one after the other
	ends  []int  // where in text each cell ends
}

func (r *csvReader) cells() int { return len(r.ends) }

func (r *csvReader) cell(i int) string {
	begin := 0
	if i > 0 {
		begin = r.ends[i-1]
	}
	return string(r.text[begin:r.ends[i]])
}

// next reads the next record that is no blank line. The error is io.EOF at the
// end, a *recordError for a record that raw has whole, or any other, which
// ends the reading.
func (r *csvReader) next() error {
	if cap(r.raw) > keptBuffer {
		r.raw, r.text = nil, nil
	}
	r.raw, r.text, r.ends = r.raw[:0], r.text[:0], r.ends[:0]
	for {
		line, err := r.lines.next()
		r.start = r.lines.line
		tooLong := (*tooLongError)(nil)
		if err != nil {
			if !errors.Is(err, io.EOF) && !errors.As(err, &tooLong) {
				r.start++ // the line that could not be read
			}
			return err
		}
		if len(trimEnd(line)) > 0 {
			r.raw = append(r.raw, line...)
			break
		}
	}
	if err := r.record(); err != nil {
		return err
	}
	if !utf8.Valid(r.raw) {
		return &recordError{errNotUTF8.Error()}
	}
	return nil
}

// record takes the record that begins with raw apart.
func (r *csvReader) record() error {
	for at := 0; ; {
		rest := r.raw[at:]
		if len(rest) > 0 && rest[0] == '"' {
			var err error
			if at, err = r.quoted(at + 1); err != nil {
				return err
			}
		} else {
			n := bytes.Index(rest, []byte(r.comma))
			if n < 0 {
				n = len(trimEnd(rest))
			}
			r.text = append(r.text, rest[:n]...)
			at += n
		}
		r.ends = append(r.ends, len(r.text))
		if !bytes.HasPrefix(r.raw[at:], []byte(r.comma)) {
			return nil
		}
		at += len(r.comma)
	}
}

// quoted reads a cell from behind its opening quote, with as many lines as it
// takes, and returns where it ends.
func (r *csvReader) quoted(at int) (int, error) {
	opened := r.lines.line
	for {
		n := bytes.IndexByte(r.raw[at:], '"')
		if n < 0 {
			r.text = append(r.text, r.raw[at:]...)
			at = len(r.raw)
			line, err := r.lines.next()
			tooLong := (*tooLongError)(nil)
			switch {
			case errors.Is(err, io.EOF):
				return 0, &recordError{fmt.Sprintf("the quote opened on line %d is never closed", opened)}
			case errors.As(err, &tooLong) || err == nil && len(r.raw)+len(line) > r.lines.max:
				return 0, fmt.Errorf("the quote opened on line %d is not closed: %w", opened, &tooLongError{r.lines.max})
			case err != nil:
				return 0, err
			}
			r.raw = append(r.raw, line...)
			continue
		}
		r.text = append(r.text, r.raw[at:at+n]...)
		at += n + 1
		rest := r.raw[at:]
		switch {
		case len(rest) > 0 && rest[0] == '"':
			r.text = append(r.text, '"')
			at++
		case len(trimEnd(rest)) == 0 || bytes.HasPrefix(rest, []byte(r.comma)):
			return at, nil
		default:
			return 0, &recordError{fmt.Sprintf("text behind the quote closed on line %d", r.lines.line)}
		}
	}
}
