package cachesink

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync/atomic"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/permafrost-ml/permafrost/internal/arrowipc"
)

// rowTable is the rows of files with the same columns, those of a split or of
// its inputs: in the pages of mapped files, or in host memory. It is safe for
// concurrent use until Release.
type rowTable struct {
	schema   *arrow.Schema
	kinds    []cellKind
	nullable func(column string) bool
	pieces[rowBatch]
}

// cellKind says how the values of a column lie.
type cellKind struct {
	typ      arrow.DataType
	width    int // bytes of a value, 0 for bits, -1 for texts and binaries
	nullable bool
}

func kindOf(f arrow.Field, nullable bool) (k cellKind, err error) {
	k = cellKind{typ: f.Type, nullable: nullable}
	switch t := f.Type.(type) {
	case *arrow.Int64Type, *arrow.Float64Type, *arrow.Float32Type:
		k.width = t.(arrow.FixedWidthDataType).Bytes()
	case *arrow.BooleanType:
	case *arrow.StringType, *arrow.BinaryType:
		k.width = -1
	default:
		if !arrow.TypeEqual(t, IDType) {
			return k, fmt.Errorf("%w: column %q is %v", ErrSchema, f.Name, t)
		}
		k.width = idBytes
	}
	return k, nil
}

// bytes is what the values of so many rows take, texts and binaries left out.
func (k *cellKind) bytes(rows int) int {
	if k.width == 0 {
		return (rows + 7) / 8
	}
	return rows * k.width
}

// rowBatch is one record batch.
type rowBatch struct {
	rows int
	cols []cells
	file *mappedFile  // nil where it was read, and
	rec  arrow.Record // has the memory
}

func (b rowBatch) batchRows() int64 { return int64(b.rows) }

// cells are the values of one column, where they lie.
type cells struct {
	valid           []byte // nil without nulls
	offsets, values []byte
	steps           *steps // of whole numbers
}

// openRows opens files. Those that are mapped are checked as they are touched,
// all others are read and checked now. It is nil for no files.
func (c *Cache) openRows(ctx context.Context, files []File, nullable func(column string) bool, o *Tables) (_ *rowTable, err error) {
	if len(files) == 0 {
		return nil, nil
	}
	t := &rowTable{nullable: nullable}
	t.files = make([]piece[rowBatch], len(files))
	defer func() {
		if err != nil {
			t.Release()
		}
	}()
	for i, f := range files {
		p := &t.files[i]
		p.rows = f.Rows
		if p.mapped, err = c.mapFile(ctx, f, o); err != nil {
			return nil, fmt.Errorf("map %s of %s: %w", f.Name, c.st, err)
		}
		p.place = func(ctx context.Context) ([]rowBatch, error) {
			if p.mapped != nil {
				batches, err := t.place(p.mapped, f)
				switch {
				case err == nil:
					return batches, nil
				case errors.Is(err, ErrCorrupt):
					return nil, fmt.Errorf("map %s of %s: %w", f.Name, c.st, err)
				}
			}
			return t.read(ctx, c, f)
		}
		if i == 0 && p.mapped != nil {
			if err := t.columns(p.mapped, c.mem); err != nil {
				return nil, fmt.Errorf("read the schema of %s of %s: %w", f.Name, c.st, err)
			}
		}
		if p.mapped == nil {
			if _, err := p.open(ctx); err != nil {
				return nil, err
			}
		}
	}
	if t.schema == nil { // files without rows
		return nil, nil
	}
	t.index()
	return t, nil
}

// columns takes the schema from a mapped file.
func (t *rowTable) columns(f *mappedFile, mem memory.Allocator) error {
	return guarded([]*mappedFile{f}, func() error {
		f.note.recall(f)
		rd, err := openIPC(io.NewSectionReader(f, 0, int64(len(f.m.Bytes))), mem)
		if err != nil {
			return err
		}
		return errors.Join(t.setColumns(rd.Schema()), rd.Close())
	})
}

