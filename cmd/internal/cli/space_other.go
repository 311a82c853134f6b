//go:build !unix

package cli

import (
	"errors"
	"syscall"
)

// Windows error codes of a full disk: ERROR_HANDLE_DISK_FULL, ERROR_DISK_FULL.
const (
	handleDiskFull = syscall.Errno(39)
	diskFull       = syscall.Errno(112)
)

// noSpace reports whether a disk is full.
func noSpace(err error) bool {
	return errors.Is(err, handleDiskFull) || errors.Is(err, diskFull)
}
