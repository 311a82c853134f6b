package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// writeTo calls fill with the standard output, or with a file that takes its
// name when fill is done, so that a file of that name is never half a result.
func (a *app) writeTo(path string, force bool, fill func(io.Writer) error) (err error) {
	if path == "" {
		w := bufio.NewWriterSize(a.stdout, 64<<10)
		return errors.Join(fill(w), w.Flush())
	}
	if err := mayWrite(path, force); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close(), os.Remove(f.Name()))
		}
	}()
	w := bufio.NewWriterSize(f, 64<<10)
	if err := fill(w); err != nil {
		return err
	}
	if err := errors.Join(w.Flush(), f.Chmod(0o644), f.Sync()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := mayWrite(path, force); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return f.Close()
}

// mayWrite refuses to overwrite a file without force.
func mayWrite(path string, force bool) error {
	_, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case !force:
		return fmt.Errorf("%w: %s", errExists, path)
	}
	return nil
}
