//go:build race

package nn

// raceOn says that code allocates more than it does.
const raceOn = true
