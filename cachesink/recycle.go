package cachesink

import (
	"slices"
	"sync"

	"github.com/apache/arrow/go/v15/arrow/memory"
)

const (
	// recycledBytes is the size from which on a buffer is worth keeping.
	recycledBytes = 64 << 10
	// recycledBuffers bounds how many are kept: those of one record batch, as
	// the file has them and as they are handed out.
	recycledBuffers = 8
)

// recycler is an allocator that keeps large buffers for the next record
// batch: new memory would be cleared, and its pages be mapped, for each.
type recycler struct {
	memory.Allocator
	mu     sync.Mutex
	kept   [][]byte
	closed bool
}

func (r *recycler) Allocate(n int) []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := len(r.kept) - 1; i >= 0; i-- { // the last is most likely in the processor's cache
		b := r.kept[i]
		if n >= recycledBytes && cap(b) >= n && cap(b) <= 2*n {
			r.kept = slices.Delete(r.kept, i, i+1)
			return b[:n]
		}
	}
	return r.Allocator.Allocate(n)[:n:n]
}

func (r *recycler) Reallocate(n int, old []byte) []byte {
	if n <= cap(old) {
		return old[:n]
	}
	b := r.Allocate(n)
	copy(b, old)
	r.Free(old)
	return b
}

func (r *recycler) Free(b []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	b = b[:cap(b)] // as it was allocated
	if len(b) < recycledBytes || r.closed {
		r.Allocator.Free(b)
		return
	}
	r.kept = append(r.kept, b)
	if len(r.kept) > recycledBuffers {
		r.Allocator.Free(r.kept[0])
		r.kept = slices.Delete(r.kept, 0, 1)
	}
}

// close frees what is kept; what is freed later is not kept any more. Nil may
// be closed.
func (r *recycler) close() {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	for _, b := range r.kept {
		r.Allocator.Free(b)
	}
	r.kept = nil
}
