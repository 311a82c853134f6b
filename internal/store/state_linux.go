package store

import (
	"io/fs"
	"syscall"
)

func stateOf(info fs.FileInfo) FileState {
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok || s.Ino == 0 {
		return FileState{}
	}
	return FileState{info.Size(), s.Mtim.Nano(), s.Ctim.Nano(), s.Ino, uint64(s.Dev)}
}
