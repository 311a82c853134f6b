//go:build amd64 && !purego

package kernels

import "testing"

// profiles runs a test on every path of this machine.
func profiles(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	wasFast, wasWide := fast, wide
	defer func() { fast, wide = wasFast, wasWide }()
	if fast && wide {
		t.Run("avx512", test)
	}
	wide = false
	if fast {
		t.Run("avx2", test)
		if raceOn {
			return // the portable loops are slow there, and share nothing
		}
	}
	fast = false
	t.Run("portable", test)
}
