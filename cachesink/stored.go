package cachesink

import (
	"fmt"
	"math"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/permafrost-ml/permafrost/internal/kernels"
)

// storedRows are the rows of a shard's record batch as they are stored, over
// its memory: float32 values, float16 values, or int8 values and scales.
type storedRows struct {
	dim    int
	f32    []float32
	f16    []uint16
	i8     []int8
	scales []float32
}

// storedColumns returns the embeddings of a record batch that is stored in a
// dtype.
func storedColumns(rec arrow.Record, d DType, dim int) (e storedRows, err error) {
	e.dim = dim
	list, err := column[*array.FixedSizeList](rec, ColumnEmbedding)
	if err != nil {
		return e, err
	}
	if d == Float32 {
		e.f32, err = vectors(list, dim)
		return e, err
	}
	t := list.DataType().(*arrow.FixedSizeListType)
	if int(t.Len()) != dim || !arrow.TypeEqual(t.Elem(), d.values()) {
		return e, fmt.Errorf("%w: embeddings are %v, not %d of %s", ErrSchema, list.DataType(), dim, d)
	}
	vals := list.ListValues()
	if list.NullN() > 0 || vals.NullN() > 0 {
		return e, fmt.Errorf("%w: embeddings with nulls", ErrSchema)
	}
	from, to := list.Offset()*dim, (list.Offset()+list.Len())*dim
	if to > vals.Len() {
		return e, fmt.Errorf("%w: %d values for %d embeddings of %d", ErrSchema, vals.Len(), list.Len(), dim)
	}
	if d == Float16 {
		half := vals.(*array.Float16).Values()[from:to]
		e.f16 = arrow.Uint16Traits.CastFromBytes(arrow.Float16Traits.CastToBytes(half))
		return e, nil
	}
	e.i8 = vals.(*array.Int8).Int8Values()[from:to]
	scales, err := column[*array.Float32](rec, ColumnScale)
	if err != nil {
		return e, err
	}
	if scales.NullN() > 0 {
		return e, fmt.Errorf("%w: scales with nulls", ErrSchema)
	}
	e.scales = scales.Float32Values()
	return e, nil
}

// read writes one row to dst.
func (e *storedRows) read(dst []float32, row int) {
	at := row * e.dim
	switch {
	case e.f32 != nil:
		copy(dst, e.f32[at:at+e.dim])
	case e.f16 != nil:
		kernels.FromFloat16(dst, e.f16[at:at+e.dim])
	default:
		kernels.DequantizeInt8(dst, e.i8[at:at+e.dim], e.scales[row])
	}
}

// readRun writes rows that follow one another to dst.
func (e *storedRows) readRun(dst []float32, row, n int) {
	if e.f32 != nil {
		copy(dst, e.f32[row*e.dim:(row+n)*e.dim])
		return
	}
	for i := range n {
		e.read(dst[i*e.dim:(i+1)*e.dim], row+i)
	}
}

// check finds values that no writer stores.
func (e *storedRows) check() error {
	for i, h := range e.f16 {
		if h&0x7c00 == 0x7c00 {
			return fmt.Errorf("value %d of row %d is not finite", i%e.dim, i/e.dim)
		}
	}
	for i, s := range e.scales {
		if !(s >= 0 && s < math.MaxFloat32/127) {
			return fmt.Errorf("the scale of row %d is %v", i, s)
		}
	}
	return nil
}

// block is the memory in which the rows of a record batch are put together:
// ids, scales and values, outside the Go heap.
type block struct {
	layout layout
	dim    int
	room   int // rows there is room for
	n      int // rows in use
	mem    []byte
}

// reserve makes room for a number of rows. What the block held is lost where
// it had less.
func (b *block) reserve(rows int) (err error) {
	if b.n = 0; rows <= b.room {
		return nil
	}
	b.free()
	if b.mem, err = allocate(rows * b.layout.dtype.RowBytes(b.dim)); err == nil {
		b.room = rows
	}
	return err
}

func (b *block) free() {
	free(b.mem)
	b.mem, b.room, b.n = nil, 0, 0
}

