package export

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/permafrost-ml/permafrost/internal/store"
)

// placeFile calls fill with a new file beside path, which takes that name when
// fill is done.
func placeFile(path string, force bool, fill func(*os.File) error) error {
	return store.PlaceFile(path, func() error { return mayPlaceFile(path, force) }, fill)
}

// mayPlaceFile refuses to overwrite without force, and folders always.
func mayPlaceFile(path string, force bool) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.IsDir():
		return fmt.Errorf("%s is a folder, and the format is one file", path)
	case !force:
		return fmt.Errorf("%w: %s", ErrExists, path)
	}
	return nil
}

// placeFolder calls fill with a new folder beside path, which takes that name
// when fill is done. ours reports an error for a folder, with its entries, that
// must not be replaced. A crash while one folder takes the place of another may
// leave the old one under a hidden name beside it.
func placeFolder(path string, force bool, ours func(string, []fs.DirEntry) error, fill func(tmp string) error) error {
	path = filepath.Clean(path)
	if to, err := filepath.EvalSymlinks(path); err == nil {
		path = to // the folder is replaced, not a link to it
	}
	if err := mayPlaceFolder(path, force, ours); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer os.RemoveAll(tmp)
	if err := fill(tmp); err != nil {
		return err
	}
	if err := mayPlaceFolder(path, force, ours); err != nil {
		return err
	}
	err = func() error {
		if err := errors.Join(os.Chmod(tmp, 0o755), store.SyncDir(tmp)); err != nil {
			return err
		}
		if err := store.ReplaceDir(tmp, path); err != nil {
			return err
		}
		return store.SyncDir(filepath.Dir(path))
	}()
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// mayPlaceFolder refuses to replace what is there without force, and always
// what no export has made. An empty folder counts as nothing.
func mayPlaceFolder(path string, force bool, ours func(string, []fs.DirEntry) error) error {
	entries, err := os.ReadDir(path)
	switch {
	case errors.Is(err, fs.ErrNotExist), err == nil && len(entries) == 0:
		return nil
	case err != nil:
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := ours(path, entries); err != nil {
		return err
	}
	if !force {
		return fmt.Errorf("%w: %s", ErrExists, path)
	}
	return nil
}