func (t *rowTable) setColumns(schema *arrow.Schema) error {
	for _, f := range schema.Fields() {
		k, err := kindOf(f, t.nullable(f.Name))
		if err != nil {
			return err
		}
		t.kinds = append(t.kinds, k)
	}
	t.schema = schema
	return nil
}

// place finds the record batches of a mapped file.
func (t *rowTable) place(f *mappedFile, file File) (batches []rowBatch, err error) {
	err = f.placed(file.Rows, func(fields []*arrowipc.Field, placed []arrowipc.Placed) error {
		if err := sameFields(fields, t.schema); err != nil {
			return corrupt(file.Name, "its columns differ from the first file's")
		}
		for i := range placed {
			b, err := t.placeBatch(f, &placed[i])
			if err != nil {
				return err
			}
			batches = append(batches, b)
		}
		return nil
	})
	return batches, err
}

func (t *rowTable) placeBatch(f *mappedFile, p *arrowipc.Placed) (rowBatch, error) {
	b := rowBatch{rows: int(p.Rows), cols: make([]cells, len(t.kinds)), file: f}
	odd := errors.New("a record batch that is laid out otherwise")
	if len(p.Lengths) != len(t.kinds) || p.Rows > maxFile {
		return b, odd
	}
	next := 0
	buffer := func(size int) []byte {
		e := p.Buffers[next]
		next++
		if e.Size < int64(size) {
			return nil
		}
		return f.m.Bytes[e.At : e.At+e.Size : e.At+e.Size]
	}
	for i := range t.kinds {
		k, c := &t.kinds[i], &b.cols[i]
		c.steps = k.steps()
		n := 2
		if k.width < 0 {
			n = 3
		}
		if p.Lengths[i] != p.Rows || len(p.Buffers) < next+n {
			return b, odd
		}
		switch {
		case p.Nulls[i] == 0:
			next++
		case !k.nullable:
			return b, corrupt(f.name, "nulls in column %q", t.schema.Field(i).Name)
		default:
			if c.valid = buffer((b.rows + 7) / 8); c.valid == nil {
				return b, odd
			}
		}
		if k.width < 0 {
			if c.offsets = buffer(4 * (b.rows + 1)); c.offsets == nil {
				return b, odd
			}
			c.values = buffer(0)
			continue
		}
		if c.values = buffer(k.bytes(b.rows)); c.values == nil {
			return b, odd
		}
	}
	return b, nil
}

// read reads a file into host memory.
func (t *rowTable) read(ctx context.Context, c *Cache, f File) (batches []rowBatch, err error) {
	err = readPlain(ctx, c.st, c.mem, f, func(rec arrow.Record) error {
		if t.schema == nil {
			if err := t.setColumns(rec.Schema()); err != nil {
				return err
			}
		}
		if !t.schema.Equal(rec.Schema()) {
			return corrupt(f.Name, "its columns differ from the first file's")
		}
		b := rowBatch{rows: int(rec.NumRows()), cols: make([]cells, len(t.kinds)), rec: rec}
		for i, a := range rec.Columns() {
			bufs, k, c := a.Data().Buffers(), &t.kinds[i], &b.cols[i]
			c.steps = k.steps()
			bytesOf := func(at int) []byte {
				if at < len(bufs) && bufs[at] != nil {
					return bufs[at].Bytes()
				}
				return nil
			}
			if a.NullN() > 0 {
				if c.valid = bytesOf(0); !k.nullable {
					return corrupt(f.Name, "nulls in column %q", rec.ColumnName(i))
				}
			}
			if c.values = bytesOf(1); k.width < 0 {
				c.offsets, c.values = bytesOf(1), bytesOf(2)
			}
		}
		if b.rows > 0 {
			rec.Retain()
			batches = append(batches, b)
		}
		return nil
	})
	if err != nil {
		for _, b := range batches {
			b.rec.Release()
		}
		return nil, err
	}
	return batches, nil
}

// Release frees the memory.
func (t *rowTable) Release() {
	if t == nil {
		return
	}
	t.each(func(b *rowBatch) {
		if b.rec != nil {
			b.rec.Release()
		}
	})
	t.release()
}

