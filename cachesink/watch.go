package cachesink

import (
	"fmt"
	"sync/atomic"
	"time"
)

// lookEvery is how often mapped files are held to be unchanged.
const lookEvery = 100 * time.Millisecond

// watch finds mapped files that somebody writes to.
type watch struct {
	files  []*mappedFile
	looked atomic.Int64 // when they were last looked at, in ns
}

// unchanged looks at the files, if nobody has done so just now.
func (w *watch) unchanged() error {
	if len(w.files) == 0 {
		return nil
	}
	now, last := time.Now().UnixNano(), w.looked.Load()
	if now-last < lookEvery.Nanoseconds() || !w.looked.CompareAndSwap(last, now) {
		return nil
	}
	for _, f := range w.files {
		if err := f.m.Unchanged(); err != nil {
			w.looked.Store(last) // for others to find it, too
			return fmt.Errorf("%w: %s: %w", ErrCorrupt, f.name, err)
		}
	}
	return nil
}
