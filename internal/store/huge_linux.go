package store

import "golang.org/x/sys/unix"

// adviseHuge asks for huge pages: rows that are read in any order then miss
// the translation of addresses less often.
func adviseHuge(b []byte) { _ = unix.Madvise(b, unix.MADV_HUGEPAGE) } // advice
