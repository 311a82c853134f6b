//go:build unix

package cachesink

import (
	"fmt"

	"golang.org/x/sys/unix"
)

func allocSlots(n int) ([]byte, error) {
	if n < mapSlots {
		return make([]byte, n), nil
	}
	b, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return nil, fmt.Errorf("grow the table of object ids to %d bytes: %w", n, err)
	}
	return b, nil
}

func freeSlots(b []byte) {
	if len(b) >= mapSlots {
		_ = unix.Munmap(b) // fails only for what was never mapped
	}
}
