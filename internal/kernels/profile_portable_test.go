//go:build !amd64 || purego

package kernels

import "testing"

func profiles(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	t.Run("portable", test)
}
