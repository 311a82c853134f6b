package cachesink

import (
	"context"
	"fmt"
	"slices"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"
)

// SplitReader is a split in host memory, ready to be replayed: its columns
// and the embeddings of its cached encoders. It is safe for concurrent use
// until Release, and implements source.Table.
type SplitReader struct {
	c      *Cache
	split  *Split
	schema *arrow.Schema // of gathered batches
	rows   arrow.Record  // all columns of the split files
	inputs arrow.Record  // all columns of the input files, nil without any
	cols   []gatherColumn
	tables map[string]*Table
	shared bool // rows, inputs and batches are another reader's
	// batches is the memory of gathered embeddings: that of batches which were
	// released is used again.
	batches *recycler
}

// gatherColumn says where a column of a gathered batch comes from.
type gatherColumn struct {
	from  arrow.Array // a column of the split or of its inputs, or
	pos   []int64     // positions in
	table *Table
}

// Tables holds the embeddings that several splits share. Its zero value
// holds none.
type Tables struct {
	// VerifyAlways checks every block that is touched, also those which the
	// user's cache folder says have held before, in a file that did not
	// change since. Default: false.
	VerifyAlways bool
	// Copy reads all embeddings into host memory, checked, when they are
	// opened, where files could be mapped; nobody who cuts a file can then
	// take back what was lent. Default: false.
	Copy bool

	byFolder map[string][]*Table
}

func (t *Tables) notes() noteFolder {
	if t.VerifyAlways {
		return ""
	}
	return userNotes()
}

// Release frees all tables.
func (t *Tables) Release() {
	for _, tabs := range t.byFolder {
		for _, tab := range tabs {
			tab.Release()
		}
	}
	t.byFolder = nil
}

// table returns an encoder's embeddings, loaded at the first call. Positions
// in a split of another generation may count through other shards.
func (t *Tables) table(ctx context.Context, c *Cache, folder string) (*Table, error) {
	e := c.manifest.Encoder(folder)
	if e == nil {
		return nil, fmt.Errorf("%w: no embeddings in %s", ErrMissing, folder)
	}
	for _, tab := range t.byFolder[folder] {
		if slices.EqualFunc(tab.shards, e.Shards, func(a, b Shard) bool { return a.ID == b.ID }) {
			return tab, nil
		}
	}
	tab, err := c.loadTable(ctx, e, t)
	if err != nil {
		return nil, err
	}
	if t.byFolder == nil {
		t.byFolder = map[string][]*Table{}
	}
	t.byFolder[folder] = append(t.byFolder[folder], tab)
	return tab, nil
}

// Read loads a split, and opens through tables the embeddings of its encoders.
// Uncompressed embeddings in a folder are not loaded but mapped, where the
// system can, so that they need not fit in memory; damage of theirs is found
// when a row of the block is gathered. No byte is used before its checksum
// held. The tables must live as long as the reader; not safe for concurrent
// use with the same tables.
// Where files were removed since the cache was opened, the split is read as
// the newest manifest has it; a split that it has no more is ErrMissing.
func (c *Cache) Read(ctx context.Context, s *Split, tables *Tables) (r *SplitReader, err error) {
	err = c.again(ctx, func(at *Cache) error {
		s, err := c.splitAt(at, s)
		if err == nil {
			r, err = at.read(ctx, s, tables)
		}
		return err
	})
	return r, err
}

func (c *Cache) read(ctx context.Context, s *Split, tables *Tables) (_ *SplitReader, err error) {
	r := &SplitReader{
		c: c, split: s, tables: map[string]*Table{},
		batches: &recycler{Allocator: c.mem, limit: gatheredBuffers},
	}
	defer func() {
		if err != nil {
			r.Release()
		}
	}()
	for _, e := range s.Encoders {
		if e.Folder == "" {
			continue
		}
		if r.tables[e.Name], err = tables.table(ctx, c, e.Folder); err != nil {
			return nil, fmt.Errorf("read split %q: %w", s.Name, err)
		}
	}
	if r.rows, err = c.readTable(ctx, s.Files); err != nil {
		return nil, fmt.Errorf("read split %q: %w", s.Name, err)
	}
	if len(s.Inputs) > 0 {
		if r.inputs, err = c.readTable(ctx, s.Inputs); err != nil {
			return nil, fmt.Errorf("read split %q: %w", s.Name, err)
		}
	}
	if err := r.layout(); err != nil {
		return nil, fmt.Errorf("read split %q: %w", s.Name, err)
	}
	return r, nil
}

