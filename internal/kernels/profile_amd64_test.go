//go:build amd64 && !purego

package kernels

import "testing"

// profiles runs a test in every numeric profile of this machine.
func profiles(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	was := fast
	defer func() { fast = was }()
	if fast {
		t.Run("avx2", test)
		if raceOn {
			return // the portable loops are slow there, and share nothing
		}
	}
	fast = false
	t.Run("portable", test)
}
