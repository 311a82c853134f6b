package cachesink

import (
	"encoding/binary"
	"math"
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

// reserve makes room for n ids that are to come, so that the table need not
// grow while they do: the parts get about as many each.
func (t *idTable) reserve(n int64) error {
	each := float64(n) / float64(len(t.parts))
	slots := int((each + 3*math.Sqrt(each)) * 10 / 9)
	for i := range t.parts {
		p := &t.parts[i]
		if slots*slotSize <= len(p.mem) || slots < minSlots {
			continue
		}
		if err := p.resize(slots); err != nil {
			return err
		}
	}
	return nil
}

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
	low, high := binary.LittleEndian.Uint64(id[:]), binary.LittleEndian.Uint64(id[8:])
	hi, _ := bits.Mul64(high, slots)
	for i := hi; ; {
		s := p.mem[i*slotSize : (i+1)*slotSize : (i+1)*slotSize]
		if binary.LittleEndian.Uint64(s[16:]) == 0 || binary.LittleEndian.Uint64(s) == low && binary.LittleEndian.Uint64(s[8:]) == high {
			return s
		}
		if i++; i == slots {
			i = 0
		}
	}
}

func (p *idPart) grow() error { return p.resize(max(minSlots, len(p.mem)/slotSize*9/8+1)) }

// resize moves the ids to so many slots.
func (p *idPart) resize(slots int) error {
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
