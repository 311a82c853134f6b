package cachesink

import (
	"context"
	"fmt"
	"slices"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/memory"
)

// SplitReader is a split that is ready to be replayed: its columns and the
// embeddings of its cached encoders. It is safe for concurrent use until
// Release, and implements source.Table.
type SplitReader struct {
	c      *Cache
	split  *Split
	form   *batchForm // of gathered batches
	rows   *rowTable  // the columns of the split's files, nil without any
	inputs *rowTable  // those of its inputs, nil without any
	tables map[string]*Table
	watch  *watch
	pages  *pages
	pool   *batchPool
	shared bool // all of this is another reader's
}

// gatherColumn says where a column of a gathered batch comes from: a column of
// the split or of its inputs, or the table that this has the positions of.
type gatherColumn struct {
	rows  *rowTable
	at    int
	table *Table
}

// Tables holds the embeddings that several splits share. Its zero value
// holds none.
type Tables struct {
	// VerifyAlways checks every block that is touched, also those which the
	// user's cache folder says have held before, in a file that did not
	// change since. Default: false.
	VerifyAlways bool
	// Access says how files are reached that could be mapped.
	// Default: AccessMapped.
	Access Access

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

// Read opens a split, and through tables the embeddings of its encoders. Files
// of a folder that are not compressed are not loaded but mapped, where the
// system can and unless tables say otherwise, so that they need not fit in
// memory: that takes a time for each file, whatever the number of rows, and
// damage of theirs is found when a row of the block is gathered. No byte is
// used before its checksum held. The tables must live as long as the reader;
// not safe for concurrent use with the same tables.
//
// What [SplitReader.Gather] lends of a mapped file is safe to touch only while
// nobody cuts the file: who does ends the process. Gathering itself is safe:
// that the file was cut or written to is ErrCorrupt. AccessCopy closes that
// window.
//
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
	r := &SplitReader{c: c, split: s, tables: map[string]*Table{}, pool: &batchPool{}, watch: &watch{}}
	defer func() {
		if err != nil {
			r.Release()
			err = fmt.Errorf("read split %q: %w", s.Name, err)
		}
	}()
	for _, e := range s.Encoders {
		if e.Folder == "" {
			continue
		}
		t, err := tables.table(ctx, c, e.Folder)
		if err != nil {
			return nil, err
		}
		r.tables[e.Name] = t
		r.watch.files = append(r.watch.files, t.guard...)
	}
	if r.rows, err = c.openRows(ctx, s.Files, s.nullable(), tables); err != nil {
		return nil, err
	}
	if r.inputs, err = c.openRows(ctx, s.Inputs, func(string) bool { return false }, tables); err != nil {
		return nil, err
	}
	for _, t := range []*rowTable{r.rows, r.inputs} {
		if t != nil {
			r.watch.files = append(r.watch.files, t.lent()...)
		}
	}
	r.pages = pagesOf(r.watch.files)
	return r, r.layout()
}

// nullable tells the columns that may have nulls: the kept ones.
func (s *Split) nullable() func(column string) bool {
	made := s.made()
	fixed := s.Kind.fixed()
	return func(name string) bool {
		_, ok := fixed[name]
		return !ok && !made[name]
	}
}

// layout decides the columns of gathered batches: the split's own, then for
// each encoder its embeddings or its inputs.
func (r *SplitReader) layout() error {
	if r.rows == nil { // an empty split has no files and so no columns
		r.form = &batchForm{schema: arrow.NewSchema(nil, nil)}
		return nil
	}
	fields := r.rows.schema.Fields()
	var cols []gatherColumn
	for i := range fields {
		cols = append(cols, gatherColumn{rows: r.rows, at: i})
	}
	for _, e := range r.split.Encoders {
		for _, side := range r.split.Kind.Sides() {
			if e.Folder == "" {
				if r.inputs == nil {
					return corrupt(r.split.Folder, "no inputs of encoder %q", e.Name)
				}
				name := EncoderColumn(e.Name, side, RoleInput)
				at, err := columnAt(r.inputs.schema, name, arrow.BinaryTypes.Binary)
				if err != nil {
					return err
				}
				fields = append(fields, arrow.Field{Name: name, Type: arrow.BinaryTypes.Binary})
				cols = append(cols, gatherColumn{rows: r.inputs, at: at})
				continue
			}
			at, err := columnAt(r.rows.schema, EncoderColumn(e.Name, side, RolePos), arrow.PrimitiveTypes.Int64)
			if err != nil {
				return err
			}
			t := r.tables[e.Name]
			fields = append(fields, arrow.Field{Name: EncoderColumn(e.Name, side, ""), Type: t.list})
			cols = append(cols, gatherColumn{rows: r.rows, at: at, table: t})
		}
	}
	md := r.rows.schema.Metadata()
	r.form = &batchForm{arrow.NewSchema(fields, &md), cols}
	return nil
}

// Split returns the split's entry in the manifest.
func (r *SplitReader) Split() *Split { return r.split }

// Rows returns the number of samples.
func (r *SplitReader) Rows() int64 { return r.split.Rows }

