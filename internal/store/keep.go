package store

import (
	"os"
	"path/filepath"
)

// Keep writes a file that a cache of the user's may hold or lack: one step
// puts it in place of another of its name, and nothing is synced. Its folder is
// made with perm. temp is the pattern of its name until then, as in
// [os.CreateTemp]. It reports whether the file is there; a stray temporary one
// may be left otherwise.
func Keep(path, temp string, perm os.FileMode, b []byte) bool {
	dir := filepath.Dir(path)
	if os.MkdirAll(dir, perm) != nil {
		return false
	}
	f, err := os.CreateTemp(dir, temp)
	if err != nil {
		return false
	}
	_, err = f.Write(b)
	if closeErr := f.Close(); err != nil || closeErr != nil || os.Rename(f.Name(), path) != nil {
		_ = os.Remove(f.Name())
		return false
	}
	return true
}
