package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"
)

// Mapping is a whole file in memory. One that was mapped is private and
// read-only: its pages are read when they are touched, and what touches a page
// behind the end of a file that was cut since faults. One that was loaded is a
// copy.
type Mapping struct {
	// Bytes are those of the file, valid until Close.
	Bytes []byte
	// State is what the filesystem said of the file when it was mapped, at the
	// time Opened.
	State  FileState
	Opened time.Time

	path string // "" where the file is not mapped
	info fs.FileInfo
	free func([]byte) error // nil where nothing is to be done
}

// FileState is all that a filesystem says of a file without reading it. Times
// are in nanoseconds since 1970. It is the zero value where the system does
// not say enough.
type FileState struct {
	Size   int64  `json:"size"`
	Mtime  int64  `json:"mtime"`
	Ctime  int64  `json:"ctime"`
	Inode  uint64 `json:"inode"`
	Device uint64 `json:"device"`
}

// errChanged is why a mapped file cannot be used any more.
var errChanged = errors.New("it was changed while it was mapped")

// Map maps a whole file. The error is errors.ErrUnsupported where files
// cannot be mapped, or this one: an empty one, one of a filesystem that is not
// the operating system's, or one too many for the system.
func (d *Dir) Map(ctx context.Context, name string) (*Mapping, error) {
	opened := time.Now() // before it is looked at
	r, err := d.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	f, ok := r.(*dirReader).File.(*os.File)
	if !ok || r.Size() == 0 || int64(int(r.Size())) != r.Size() {
		return nil, errors.ErrUnsupported
	}
	m := &Mapping{path: d.Path(name), Opened: opened, free: unmapFile, info: r.(*dirReader).info}
	m.State = stateOf(m.info)
	if m.Bytes, err = mapFile(f, int(m.info.Size())); err != nil {
		return nil, fmt.Errorf("map %s: %w: %w", m.path, errors.ErrUnsupported, err)
	}
	return m, nil
}

// loadStep is how many bytes are read at once.
const loadStep = 8 << 20

// Load reads a whole file into memory of its own, outside the Go heap, in huge
// pages where the system has them. The error is errors.ErrUnsupported where it
// has no such memory, and for an empty file.
func (d *Dir) Load(ctx context.Context, name string) (_ *Mapping, err error) {
	r, err := d.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	if r.Size() == 0 || int64(int(r.Size())) != r.Size() {
		return nil, errors.ErrUnsupported
	}
	m := &Mapping{Opened: time.Now(), free: unmapFile}
	if m.Bytes, err = hugePages(int(r.Size())); err != nil {
		return nil, fmt.Errorf("load %s: %w: %w", name, errors.ErrUnsupported, err)
	}
	for at := 0; at < len(m.Bytes) && err == nil; at += loadStep {
		part := m.Bytes[at:min(at+loadStep, len(m.Bytes))]
		if n, e := r.ReadAt(part, int64(at)); n < len(part) {
			if e == nil || e == io.EOF {
				e = io.ErrUnexpectedEOF // it was cut since it was opened
			}
			err = &fs.PathError{Op: "read", Path: name, Err: e}
		}
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
	}
	if err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

// Close frees the memory.
func (m *Mapping) Close() error {
	if m.free == nil {
		return nil
	}
	return m.free(m.Bytes)
}

// Mapped says that the bytes are those of the file's pages, which may be gone.
func (m *Mapping) Mapped() bool { return m.path != "" }

// Prefetch asks the system to read a part of the file before it is touched.
func (m *Mapping) Prefetch(from, to int) {
	if m.Mapped() {
		willNeed(m.Bytes, from, to)
	}
}

// Random tells the system to read no more of the file than what is touched or
// asked for.
func (m *Mapping) Random() {
	if m.Mapped() {
		readNoMore(m.Bytes)
	}
}

// Unchanged returns an error if the file was written to or cut since it was
// mapped. One that was removed or replaced still has its bytes.
func (m *Mapping) Unchanged() error {
	if !m.Mapped() {
		return nil
	}
	info, err := os.Stat(m.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && os.SameFile(info, m.info) && (info.Size() != m.info.Size() || !info.ModTime().Equal(m.info.ModTime())) {
		err = errChanged
	}
	return err
}
