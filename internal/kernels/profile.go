package kernels

import "runtime"

// Profile names the numeric profile of this process (see the package
// comment): results of two processes with equal names have equal bits. It is
// "fma" wherever the assembly runs, with any width of its vectors; what the
// portable profile rounds depends on the architecture, which its name holds.
func Profile() string {
	if fastProfile() {
		return "fma"
	}
	return "portable-" + runtime.GOARCH
}