// locate appends where some rows are.
func (t *rowTable) locate(ctx context.Context, spots []spot[rowBatch], rows []int64) ([]spot[rowBatch], error) {
	for len(rows) > 0 {
		b, row, err := t.find(ctx, rows[0])
		if err != nil {
			return spots, err
		}
		n := streak(rows, b.rows-row)
		spots = append(spots, spot[rowBatch]{b, row, n})
		rows = rows[n:]
	}
	return spots, nil
}

// holdPart checks the blocks of a part of what lies in the file.
func (b *rowBatch) holdPart(part []byte, from, to int) error {
	if from >= to {
		return nil
	}
	at := b.file.at(part)
	return b.file.hold(at+from, at+to)
}

// hold checks the blocks of the cells of some rows, where they are mapped, but
// not those of texts and binaries: see texts.
func (b *rowBatch) hold(k *cellKind, col, row, n int) error {
	if b.file == nil || b.file.left.Load() == 0 || n == 0 {
		return nil
	}
	c := &b.cols[col]
	if c.valid != nil {
		if err := b.holdPart(c.valid, row/8, (row+n+7)/8); err != nil {
			return err
		}
	}
	switch {
	case k.width == 0:
		return b.holdPart(c.values, row/8, (row+n+7)/8)
	case k.width > 0:
		return b.holdPart(c.values, row*k.width, (row+n)*k.width)
	}
	return nil
}

// offsets returns where the bytes of some rows' texts or binaries are, once the
// blocks of the offsets are checked.
func (b *rowBatch) offsets(col, row, n int) (from, to int, err error) {
	c := &b.cols[col]
	if b.file != nil && b.file.left.Load() > 0 {
		if err := b.holdPart(c.offsets, 4*row, 4*(row+n+1)); err != nil {
			return 0, 0, err
		}
	}
	from = int(int32(binary.LittleEndian.Uint32(c.offsets[4*row:])))
	to = int(int32(binary.LittleEndian.Uint32(c.offsets[4*(row+n):])))
	if from < 0 || to < from || to > len(c.values) {
		return 0, 0, b.badText(col, row)
	}
	return from, to, nil
}

// texts returns where the bytes of some rows' texts or binaries are, once their
// blocks, too, are checked.
func (b *rowBatch) texts(col, row, n int) (from, to int, err error) {
	from, to, err = b.offsets(col, row, n)
	if err == nil && b.file != nil && b.file.left.Load() > 0 {
		err = b.holdPart(b.cols[col].values, from, to)
	}
	return from, to, err
}

func (b *rowBatch) badText(col, row int) error {
	return fmt.Errorf("%w: the text in column %d, row %d of a record batch is not in it", ErrCorrupt, col, row)
}

// steps says whether the whole numbers of a column in a record batch go up one
// by one, as the positions of objects that come once do: then the first says
// all, and none needs to be fetched from where it lies.
type steps struct {
	state atomic.Int32 // stepsUnknown until the column was looked at
	asked atomic.Int32 // how often, so far
	first int64
}

// stepsAsked is how often numbers of a record batch are asked for before all
// are looked at: the first batch of an epoch is not to wait for that.
const stepsAsked = 8

// steps returns those of a column, nil where it has no whole numbers.
func (k *cellKind) steps() *steps {
	if k.typ.ID() != arrow.INT64 {
		return nil
	}
	return &steps{}
}

const (
	stepsUnknown = iota
	stepsOther
	stepsOne
)

// look decides on the steps of a column, if its blocks hold.
func (b *rowBatch) look(k *cellKind, col int) int32 {
	if b.hold(k, col, 0, b.rows) != nil {
		return stepsUnknown // the rows that are asked for may be sound
	}
	c := &b.cols[col]
	first := c.whole(0)
	state := int32(stepsOne)
	for i := range b.rows {
		if c.whole(i) != first+int64(i) {
			state = stepsOther
			break
		}
	}
	if c.steps.state.CompareAndSwap(stepsUnknown, stepsOther) && state == stepsOne {
		c.steps.first = first // nobody else writes it, and nobody reads it yet
		c.steps.state.Store(stepsOne)
	}
	return c.steps.state.Load()
}

