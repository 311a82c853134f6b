package cachesink

import (
	"crypto/sha256"
	"encoding/binary"
)

// keyPlace is where a key was met.
type keyPlace struct {
	split int
	row   int64
	side  string
}

// keyTable holds for every key the content it stands for and where it was
// first met: hashes and numbers only, outside the Go heap as in [idTable].
type keyTable struct {
	at    idTable  // hash of the key -> its number
	pages [][]byte // by number: the first bytes of the content's id, the place
}

const (
	factSize = 16
	pageSize = 1 << 16 // of facts
)

// check remembers a new key and compares a known one: ok says that it stands
// for the content of that id, first where it was met.
func (t *keyTable) check(key string, id *[32]byte, p keyPlace) (first keyPlace, ok bool, err error) {
	h := sha256.Sum256([]byte(key))
	n, fresh, err := t.at.insert(&h, t.at.len())
	if err != nil {
		return first, false, err
	}
	page, at := n/(pageSize/factSize), n%(pageSize/factSize)*factSize
	if fresh && at == 0 {
		b, err := allocate(pageSize)
		if err != nil {
			return first, false, err
		}
		t.pages = append(t.pages, b)
	}
	fact := t.pages[page][at : at+factSize]
	content := id[8:16]
	if fresh {
		copy(fact, content)
		binary.LittleEndian.PutUint64(fact[8:], p.pack())
		return p, true, nil
	}
	return unpackPlace(binary.LittleEndian.Uint64(fact[8:])), string(fact[:8]) == string(content), nil
}

func (t *keyTable) close() {
	t.at.close()
	for _, p := range t.pages {
		free(p)
	}
	t.pages = nil
}

// pack fits a place into 8 bytes: 16 bits of split, 2 of side, 46 of row.
func (p keyPlace) pack() uint64 {
	side := uint64(0)
	if p.side != "" {
		side = uint64(p.side[0]-'a') + 1
	}
	return uint64(p.split)<<48 | side<<46 | uint64(p.row)
}

func unpackPlace(v uint64) keyPlace {
	p := keyPlace{split: int(v >> 48), row: int64(v & (1<<46 - 1))}
	if side := v >> 46 & 3; side > 0 {
		p.side = string(rune('a' + side - 1))
	}
	return p
}
