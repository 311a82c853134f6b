//go:build race

package kernels

// raceOn says that allocations cannot be counted: sync.Pool then drops some
// of what it is given.
const raceOn = true
