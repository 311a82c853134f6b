package models

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/permafrost-ml/permafrost/internal/store"
)

// staleAfter is how old a temporary folder must be before another process
// may take it for one that a killed process left.
const staleAfter = 24 * time.Hour

// The beginnings of the names in the temporary folder, which go on with the
// model's folder: who holds the model's lock may use them. Only downloads are
// gone on with; the others are removed by the next who comes.
const (
	tmpImport = "import-"
	tmpOld    = "old-"
	tmpPull   = "pull-"
)

// lock keeps other processes from changing the model of a full name.
func (s *Store) lock(name string) (unlock func(), err error) {
	if err := s.fsys.MkdirAll(s.tmp("")); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(s.tmp(folderOf(name)+".lock"), os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return nil, err
	}
	ok, err := tryLock(f)
	if err == nil && !ok {
		err = ErrLocked
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	return func() { f.Close() }, nil
}

// tempDir makes the temporary folder of a kind for a model, which must be
// locked and swept.
func (s *Store) tempDir(kind, name string) (string, error) {
	dir := s.tmp(kind + folderOf(name))
	return dir, s.fsys.MkdirAll(dir)
}

// sweep removes the temporary folders, but for downloads, that killed
// processes have left: those of the model of a full name, which is locked, and
// old ones of others.
func (s *Store) sweep(name string) error {
	entries, err := s.fsys.ReadDir(s.tmp(""))
	if err != nil {
		return err
	}
	for _, e := range entries {
		folder, left := strings.CutPrefix(e.Name(), tmpImport)
		if !left {
			folder, left = strings.CutPrefix(e.Name(), tmpOld)
		}
		info, err := e.Info()
		if err != nil || !left || folder != folderOf(name) && time.Since(info.ModTime()) < staleAfter {
			continue
		}
		if err := s.removeTree(s.tmp(e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// removeTree deletes a folder with all in it. One that is not there is no
// error.
func (s *Store) removeTree(dir string) error {
	entries, err := s.fsys.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		at := filepath.Join(dir, e.Name())
		if e.IsDir() {
			err = s.removeTree(at)
		} else {
			err = s.fsys.Remove(at)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return s.fsys.Remove(dir)
}

// publish writes the manifest into a folder that holds the files of a model,
// all synced, and gives the folder its name. A model that has the name is
// replaced: in one step where the system can exchange folders; elsewhere a
// crash at the wrong moment leaves none.
func (s *Store) publish(stage string, m *Manifest) error {
	data, err := m.encode()
	if err == nil {
		err = s.write(filepath.Join(stage, ManifestName), data)
	}
	if err != nil {
		return fmt.Errorf("write the manifest of %s: %w", m.Name, err)
	}
	for _, dir := range append(folders(m.Files), "") {
		if err := s.fsys.SyncDir(filepath.Join(stage, filepath.FromSlash(dir))); err != nil {
			return err
		}
	}
	to := s.Path(m.Name)
	if _, err := s.fsys.Stat(to); errors.Is(err, fs.ErrNotExist) {
		if err := s.fsys.Rename(stage, to); err != nil {
			return err
		}
		return s.fsys.SyncDir(s.dir)
	} else if err != nil {
		return err
	}
	trash, err := s.tempDir(tmpOld, m.Name)
	if err != nil {
		return err
	}
	if err := s.swap(stage, to, filepath.Join(trash, "model")); err != nil {
		return errors.Join(err, s.removeTree(trash))
	}
	return errors.Join(s.fsys.SyncDir(s.dir), s.removeTree(trash))
}

// swap puts the folder from in the place of to, which gets the name old.
func (s *Store) swap(from, to, old string) error {
	err := s.exchange(from, to)
	switch {
	case err == nil:
		return s.fsys.Rename(from, old)
	case !errors.Is(err, errors.ErrUnsupported):
		return err
	}
	if err := s.fsys.Rename(to, old); err != nil {
		return err
	}
	if err := s.fsys.Rename(from, to); err != nil {
		return errors.Join(err, s.fsys.Rename(old, to))
	}
	return nil
}

// folders are those that the paths of files lie in, but for the top.
func folders(files []File) []string {
	var out []string
	for _, f := range files {
		for dir := parent(f.Path); dir != "" && !slices.Contains(out, dir); dir = parent(dir) {
			out = append(out, dir)
		}
	}
	return out
}

// write makes a file of that content, synced.
func (s *Store) write(name string, data []byte) (err error) {
	f, err := s.fsys.CreateExclusive(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.Write(data); err != nil {
		return err
	}
	return f.Sync()
}

// readFile reads a whole file of at most limit bytes.
func readFile(fsys store.FS, name string, limit int64) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, &fs.PathError{Op: "read", Path: name, Err: errors.New("not a regular file")}
	case info.Size() > limit:
		return nil, &fs.PathError{Op: "read", Path: name, Err: store.ErrTooLarge}
	}
	return io.ReadAll(io.NewSectionReader(f, 0, info.Size()))
}

// extraFiles returns the files below a model's folder that are not the
// model's, sorted.
func extraFiles(m *Manifest, dir string) (extra []string, err error) {
	err = fs.WalkDir(os.DirFS(dir), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || name == ManifestName {
			return err
		}
		if _, ok := m.file(path.Clean(name)); !ok {
			extra = append(extra, name)
		}
		return nil
	})
	slices.Sort(extra)
	return extra, err
}

// counted reports the bytes read through it, and ends with ctx.
type counted struct {
	ctx context.Context
	r   io.Reader
	add func(int64)
	err error // of reading, but for the end
}

func (c *counted) Read(b []byte) (int, error) {
	if c.ctx.Err() != nil {
		c.err = context.Cause(c.ctx)
		return 0, c.err
	}
	n, err := c.r.Read(b[:min(len(b), 1<<20)])
	c.add(int64(n))
	if err != io.EOF {
		c.err = err
	}
	return n, err
}
