package models

import (
	"archive/zip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"unicode/utf8"
)

// tree is what a model is imported from.
type tree struct {
	kind  string // FromFolder, FromZip or FromWheel
	file  string // the name, without its folder
	name  string // what the model would be called, "" if nothing says it
	hub   *Source
	items []item
	size  int64 // of the archive, 0 for a folder
	close func() error
}

// item is a file of a tree.
type item struct {
	path string // in the tree, with slashes
	size int64
	open func() (io.ReadCloser, error)
	// sha256 is the hash that a wheel's record promises, "" if none.
	sha256 string
	// bad is why the file must not be read.
	bad error
}

// openTree opens a folder, a zip file or a wheel.
func openTree(src string) (*tree, error) {
	info, err := os.Stat(src)
	if err != nil {
		return nil, err
	}
	abs, err := filepath.Abs(src)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return openFolder(src, abs)
	}
	f, err := os.Open(src)
	if err != nil {
		return nil, err
	}
	t, err := openArchive(f, info, filepath.Base(abs))
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	t.close = f.Close
	return t, nil
}

// hubCache is the end of the path of a folder in the cache of the Python
// client: it tells the repository and, of a snapshot, the commit.
var hubCache = regexp.MustCompile(`(?:^|/)models--([^/]+)(?:/snapshots/([0-9a-f]{40}))?$`)

// openFolder lists the files of a folder. A link to a file is followed, as
// the cache of the Python client is full of them; one to a folder is not.
func openFolder(src, abs string) (*tree, error) {
	t := &tree{kind: FromFolder, file: filepath.Base(abs), close: func() error { return nil }}
	t.name = nameOf(t.file)
	if m := hubCache.FindStringSubmatch(filepath.ToSlash(abs)); m != nil {
		if repo := strings.Replace(m[1], "--", "/", 1); checkName(repo) == nil {
			t.name = repo
			if m[2] != "" {
				t.hub = &Source{Kind: FromHub, Repo: repo, Commit: m[2]}
			}
		}
	}
	err := fs.WalkDir(os.DirFS(src), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name != "." && strings.HasPrefix(d.Name(), ".") {
				return fs.SkipDir
			}
			return nil
		}
		at := filepath.Join(src, filepath.FromSlash(name))
		it := item{path: name, open: func() (io.ReadCloser, error) { return os.Open(at) }}
		info, err := os.Stat(at)
		switch {
		case err != nil:
			it.bad = err
		case !info.Mode().IsRegular():
			it.bad = errors.New("not a regular file")
		default:
			it.size = info.Size()
		}
		t.items = append(t.items, it)
		if len(t.items) > maxItems {
			return fmt.Errorf("%s holds more than %d files: name the model's own folder", src, maxItems)
		}
		return nil
	})
	return t, err
}

// maxItems bounds the files that are looked at.
const maxItems = 100_000

// openArchive reads the directory of a zip file or a wheel. Names that point
// out of it, and files that are twice in it, are errors.
func openArchive(f *os.File, info fs.FileInfo, base string) (*tree, error) {
	var magic [4]byte
	if _, err := f.ReadAt(magic[:], 0); err != nil || magic[0] != 'P' || magic[1] != 'K' {
		return nil, fmt.Errorf("%w: %s is no folder, zip file or wheel", ErrNoModel, base)
	}
	z, err := zip.NewReader(f, info.Size())
	if err != nil && !errors.Is(err, zip.ErrInsecurePath) {
		return nil, fmt.Errorf("%w: %s: %w", ErrSource, base, err)
	}
	t := &tree{kind: FromZip, file: base, size: info.Size(), name: nameOf(strings.TrimSuffix(base, filepath.Ext(base)))}
	if strings.EqualFold(filepath.Ext(base), ".whl") {
		distribution, _, _ := strings.Cut(base, "-")
		t.kind, t.name = FromWheel, nameOf(strings.ToLower(strings.ReplaceAll(distribution, "_", "-")))
	}
	if len(z.File) > maxItems {
		return nil, fmt.Errorf("%w: %s has %d files, at most %d", ErrSource, base, len(z.File), maxItems)
	}
	seen := map[string]bool{}
	for _, e := range z.File {
		name := strings.TrimSuffix(e.Name, "/")
		if !utf8.ValidString(name) {
			continue // in an encoding that zip files do not tell
		}
		if !fs.ValidPath(name) || strings.Contains(name, `\`) {
			return nil, fmt.Errorf("%w: %s holds a file %q, which points out of it", ErrSource, base, name)
		}
		if seen[name] {
			return nil, fmt.Errorf("%w: %s has %q twice", ErrSource, base, name)
		}
		seen[name] = true
		if strings.HasSuffix(e.Name, "/") {
			continue
		}
		t.items = append(t.items, archived(e, name))
	}
	if t.kind == FromWheel {
		if err := t.addRecord(); err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrSource, base, err)
		}
	}
	return t, nil
}

// archived is a file of an archive. What it says of itself is believed only
// as far as it can do no harm: reading stops at the size declared.
func archived(e *zip.File, name string) item {
	it := item{path: name, size: int64(min(e.UncompressedSize64, 1<<62))}
	it.open = func() (io.ReadCloser, error) { return e.Open() }
	const encrypted = 1
	switch {
	case !e.Mode().IsRegular():
		it.bad = errors.New("a link or a device")
	case e.Flags&encrypted != 0:
		it.bad = errors.New("it is encrypted")
	}
	return it
}

// stream calls to with the content of a file, at most one byte more than its
// size, and checks that it has that size.
func (it *item) stream(ctx context.Context, add func(int64), to io.Writer) (err error) {
	if it.bad != nil {
		return fmt.Errorf("read %s: %w", it.path, it.bad)
	}
	r, err := it.open()
	if err != nil {
		return fmt.Errorf("read %s: %w", it.path, err)
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	in := &counted{ctx: ctx, r: io.LimitReader(r, it.size+1), add: add}
	n, err := io.CopyBuffer(struct{ io.Writer }{to}, in, make([]byte, 256<<10))
	if err == nil && n != it.size {
		in.err = fmt.Errorf("it has not the %d bytes that it should", it.size)
	}
	if in.err != nil && ctx.Err() == nil {
		err = fmt.Errorf("%w: %w", ErrSource, in.err)
	}
	if err != nil {
		return fmt.Errorf("copy %s: %w", it.path, err)
	}
	return nil
}
