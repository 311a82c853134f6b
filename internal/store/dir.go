package store

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

const (
	tmpDir = "tmp"
	// tmpAge is how old a temporary file must be before another process may
	// take it for one that a killed process left.
	tmpAge = 24 * time.Hour
	// ClaimSuffix ends the name of a file that a store without hard links
	// makes beside a name that was published without replace.
	ClaimSuffix = ".claim"
)

// Dir is a store in a folder. New files are written to its folder tmp and
// get their names by link(2), so that two processes cannot both create one.
type Dir struct {
	root string
	fsys FS
}

// NewDir returns the store in the folder root, which is made at the first
// write. A nil fsys is the operating system's.
func NewDir(root string, fsys FS) *Dir {
	if fsys == nil {
		fsys = OS{}
	}
	return &Dir{root: root, fsys: fsys}
}

// String implements [Store].
func (d *Dir) String() string { return d.root }

// Path returns the file's path in the operating system's form.
func (d *Dir) Path(name string) string { return filepath.Join(d.root, filepath.FromSlash(name)) }

type dirReader struct {
	File
	info fs.FileInfo // when it was opened
}

func (r *dirReader) Size() int64 { return r.info.Size() }

func (r *dirReader) ReadAt(b []byte, off int64) (int, error) { return readAt(r.File, b, off) }

// readAt is f.ReadAt, with an error where it has read less, whatever f says:
// others would read again for ever.
func readAt(f File, b []byte, off int64) (int, error) {
	n, err := f.ReadAt(b, off)
	if n < len(b) && err == nil {
		err = &fs.PathError{Op: "read", Path: f.Name(), Err: io.ErrNoProgress}
	}
	return n, err
}

// Open implements [Store].
func (d *Dir) Open(ctx context.Context, name string) (Reader, error) {
	if err := errors.Join(ctx.Err(), Valid("open", name)); err != nil {
		return nil, err
	}
	f, err := d.fsys.Open(d.Path(name))
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &fs.PathError{Op: "open", Path: d.Path(name), Err: errors.New("not a regular file")}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &dirReader{f, info}, nil
}

// Stat implements [Store].
func (d *Dir) Stat(ctx context.Context, name string) (Info, error) {
	if err := errors.Join(ctx.Err(), Valid("stat", name)); err != nil {
		return Info{}, err
	}
	info, err := d.fsys.Stat(d.Path(name))
	if err != nil {
		return Info{}, err
	}
	return Info{name, info.Size(), info.ModTime()}, nil
}

// List implements [Store].
func (d *Dir) List(ctx context.Context, prefix string) ([]Info, error) {
	folder := strings.TrimSuffix(prefix, "/")
	if err := errors.Join(ctx.Err(), Valid("list", folder)); err != nil {
		return nil, err
	}
	var out []Info
	err := d.walk(ctx, folder, &out)
	slices.SortFunc(out, func(a, b Info) int { return strings.Compare(a.Name, b.Name) })
	return out, err
}

func (d *Dir) walk(ctx context.Context, folder string, out *[]Info) error {
	entries, err := d.fsys.ReadDir(d.Path(folder))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := path.Join(folder, e.Name())
		if e.IsDir() {
			if err := d.walk(ctx, name, out); err != nil {
				return err
			}
			continue
		}
		info, err := d.fsys.Stat(d.Path(name))
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed by another process since
		}
		if err != nil {
			return err
		}
		*out = append(*out, Info{name, info.Size(), info.ModTime()})
	}
	return ctx.Err()
}

// Top implements [Store].
func (d *Dir) Top(ctx context.Context) ([]string, error) {
	entries, err := d.fsys.ReadDir(d.root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ctx.Err()
	}
	if err != nil {
		return nil, err
	}
	out := make([]string, len(entries))
	for i, e := range entries {
		out[i] = e.Name()
	}
	slices.Sort(out)
	return out, ctx.Err()
}

// Remove implements [Store].
func (d *Dir) Remove(ctx context.Context, name string) error {
	if err := errors.Join(ctx.Err(), Valid("remove", name)); err != nil {
		return err
	}
	return d.fsys.Remove(d.Path(name))
}

func (d *Dir) temp(pattern string) (File, error) {
	dir := d.Path(tmpDir)
	if err := d.mkdirAll(dir); err != nil {
		return nil, err
	}
	return d.fsys.CreateTemp(dir, pattern)
}

// mkdirAll makes a folder with those above it, each only when the name of the
// one above is durable: also of those above the store's root. A folder that
// holds one is then durable itself, whoever made it and was killed.
func (d *Dir) mkdirAll(dir string) error {
	var missing []string
	at := filepath.Clean(dir)
	for ; at != filepath.Dir(at); at = filepath.Dir(at) {
		if _, err := d.fsys.Stat(at); err == nil {
			break
		}
		missing = append(missing, at)
	}
	if len(missing) == 0 {
		return nil
	}
	// The last that is there may be another's, above folders that are not ours.
	err := d.fsys.SyncDir(filepath.Dir(at))
	if err != nil && !errors.Is(err, fs.ErrPermission) && !errors.Is(err, syscall.EINVAL) {
		return err
	}
	for _, dir := range slices.Backward(missing) {
		if err := d.fsys.MkdirAll(dir); err != nil {
			return err
		}
		if err := d.fsys.SyncDir(filepath.Dir(dir)); err != nil {
			return err
		}
	}
	return nil
}