func (b *block) ids() []byte { return b.mem[:b.room*idBytes] }

func (b *block) scales() []byte {
	if b.layout.dtype != Int8 {
		return nil
	}
	return b.mem[b.room*idBytes:][:b.room*4]
}

func (b *block) values() []byte { return b.mem[len(b.ids())+len(b.scales()):] }

// append stores as many of the rows as there is room for, and returns how
// many that was. A value that the dtype cannot hold is ErrEmbeddings.
func (b *block) append(ids []byte, vecs []float32) (int, error) {
	k := min(len(ids)/idBytes, b.room-b.n)
	vecs = vecs[:k*b.dim]
	limit := b.layout.dtype.limit()
	for i, v := range vecs {
		if math.Float32bits(v)&0x7fffffff >= limit {
			err := fmt.Errorf("%w: value %d of object %x is %v", ErrEmbeddings, i%b.dim, ids[i/b.dim*idBytes:][:idBytes], v)
			if b.layout.dtype != Float32 {
				err = fmt.Errorf("%w: too large for %s", err, b.layout.dtype)
			}
			return 0, err
		}
	}
	copy(b.ids()[b.n*idBytes:], ids[:k*idBytes])
	switch b.layout.dtype {
	case Float16:
		kernels.ToFloat16(arrow.Uint16Traits.CastFromBytes(b.values())[b.n*b.dim:], vecs)
	case Int8:
		vals := arrow.Int8Traits.CastFromBytes(b.values())[b.n*b.dim:]
		scales := arrow.Float32Traits.CastFromBytes(b.scales())[b.n:]
		for i := range k {
			scales[i] = kernels.QuantizeInt8(vals[i*b.dim:], vecs[i*b.dim:(i+1)*b.dim])
		}
	default:
		copy(arrow.Float32Traits.CastFromBytes(b.values())[b.n*b.dim:], vecs)
	}
	b.n += k
	return k, nil
}

// appendStored appends a row as it is stored, which takes no rounding.
func (b *block) appendStored(id []byte, e *storedRows, row int) {
	copy(b.ids()[b.n*idBytes:], id)
	from, to := row*e.dim, (row+1)*e.dim
	switch b.layout.dtype {
	case Float16:
		copy(arrow.Uint16Traits.CastFromBytes(b.values())[b.n*b.dim:], e.f16[from:to])
	case Int8:
		copy(arrow.Int8Traits.CastFromBytes(b.values())[b.n*b.dim:], e.i8[from:to])
		arrow.Float32Traits.CastFromBytes(b.scales())[b.n] = e.scales[row]
	default:
		copy(arrow.Float32Traits.CastFromBytes(b.values())[b.n*b.dim:], e.f32[from:to])
	}
	b.n++
}

// record returns the rows as a record batch over the block's memory.
func (b *block) record(schema *arrow.Schema) arrow.Record {
	col := func(t arrow.DataType, n int, mem []byte, children ...arrow.ArrayData) arrow.ArrayData {
		bufs := []*memory.Buffer{nil}
		if mem != nil {
			bufs = append(bufs, memory.NewBufferBytes(mem))
		}
		return array.NewData(t, n, bufs, children, 0, 0)
	}
	width := b.layout.dtype.values().(arrow.FixedWidthDataType).Bytes()
	vals := col(b.layout.dtype.values(), b.n*b.dim, b.values()[:b.n*b.dim*width])
	defer vals.Release()
	data := []arrow.ArrayData{
		col(IDType, b.n, b.ids()[:b.n*idBytes]),
		col(schema.Field(1).Type, b.n, nil, vals),
	}
	if b.layout.dtype == Int8 {
		data = append(data, col(arrow.PrimitiveTypes.Float32, b.n, b.scales()[:b.n*4]))
	}
	cols := make([]arrow.Array, len(data))
	for i, d := range data {
		cols[i] = array.MakeFromData(d)
		d.Release()
		defer cols[i].Release()
	}
	return array.NewRecord(schema, cols, int64(b.n))
}
