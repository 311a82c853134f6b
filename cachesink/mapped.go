package cachesink

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"unsafe"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/permafrost-ml/permafrost/internal/arrowipc"
	"github.com/permafrost-ml/permafrost/internal/store"
)

// mapper is a storage whose files can be had in memory.
type mapper interface {
	// Map maps a file.
	Map(ctx context.Context, name string) (*store.Mapping, error)
	// Load reads a file.
	Load(ctx context.Context, name string) (*store.Mapping, error)
}

// mappedFile is a file of the cache in memory. Each block of it is checked by
// whoever touches it first; several may do so at once. It is unmapped when
// the last buffer that lies in it is released.
type mappedFile struct {
	name string
	m    *store.Mapping
	own  bool // the memory is the process's: nobody can take it back
	sums []byte
	held []atomic.Uint64 // a bit for each block whose checksum held
	left atomic.Int64    // blocks that were not checked yet
	refs atomic.Int64
	note verifiedNote
}

// mapFile maps a file that the manifest names, or reads it, checked, if it is
// to be copied; it is nil where that cannot be done. Its caller holds a
// reference.
func (c *Cache) mapFile(ctx context.Context, f File, o *Tables) (*mappedFile, error) {
	st, ok := c.st.(mapper)
	if !ok {
		return nil, nil
	}
	sums, err := readSums(ctx, c.st, f)
	if err != nil {
		return nil, err
	}
	get := st.Map
	if o.Access == AccessCopy {
		get = st.Load
	}
	m, err := get(ctx, f.Name)
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		return nil, nil
	case errors.Is(err, fs.ErrNotExist):
		return nil, gone(f.Name, err)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return nil, corrupt(f.Name, "it was cut while being read")
	case err != nil:
		return nil, err
	}
	if n := int64(len(m.Bytes)); n != f.Bytes {
		err := corrupt(f.Name, "it has %d bytes, the manifest says %d", n, f.Bytes)
		return nil, errors.Join(err, m.Close())
	}
	blocks := len(sums) / 4
	mf := &mappedFile{name: f.Name, m: m, own: !m.Mapped(), sums: sums, held: make([]atomic.Uint64, (blocks+63)/64)}
	mf.left.Store(int64(blocks))
	mf.refs.Store(1)
	if o.Access != AccessCopy {
		mf.note = o.notes().of(m, f)
		return mf, nil
	}
	mf.note = noteFolder("").of(m, f)
	if err := mf.hold(0, len(m.Bytes)); err != nil {
		mf.release()
		return nil, err
	}
	return mf, nil
}

// aheadBlocks is how many blocks are asked of the disk at once.
const aheadBlocks = 32

// hold checks the blocks of the bytes in [from, to) that were not checked
// before.
func (f *mappedFile) hold(from, to int) error {
	if f.left.Load() == 0 {
		return nil
	}
	for k := from / sumBlock; k*sumBlock < to; k++ {
		word, bit := &f.held[k/64], uint64(1)<<(k%64)
		if word.Load()&bit != 0 {
			continue
		}
		end := min((k+1)*sumBlock, len(f.m.Bytes))
		switch {
		case f.own:
		case k == 0 || f.held[(k-1)/64].Load()&(1<<((k-1)%64)) == 0:
			// Not page by page, and no more: it may not go on here.
			f.m.Prefetch(k*sumBlock, end)
		case k%(aheadBlocks/2) == 0: // read while the blocks before are checked
			f.m.Prefetch(k*sumBlock, min((k+aheadBlocks)*sumBlock, len(f.m.Bytes)))
		}
		b := f.m.Bytes[k*sumBlock : end]
		want := binary.LittleEndian.Uint32(f.sums[4*k:])
		if got := updateSum(0, b); got != want {
			return corrupt(f.name, "checksum of block %d is %08x, not %08x", k, got, want)
		}
		if word.Or(bit)&bit == 0 && f.left.Add(-1) == 0 {
			f.note.remember(f)
		}
	}
	return nil
}

// ReadAt implements io.ReaderAt, of bytes that were checked.
func (f *mappedFile) ReadAt(b []byte, off int64) (int, error) {
	if off >= 0 && off <= int64(len(f.m.Bytes)) {
		if err := f.hold(int(off), int(min(off+int64(len(b)), int64(len(f.m.Bytes))))); err != nil {
			return 0, err
		}
	}
	return bytes.NewReader(f.m.Bytes).ReadAt(b, off)
}

