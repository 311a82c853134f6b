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
	// Nano is 64 bits wide on 32-bit systems too.
	return fileState{info.Size(), s.Mtim.Nano(), s.Ctim.Nano(), s.Ino, uint64(s.Dev)}, true
}
