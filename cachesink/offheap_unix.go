//go:build unix

package cachesink

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// allocate returns n zeroed bytes, outside the Go heap from mapMin on: a
// collector that lets the heap double before it runs would double them, too.
func allocate(n int) ([]byte, error) {
	if n < mapMin {
		return make([]byte, n), nil
	}
	b, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return nil, fmt.Errorf("allocate %d bytes: %w", n, err)
	}
	return b, nil
}

// free gives back what allocate returned, of that length.
func free(b []byte) {
	if len(b) >= mapMin {
		_ = unix.Munmap(b) // fails only for what was never mapped
	}
}
