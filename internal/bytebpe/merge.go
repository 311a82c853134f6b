package bytebpe

// symbols is a word while its pairs are merged: a doubly linked list of
// tokens, and a heap of the merges that are possible.
type symbols struct {
	list []symbol
	heap []candidate
}

type symbol struct {
	id         int32 // -1 once it is part of the one before it
	prev, next int32 // -1 at the ends
}

// candidate is a merge of the symbol at a place with the next one.
type candidate struct {
	merge
	at int32
}

// before is the order of merges: by rank, then from the left.
func (c candidate) before(o candidate) bool {
	return c.rank < o.rank || c.rank == o.rank && c.at < o.at
}

// appendWord appends the tokens of a word, of which there is no more than
// math.MaxInt32 bytes.
func (t *Tokenizer) appendWord(dst []int32, w *symbols, s string) []int32 {
	w.list, w.heap = w.list[:0], w.heap[:0]
	for i := range len(s) {
		w.list = append(w.list, symbol{t.bytes[s[i]], int32(i) - 1, int32(i) + 1})
	}
	w.list[len(s)-1].next = -1
	for i := range len(s) - 1 {
		t.offer(w, int32(i))
	}
	for len(w.heap) > 0 {
		c := w.pop()
		left := &w.list[c.at]
		if left.id < 0 || left.next < 0 {
			continue
		}
		right := &w.list[left.next]
		// The pair may have become another one since.
		if m, ok := t.merges[pair{left.id, right.id}]; !ok || m != c.merge {
			continue
		}
		left.id, right.id = c.id, -1
		if left.next = right.next; left.next >= 0 {
			w.list[left.next].prev = c.at
			t.offer(w, c.at)
		}
		if left.prev >= 0 {
			t.offer(w, left.prev)
		}
	}
	for at := int32(0); at >= 0; at = w.list[at].next {
		dst = append(dst, w.list[at].id)
	}
	return dst
}

// offer puts the merge of a symbol with the next one on the heap, if there is
// one.
func (t *Tokenizer) offer(w *symbols, at int32) {
	s := w.list[at]
	m, ok := t.merges[pair{s.id, w.list[s.next].id}]
	if !ok {
		return
	}
	w.heap = append(w.heap, candidate{m, at})
	h := w.heap
	for i := len(h) - 1; i > 0; {
		up := (i - 1) / 2
		if !h[i].before(h[up]) {
			break
		}
		h[i], h[up] = h[up], h[i]
		i = up
	}
}

// pop takes the first merge off the heap.
func (w *symbols) pop() candidate {
	h := w.heap
	top, n := h[0], len(h)-1
	h[0] = h[n]
	h = h[:n]
	for i := 0; ; {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < n; child++ {
			if h[child].before(h[least]) {
				least = child
			}
		}
		if least == i {
			break
		}
		h[i], h[least] = h[least], h[i]
		i = least
	}
	w.heap = h
	return top
}
