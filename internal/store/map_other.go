//go:build !unix

package store

import (
	"errors"
	"os"
)

func mapFile(*os.File, int) ([]byte, error) { return nil, errors.ErrUnsupported }

func hugePages(int) ([]byte, error) { return nil, errors.ErrUnsupported }

func unmapFile([]byte) error { return nil }

func willNeed([]byte, int, int) {}

func readNoMore([]byte) {}
