//go:build unix

package cli

import (
	"os/signal"
	"syscall"
)

func ignoreSizeLimit() { signal.Ignore(syscall.SIGXFSZ) }
