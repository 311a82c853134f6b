//go:build amd64 && !purego

package kernels

func fastProfile() bool { return fast }
