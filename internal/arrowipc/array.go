package arrowipc

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Array is a column of a record batch, or a part of one. Its accessors take
// i from 0 to Len-1, and are for the types that they name.
type Array struct {
	Field    *Field
	Len      int64
	Children []*Array

	valid []byte // nil where all values are
	a, b  []byte // values; or offsets or views, and what they lead to
	data  [][]byte
	dict  *dictionary
}

// dictionary is the values that indices stand for, in one or several arrays.
type dictionary struct {
	parts []*Array
	ends  []int64 // the index behind the last value of each part
	size  int     // bytes of all parts
}

// size is the number of bytes that a holds on to.
func (a *Array) size() int {
	n := len(a.valid) + len(a.a) + len(a.b)
	for _, b := range a.data {
		n += len(b)
	}
	for _, c := range a.Children {
		n += c.size()
	}
	if a.dict != nil {
		n += a.dict.size
	}
	return n
}

// load reads the array of a field, or passes over it.
func (d *Reader) load(b *batch, f *Field, want bool) (*Array, error) {
	n, err := b.nextNode()
	if err != nil {
		return nil, err
	}
	layout := f
	if f.dictionary {
		layout = f.index
	}
	if want && layout.reason != nil {
		return nil, layout.reason
	}
	a := &Array{Field: f, Len: n}
	buffers := layout.buffers
	if b.old && layout.Type == Union {
		buffers++
	}
	for i := range buffers {
		most := int64(0)
		if want {
			most = layout.bytesOf(i, n)
		}
		buf, err := b.nextBuffer(most)
		if err != nil {
			return nil, err
		}
		if !want {
			continue
		}
		switch {
		case i == 0:
			a.valid = buf
		case i == 1:
			a.a = buf
		default:
			a.b = buf
		}
		if i == 0 && buf == nil {
			continue // all values are there
		}
		if (i < 2 || layout.Type == ListView || layout.Type == LargeListView) && int64(len(buf)) < most && !(i == 1 && n == 0) {
			return nil, fmt.Errorf("%w: a buffer of %d bytes for %d values", errBatch, len(buf), n)
		}
	}
	if layout.views {
		count, err := b.nextViews()
		if err != nil {
			return nil, err
		}
		most := int64(0)
		if want {
			most = math.MaxInt64
		}
		for range count {
			buf, err := b.nextBuffer(most)
			if err != nil {
				return nil, err
			}
			if want {
				a.data = append(a.data, buf)
			}
		}
	}
	if f.dictionary {
		if want {
			if a.dict = d.dictionaries[f.dictID]; a.dict == nil {
				return nil, fmt.Errorf("%w: the dictionary %d is missing", errBatch, f.dictID)
			}
		}
		return a, nil
	}
	for _, c := range f.Children {
		child, err := d.load(b, c, want)
		if err != nil {
			return nil, err
		}
		if f.Type == Struct && want && child.Len < n {
			return nil, fmt.Errorf("%w: a struct of %d values has a field of %d", errBatch, n, child.Len)
		}
		a.Children = append(a.Children, child)
	}
	return a, nil
}

// bytesOf is the size of a buffer for n values; all there is for the content
// of texts.
func (f *Field) bytesOf(buffer int, n int64) int64 {
	if buffer == 0 {
		return (n + 7) / 8
	}
	switch f.Type {
	case Bool:
		return (n + 7) / 8
	case FixedBinary:
		return saturate(n, int64(f.Width))
	case Binary, Text, List, Map:
		if buffer == 2 {
			return math.MaxInt64
		}
		return 4 * (n + 1)
	case LargeBinary, LargeText, LargeList:
		if buffer == 2 {
			return math.MaxInt64
		}
		return 8 * (n + 1)
	case BinaryView, TextView:
		return 16 * n
	case ListView:
		return 4 * n
	case LargeListView:
		return 8 * n
	default:
		return saturate(n, int64(f.Width/8))
	}
}

func saturate(a, b int64) int64 {
	if b != 0 && a > math.MaxInt64/b {
		return math.MaxInt64
	}
	return a * b
}

// IsNull reports whether the value is absent.
func (a *Array) IsNull(i int64) bool {
	return a.Field.Type == Null && !a.Field.dictionary || a.valid != nil && a.valid[i/8]>>(i%8)&1 == 0
}

