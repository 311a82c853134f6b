//go:build arm64 || !go1.21

package shapes

// Tagged is for another processor than the one.
func Tagged() {}
