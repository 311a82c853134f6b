//go:build amd64 && !purego

package kernels

import "golang.org/x/sys/cpu"

// fast says that the assembly can run. It is a variable for tests, which
// compare both profiles.
var fast = cpu.X86.HasAVX2 && cpu.X86.HasFMA
