//go:build unix

package cachesink

import "golang.org/x/sys/unix"

// majorFaults is how many pages the process has waited for so far.
func majorFaults() int64 {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return int64(u.Majflt)
}
