package nn

import (
	"runtime"
	"sync"
)

// grain is the least number of values worth a goroutine of their own.
const grain = 1 << 14

// Parallel calls fn for consecutive ranges that together cover [0, n), at
// most GOMAXPROCS of them at a time; cost is the number of values behind one
// index. How [0, n) is cut varies by machine, so a result of fn for an index
// must not depend on the range in which it comes.
func Parallel(n, cost int, fn func(lo, hi int)) {
	parts := min(runtime.GOMAXPROCS(0), n, n*cost/grain)
	if parts <= 1 {
		fn(0, n)
		return
	}
	var wg sync.WaitGroup
	for p := range parts {
		lo, hi := n*p/parts, n*(p+1)/parts
		wg.Go(func() { fn(lo, hi) })
	}
	wg.Wait()
}
