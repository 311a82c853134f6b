package kernels

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// hugePage is the size of the pages that Linux backs large memory with where
// it is asked to.
const hugePage = 2 << 20

// adviseHuge asks for huge pages under values that are read from end to end
// again and again, before they are written: with small ones, finding the page
// and beginning to read ahead anew in each costs several percent of a product.
// Neighbours in a page that is not wholly theirs get it too.
func adviseHuge(x []float32) {
	if 4*len(x) < hugePage/2 {
		return
	}
	start := uintptr(unsafe.Pointer(&x[0]))
	end := start + 4*uintptr(len(x))
	start &^= hugePage - 1
	end = (end + hugePage - 1) &^ (hugePage - 1)
	// It is advice: where it cannot be followed, nothing is lost.
	_, _, _ = unix.Syscall(unix.SYS_MADVISE, start, end-start, unix.MADV_HUGEPAGE)
}