// buffer returns a part of the file as an Arrow buffer, which keeps it mapped.
func (f *mappedFile) buffer(at, size int64) *memory.Buffer {
	f.refs.Add(1)
	return memory.NewBufferWithAllocator(f.m.Bytes[at:at+size:at+size], lease{f})
}

// at returns where a part of the file that is not empty begins.
func (f *mappedFile) at(part []byte) int {
	return int(uintptr(unsafe.Pointer(&part[0])) - uintptr(unsafe.Pointer(&f.m.Bytes[0])))
}

func (f *mappedFile) release() {
	if f.refs.Add(-1) == 0 {
		f.note.remember(f)
		_ = f.m.Close() // fails only for what was never mapped
	}
}

// lease is what a buffer in a mapped file releases.
type lease struct{ f *mappedFile }

func (l lease) Free([]byte)                   { l.f.release() }
func (l lease) Allocate(int) []byte           { panic("cachesink: a mapped file is read-only") }
func (l lease) Reallocate(int, []byte) []byte { panic("cachesink: a mapped file is read-only") }

// placed finds out where the record batches of a file lie, which are to have so
// many rows. It is an error, but not ErrCorrupt, where the file is to be read
// instead.
func (f *mappedFile) placed(rows int64, fn func(fields []*arrowipc.Field, batches []arrowipc.Placed) error) error {
	return guarded([]*mappedFile{f}, func() error {
		f.note.recall(f)
		r, err := arrowipc.Open(f, int64(len(f.m.Bytes)))
		if err != nil {
			return err
		}
		batches, err := r.Place()
		if err != nil {
			return err
		}
		for _, p := range batches {
			if rows -= p.Rows; p.Rows <= 0 || rows < 0 {
				break
			}
		}
		if rows != 0 {
			return errors.New("its rows are not as many as the manifest says")
		}
		return fn(r.Fields, batches)
	})
}

// placeShard returns the record batches of a shard over the pages of its file,
// in order.
func placeShard(f *mappedFile, e *Encoder, s Shard) (chunks []chunk, err error) {
	l, err := s.layout()
	if err != nil {
		return nil, err
	}
	err = f.placed(s.Rows, func(fields []*arrowipc.Field, batches []arrowipc.Placed) error {
		schema := shardSchema(e, "", l, 0)
		if err := sameFields(fields, schema); err != nil {
			return err
		}
		for _, p := range batches {
			ch, err := mapBatch(f, schema, p, e)
			if err != nil {
				return err
			}
			chunks = append(chunks, ch)
		}
		return nil
	})
	if err != nil {
		for _, ch := range chunks {
			ch.rec.Release()
		}
		return nil, err
	}
	return chunks, nil
}

// mapShard maps a shard that is not compressed; the file is nil where it is to
// be read instead.
func (c *Cache) mapShard(ctx context.Context, s Shard, o *Tables) (*mappedFile, error) {
	if l, err := s.layout(); err != nil || l.codec != Uncompressed {
		return nil, nil // who reads it tells what is wrong
	}
	return c.mapFile(ctx, s.File, o)
}

// mapBatch makes a record batch of the pages where it lies.
func mapBatch(f *mappedFile, schema *arrow.Schema, p arrowipc.Placed, e *Encoder) (ch chunk, err error) {
	width := int64(e.DType.values().(arrow.FixedWidthDataType).Bytes())
	lengths := []int64{p.Rows, p.Rows, p.Rows * int64(e.Dim)}
	sizes := []int64{-1, p.Rows * idBytes, -1, -1, p.Rows * int64(e.Dim) * width} // -1 for validity
	if e.DType == Int8 {
		lengths, sizes = append(lengths, p.Rows), append(sizes, -1, 4*p.Rows)
	}
	if len(p.Lengths) != len(lengths) || len(p.Buffers) != len(sizes) {
		return ch, fmt.Errorf("%d rows, %d arrays, %d buffers", p.Rows, len(p.Lengths), len(p.Buffers))
	}
	for i, n := range lengths {
		if p.Lengths[i] != n || p.Nulls[i] != 0 {
			return ch, fmt.Errorf("an array of %d values with %d nulls", p.Lengths[i], p.Nulls[i])
		}
	}
	for i, n := range sizes {
		if b := p.Buffers[i]; n >= 0 && (b.Size < n || b.At%4 != 0) {
			return ch, fmt.Errorf("a buffer of %d bytes at %d", b.Size, b.At)
		}
	}
	data := func(t arrow.DataType, n int64, at int, children ...arrow.ArrayData) arrow.ArrayData {
		bufs := []*memory.Buffer{nil}
		if at > 0 {
			b := f.buffer(p.Buffers[at].At, sizes[at])
			defer b.Release()
			bufs = append(bufs, b)
		}
		return array.NewData(t, int(n), bufs, children, 0, 0)
	}
	vals := data(e.DType.values(), lengths[2], 4)
	defer vals.Release()
	cols := []arrow.ArrayData{data(IDType, p.Rows, 1), data(schema.Field(1).Type, p.Rows, 0, vals)}
	if e.DType == Int8 {
		cols = append(cols, data(arrow.PrimitiveTypes.Float32, p.Rows, 6))
		ch.scalesAt = int(p.Buffers[6].At)
	}
	arrays := make([]arrow.Array, len(cols))
	for i, d := range cols {
		arrays[i] = array.MakeFromData(d)
		d.Release()
		defer arrays[i].Release()
	}
	rec := array.NewRecord(schema, arrays, p.Rows)
	scales := ch.scalesAt
	if ch, err = chunkOf(rec, e); err != nil {
		rec.Release()
		return ch, err
	}
	ch.file, ch.width, ch.scalesAt = f, e.Dim*int(width), scales
	ch.idsAt, ch.valuesAt, ch.sound = int(p.Buffers[1].At), int(p.Buffers[4].At), &atomic.Bool{}
	return ch, nil
}

