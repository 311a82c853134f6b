//go:build !unix

package cli

func ignoreSizeLimit() {}
