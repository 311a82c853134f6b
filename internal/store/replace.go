package store

import (
	"errors"
	"io/fs"
	"os"
	"runtime"
)

// ReplaceDir puts the folder tmp in the place of dir, in one step where the
// system and the filesystem can exchange folders; what was there before is
// then under tmp. The names are not yet durable: see [SyncDir].
func ReplaceDir(tmp, dir string) error {
	err := Exchange(tmp, dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return os.Rename(tmp, dir)
	case errors.Is(err, errors.ErrUnsupported):
		return moveDir(tmp, dir)
	case err != nil:
		return &os.LinkError{Op: "exchange", Old: tmp, New: dir, Err: err}
	}
	return nil
}

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

// SyncDir makes the names in a folder durable, where the system can.
func SyncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil // it opens no folders
	}
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
