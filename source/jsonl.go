package source

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"unicode/utf8"
)

// JSONLSource is a [Source] over files of JSON lines; see [JSONL]. It is
// immutable and safe for concurrent use.
type JSONLSource[T any] struct{ files fileSet }

var _ Source[Fields] = (*JSONLSource[Fields])(nil)

// JSONL is the dataset whose rows are the lines of files, a JSON object each.
//
// A path is a file or, where there is no file of that name, a pattern of
// [filepath.Match], which stands for the files that match it, sorted by name;
// that none does is an error. Files come in the order given. They may be
// compressed with gzip or zstd. Blank lines, a byte order mark and a missing
// last line end do not matter.
//
// T is anything that encoding/json reads an object into, a struct mostly, or
// [Fields]. In Fields a number is an int64 where it is written as an integer
// (no fraction, no exponent) that an int64 holds, else a float64; objects and
// arrays are compact [json.RawMessage]; null is nil. Of equal keys the last
// one counts. An escaped half of a surrogate pair reads as U+FFFD.
//
// A line that is too long, not UTF-8, not a JSON object, has anything behind
// it or does not fit T is a [*RowError]. Any other failure, a damaged archive
// say, ends the pass with an error that names the file and the line.
func JSONL[T any](paths ...string) *JSONLSource[T] {
	return &JSONLSource[T]{fileSet{patterns: slices.Clone(paths)}}
}

// With returns a source over the same files with options o.
func (s *JSONLSource[T]) With(o FileOptions) *JSONLSource[T] {
	return &JSONLSource[T]{fileSet{s.files.patterns, o}}
}

// Name returns the first path as given.
func (s *JSONLSource[T]) Name() string { return s.files.name() }

// Identity returns "sha256:" and a digest of the content of the files and of
// the options that change rows; it is empty where a path is no regular file (a
// pipe). It reads the files unless their digests are remembered, see
// [FileOptions]. T does not enter it.
func (s *JSONLSource[T]) Identity(ctx context.Context) (string, error) {
	return s.files.identity(ctx, "jsonl", fmt.Sprintf("maxline=%d", s.files.opts.maxLine()), nil)
}

// Rows reads the files.
func (s *JSONLSource[T]) Rows(ctx context.Context) iter.Seq2[Row[T], error] {
	return func(yield func(Row[T], error) bool) {
		fail := func(err error) bool {
			yield(Row[T]{}, err)
			return false
		}
		s.files.readFiles(ctx, fail, func(path string, lines *lineReader) bool {
			for {
				line, err := lines.next()
				tooLong := (*tooLongError)(nil)
				switch {
				case errors.Is(err, io.EOF):
					return true
				case err != nil && !errors.As(err, &tooLong):
					return fail(fmt.Errorf("%s: %w", Pos{path, lines.line + 1}, err))
				case ctx.Err() != nil:
					return fail(context.Cause(ctx))
				}
				line = trimEnd(line)
				if err == nil && isBlank(line) {
					continue
				}
				row := Row[T]{Pos: Pos{path, lines.line}, Raw: bytes.Clone(line)}
				if err == nil {
					err = decodeLine(line, &row.Value)
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

func isBlank(line []byte) bool { return len(bytes.TrimLeft(line, " \t\r")) == 0 }

var (
	errNotUTF8   = errors.New("not valid UTF-8")
	errNotObject = errors.New("not a JSON object")
)

// decodeLine reads the JSON object that line is into v.
func decodeLine[T any](line []byte, v *T) error {
	if !utf8.Valid(line) {
		return errNotUTF8
	}
	if line = bytes.TrimLeft(line, " \t\r"); line[0] != '{' {
		// null would leave a struct as it is and pass for a row.
		return errNotObject
	}
	if f, ok := any(v).(*Fields); ok {
		fields, err := decodeFields(line)
		*f = fields
		return err
	}
	return readableJSONError(json.Unmarshal(line, v))
}

// readableJSONError adds to a syntax error where in the line it is.
func readableJSONError(err error) error {
	if err == nil {
		return nil
	}
	if syntax := (*json.SyntaxError)(nil); errors.As(err, &syntax) {
		return fmt.Errorf("bad JSON at byte %d: %w", syntax.Offset, err)
	}
	if wrong := (*json.UnmarshalTypeError)(nil); errors.As(err, &wrong) && wrong.Field != "" {
		return fmt.Errorf("field %s: a JSON %s does not fit %s", wrong.Field, wrong.Value, wrong.Type)
	}
	return errors.New(strings.TrimPrefix(err.Error(), "json: "))
}
