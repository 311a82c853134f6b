package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/permafrost-ml/permafrost/internal/store"
)

// writeTo calls fill with the standard output, or with a file that takes its
// name when fill is done, so that a file of that name is never half a result.
func (a *app) writeTo(path string, force bool, fill func(io.Writer) error) error {
	if path == "" {
		w := bufio.NewWriterSize(a.stdout, 64<<10)
		return errors.Join(fill(w), w.Flush())
	}
	return store.PlaceFile(path, func() error { return mayWrite(path, force) }, func(f *os.File) error {
		w := bufio.NewWriterSize(f, 64<<10)
		if err := fill(w); err != nil {
			return err
		}
		if err := w.Flush(); err != nil {
			return fmt.Errorf("write %s: %w", path, err)
		}
		return nil
	})
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
