//go:build !linux

package store

import "errors"

// Exchange would swap two folders in one step; it returns
// errors.ErrUnsupported.
func Exchange(_, _ string) error { return errors.ErrUnsupported }
