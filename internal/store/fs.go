package store

import (
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// FS is the part of a filesystem that [Dir] uses, so that tests can make any
// operation fail. Paths are the operating system's.
type FS interface {
	Open(name string) (File, error)
	// CreateTemp makes a new file in dir: a random text stands for the last *
	// of pattern.
	CreateTemp(dir, pattern string) (File, error)
	// CreateExclusive makes a new file of that name, or fails with fs.ErrExist.
	CreateExclusive(name string) (File, error)
	MkdirAll(dir string) error
	// Link gives a file a second name; fs.ErrExist if that name is taken.
	Link(from, to string) error
	Rename(from, to string) error
	Remove(name string) error
	Stat(name string) (fs.FileInfo, error)
	ReadDir(dir string) ([]fs.DirEntry, error)
	// SyncDir makes the names in dir durable.
	SyncDir(dir string) error
}

// File is an open file of an [FS].
type File interface {
	io.Writer
	io.ReaderAt
	io.Closer
	Name() string
	Stat() (fs.FileInfo, error)
	Sync() error
}

// OS is the operating system's filesystem.
type OS struct{}

// Open implements [FS].
func (OS) Open(name string) (File, error) { return file(os.Open(name)) }

// tempTries bounds the search for a free name.
const tempTries = 1000

// CreateTemp implements [FS]. Unlike os.CreateTemp it leaves the permissions
// to the umask: the file is to become one that others may read.
func (o OS) CreateTemp(dir, pattern string) (File, error) {
	before, after := pattern, ""
	if i := strings.LastIndexByte(pattern, '*'); i >= 0 {
		before, after = pattern[:i], pattern[i+1:]
	}
	for try := 0; ; try++ {
		name := before + strconv.FormatUint(rand.Uint64(), 36) + after
		f, err := o.CreateExclusive(filepath.Join(dir, name))
		if !errors.Is(err, fs.ErrExist) || try == tempTries {
			return f, err
		}
	}
}

// CreateExclusive implements [FS].
func (OS) CreateExclusive(name string) (File, error) {
	return file(os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666))
}

// file keeps a nil *os.File from becoming a File that is not nil.
func file(f *os.File, err error) (File, error) {
	if err != nil {
		return nil, err
	}
	return f, nil
}

// MkdirAll implements [FS].
func (OS) MkdirAll(dir string) error { return os.MkdirAll(dir, 0o777) }

// Link implements [FS].
func (OS) Link(from, to string) error { return os.Link(from, to) }

// Rename implements [FS].
func (OS) Rename(from, to string) error { return os.Rename(from, to) }

// Remove implements [FS].
func (OS) Remove(name string) error { return os.Remove(name) }

// Stat implements [FS].
func (OS) Stat(name string) (fs.FileInfo, error) { return os.Stat(name) }

// ReadDir implements [FS].
func (OS) ReadDir(dir string) ([]fs.DirEntry, error) { return os.ReadDir(dir) }

// SyncDir implements [FS].
func (OS) SyncDir(dir string) error { return SyncDir(dir) }
