package store

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"
)

// Mem is a store in memory, gone with its last reference.
type Mem struct {
	mu    sync.RWMutex
	files map[string][]byte
}

// NewMem returns an empty store.
func NewMem() *Mem { return &Mem{files: map[string][]byte{}} }

// String implements [Store].
func (m *Mem) String() string { return "memory" }

// Free implements [Store].
func (m *Mem) Free(context.Context) int64 { return -1 }

func (m *Mem) get(ctx context.Context, op, name string) ([]byte, error) {
	if err := errors.Join(ctx.Err(), Valid(op, name)); err != nil {
		return nil, err
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	b, ok := m.files[name]
	if !ok {
		return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
	}
	return b, nil
}

type memReader struct{ *bytes.Reader }

func (memReader) Close() error { return nil }

// Open implements [Store].
func (m *Mem) Open(ctx context.Context, name string) (Reader, error) {
	b, err := m.get(ctx, "open", name)
	if err != nil {
		return nil, err
	}
	return memReader{bytes.NewReader(b)}, nil
}

// Map returns a file as it lies in memory. The error is errors.ErrUnsupported
// for an empty one, as [Dir.Map] has it.
func (m *Mem) Map(ctx context.Context, name string) (*Mapping, error) {
	b, err := m.get(ctx, "map", name)
	if err == nil && len(b) == 0 {
		err = errors.ErrUnsupported
	}
	return &Mapping{Bytes: b}, err
}

// Load is [Mem.Map]: nobody cuts what is in memory.
func (m *Mem) Load(ctx context.Context, name string) (*Mapping, error) { return m.Map(ctx, name) }

// Stat implements [Store].
func (m *Mem) Stat(ctx context.Context, name string) (Info, error) {
	b, err := m.get(ctx, "stat", name)
	return Info{Name: name, Size: int64(len(b))}, err
}

// List implements [Store].
func (m *Mem) List(ctx context.Context, prefix string) ([]Info, error) {
	folder := strings.TrimSuffix(prefix, "/") + "/"
	m.mu.RLock()
	defer m.mu.RUnlock()
	var out []Info
	for name, b := range m.files {
		if strings.HasPrefix(name, folder) {
			out = append(out, Info{Name: name, Size: int64(len(b))})
		}
	}
	slices.SortFunc(out, func(a, b Info) int { return strings.Compare(a.Name, b.Name) })
	return out, ctx.Err()
}

// Top implements [Store].
func (m *Mem) Top(ctx context.Context) ([]string, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	var out []string
	for name := range m.files {
		first, _, _ := strings.Cut(name, "/")
		out = append(out, first)
	}
	slices.Sort(out)
	return slices.Compact(out), ctx.Err()
}

// Remove implements [Store].
func (m *Mem) Remove(ctx context.Context, name string) error {
	if _, err := m.get(ctx, "remove", name); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.files, name)
	return nil
}

// Create implements [Store].
func (m *Mem) Create(ctx context.Context) (Writer, error) {
	return &memWriter{m: m}, ctx.Err()
}

// Scratch implements [Store].
func (m *Mem) Scratch(ctx context.Context) (Scratch, error) {
	return scratch{&memWriter{m: m}}, ctx.Err()
}

// Append implements [Store].
func (m *Mem) Append(ctx context.Context, name string) (Appender, error) {
	if err := errors.Join(ctx.Err(), Valid("append", name)); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.files[name]; ok {
		return nil, &fs.PathError{Op: "append", Path: name, Err: fs.ErrExist}
	}
	m.files[name] = nil
	return &memAppender{m: m, name: name}, nil
}

type memAppender struct {
	m    *Mem
	name string
	buf  []byte
}

// Write does not touch the bytes that a reader may have.
func (a *memAppender) Write(b []byte) (int, error) {
	a.m.mu.Lock()
	defer a.m.mu.Unlock()
	a.buf = append(a.buf, b...)
	if _, ok := a.m.files[a.name]; ok { // else it was removed
		a.m.files[a.name] = slices.Clip(a.buf)
	}
	return len(b), nil
}

func (a *memAppender) Sync() error { return nil }

func (a *memAppender) Close() error { return nil }

type memWriter struct {
	m   *Mem
	buf []byte
}

func (w *memWriter) Write(b []byte) (int, error) {
	w.buf = append(w.buf, b...)
	return len(b), nil
}

func (w *memWriter) ReadAt(b []byte, off int64) (int, error) {
	if off >= int64(len(w.buf)) {
		return 0, io.EOF
	}
	n := copy(b, w.buf[off:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (w *memWriter) Size() int64 { return int64(len(w.buf)) }

func (w *memWriter) Publish(ctx context.Context, name string, replace bool) error {
	if err := errors.Join(ctx.Err(), Valid("publish", name)); err != nil {
		return err
	}
	w.m.mu.Lock()
	defer w.m.mu.Unlock()
	if _, ok := w.m.files[name]; ok && !replace {
		return &fs.PathError{Op: "publish", Path: name, Err: fs.ErrExist}
	}
	w.m.files[name] = slices.Clip(w.buf)
	w.buf = nil
	return nil
}

func (w *memWriter) Abort() error {
	w.buf = nil
	return nil
}
