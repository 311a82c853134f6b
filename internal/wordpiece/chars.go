package wordpiece

import (
	_ "embed"
	"encoding/binary"
	"errors"
	"sort"
)

// unicodeData is what the reference does to each code point;
// tools/distill/unicode_tables.py writes it and tells its layout. casedData
// is the same without taking off case and accents.
//
//go:embed unicode.bin
var unicodeData string

//go:embed cased.bin
var casedData string

// Classes of code points; an entry of classFirst or more is the number of a
// replacement plus classFirst.
const (
	classWord   = iota // part of a word as it is
	classDrop          // removed: controls, and marks that are accents
	classBreak         // removed, but ends a run of marks: an accent of combining class 0
	classSpace         // between words
	classPunct         // a word of its own
	classAlone         // a CJK ideograph: set off by spaces
	classMark          // part of a word, moved by canonical ordering
	classHangul        // a syllable, decomposed by rule
	classFirst  = 16
	setOff      = 0x8000 // the replacement is that of an ideograph
)

// charTable is unicodeData taken apart: views of that string.
type charTable struct {
	stage1, stage2, offsets, texts, marks string
}

const blockBits = 7

var errTables = errors.New("unicode tables: malformed")

func newCharTable(data string) (charTable, error) {
	var parts [5]string
	head := 4 * len(parts)
	if len(data) < head {
		return charTable{}, errTables
	}
	rest := data[head:]
	for i := range parts {
		n := binary.LittleEndian.Uint32([]byte(data[4*i:]))
		if uint64(n) > uint64(len(rest)) {
			return charTable{}, errTables
		}
		parts[i], rest = rest[:n], rest[n:]
	}
	t := charTable{parts[0], parts[1], parts[2], parts[3], parts[4]}
	if len(t.stage1) != 0x110000>>blockBits || len(rest) != 0 {
		return charTable{}, errTables
	}
	return t, nil
}

// entry returns the class or replacement of a code point.
func (t *charTable) entry(r rune) uint16 {
	i := int(t.stage1[r>>blockBits])<<blockBits | int(r&(1<<blockBits-1))
	return uint16At(t.stage2, i)
}

// replacement returns the text that stands for an entry of classFirst or more.
func (t *charTable) replacement(entry uint16) string {
	i := int(entry&^setOff) - classFirst
	return t.texts[uint16At(t.offsets, i):uint16At(t.offsets, i+1)]
}

// combining returns the canonical combining class of a mark.
func (t *charTable) combining(r rune) byte {
	i := sort.Search(len(t.marks)/4, func(i int) bool { return t.markAt(i)&0xFFFFFF >= uint32(r) })
	if i == len(t.marks)/4 {
		return 0
	}
	return byte(t.markAt(i) >> 24)
}

func (t *charTable) markAt(i int) uint32 {
	return uint32(uint16At(t.marks, 2*i)) | uint32(uint16At(t.marks, 2*i+1))<<16
}

func uint16At(s string, i int) uint16 {
	return uint16(s[2*i]) | uint16(s[2*i+1])<<8
}
