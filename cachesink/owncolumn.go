package cachesink

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/bitutil"
	"github.com/apache/arrow/go/v15/arrow/memory"
)

// ownColumn is a column of a batch in memory of its own, which can be filled
// again and again.
type ownColumn struct {
	array  arrow.Array // nil before it is first filled
	data   *array.Data
	counts counts
	// The memory of the array, as far as its type has them.
	valid, offsets, values []byte
}

func (o *ownColumn) drop() {
	if o.array != nil {
		o.array.Release()
		*o = ownColumn{}
	}
}

// make makes a column of a fixed number of rows: for texts and binaries with
// room for so many bytes.
func (o *ownColumn) make(mem memory.Allocator, k *cellKind, rows, room int) {
	o.drop()
	buffer := func(n int) (*memory.Buffer, []byte) {
		b := memory.NewResizableBuffer(mem)
		b.Resize(n)
		clear(b.Bytes())
		o.counts.add(b)
		return b, b.Bytes()
	}
	bufs := []*memory.Buffer{nil}
	if k.nullable {
		bufs[0], o.valid = buffer((rows + 7) / 8)
	}
	var b *memory.Buffer
	if k.width < 0 {
		b, o.offsets = buffer(4 * (rows + 1))
		bufs = append(bufs, b)
	}
	b, o.values = buffer(room)
	bufs = append(bufs, b)
	o.data = array.NewData(k.typ, rows, bufs, nil, 0, 0)
	for _, b := range bufs {
		if b != nil {
			b.Release()
		}
	}
	o.array = array.MakeFromData(o.data)
	o.data.Release()
	o.counts.add(o.array, o.data)
}

// makeVectors makes a column of embeddings.
func (o *ownColumn) makeVectors(mem memory.Allocator, typ *arrow.FixedSizeListType, rows int) {
	n := rows * int(typ.Len())
	buf := memory.NewResizableBuffer(mem)
	buf.Resize(4 * n)
	o.values = buf.Bytes()
	vals := array.NewData(arrow.PrimitiveTypes.Float32, n, []*memory.Buffer{nil, buf}, nil, 0, 0)
	buf.Release()
	o.data = array.NewData(typ, rows, []*memory.Buffer{nil}, []arrow.ArrayData{vals}, 0, 0)
	vals.Release()
	list := array.NewFixedSizeListData(o.data)
	o.data.Release()
	o.array = list
	o.counts.add(buf, vals, o.data, list.ListValues(), list)
}

// fill copies the cells of one column of some rows.
func (o *ownColumn) fill(mem memory.Allocator, k *cellKind, col, rows int, spots []spot[rowBatch]) error {
	if o.array == nil && k.width >= 0 {
		o.make(mem, k, rows, k.bytes(rows))
	}
	if k.width < 0 {
		size := 0
		for i := range spots {
			s := &spots[i]
			from, to, err := s.b.texts(col, s.row, s.n)
			if err != nil {
				return err
			}
			size += to - from
		}
		if size > math.MaxInt32 {
			return fmt.Errorf("%d rows have %d bytes, more than a column takes", rows, size)
		}
		if o.array == nil || size > len(o.values) {
			o.make(mem, k, rows, size+size/4)
		}
	}
	at, end, nulls := 0, 0, 0
	for i := range spots {
		s := &spots[i]
		if err := s.b.hold(k, col, s.row, s.n); err != nil {
			return err
		}
		c := &s.b.cols[col]
		switch {
		case k.width > 0:
			copy(o.values[at*k.width:], c.values[s.row*k.width:(s.row+s.n)*k.width])
		case k.width < 0:
			var err error
			if end, err = o.fillTexts(s, col, at, end); err != nil {
				return err
			}
		case s.n > 0:
			bitutil.CopyBitmap(c.values, s.row, s.n, o.values, at)
		}
		if k.nullable {
			if c.valid == nil {
				bitutil.SetBitsTo(o.valid, int64(at), int64(s.n), true)
			} else {
				bitutil.CopyBitmap(c.valid, s.row, s.n, o.valid, at)
				nulls += s.n - bitutil.CountSetBits(c.valid, s.row, s.n)
			}
		}
		at += s.n
	}
	o.data.SetNullN(nulls)
	return nil
}

// fillTexts copies texts or binaries to row at and byte end on, and returns the
// end then.
func (o *ownColumn) fillTexts(s *spot[rowBatch], col, at, end int) (int, error) {
	from, to, err := s.b.texts(col, s.row, s.n)
	if err != nil {
		return 0, err
	}
	c := &s.b.cols[col]
	copy(o.values[end:], c.values[from:to])
	last := from
	for i := range s.n {
		next := int(int32(binary.LittleEndian.Uint32(c.offsets[4*(s.row+i+1):])))
		if next < last || next > to {
			return 0, s.b.badText(col, s.row+i)
		}
		binary.LittleEndian.PutUint32(o.offsets[4*(at+i+1):], uint32(end+next-from))
		last = next
	}
	return end + to - from, nil
}
