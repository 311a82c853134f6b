//go:build !linux

package pipeline

func swapDir(tmp, dir string) error { return moveDir(tmp, dir) }