// readTable joins all record batches of some files into one; nil for none.
func (c *Cache) readTable(ctx context.Context, files []File) (arrow.Record, error) {
	var recs []arrow.Record
	defer func() {
		for _, r := range recs {
			r.Release()
		}
	}()
	for _, f := range files {
		err := readPlain(ctx, c.st, c.mem, f, func(rec arrow.Record) error {
			if len(recs) > 0 && !recs[0].Schema().Equal(rec.Schema()) {
				return corrupt(f.Name, "its columns differ from the first file's")
			}
			rec.Retain()
			recs = append(recs, rec)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	if len(recs) == 0 {
		return nil, nil
	}
	return concat(c.mem, recs[0].Schema(), recs)
}

// layout decides the columns of gathered batches: the split's own, then for
// each encoder its embeddings or its inputs.
func (r *SplitReader) layout() error {
	var fields []arrow.Field
	if r.rows != nil {
		for i, f := range r.rows.Schema().Fields() {
			fields = append(fields, f)
			r.cols = append(r.cols, gatherColumn{from: r.rows.Column(i)})
		}
	}
	for _, e := range r.split.Encoders {
		for _, side := range r.split.Kind.Sides() {
			if r.rows == nil {
				break // an empty split has no files and so no columns
			}
			if e.Folder == "" {
				if r.inputs == nil {
					return corrupt(r.split.Folder, "no inputs of encoder %q", e.Name)
				}
				name := EncoderColumn(e.Name, side, RoleInput)
				col, err := column[*array.Binary](r.inputs, name)
				if err != nil {
					return err
				}
				fields = append(fields, arrow.Field{Name: name, Type: arrow.BinaryTypes.Binary})
				r.cols = append(r.cols, gatherColumn{from: col})
				continue
			}
			pos, err := column[*array.Int64](r.rows, EncoderColumn(e.Name, side, RolePos))
			if err != nil {
				return err
			}
			t := r.tables[e.Name]
			fields = append(fields, arrow.Field{
				Name: EncoderColumn(e.Name, side, ""),
				Type: arrow.FixedSizeListOf(int32(t.dim), arrow.PrimitiveTypes.Float32),
			})
			r.cols = append(r.cols, gatherColumn{pos: pos.Int64Values(), table: t})
		}
	}
	var md arrow.Metadata
	if r.rows != nil {
		md = r.rows.Schema().Metadata()
	}
	r.schema = arrow.NewSchema(fields, &md)
	return nil
}

// Split returns the split's entry in the manifest.
func (r *SplitReader) Split() *Split { return r.split }

// Rows returns the number of samples.
func (r *SplitReader) Rows() int64 { return r.split.Rows }

// Schema returns the schema of gathered batches: the columns of the split's
// files, then per encoder E an embedding column E (E_a and E_b for pairs), or
// E_input where the encoder is not cached.
func (r *SplitReader) Schema() *arrow.Schema { return r.schema }

// Columns returns all rows of the split's own columns, borrowed: no
// embeddings, no inputs. It is nil for a split without rows.
func (r *SplitReader) Columns() arrow.Record { return r.rows }

// Select returns a reader of the same split whose batches have only the
// named columns, in the order of Schema. It shares the memory of r, which
// must live as long; its Release frees nothing.
func (r *SplitReader) Select(names ...string) (*SplitReader, error) {
	out := *r
	out.cols, out.shared = nil, true
	var fields []arrow.Field
	for i, f := range r.schema.Fields() {
		if slices.Contains(names, f.Name) {
			fields = append(fields, f)
			out.cols = append(out.cols, r.cols[i])
		}
	}
	for _, n := range names {
		if len(r.schema.FieldIndices(n)) == 0 {
			return nil, fmt.Errorf("%w: split %q has no column %q (it has %s)", ErrMissing, r.split.Name, n, columnNames(r.schema))
		}
	}
	md := r.schema.Metadata()
	out.schema = arrow.NewSchema(fields, &md)
	return &out, nil
}

// Gather returns one record batch with the given rows, in that order; the
// caller owns it. Embeddings are float32 however they are stored. A column of
// them is lent without copying where it is stored so and its positions are
// consecutive in one record batch of a shard.
func (r *SplitReader) Gather(ctx context.Context, rows []int64) (arrow.Record, error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	for _, row := range rows {
		if row < 0 || row >= r.split.Rows {
			return nil, fmt.Errorf("cachesink: row %d of split %q, which has %d", row, r.split.Name, r.split.Rows)
		}
	}
	cols := make([]arrow.Array, len(r.cols))
	defer func() {
		for _, c := range cols {
			if c != nil {
				c.Release()
			}
		}
	}()
	pos := make([]int64, len(rows))
	for i, c := range r.cols {
		var err error
		if c.table == nil {
			cols[i], err = take(r.c.mem, c.from, rows)
		} else {
			for k, row := range rows {
				pos[k] = c.pos[row]
			}
			cols[i], err = c.table.column(r.batches, pos)
		}
		if err != nil {
			return nil, fmt.Errorf("split %q, column %q: %w", r.split.Name, r.schema.Field(i).Name, err)
		}
	}
	return array.NewRecord(r.schema, cols, int64(len(rows))), nil
}

// column returns the embeddings at the given positions, lent or copied.
func (t *Table) column(mem memory.Allocator, pos []int64) (arrow.Array, error) {
	if err := t.unchanged(); err != nil {
		return nil, err
	}
	if a, err := t.lend(pos); a != nil || err != nil {
		return a, err
	}
	buf := memory.NewResizableBuffer(mem)
	defer buf.Release()
	buf.Resize(len(pos) * t.dim * 4)
	if err := t.gather(arrow.Float32Traits.CastFromBytes(buf.Bytes()), pos); err != nil {
		return nil, err
	}
	vals := array.NewData(arrow.PrimitiveTypes.Float32, len(pos)*t.dim, []*memory.Buffer{nil, buf}, nil, 0, 0)
	defer vals.Release()
	list := array.NewData(arrow.FixedSizeListOf(int32(t.dim), arrow.PrimitiveTypes.Float32), len(pos),
		[]*memory.Buffer{nil}, []arrow.ArrayData{vals}, 0, 0)
	defer list.Release()
	return array.MakeFromData(list), nil
}

// Release frees what the reader has loaded, the shared tables left out.
func (r *SplitReader) Release() {
	if r.shared {
		return
	}
	for _, rec := range []arrow.Record{r.rows, r.inputs} {
		if rec != nil {
			rec.Release()
		}
	}
	r.batches.close()
	r.rows, r.inputs, r.cols = nil, nil, nil
}

// take picks rows of a plain column.
func take(mem memory.Allocator, a arrow.Array, rows []int64) (arrow.Array, error) {
	b := array.NewBuilder(mem, a.DataType())
	defer b.Release()
	b.Reserve(len(rows))
	for _, row := range rows {
		i := int(row)
		if a.IsNull(i) {
			b.AppendNull()
			continue
		}
		switch a := a.(type) {
		case *array.Int64:
			b.(*array.Int64Builder).UnsafeAppend(a.Value(i))
		case *array.Float32:
			b.(*array.Float32Builder).UnsafeAppend(a.Value(i))
		case *array.Float64:
			b.(*array.Float64Builder).UnsafeAppend(a.Value(i))
		case *array.Boolean:
			b.(*array.BooleanBuilder).UnsafeAppend(a.Value(i))
		case *array.String:
			b.(*array.StringBuilder).Append(a.Value(i))
		case *array.Binary:
			b.(*array.BinaryBuilder).Append(a.Value(i))
		case *array.FixedSizeBinary:
			b.(*array.FixedSizeBinaryBuilder).Append(a.Value(i))
		default:
			return nil, fmt.Errorf("%w: %v", ErrSchema, a.DataType())
		}
	}
	return b.NewArray(), nil
}
