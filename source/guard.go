package source

import (
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"sync"
	"unicode/utf8"
)

// OnError says what happens to rows that cannot be used.
type OnError string

// The policies for bad rows. The empty string is [Fail].
const (
	Fail       OnError = "fail"       // the first one ends the run
	Skip       OnError = "skip"       // they are left out, and counted
	Quarantine OnError = "quarantine" // they are left out, counted and written to a file
)

// Guard applies a policy to bad rows, those that a source finds as well as
// those that its user does. It is safe for concurrent use.
type Guard struct {
	policy OnError
	path   string

	mu    sync.Mutex
	count int64
	file  *os.File
	err   error // why the file cannot be written any more
}

// NewGuard returns a guard. The quarantine file at path, which is for
// [Quarantine] only, is made or emptied at the first bad row; its folder must
// exist. The caller closes the guard.
func NewGuard(policy OnError, path string) (*Guard, error) {
	switch policy {
	case "", Fail, Skip:
	case Quarantine:
		if path == "" {
			return nil, errors.New("a quarantine of bad rows needs a file to write them to")
		}
		if info, err := os.Stat(filepath.Dir(path)); err != nil {
			return nil, fmt.Errorf("quarantine %s: %w", path, err)
		} else if !info.IsDir() {
			return nil, fmt.Errorf("quarantine %s: %s is no directory", path, filepath.Dir(path))
		}
	default:
		return nil, fmt.Errorf("bad rows can fail, skip or quarantine, not %q", policy)
	}
	return &Guard{policy: policy, path: path}, nil
}

// quarantined is a line of the quarantine file. Row is absent where it is not
// UTF-8 or unknown, and RowBase64 everywhere else.
type quarantined struct {
	File      string  `json:"file"`
	Line      int64   `json:"line"`
	Reason    string  `json:"reason"`
	Row       *string `json:"row,omitempty"`
	RowBase64 []byte  `json:"row_base64,omitempty"`
}

// Handle returns nil if the row is to be left out, and otherwise what the run
// ends with: e itself under [Fail], or that the quarantine cannot be written.
// Under [Quarantine] the row is in the file when Handle returns, as a JSON line
// of file, line, reason and row (or row_base64 where it is not UTF-8).
func (g *Guard) Handle(e *RowError) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch g.policy {
	case Skip:
	case Quarantine:
		if err := g.write(e); err != nil {
			return fmt.Errorf("quarantine %s: %w", e.Pos, err)
		}
	default:
		return e
	}
	g.count++
	return nil
}

func (g *Guard) write(e *RowError) error {
	if g.err != nil {
		return g.err
	}
	q := quarantined{File: e.Pos.Name, Line: e.Pos.Line, Reason: e.Err.Error()}
	if utf8.Valid(e.Raw) && e.Raw != nil {
		row := string(e.Raw)
		q.Row = &row
	} else {
		q.RowBase64 = e.Raw
	}
	line, err := json.Marshal(q)
	if err != nil {
		return err
	}
	if g.file == nil {
		g.file, g.err = os.Create(g.path)
	}
	if g.err == nil {
		_, g.err = g.file.Write(append(line, '\n'))
	}
	return g.err
}

// Count returns how many rows were left out.
func (g *Guard) Count() int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.count
}

// Path returns the quarantine file, the empty string where none was made.
func (g *Guard) Path() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.count == 0 || g.policy != Quarantine {
		return ""
	}
	return g.path
}

// Close closes the quarantine file. Closing twice does nothing; the guard must
// not be given rows afterwards.
func (g *Guard) Close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.file == nil {
		return nil
	}
	err := g.file.Close()
	g.file, g.err = nil, os.ErrClosed
	return err
}

// Guarded is a pass without the bad rows that g leaves out; an error ends it.
func Guarded[T any](rows iter.Seq2[Row[T], error], g *Guard) iter.Seq2[Row[T], error] {
	return func(yield func(Row[T], error) bool) {
		for row, err := range rows {
			if bad := (*RowError)(nil); errors.As(err, &bad) {
				if err = g.Handle(bad); err == nil {
					continue
				}
			}
			if !yield(row, err) || err != nil {
				return
			}
		}
	}
}

func isRowError(err error) bool {
	bad := (*RowError)(nil)
	return errors.As(err, &bad)
}
