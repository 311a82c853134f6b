package cachesink

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/apache/arrow/go/v15/arrow"
)

// sound says why the arrays of a record batch are not what their lengths
// promise. Arrow's reader takes lengths and offsets as they stand in the
// file, and its arrays would fail, or end the process, where they are used.
func sound(rec arrow.Record) error {
	for i, col := range rec.Columns() {
		if err := soundArray(col.Data()); err != nil {
			return fmt.Errorf("%w: column %q: %w", ErrCorrupt, rec.ColumnName(i), err)
		}
	}
	return nil
}

func soundArray(d arrow.ArrayData) error {
	n := d.Len()
	if n < 0 || n > maxFile || d.Offset() != 0 {
		return fmt.Errorf("it has %d values from %d on", n, d.Offset())
	}
	bytesOf := func(i int) []byte {
		if bufs := d.Buffers(); i < len(bufs) && bufs[i] != nil {
			return bufs[i].Bytes()
		}
		return nil
	}
	if nulls := bytesOf(0); len(nulls) < (n+7)/8 && (nulls != nil || d.NullN() != 0) {
		return fmt.Errorf("it has %d nulls, and %d bytes that say which of %d", d.NullN(), len(nulls), n)
	}
	short := func(need, have int) error {
		if have < need {
			return fmt.Errorf("it has %d bytes for %d values of %v", have, n, d.DataType())
		}
		return nil
	}
	switch t := d.DataType().(type) {
	case *arrow.StringType, *arrow.BinaryType:
		return soundOffsets(bytesOf(1), n, len(bytesOf(2)))
	case *arrow.FixedSizeListType:
		if len(d.Children()) != 1 || t.Len() < 1 || n > math.MaxInt/int(t.Len()) || d.Children()[0].Len() < n*int(t.Len()) {
			return fmt.Errorf("it has too few values for %d of %v", n, t)
		}
		return soundArray(d.Children()[0])
	case *arrow.BooleanType:
		return short((n+7)/8, len(bytesOf(1)))
	case *arrow.Int64Type, *arrow.Int8Type, *arrow.Float16Type, *arrow.Float32Type, *arrow.Float64Type, *arrow.FixedSizeBinaryType:
		width := t.(arrow.FixedWidthDataType).Bytes()
		if width < 0 || width > 0 && n > math.MaxInt/width {
			return fmt.Errorf("it has %d values of %d bytes", n, width)
		}
		return short(n*width, len(bytesOf(1)))
	}
	return fmt.Errorf("no column is of the type %v", d.DataType())
}

// soundOffsets checks the offsets of n values in so many bytes.
func soundOffsets(offsets []byte, n, size int) error {
	if n == 0 {
		return nil
	}
	if len(offsets)/4 < n+1 {
		return fmt.Errorf("it has %d bytes of offsets for %d values", len(offsets), n)
	}
	last := int32(0)
	for i := range n + 1 {
		at := int32(binary.LittleEndian.Uint32(offsets[4*i:]))
		if at < last || int(at) > size {
			return fmt.Errorf("value %d is at %d, after %d, of %d bytes", i, at, last, size)
		}
		last = at
	}
	return nil
}
