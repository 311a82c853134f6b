package cachesink

import (
	"encoding/binary"
	"math/bits"
)

// idTable maps object ids to positions. It holds the first 16 bytes of an id
// (SHA-256 cut to 128 bits collides by chance once in about 2^64 ids) and 8
// bytes of position, in 256 open-addressing tables of their own that grow by
// an eighth, so that neither the slack nor the copy at a growth is ever
// large: 24 bytes a slot at a load of 0.8 to 0.9 is 27 to 30 bytes an
// object.
// The slots lie outside the Go heap where the system allows it.
type idTable struct {
	parts [256]idPart
	n     int64
}

type idPart struct {
	mem []byte // slots of slotSize: key, then position+1; 0 is empty
	n   int
}

const (
	slotSize = 24
	minSlots = 16
	// mapMin is the size from which memory lies outside the Go heap: below it
	// a mapping of its own would waste too much of its last page.
	mapMin = 1 << 14
)

func (t *idTable) len() int64 { return t.n }

// insert stores pos for an id that is not there; for one that is, it returns
// the position stored before.
func (t *idTable) insert(id *[32]byte, pos int64) (at int64, fresh bool, err error) {
	p := &t.parts[id[0]]
	if (p.n+1)*10 > len(p.mem)/slotSize*9 {
		if err := p.grow(); err != nil {
			return 0, false, err
		}
	}
	s := p.slot(id)
	if old := binary.LittleEndian.Uint64(s[16:]); old != 0 {
		return int64(old) - 1, false, nil
	}
	copy(s, id[:16])
	binary.LittleEndian.PutUint64(s[16:], uint64(pos)+1)
	p.n++
	t.n++
	return pos, true, nil
}

// find returns the position stored for an id.
func (t *idTable) find(id *[32]byte) (pos int64, ok bool) {
	p := &t.parts[id[0]]
	if p.n == 0 {
		return 0, false
	}
	at := binary.LittleEndian.Uint64(p.slot(id)[16:])
	return int64(at) - 1, at != 0
}

// slot returns the id's slot, or the empty one where it would go.
func (p *idPart) slot(id *[32]byte) []byte {
	slots := uint64(len(p.mem) / slotSize)
	hi, _ := bits.Mul64(binary.LittleEndian.Uint64(id[8:]), slots)
	key := string(id[:16])
	for i := hi; ; {
		s := p.mem[i*slotSize : (i+1)*slotSize]
		if binary.LittleEndian.Uint64(s[16:]) == 0 || string(s[:16]) == key {
			return s
		}
		if i++; i == slots {
			i = 0
		}
	}
}

func (p *idPart) grow() error {
	slots := max(minSlots, len(p.mem)/slotSize*9/8+1)
	mem, err := allocate(slots * slotSize)
	if err != nil {
		return err
	}
	old := p.mem
	p.mem = mem
	for s := range len(old) / slotSize {
		b := old[s*slotSize : (s+1)*slotSize]
		if binary.LittleEndian.Uint64(b[16:]) == 0 {
			continue
		}
		var id [32]byte
		copy(id[:], b[:16])
		copy(p.slot(&id), b)
	}
	free(old)
	return nil
}

// close frees the table's memory; it is empty afterwards.
func (t *idTable) close() {
	for i := range t.parts {
		free(t.parts[i].mem)
	}
	*t = idTable{}
}
