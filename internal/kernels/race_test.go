//go:build race

package kernels

// raceOn says that Go code is slow, so that tests do less.
const raceOn = true
