package cachesink

// bitmap is a set of small non-negative numbers.
type bitmap struct{ words []uint64 }

// set adds n and reports whether it was new.
func (b *bitmap) set(n int64) bool {
	for int64(len(b.words)) <= n/64 {
		b.words = append(b.words, 0)
	}
	w, m := &b.words[n/64], uint64(1)<<(n%64)
	fresh := *w&m == 0
	*w |= m
	return fresh
}

func (b *bitmap) reset() { clear(b.words) }
