//go:build !linux && !darwin

package store

import "io/fs"

func stateOf(fs.FileInfo) FileState { return FileState{} }
