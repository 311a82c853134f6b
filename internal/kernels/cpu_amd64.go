//go:build amd64 && !purego

package kernels

import "golang.org/x/sys/cpu"

// These say which assembly can run. They are variables for tests, which
// compare the paths.
var (
	fast = cpu.X86.HasAVX2 && cpu.X86.HasFMA
	// wide is used only with fast.
	wide = cpu.X86.HasAVX512F && cpu.X86.HasAVX512BW && cpu.X86.HasAVX512DQ && cpu.X86.HasAVX512VL
)
