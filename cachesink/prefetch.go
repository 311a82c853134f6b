package cachesink

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
)

const (
	// readsEvery is how many gathers go by between two looks at what was read
	// from disks.
	readsEvery = 8
	// readsKept is for how many gathers pages are fetched after such a read.
	readsKept = 256
	// scarceReads is how many times the size of the files is read before
	// memory is taken to be too small for them.
	scarceReads = 2
)

// pages says whether the pages of mapped files are in memory: as far as the
// system tells, which counts reads for the whole process.
type pages struct {
	files   []*mappedFile
	size    int64 // of the files, in bytes
	gathers atomic.Int64
	until   atomic.Int64 // the gather up to which pages are fetched
	begun   atomic.Int64 // bytes that had been read when the files were opened
	reads   atomic.Int64 // and at the last look
	scarce  sync.Once
}

func pagesOf(files []*mappedFile) *pages {
	p := &pages{files: files}
	for _, f := range files {
		p.size += int64(len(f.m.Bytes))
	}
	p.begun.Store(diskReads())
	p.reads.Store(p.begun.Load())
	return p
}

// missing says that pages may have to come from the disk: some had to, not
// long ago. It costs little where all are in memory.
func (p *pages) missing() bool {
	if len(p.files) == 0 {
		return false
	}
	n := p.gathers.Add(1)
	if n%readsEvery == 0 {
		now := diskReads()
		if p.reads.Swap(now) != now {
			p.until.Store(n + readsKept)
		}
		if now-p.begun.Load() > scarceReads*p.size {
			// What the system reads around a page drives out others.
			p.scarce.Do(func() {
				for _, f := range p.files {
					f.m.Random()
				}
			})
		}
	}
	return n < p.until.Load()
}

// stretch is a part of a mapped file, in bytes.
type stretch struct {
	f        *mappedFile
	from, to int
}

const (
	// fetchGap is how many bytes between two stretches are fetched with them.
	fetchGap = 16 << 10
	// fetchAhead is how many bytes are fetched behind rows that follow one
	// another, whenever fetchStep more of them were gathered: more will come.
	fetchAhead, fetchStep = 8 << 20, 2 << 20
)

// fetches collects what is to come from the disk, all at once: else each page
// would be waited for before the next is asked for.
type fetches struct{ list []stretch }

// add notes a part of a file. Whole blocks come where they will be checked.
func (l *fetches) add(f *mappedFile, from, to int) {
	if f == nil || f.own || from >= to {
		return
	}
	if f.left.Load() > 0 && !f.holds(from, to) {
		from, to = from/sumBlock*sumBlock, min((to+sumBlock-1)/sumBlock*sumBlock, len(f.m.Bytes))
	}
	l.list = append(l.list, stretch{f, from, to})
}

// run asks for all, and forgets it.
func (l *fetches) run() {
	slices.SortFunc(l.list, func(a, b stretch) int {
		return cmp.Or(cmp.Compare(a.f.name, b.f.name), cmp.Compare(a.from, b.from))
	})
	for list := l.list; len(list) > 0; {
		s := list[0]
		list = list[1:]
		for len(list) > 0 && list[0].f == s.f && list[0].from <= s.to+fetchGap {
			s.to = max(s.to, list[0].to)
			list = list[1:]
		}
		s.f.m.Prefetch(s.from, s.to)
	}
	l.list = l.list[:0]
}

// rows asks for the values of some embeddings.
func (l *fetches) rows(spots []spot[chunk]) {
	for _, s := range spots {
		c := s.b
		l.add(c.file, c.valuesAt+s.row*c.width, c.valuesAt+(s.row+s.n)*c.width)
	}
	l.run()
}

// ahead asks for what comes after a stretch of rows.
func (l *fetches) ahead(c *chunk, row, n int) {
	if c.file == nil || c.file.own {
		return
	}
	from, to := c.valuesAt+row*c.width, c.valuesAt+(row+n)*c.width
	if from/fetchStep != to/fetchStep || row == 0 {
		c.file.m.Prefetch(from, min(to+fetchAhead, len(c.file.m.Bytes)))
	}
}

// cells asks for the cells of a column of some rows.
func (l *fetches) cells(k *cellKind, col int, spots []spot[rowBatch]) {
	part := func(b *rowBatch, part []byte, from, to int) {
		if len(part) > 0 && b.file != nil {
			at := b.file.at(part)
			l.add(b.file, at+from, at+to)
		}
	}
	for _, s := range spots {
		c := &s.b.cols[col]
		part(s.b, c.valid, s.row/8, (s.row+s.n+7)/8)
		switch {
		case k.width < 0:
			part(s.b, c.offsets, 4*s.row, 4*(s.row+s.n+1))
		case k.width == 0:
			part(s.b, c.values, s.row/8, (s.row+s.n+7)/8)
		case c.steps == nil || c.steps.state.Load() != stepsOne:
			part(s.b, c.values, s.row*k.width, (s.row+s.n)*k.width)
		}
	}
	l.run()
}

// texts asks for the texts or binaries of some rows, whose offsets are there.
func (l *fetches) texts(col int, spots []spot[rowBatch]) error {
	for _, s := range spots {
		c := &s.b.cols[col]
		if s.b.file == nil || len(c.values) == 0 {
			continue
		}
		from, to, err := s.b.offsets(col, s.row, s.n)
		if err != nil {
			return err
		}
		at := s.b.file.at(c.values)
		l.add(s.b.file, at+from, at+to)
	}
	l.run()
	return nil
}
