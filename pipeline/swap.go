package pipeline

import (
	"errors"
	"io/fs"
	"os"
)

// moveDir puts the folder tmp in the place of dir in two steps, where the
// system has no single one: a crash between them leaves the old folder under
// the name dir.old.
func moveDir(tmp, dir string) error {
	old := dir + ".old"
	if err := os.Rename(dir, old); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Rename(tmp, dir); err != nil {
		return errors.Join(err, os.Rename(old, dir))
	}
	return os.RemoveAll(old)
}
