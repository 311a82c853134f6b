//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd || windows)

package models

import "os"

// tryLock does nothing where there are no locks: two processes that change
// one model can spoil each other's work, which the hashes show.
func tryLock(*os.File) (bool, error) { return true, nil }
