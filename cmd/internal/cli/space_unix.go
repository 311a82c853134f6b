//go:build unix

package cli

import (
	"errors"
	"syscall"
)

// noSpace reports whether a disk, a quota or a file size limit is exhausted.
func noSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG)
}
