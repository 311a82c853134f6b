//go:build unix

package main

import (
	"os/signal"
	"syscall"
)

func ignoreSizeLimit() { signal.Ignore(syscall.SIGXFSZ) }