// Resolve returns the array and index of the value that stands at i: a
// dictionary's, or a itself.
func (a *Array) Resolve(i int64) (*Array, int64, error) {
	if a.dict == nil {
		return a, i, nil
	}
	index := number(a.a, i, a.Field.index.Width, a.Field.index.Signed)
	start := int64(0)
	for k, end := range a.dict.ends {
		if index >= start && index < end {
			return a.dict.parts[k], index - start, nil
		}
		start = end
	}
	return nil, 0, fmt.Errorf("%w: index %d into a dictionary of %d", errBatch, index, start)
}

// Bool returns a bool.
func (a *Array) Bool(i int64) bool { return a.a[i/8]>>(i%8)&1 == 1 }

// Int returns a number or time of up to 64 bits; of a Float its bits.
func (a *Array) Int(i int64) int64 {
	return number(a.a, i, a.Field.Width, a.Field.Signed || a.Field.Type != Int && a.Field.Type != Float)
}

func number(b []byte, i int64, width int, signed bool) int64 {
	switch width {
	case 8:
		if signed {
			return int64(int8(b[i]))
		}
		return int64(b[i])
	case 16:
		v := binary.LittleEndian.Uint16(b[2*i:])
		if signed {
			return int64(int16(v))
		}
		return int64(v)
	case 32:
		v := binary.LittleEndian.Uint32(b[4*i:])
		if signed {
			return int64(int32(v))
		}
		return int64(v)
	default:
		return int64(binary.LittleEndian.Uint64(b[8*i:]))
	}
}

// Bytes returns the bytes of a text, of a binary, or of a Decimal, which are
// little-endian. They must not be changed.
func (a *Array) Bytes(i int64) ([]byte, error) {
	switch a.Field.Type {
	case FixedBinary:
		w := int64(a.Field.Width)
		return a.a[i*w : (i+1)*w], nil
	case Decimal:
		w := int64(a.Field.Width / 8)
		return a.a[i*w : (i+1)*w], nil
	case BinaryView, TextView:
		return a.view(i)
	default:
		from, to, err := a.span(i, int64(len(a.b)))
		if err != nil {
			return nil, err
		}
		return a.b[from:to], nil
	}
}

// view returns the bytes of a view: up to 12 are in it, more elsewhere.
func (a *Array) view(i int64) ([]byte, error) {
	v := a.a[16*i : 16*i+16]
	n := int64(int32(binary.LittleEndian.Uint32(v)))
	if n >= 0 && n <= 12 {
		return v[4 : 4+n], nil
	}
	buffer, at := int64(int32(binary.LittleEndian.Uint32(v[8:]))), int64(int32(binary.LittleEndian.Uint32(v[12:])))
	if n < 0 || buffer < 0 || buffer >= int64(len(a.data)) || at < 0 || at > int64(len(a.data[buffer]))-n {
		return nil, fmt.Errorf("%w: a view of %d bytes at %d of buffer %d", errBatch, n, at, buffer)
	}
	return a.data[buffer][at : at+n], nil
}

// span reads offsets, which must be within limit.
func (a *Array) span(i, limit int64) (from, to int64, err error) {
	switch a.Field.Type {
	case LargeBinary, LargeText, LargeList:
		from, to = number(a.a, i, 64, true), number(a.a, i+1, 64, true)
	case LargeListView:
		from = number(a.a, i, 64, true)
		if to = number(a.b, i, 64, true); to >= 0 && to <= limit {
			to += from
		}
	case ListView:
		from = number(a.a, i, 32, true)
		to = from + number(a.b, i, 32, true)
	case FixedList:
		from, to = i*int64(a.Field.Width), (i+1)*int64(a.Field.Width)
	default:
		from, to = number(a.a, i, 32, true), number(a.a, i+1, 32, true)
	}
	if from < 0 || to < from || to > limit {
		return 0, 0, fmt.Errorf("%w: offsets %d to %d of %d", errBatch, from, to, limit)
	}
	return from, to, nil
}

// Elements returns the child of a list or map, and which of its values the
// list at i has.
func (a *Array) Elements(i int64) (child *Array, from, to int64, err error) {
	child = a.Children[0]
	from, to, err = a.span(i, child.Len)
	return child, from, to, err
}
