//go:build unix

package store

import (
	"os"

	"golang.org/x/sys/unix"
)

func mapFile(f *os.File, size int) ([]byte, error) {
	return unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ, unix.MAP_PRIVATE)
}

// hugePages returns n zeroed bytes, which unmapFile frees.
func hugePages(n int) ([]byte, error) {
	b, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err == nil {
		adviseHuge(b)
	}
	return b, err
}

func unmapFile(b []byte) error { return unix.Munmap(b) }

func willNeed(b []byte, from, to int) {
	page := os.Getpagesize()
	_ = unix.Madvise(b[from/page*page:to], unix.MADV_WILLNEED) // advice
}

func readNoMore(b []byte) { _ = unix.Madvise(b, unix.MADV_RANDOM) } // advice
