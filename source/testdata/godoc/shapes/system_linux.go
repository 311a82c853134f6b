package shapes

// System returns the name of this system for Linux.
func System() string { return "linux" }
