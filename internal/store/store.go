// Package store keeps named, immutable files: the seam between the cache and
// where its bytes lie. Names are slash-separated and relative.
//
// A file becomes visible under its name in one step, complete and synced, or
// not at all: after a crash there is the old state or the new one. Only what
// [Store.Append] makes grows in view of all.
package store

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"path"
	"strings"
	"time"
)

// Store is a flat collection of named files. All methods are safe for
// concurrent use, by several processes too where the store is shared.
type Store interface {
	// Open opens a file for reading ranges. A missing one is fs.ErrNotExist.
	Open(ctx context.Context, name string) (Reader, error)
	// Stat returns size and name of a file. A missing one is fs.ErrNotExist.
	Stat(ctx context.Context, name string) (Info, error)
	// Create starts a new file that has no name yet. Exactly one of Publish
	// and Abort ends it; an Abort after a Publish does nothing.
	Create(ctx context.Context) (Writer, error)
	// Append makes a new file of that name, with the folders above it, that
	// has its name from the start and grows: unlike all others it may be seen
	// cut short, and another process may read what it has. A name that is
	// taken is fs.ErrExist.
	Append(ctx context.Context, name string) (Appender, error)
	// List returns the files whose names start with the folder prefix
	// ("encoders/"), sorted by name, at any depth. No such folder: none.
	List(ctx context.Context, prefix string) ([]Info, error)
	// Top returns the first elements of the names of all that is there,
	// sorted: files and folders, also ones that are not the store's.
	Top(ctx context.Context) ([]string, error)
	// Remove deletes a file. A missing one is fs.ErrNotExist.
	Remove(ctx context.Context, name string) error
	// Scratch returns a private file that vanishes at Close.
	Scratch(ctx context.Context) (Scratch, error)
	// Free returns the bytes that may still be written, -1 where unknown.
	Free(ctx context.Context) int64
	// String names the place, for messages.
	String() string
}

// Info describes a file.
type Info struct {
	Name string
	Size int64
	// ModTime is when it was last written to, by the clock of the place; zero
	// where unknown.
	ModTime time.Time
}

// Reader reads ranges of a file.
type Reader interface {
	io.ReaderAt
	io.Closer
	Size() int64
}

// Writer is a file being written. ReadAt sees what was written so far.
type Writer interface {
	io.Writer
	io.ReaderAt
	Size() int64
	// Publish syncs the file and gives it its name. Without replace an
	// existing file of that name stays, and the error is fs.ErrExist. After
	// any other error the file may have its name, complete.
	Publish(ctx context.Context, name string, replace bool) error
	// Abort drops the file.
	Abort() error
}

// Appender is a file that grows under its name. What was written survives
// the end of the process; what was synced, a power cut. Sync may be called
// while another goroutine writes.
type Appender interface {
	io.Writer
	Sync() error
	// Close leaves the file as it is.
	Close() error
}

// Sweeper is a [Store] in which a killed process may leave files without a
// name.
type Sweeper interface {
	// Sweep removes those that a process left long ago.
	Sweep(ctx context.Context) error
}

// Copier is a [Store] whose readers may give bytes from copies of the files.
type Copier interface {
	// Original returns the same store with readers that read the files
	// themselves.
	Original() Store
}

// Refresher is a [Reader] that may give bytes from a copy of the file.
type Refresher interface {
	// Refresh forgets the copies of n bytes at offset off, which are wrong:
	// the next read of them goes to the file itself.
	Refresh(off, n int64)
}

// Scratch is a private temporary file.
type Scratch interface {
	io.Writer
	io.ReaderAt
	io.Closer
}

// ErrTooLarge is returned for a file that is larger than its reader allows.
var ErrTooLarge = errors.New("file is too large")

// Put writes a whole file. Without replace an existing file of that name
// stays, and the error is fs.ErrExist.
func Put(ctx context.Context, s Store, name string, data []byte, replace bool) (err error) {
	w, err := s.Create(ctx)
	if err != nil {
		return err
	}
	defer func() {
		if e := w.Abort(); err == nil {
			err = e
		}
	}()
	if _, err := w.Write(data); err != nil {
		return err
	}
	return w.Publish(ctx, name, replace)
}

// ReadAll reads a whole file of at most limit bytes.
func ReadAll(ctx context.Context, s Store, name string, limit int64) ([]byte, error) {
	return ReadFunc(ctx, s, name, limit, func([]byte) error { return nil })
}

// ReadFunc reads a whole file of at most limit bytes that check accepts. Where
// they may come from a copy, a wrong one is replaced once.
func ReadFunc(ctx context.Context, s Store, name string, limit int64, check func([]byte) error) ([]byte, error) {
	r, err := s.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	if r.Size() > limit {
		return nil, &fs.PathError{Op: "read", Path: name, Err: ErrTooLarge}
	}
	buf := make([]byte, r.Size())
	read := func() error {
		if n, err := r.ReadAt(buf, 0); n < len(buf) {
			if err == nil || err == io.EOF {
				err = io.ErrUnexpectedEOF // it was cut since it was opened
			}
			return &fs.PathError{Op: "read", Path: name, Err: err}
		}
		return nil
	}
	if err := read(); err != nil {
		return nil, err
	}
	err = check(buf)
	if c, ok := r.(Refresher); ok && err != nil {
		c.Refresh(0, r.Size())
		if err := read(); err != nil {
			return nil, err
		}
		err = check(buf)
	}
	if err != nil {
		return nil, err
	}
	return buf, nil
}

// Valid refuses names that are not of files inside a store, with
// fs.ErrInvalid. op is what was tried, for the message.
func Valid(op, name string) error {
	if !fs.ValidPath(name) || name == "." || strings.Contains(name, "\\") || path.IsAbs(name) {
		return &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	return nil
}
