package cachesink

import "unsafe"

// rowEntry is a row of one of two splits, reduced to what is compared.
type rowEntry struct {
	objects digest // of the ids of its objects
	content digest // of these and of its values
	at      uint64 // its number, and in sideBit the side
}

func (r *rowEntry) side() int  { return int(r.at >> sideBit) }
func (r *rowEntry) row() int64 { return int64(r.at &^ (1 << sideBit)) }

// rowSet holds rows outside the Go heap, those of the same objects in one of
// 256 parts, which grow by an eighth as those of [idTable] do.
type rowSet struct{ parts [256]rowPart }

type rowPart struct {
	mem []byte
	n   int
}

const entrySize = int(unsafe.Sizeof(rowEntry{}))

func (s *rowSet) add(r rowEntry) error {
	p := &s.parts[r.objects[0]]
	if p.n == len(p.mem)/entrySize {
		mem, err := allocate(max(minSlots, p.n*9/8+1) * entrySize)
		if err != nil {
			return err
		}
		copy(mem, p.mem)
		free(p.mem)
		p.mem = mem
	}
	p.n++
	p.entries()[p.n-1] = r
	return nil
}

// entries are the part's rows, until more are added.
func (p *rowPart) entries() []rowEntry {
	return unsafe.Slice((*rowEntry)(unsafe.Pointer(unsafe.SliceData(p.mem))), p.n)
}

func (s *rowSet) free() {
	for i := range s.parts {
		free(s.parts[i].mem)
	}
	*s = rowSet{}
}