// whole returns a whole number.
func (c *cells) whole(row int) int64 { return int64(binary.LittleEndian.Uint64(c.values[8*row:])) }

// positions reads the whole numbers of some rows.
func (t *rowTable) positions(dst []int64, col int, spots []spot[rowBatch]) error {
	for i := range spots {
		s := &spots[i]
		c := &s.b.cols[col]
		state := c.steps.state.Load()
		if state == stepsUnknown && c.steps.asked.Add(1) > stepsAsked {
			state = s.b.look(&t.kinds[col], col)
		}
		if state == stepsUnknown {
			if err := s.b.hold(&t.kinds[col], col, s.row, s.n); err != nil {
				return err
			}
		}
		if state == stepsOne {
			for k := range s.n {
				dst[k] = c.steps.first + int64(s.row+k)
			}
		} else {
			for k := range s.n {
				dst[k] = c.whole(s.row + k)
			}
		}
		dst = dst[s.n:]
	}
	return nil
}

// eachRecord calls fn with mapped record batches that the sieve keeps, once all
// their blocks are checked, and the number of the first row of each.
func (t *rowTable) eachRecord(ctx context.Context, batches []rowBatch, v *sieve, fn func(at int64, rec arrow.Record) error) error {
	at := int64(0)
	for i := range batches {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		b := &batches[i]
		keep := true
		if v != nil {
			err := t.record(b, v.columns, func(rec arrow.Record) (err error) {
				keep, err = v.keep(rec)
				return err
			})
			if err != nil {
				return err
			}
		}
		if keep {
			if err := t.record(b, nil, func(rec arrow.Record) error { return fn(at, rec) }); err != nil {
				return err
			}
		}
		at += int64(b.rows)
	}
	return nil
}

// record calls fn with some columns of a mapped record batch, all where none is
// named, over the pages where they lie, once their blocks are checked.
func (t *rowTable) record(b *rowBatch, names []string, fn func(rec arrow.Record) error) error {
	var fields []arrow.Field
	var cols []arrow.Array
	defer func() {
		for _, a := range cols {
			a.Release()
		}
	}()
	for i, f := range t.schema.Fields() {
		if names != nil && !slices.Contains(names, f.Name) {
			continue
		}
		a, err := t.array(b, i)
		if err != nil {
			return err
		}
		fields, cols = append(fields, f), append(cols, a)
	}
	md := t.schema.Metadata()
	rec := array.NewRecord(arrow.NewSchema(fields, &md), cols, int64(b.rows))
	defer rec.Release()
	return fn(rec)
}

// array returns a column of a mapped record batch over its pages.
func (t *rowTable) array(b *rowBatch, col int) (arrow.Array, error) {
	k, c := &t.kinds[col], &b.cols[col]
	if err := b.hold(k, col, 0, b.rows); err != nil {
		return nil, err
	}
	nulls := 0
	if c.valid != nil {
		nulls = array.UnknownNullCount
	}
	parts := [][]byte{c.valid}
	if k.width < 0 {
		if _, _, err := b.texts(col, 0, b.rows); err != nil {
			return nil, err
		}
		parts = append(parts, c.offsets)
	}
	bufs := make([]*memory.Buffer, 0, 3)
	for _, part := range append(parts, c.values) {
		if len(part) == 0 {
			bufs = append(bufs, nil)
			continue
		}
		buf := b.file.buffer(int64(b.file.at(part)), int64(len(part)))
		defer buf.Release()
		bufs = append(bufs, buf)
	}
	d := array.NewData(k.typ, b.rows, bufs, nil, nulls, 0)
	defer d.Release()
	if err := soundArray(d); err != nil {
		return nil, corrupt(b.file.name, "column %q: %v", t.schema.Field(col).Name, err)
	}
	return array.MakeFromData(d), nil
}
