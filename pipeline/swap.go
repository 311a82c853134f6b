package pipeline

import (
	"errors"
	"io/fs"
	"os"
	"runtime"
)

// moveDir puts the folder tmp in the place of dir in two steps, where the
// system has no single one: a crash between them leaves the old folder under
// the name of tmp with .old behind it.
func moveDir(tmp, dir string) error {
	old := tmp + ".old"
	err := os.Rename(dir, old)
	had := err == nil
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Rename(tmp, dir); err != nil {
		if had {
			err = errors.Join(err, os.Rename(old, dir))
		}
		return err
	}
	return os.RemoveAll(old)
}

// syncDir makes the names in a folder last, where the system can.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil // it opens no folders
	}
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
