package cachesink

import (
	"cmp"
	"slices"
	"sync/atomic"
)

const (
	// faultsEvery is how many gathers go by between two looks at the faults.
	faultsEvery = 8
	// faultsKept is for how many gathers pages are fetched after one at which
	// pages were missing.
	faultsKept = 256
)

// missing counts for all tables of the process whether pages that are mapped
// are in memory: it is the process that the system counts for.
var missing struct {
	gathers atomic.Int64 // so far
	until   atomic.Int64 // the gather up to which pages are fetched
	faults  atomic.Int64 // that waited for the disk, so far, and 1; 0 at first
}

// evicted says that mapped pages may have to come from the disk: some had to,
// not long ago. It costs little where all are in memory.
func evicted() bool {
	n := missing.gathers.Add(1)
	if n%faultsEvery == 0 {
		now := 1 + majorFaults()
		if before := missing.faults.Swap(now); before != now && before != 0 {
			missing.until.Store(n + faultsKept)
		}
	}
	return n < missing.until.Load()
}

// stretch is a part of a mapped file, in bytes.
type stretch struct {
	f        *mappedFile
	from, to int
}

// fetchGap is how many bytes between two stretches are fetched with them.
const fetchGap = 16 << 10

// fetch asks the disk for the values of some rows, all at once: else each would
// be waited for before the next is asked for.
func fetch(spots []spot[chunk]) {
	var all [256]stretch
	n := 0
	for _, s := range spots {
		if c := s.b; c.file != nil && !c.file.own {
			all[n] = stretch{c.file, c.valuesAt + s.row*c.width, c.valuesAt + (s.row+s.n)*c.width}
			n++
		}
	}
	list := all[:n]
	slices.SortFunc(list, func(a, b stretch) int {
		return cmp.Or(cmp.Compare(a.f.name, b.f.name), cmp.Compare(a.from, b.from))
	})
	for len(list) > 0 {
		s := list[0]
		list = list[1:]
		for len(list) > 0 && list[0].f == s.f && list[0].from <= s.to+fetchGap {
			s.to = max(s.to, list[0].to)
			list = list[1:]
		}
		if s.f.left.Load() > 0 { // whole blocks will be checked
			s.from, s.to = s.from/sumBlock*sumBlock, min((s.to+sumBlock-1)/sumBlock*sumBlock, len(s.f.m.Bytes))
		}
		s.f.m.Prefetch(s.from, s.to)
	}
}
