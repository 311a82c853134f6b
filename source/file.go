package source

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// DefaultMaxLine is the longest line, in bytes, that a source of files reads by
// default.
const DefaultMaxLine = 64 << 20

// FileOptions are the options that all sources of files have. The zero value is
// the default.
type FileOptions struct {
	// MaxLine bounds a line (a CSV record with all its lines, a row of columns,
	// an image), in bytes, and with it the memory a pass needs. Default 64 MiB.
	MaxLine int
	// CheckSources reads the files whenever the identity is asked for, whatever
	// is remembered of them; so does a context of the function [CheckSources].
	// Default false.
	CheckSources bool
	// HintDir is the folder in which digests of files are remembered. Default
	// permafrost/identity in [os.UserCacheDir].
	HintDir string
	// NoHints remembers and recalls nothing. Default false.
	NoHints bool
}

func (o FileOptions) maxLine() int {
	if o.MaxLine <= 0 {
		return DefaultMaxLine
	}
	return o.MaxLine
}

// fileSet is what the sources of files have in common: which files, and
// how they are read.
type fileSet struct {
	patterns []string
	opts     FileOptions
}

// name is the pattern, or the first of several.
func (f fileSet) name() string {
	switch len(f.patterns) {
	case 0:
		return "no files"
	case 1:
		return f.patterns[0]
	default:
		return fmt.Sprintf("%s and %d more", f.patterns[0], len(f.patterns)-1)
	}
}

// paths expands the patterns. A pattern that is the name of a file means that
// file, whatever characters are in it.
func (f fileSet) paths() ([]string, error) {
	if len(f.patterns) == 0 {
		return nil, errors.New("a source of files needs at least one path")
	}
	var paths []string
	for _, p := range f.patterns {
		if _, err := os.Lstat(p); err == nil || !strings.ContainsAny(p, "*?[") {
			paths = append(paths, p)
			continue
		}
		found, err := filepath.Glob(p)
		if err != nil {
			return nil, fmt.Errorf("expand %s: %w", p, err)
		}
		if len(found) == 0 {
			return nil, fmt.Errorf("no file matches %s", p)
		}
		slices.Sort(found)
		paths = append(paths, found...)
	}
	return paths, nil
}

// readFiles calls read for one file after the other until it returns false or
// something fails, which goes to fail.
func (f fileSet) readFiles(ctx context.Context, fail func(error) bool, read func(path string, lines *lineReader) bool) {
	paths, err := f.paths()
	if err != nil {
		fail(err)
		return
	}
	for _, path := range paths {
		if !f.readFile(ctx, path, fail, read) {
			return
		}
	}
}

func (f fileSet) readFile(ctx context.Context, path string, fail func(error) bool, read func(string, *lineReader) bool) bool {
	file, err := openFile(path)
	if err != nil {
		return fail(err)
	}
	defer file.close()
	r := bufio.NewReaderSize(&contextReader{ctx, file}, 64<<10)
	if head, err := r.Peek(len(bom)); err == nil && string(head) == bom {
		_, _ = r.Discard(len(bom)) // what was peeked is there
	}
	return read(path, &lineReader{r: r, max: f.opts.maxLine()})
}

// bom is the byte order mark that some editors put before UTF-8.
const bom = "\ufeff"

// contextReader ends a pass with the context, however long its lines are.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *contextReader) Read(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.r.Read(p)
}

// textFile is an open file, decompressed as it is read.
type textFile struct {
	io.Reader
	file   *os.File
	zstd   *zstd.Decoder
	packed bool // it is decompressed
}

func (f *textFile) close() {
	if f.zstd != nil {
		f.zstd.Close()
	}
	_ = f.file.Close() // it was only read
}

// maxZstdWindow is what zstd --long makes, and the memory that a zstd file may
// ask for.
const maxZstdWindow = 128 << 20

// openFile opens a file and decompresses what begins as gzip or zstd files
// do: no text begins like that, so that the bytes alone say how they are read
// and a renamed file keeps its rows and its identity.
func openFile(path string) (*textFile, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	t := &textFile{file: file}
	if err := t.init(path); err != nil {
		t.close()
		return nil, err
	}
	return t, nil
}

func (f *textFile) init(path string) error {
	info, err := f.file.Stat()
	if err != nil {
		return err
	}
	if info.IsDir() {
		return fmt.Errorf("open %s: it is a directory, not a file", path)
	}
	r := bufio.NewReaderSize(f.file, 64<<10)
	head, err := r.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	ext := strings.ToLower(filepath.Ext(path))
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(r)
		if err != nil {
			return fmt.Errorf("open %s: %w", path, err)
		}
		f.Reader, f.packed = z, true
	case isZstd(head):
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxZstdWindow))
		if err != nil {
			return fmt.Errorf("open %s: %w", path, err)
		}
		f.Reader, f.zstd, f.packed = z, z, true
	case ext == ".gz":
		return fmt.Errorf("open %s: it is not gzip data", path)
	case ext == ".zst":
		return fmt.Errorf("open %s: it is not zstd data", path)
	default:
		f.Reader = r
	}
	return nil
}

// isZstd knows the magic numbers of a frame and of a skippable frame.
func isZstd(head []byte) bool {
	return len(head) == 4 && (bytes.Equal(head, []byte{0x28, 0xb5, 0x2f, 0xfd}) ||
		head[0]&0xf0 == 0x50 && bytes.Equal(head[1:], []byte{0x2a, 0x4d, 0x18}))
}
