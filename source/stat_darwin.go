package source

import (
	"os"
	"syscall"
)

// stateOf is false where the system does not say enough for a hint.
func stateOf(info os.FileInfo) (fileState, bool) {
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok || s.Ino == 0 {
		return fileState{}, false
	}
	return fileState{info.Size(), s.Mtimespec.Nano(), s.Ctimespec.Nano(), s.Ino, uint64(s.Dev)}, true
}
