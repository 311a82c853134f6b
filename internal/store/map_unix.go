//go:build unix

package store

import (
	"os"

	"golang.org/x/sys/unix"
)

func mapFile(f *os.File, size int) ([]byte, error) {
	return unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ, unix.MAP_PRIVATE)
}

func unmapFile(b []byte) error { return unix.Munmap(b) }

func willNeed(b []byte, from, to int) {
	page := os.Getpagesize()
	_ = unix.Madvise(b[from/page*page:to], unix.MADV_WILLNEED) // advice
}
