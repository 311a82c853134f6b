//go:build !unix

package cachesink

func majorFaults() int64 { return 0 }