// Sweep removes temporary files that a process killed long ago has left.
func (d *Dir) Sweep(ctx context.Context) error {
	entries, err := d.fsys.ReadDir(d.Path(tmpDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || time.Since(info.ModTime()) < tmpAge {
			continue
		}
		if err := d.fsys.Remove(d.Path(path.Join(tmpDir, e.Name()))); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return ctx.Err()
}

// Create implements [Store].
func (d *Dir) Create(ctx context.Context) (Writer, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	f, err := d.temp("new-*")
	if err != nil {
		return nil, err
	}
	return &dirWriter{d: d, f: f}, nil
}

type dirWriter struct {
	d    *Dir
	f    File
	size int64
	done bool
}

func (w *dirWriter) Write(b []byte) (int, error) {
	n, err := write(w.f, b)
	w.size += int64(n)
	return n, err
}

// write is f.Write, with an error where it has written less, whatever f says.
func write(f File, b []byte) (int, error) {
	n, err := f.Write(b)
	if n < len(b) && err == nil {
		err = &fs.PathError{Op: "write", Path: f.Name(), Err: io.ErrShortWrite}
	}
	return n, err
}

func (w *dirWriter) ReadAt(b []byte, off int64) (int, error) { return readAt(w.f, b, off) }

func (w *dirWriter) Size() int64 { return w.size }

func (w *dirWriter) Publish(ctx context.Context, name string, replace bool) error {
	if err := errors.Join(ctx.Err(), Valid("publish", name)); err != nil {
		return err
	}
	if err := w.f.Sync(); err != nil {
		return err
	}
	to := w.d.Path(name)
	if err := w.d.mkdirAll(filepath.Dir(to)); err != nil {
		return err
	}
	if replace {
		if err := w.d.fsys.Rename(w.f.Name(), to); err != nil {
			return err
		}
		w.done = true
	} else {
		err := w.d.fsys.Link(w.f.Name(), to)
		if linkUnsupported(err) {
			err = w.claim(to)
		}
		if err != nil {
			return err
		}
	}
	if err := w.d.syncParents(filepath.Dir(to)); err != nil {
		return err
	}
	_ = w.Abort() // the temporary name has done its work; Sweep takes what stays
	return nil
}

// syncParents makes a new name durable, with all folders from the root down:
// another process may have made one of them and not have synced it yet.
func (d *Dir) syncParents(dir string) error {
	root := filepath.Clean(d.root)
	for {
		if err := d.fsys.SyncDir(dir); err != nil {
			return err
		}
		up := filepath.Dir(dir)
		if dir == root || dir == up {
			return nil
		}
		dir = up
	}
}

// Settle makes the names in a folder durable: of files that another process
// has published, which was killed before it had synced them.
func (d *Dir) Settle(ctx context.Context, folder string) error {
	if err := errors.Join(ctx.Err(), Valid("sync", folder)); err != nil {
		return err
	}
	return d.syncParents(d.Path(folder))
}

func linkUnsupported(err error) bool {
	return errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EOPNOTSUPP) ||
		errors.Is(err, syscall.ENOSYS) || errors.Is(err, syscall.EMLINK)
}

// claim stands in for link where the filesystem has no hard links: whoever
// makes the file <name>.claim may rename. A crash in between leaves the
// claim without its file: the name is taken, and may yet come.
func (w *dirWriter) claim(to string) error {
	f, err := w.d.fsys.CreateExclusive(to + ClaimSuffix)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if _, err := w.d.fsys.Stat(to); !errors.Is(err, fs.ErrNotExist) {
		return &fs.PathError{Op: "publish", Path: to, Err: errors.Join(err, fs.ErrExist)}
	}
	if err := w.d.fsys.Rename(w.f.Name(), to); err != nil {
		return err
	}
	w.done = true
	return nil
}

func (w *dirWriter) Abort() error {
	if w.f == nil {
		return nil
	}
	err := w.f.Close()
	if !w.done {
		e := w.d.fsys.Remove(w.f.Name())
		if errors.Is(e, fs.ErrNotExist) { // somebody has tidied up
			e = nil
		}
		err = errors.Join(err, e)
	}
	w.f = nil
	return err
}

// Append implements [Store].
func (d *Dir) Append(ctx context.Context, name string) (Appender, error) {
	if err := errors.Join(ctx.Err(), Valid("append", name)); err != nil {
		return nil, err
	}
	path := d.Path(name)
	f, err := d.fsys.CreateExclusive(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := d.mkdirAll(filepath.Dir(path)); err != nil {
			return nil, err
		}
		f, err = d.fsys.CreateExclusive(path)
	}
	if err != nil {
		return nil, err
	}
	return &dirAppender{File: f, d: d, dir: filepath.Dir(path)}, nil
}

type dirAppender struct {
	File
	d     *Dir
	dir   string
	named bool // its name is durable; only Sync uses it
}

func (a *dirAppender) Write(b []byte) (int, error) { return write(a.File, b) }

func (a *dirAppender) Sync() error {
	if err := a.File.Sync(); err != nil || a.named {
		return err
	}
	err := a.d.syncParents(a.dir)
	a.named = err == nil
	return err
}

// Scratch implements [Store].
func (d *Dir) Scratch(ctx context.Context) (Scratch, error) {
	w, err := d.Create(ctx)
	if err != nil {
		return nil, err
	}
	return scratch{w}, nil
}

type scratch struct{ Writer }

func (s scratch) Close() error { return s.Abort() }

// Free implements [Store].
func (d *Dir) Free(context.Context) int64 {
	for dir := d.root; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(dir); err == nil {
			return freeBytes(dir)
		}
		if parent := filepath.Dir(dir); parent == dir {
			return -1
		}
	}
}
