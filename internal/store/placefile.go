package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// PlaceFile calls fill with a new file beside path, which is synced and takes
// that name when fill is done, so that a file of that name is never half a
// result. may refuses the name; it is asked before and, since something may
// have come in between, after. Its errors, and those of fill, come back as they
// are.
func PlaceFile(path string, may func() error, fill func(*os.File) error) (err error) {
	if err := may(); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(f.Name())
		}
	}()
	if err := fill(f); err != nil {
		return err
	}
	if err := errors.Join(f.Chmod(0o644), f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := may(); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err == nil {
		err = SyncDir(filepath.Dir(path))
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