// sameFields compares the fields of a file with those that it is to have.
func sameFields(fields []*arrowipc.Field, schema *arrow.Schema) error {
	ok := len(fields) == len(schema.Fields())
	for i := 0; ok && i < len(fields); i++ {
		want := schema.Field(i)
		ok = fields[i].Name == want.Name && sameType(fields[i], want.Type)
	}
	if !ok {
		return errors.New("its columns are others")
	}
	return nil
}

func sameType(f *arrowipc.Field, want arrow.DataType) bool {
	number := func(t arrowipc.Type, width int) bool { return f.Type == t && f.Width == width }
	switch want := want.(type) {
	case *arrow.Int64Type:
		return number(arrowipc.Int, 64) && f.Signed
	case *arrow.Int8Type:
		return number(arrowipc.Int, 8) && f.Signed
	case *arrow.Float16Type:
		return number(arrowipc.Float, 16)
	case *arrow.Float32Type:
		return number(arrowipc.Float, 32)
	case *arrow.Float64Type:
		return number(arrowipc.Float, 64)
	case *arrow.BooleanType:
		return f.Type == arrowipc.Bool
	case *arrow.StringType:
		return f.Type == arrowipc.Text
	case *arrow.BinaryType:
		return f.Type == arrowipc.Binary
	case *arrow.FixedSizeBinaryType:
		return number(arrowipc.FixedBinary, want.ByteWidth)
	case *arrow.FixedSizeListType:
		return number(arrowipc.FixedList, int(want.Len())) && len(f.Children) == 1 && sameType(f.Children[0], want.Elem())
	}
	return false
}

// holds says whether all blocks of the bytes in [from, to) were checked.
func (f *mappedFile) holds(from, to int) bool {
	for k := from / sumBlock; k*sumBlock < to; k++ {
		if f.held[k/64].Load()&(1<<(k%64)) == 0 {
			return false
		}
	}
	return true
}

// hold checks the blocks of some rows, where they are mapped.
func (c *chunk) hold(row, n int) error {
	if c.file == nil || c.sound.Load() {
		return nil
	}
	if c.scalesAt > 0 {
		if err := c.file.hold(c.scalesAt+4*row, c.scalesAt+4*(row+n)); err != nil {
			return err
		}
	}
	if err := c.file.hold(c.valuesAt+row*c.width, c.valuesAt+(row+n)*c.width); err != nil {
		return err
	}
	if c.file.holds(c.valuesAt, c.valuesAt+c.rows*c.width) && (c.scalesAt == 0 || c.file.holds(c.scalesAt, c.scalesAt+4*c.rows)) {
		c.sound.Store(true)
	}
	return nil
}

// guarded runs fn, in which a page of a mapped file may be gone: the process
// would end, if the runtime was not told to panic.
func guarded(files []*mappedFile, fn func() error) (err error) {
	if len(files) == 0 {
		return fn()
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		if fault, ok := p.(interface {
			runtime.Error
			Addr() uintptr
		}); ok {
			for _, f := range files {
				at := uintptr(unsafe.Pointer(&f.m.Bytes[0]))
				if fault.Addr() >= at && fault.Addr() < at+uintptr(len(f.m.Bytes)) {
					err = corrupt(f.name, "it was cut while it was mapped, or cannot be read")
					return
				}
			}
		}
		panic(p)
	}()
	return fn()
}
