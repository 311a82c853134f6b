package cachesink

import (
	"context"
	"sync"
	"sync/atomic"
)

// spans tells in which of some runs of rows, one after the other, a row lies.
// It does not search: what a processor cannot foresee keeps it from reading
// ahead.
type spans struct {
	firsts []int64 // the first row of each run
	near   []int32 // the run at every row that is a multiple of 1<<shift
	shift  uint
}

// spansOf returns the spans of runs of so many rows.
func spansOf(n int, rows func(i int) int64) (s spans, total int64) {
	for i := range n {
		s.firsts = append(s.firsts, total)
		total += rows(i)
	}
	// For about four rows a run it is noted which run is there, so that few
	// steps are left.
	for total>>s.shift > 4*int64(n) {
		s.shift++
	}
	s.near = make([]int32, 0, total>>s.shift+1)
	i := 0
	for row := int64(0); row < total; row += 1 << s.shift {
		i = s.step(i, row)
		s.near = append(s.near, int32(i))
	}
	return s, total
}

func (s *spans) step(i int, row int64) int {
	for i+1 < len(s.firsts) && s.firsts[i+1] <= row {
		i++
	}
	return i
}

// find returns the run of a row that lies in one.
func (s *spans) find(row int64) int {
	if len(s.firsts) == 1 {
		return 0
	}
	return s.step(int(s.near[row>>s.shift]), row)
}

// batched is what is made of a record batch.
type batched interface{ batchRows() int64 }

// pieces are the record batches of several files, one file after the other.
// Which there are in a file is found out when the first of its rows is asked
// for.
type pieces[B batched] struct {
	files []piece[B]
	at    spans
	rows  int64
}

// piece is one file.
type piece[B batched] struct {
	rows   int64
	mapped *mappedFile // nil where it was read
	// place finds out the record batches, as many rows as the file has. It is
	// called until it succeeds.
	place func(ctx context.Context) ([]B, error)

	mu    sync.Mutex
	found atomic.Pointer[placed[B]]
}

// placed are the record batches of a file.
type placed[B batched] struct {
	batches []B
	at      spans
}

// spot is where some rows are that follow one another.
type spot[B batched] struct {
	b      *B
	row, n int
}

// index makes the files known, once all are there.
func (p *pieces[B]) index() {
	p.at, p.rows = spansOf(len(p.files), func(i int) int64 { return p.files[i].rows })
}

// find returns the record batch that holds a row in [0, rows), and the row's
// number in it.
func (p *pieces[B]) find(ctx context.Context, row int64) (*B, int, error) {
	i := p.at.find(row)
	f := &p.files[i]
	found := f.found.Load()
	if found == nil {
		var err error
		if found, err = f.open(ctx); err != nil {
			return nil, 0, err
		}
	}
	row -= p.at.firsts[i]
	k := found.at.find(row)
	return &found.batches[k], int(row - found.at.firsts[k]), nil
}

// open finds out the record batches of a file.
func (f *piece[B]) open(ctx context.Context) (*placed[B], error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if found := f.found.Load(); found != nil {
		return found, nil
	}
	batches, err := f.place(ctx)
	if err != nil {
		return nil, err
	}
	found := &placed[B]{batches: batches}
	found.at, _ = spansOf(len(batches), func(i int) int64 { return batches[i].batchRows() })
	f.found.Store(found)
	return found, nil
}

// each calls fn with the record batches that were found out.
func (p *pieces[B]) each(fn func(*B)) {
	for i := range p.files {
		if found := p.files[i].found.Load(); found != nil {
			for k := range found.batches {
				fn(&found.batches[k])
			}
		}
	}
}

// lent returns the files whose pages are the system's, which may take them
// back.
func (p *pieces[B]) lent() (files []*mappedFile) {
	for i := range p.files {
		if f := p.files[i].mapped; f != nil && !f.own {
			files = append(files, f)
		}
	}
	return files
}

// release gives the files back.
func (p *pieces[B]) release() {
	for i := range p.files {
		if f := p.files[i].mapped; f != nil {
			f.release()
		}
	}
	p.files = nil
}

// streak returns how many numbers from the first on, at most so many, follow
// one another.
func streak(numbers []int64, most int) int {
	most = min(most, len(numbers))
	n := 1
	for n < most && numbers[n] == numbers[0]+int64(n) {
		n++
	}
	return n
}