// Schema returns the schema of gathered batches: the columns of the split's
// files, then per encoder E an embedding column E (E_a and E_b for pairs), or
// E_input where the encoder is not cached.
func (r *SplitReader) Schema() *arrow.Schema { return r.form.schema }

// Columns returns the named columns of all rows; the caller owns them.
func (r *SplitReader) Columns(ctx context.Context, names ...string) (arrow.Record, error) {
	sel, err := r.Select(names...)
	if err != nil {
		return nil, err
	}
	rows := make([]int64, r.split.Rows)
	for i := range rows {
		rows[i] = int64(i)
	}
	sel.pool = nil // so large a batch is not kept
	return sel.Gather(ctx, rows)
}

// Select returns a reader of the same split whose batches have only the
// named columns, in the order of Schema. It shares the memory of r, which
// must live as long; its Release frees nothing.
func (r *SplitReader) Select(names ...string) (*SplitReader, error) {
	out := *r
	out.shared = true
	var fields []arrow.Field
	var cols []gatherColumn
	for i, f := range r.form.schema.Fields() {
		if slices.Contains(names, f.Name) {
			fields = append(fields, f)
			cols = append(cols, r.form.cols[i])
		}
	}
	for _, n := range names {
		if len(r.form.schema.FieldIndices(n)) == 0 {
			return nil, fmt.Errorf("%w: split %q has no column %q (it has %s)", ErrMissing, r.split.Name, n, columnNames(r.form.schema))
		}
	}
	md := r.form.schema.Metadata()
	out.form = &batchForm{arrow.NewSchema(fields, &md), cols}
	return &out, nil
}

// Gather returns one record batch with the given rows, in that order; the
// caller owns it. Embeddings are float32 however they are stored. A column of
// them is lent without copying where it is stored so and its positions are
// consecutive in one record batch of a shard; all else is a copy. When a batch
// and all that was retained of it is released, its memory is used for another.
func (r *SplitReader) Gather(ctx context.Context, rows []int64) (arrow.Record, error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	for _, row := range rows {
		if row < 0 || row >= r.split.Rows {
			return nil, fmt.Errorf("cachesink: row %d of split %q, which has %d", row, r.split.Name, r.split.Rows)
		}
	}
	if err := r.watch.unchanged(); err != nil {
		return nil, fmt.Errorf("split %q: %w", r.split.Name, err)
	}
	var b *batch
	if r.pool != nil {
		b = r.pool.take(r.form, len(rows))
	} else {
		b = newBatch(nil, r.form, len(rows))
	}
	b.refs.Store(1)
	var l *fetches
	if r.pages.missing() {
		l = &b.fetch
	}
	if err := guarded(r.watch.files, func() error { return r.fill(ctx, b, rows, l) }); err != nil {
		b.Release()
		return nil, fmt.Errorf("split %q: %w", r.split.Name, err)
	}
	return b, nil
}

// fill copies rows to a batch, or borrows them. What may have to come from the
// disk is fetched if it is given fetches.
func (r *SplitReader) fill(ctx context.Context, b *batch, rows []int64, l *fetches) (err error) {
	var spots [2][]spot[rowBatch] // of the split and of its inputs
	for i, t := range []*rowTable{r.rows, r.inputs} {
		if t != nil && slices.ContainsFunc(r.form.cols, func(c gatherColumn) bool { return c.rows == t }) {
			if b.spots[i], err = t.locate(ctx, b.spots[i][:0], rows); err != nil {
				return err
			}
			spots[i] = b.spots[i]
		}
	}
	for i := range r.form.cols {
		c := &r.form.cols[i]
		at := spots[0]
		if c.rows == r.inputs {
			at = spots[1]
		}
		k := &c.rows.kinds[c.at]
		if l != nil {
			l.cells(k, c.at, at)
		}
		if c.table == nil {
			if l != nil && k.width < 0 {
				err = l.texts(c.at, at)
			}
			if err == nil {
				err = b.own[i].fill(r.c.mem, k, c.at, len(rows), at)
			}
			b.cols[i] = b.own[i].array
		} else if err = c.rows.positions(b.pos, c.at, at); err == nil {
			err = b.embed(ctx, r.c.mem, i, c.table, l)
		}
		if err != nil {
			return fmt.Errorf("column %q: %w", r.form.schema.Field(i).Name, err)
		}
	}
	return nil
}

// embed makes a column of the embeddings at b.pos.
func (b *batch) embed(ctx context.Context, mem memory.Allocator, i int, t *Table, l *fetches) error {
	v, err := t.lend(ctx, b.pos, l)
	if err != nil {
		return err
	}
	if v != nil {
		b.lent[i], b.cols[i] = v, v.list
		return nil
	}
	o := &b.own[i]
	if o.array == nil {
		o.makeVectors(mem, t.list, b.rows)
	}
	b.cols[i] = o.array
	return t.gather(ctx, arrow.Float32Traits.CastFromBytes(o.values), b.pos, l)
}

// Release frees what the reader has opened, the shared tables left out.
func (r *SplitReader) Release() {
	if r.shared {
		return
	}
	r.pool.close()
	r.rows.Release()
	r.inputs.Release()
	r.rows, r.inputs = nil, nil
}
