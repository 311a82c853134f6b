package arrowipc

import (
	"encoding/binary"
	"errors"
)

var errFlat = errors.New("malformed metadata")

// flat is a flatbuffer. What lies outside of it reads as zero, and leaves the
// error.
type flat struct {
	b   []byte
	err error
}

func (f *flat) bytes(at, n int) []byte {
	if at < 0 || n < 0 || at > len(f.b) || n > len(f.b)-at {
		f.err = errFlat
		return nil
	}
	return f.b[at : at+n]
}

func (f *flat) u16(at int) int {
	if b := f.bytes(at, 2); b != nil {
		return int(binary.LittleEndian.Uint16(b))
	}
	return 0
}

func (f *flat) i32(at int) int32 {
	if b := f.bytes(at, 4); b != nil {
		return int32(binary.LittleEndian.Uint32(b))
	}
	return 0
}

func (f *flat) i64(at int) int64 {
	if b := f.bytes(at, 8); b != nil {
		return int64(binary.LittleEndian.Uint64(b))
	}
	return 0
}

// table is a table of a flatbuffer; the zero table is an absent one, whose
// fields are too.
type table struct {
	f  *flat
	at int
}

// root returns the table that a flatbuffer is of.
func root(b []byte) table {
	f := &flat{b: b}
	return table{f, int(f.i32(0))}
}

func (t table) absent() bool { return t.f == nil }

// slot returns where a field is, 0 where it is absent.
func (t table) slot(n int) int {
	if t.f == nil || t.f.err != nil {
		return 0
	}
	vtable := t.at - int(t.f.i32(t.at))
	// As Arrow's own reader has it: it must not see fields that this does not.
	if size := t.f.u16(vtable); 4+2*n >= size {
		return 0
	}
	offset := t.f.u16(vtable + 4 + 2*n)
	if offset == 0 {
		return 0
	}
	return t.at + offset
}

func (t table) bool(n int) bool { return t.byte(n) != 0 }

func (t table) byte(n int) byte {
	at := t.slot(n)
	if at == 0 {
		return 0
	}
	if b := t.f.bytes(at, 1); b != nil {
		return b[0]
	}
	return 0
}

func (t table) i16(n, absent int) int {
	at := t.slot(n)
	if at == 0 {
		return absent
	}
	return int(int16(t.f.u16(at)))
}

func (t table) i32(n, absent int) int {
	at := t.slot(n)
	if at == 0 {
		return absent
	}
	return int(t.f.i32(at))
}

func (t table) i64(n int) int64 {
	at := t.slot(n)
	if at == 0 {
		return 0
	}
	return t.f.i64(at)
}

// indirect returns where an offset leads, 0 where it is absent.
func (t table) indirect(n int) int {
	at := t.slot(n)
	if at == 0 {
		return 0
	}
	to := at + int(uint32(t.f.i32(at)))
	if to > len(t.f.b) {
		t.f.err = errFlat
		return 0
	}
	return to
}

func (t table) table(n int) table {
	at := t.indirect(n)
	if at == 0 {
		return table{}
	}
	return table{t.f, at}
}

func (t table) text(n int) string {
	at, count := t.vector(n, 1)
	if count == 0 {
		return ""
	}
	return string(t.f.bytes(at, count))
}

// vector returns where the elements of a vector are, and how many; all of them
// are there.
func (t table) vector(n, size int) (at, count int) {
	at = t.indirect(n)
	if at == 0 {
		return 0, 0
	}
	count = int(uint32(t.f.i32(at)))
	at += 4
	if t.f.err != nil || at > len(t.f.b) || count > (len(t.f.b)-at)/size {
		t.f.err = errFlat
		return 0, 0
	}
	return at, count
}

// tables returns an element of a vector of tables.
func (f *flat) element(at, i int) table {
	at += 4 * i
	to := at + int(uint32(f.i32(at)))
	if to > len(f.b) {
		f.err = errFlat
		to = 0
	}
	return table{f, to}
}
