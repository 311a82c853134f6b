package shapes

// System returns the name of this system for Windows.
func System() string { return "windows" }
