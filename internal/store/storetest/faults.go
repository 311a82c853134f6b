// Package storetest holds a filesystem whose operations fail on demand, for
// tests of what is written through package store.
package storetest

import (
	"errors"
	"io/fs"
	"sync"

	"github.com/permafrost-ml/permafrost/internal/store"
)

// FS is a filesystem that counts the operations done through it and can make
// any of them fail. It is safe for concurrent use. Set its fields before use.
type FS struct {
	store.FS
	// FailAt is the number, from 1, of the first operation that fails.
	// Default: 0, none.
	FailAt int
	// Lasting makes all later operations fail too, but for the removal and
	// the closing of files: a disk that is full, or has gone. Default: false.
	Lasting bool
	// Err is what a failing operation returns. Default: nil, for reads and
	// writes that end half-way and do not say so; no other operation fails.
	Err error
	// Match, if set, says which operations count: those by its name (open,
	// create, write, read, sync, close, stat, mkdir, link, rename, remove,
	// readdir, syncdir) for which it returns true. Default: all.
	Match func(op, path string) bool

	mu     sync.Mutex
	ops    int
	failed []string
	paths  []string
	open   map[*file]bool
}

// Ops returns the number of operations so far.
func (f *FS) Ops() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ops
}

// Failed returns the operations that were made to fail.
func (f *FS) Failed() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.failed
}

// FailedPaths returns the paths of the operations that were made to fail.
func (f *FS) FailedPaths() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.paths
}

// OpenFiles returns the number of files that are open.
func (f *FS) OpenFiles() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.open)
}

// op counts an operation and returns the error that it is to fail with.
func (f *FS) op(op, path string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.Match != nil && !f.Match(op, path) {
		return nil
	}
	f.ops++
	tidy := op == "remove" || op == "close"
	if f.FailAt == 0 || f.ops < f.FailAt || f.ops > f.FailAt && (!f.Lasting || tidy) {
		return nil
	}
	f.failed, f.paths = append(f.failed, op), append(f.paths, path)
	if f.Err == nil {
		if op == "read" || op == "write" {
			return errHalf
		}
		return nil
	}
	return &fs.PathError{Op: op, Path: path, Err: f.Err}
}

// errHalf stands for no error of a read or a write that does half.
var errHalf = errors.New("half")

func (f *FS) wrap(inner store.File, err error) (store.File, error) {
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	w := &file{inner, f}
	if f.open == nil {
		f.open = map[*file]bool{}
	}
	f.open[w] = true
	return w, nil
}

// Open implements [store.FS].
func (f *FS) Open(name string) (store.File, error) {
	if err := f.op("open", name); err != nil {
		return nil, err
	}
	return f.wrap(f.FS.Open(name))
}

// CreateTemp implements [store.FS].
func (f *FS) CreateTemp(dir, pattern string) (store.File, error) {
	if err := f.op("create", dir); err != nil {
		return nil, err
	}
	return f.wrap(f.FS.CreateTemp(dir, pattern))
}

// CreateExclusive implements [store.FS].
func (f *FS) CreateExclusive(name string) (store.File, error) {
	if err := f.op("create", name); err != nil {
		return nil, err
	}
	return f.wrap(f.FS.CreateExclusive(name))
}

// MkdirAll implements [store.FS].
func (f *FS) MkdirAll(dir string) error {
	if err := f.op("mkdir", dir); err != nil {
		return err
	}
	return f.FS.MkdirAll(dir)
}

// Link implements [store.FS].
func (f *FS) Link(from, to string) error {
	if err := f.op("link", to); err != nil {
		return err
	}
	return f.FS.Link(from, to)
}

// Rename implements [store.FS].
func (f *FS) Rename(from, to string) error {
	if err := f.op("rename", to); err != nil {
		return err
	}
	return f.FS.Rename(from, to)
}

// Remove implements [store.FS].
func (f *FS) Remove(name string) error {
	if err := f.op("remove", name); err != nil {
		return err
	}
	return f.FS.Remove(name)
}

// Stat implements [store.FS].
func (f *FS) Stat(name string) (fs.FileInfo, error) {
	if err := f.op("stat", name); err != nil {
		return nil, err
	}
	return f.FS.Stat(name)
}

// ReadDir implements [store.FS].
func (f *FS) ReadDir(dir string) ([]fs.DirEntry, error) {
	if err := f.op("readdir", dir); err != nil {
		return nil, err
	}
	return f.FS.ReadDir(dir)
}

// SyncDir implements [store.FS].
func (f *FS) SyncDir(dir string) error {
	if err := f.op("syncdir", dir); err != nil {
		return err
	}
	return f.FS.SyncDir(dir)
}

type file struct {
	store.File
	f *FS
}

// Write writes half of b where it is to fail, as a full disk does.
func (w *file) Write(b []byte) (int, error) {
	err := w.f.op("write", w.Name())
	if err == nil {
		return w.File.Write(b)
	}
	n, _ := w.File.Write(b[:len(b)/2])
	if err == errHalf {
		err = nil
	}
	return n, err
}

// ReadAt reads half of b where it is to fail.
func (w *file) ReadAt(b []byte, off int64) (int, error) {
	if err := w.f.op("read", w.Name()); err != nil {
		n, _ := w.File.ReadAt(b[:len(b)/2], off)
		if err == errHalf {
			err = nil
		}
		return n, err
	}
	return w.File.ReadAt(b, off)
}

func (w *file) Sync() error {
	if err := w.f.op("sync", w.Name()); err != nil {
		return err
	}
	return w.File.Sync()
}

func (w *file) Stat() (fs.FileInfo, error) {
	if err := w.f.op("stat", w.Name()); err != nil {
		return nil, err
	}
	return w.File.Stat()
}

// Close closes the file also where it is to fail.
func (w *file) Close() error {
	w.f.mu.Lock()
	delete(w.f.open, w)
	w.f.mu.Unlock()
	err := w.f.op("close", w.Name())
	if e := w.File.Close(); err == nil {
		err = e
	}
	return err
}
