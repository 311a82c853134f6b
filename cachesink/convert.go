package cachesink

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/permafrost-ml/permafrost/internal/store"
)

// original is what the manifest has in float32 of an encoder that a fill
// stores in another dtype: converting it gives what encoding again would.
// Embeddings in float16 are not converted to int8, which would round twice.
type original struct {
	entry  *Encoder
	table  idTable
	loaded bool
}

// find returns the position of an object's float32 embedding, -1 if there is
// none. The first call reads the ids of all.
func (o *original) find(ctx context.Context, f *Fill, id *[32]byte) (int64, error) {
	if o == nil {
		return -1, nil
	}
	if !o.loaded {
		if _, err := loadIDs(ctx, f.c.st, o.entry, &o.table); err != nil {
			return -1, f.c.moved(ctx, err)
		}
		o.loaded = true
	}
	if at, ok := o.table.find(id); ok {
		return at, nil
	}
	return -1, nil
}

// converter reads stored embeddings by position, and writes those that are
// stored in float32 to shards in another dtype. It holds one record batch of
// them in memory.
type converter struct {
	cache  *Cache
	st     store.Store
	mem    memory.Allocator
	from   *Encoder
	starts []int64 // positions of the shards' first rows

	shard int // that is open, -1 for none
	file  *checkedReader
	ipc   *ipcFile
	rows  int64 // of every record batch of the shard but the last
	rec   arrow.Record
	vecs  storedRows
	first int64 // position of the record batch

	order []int  // of the rows to copy, by position
	buf   []byte // float32 rows; outside the heap
}

func newConverter(cache *Cache, mem memory.Allocator, from *Encoder) *converter {
	return &converter{cache: cache, st: cache.st, mem: mem, from: from, starts: from.starts(), shard: -1}
}

// starts returns the positions of the shards' first rows.
func (e *Encoder) starts() (starts []int64) {
	var n int64
	for _, s := range e.Shards {
		starts = append(starts, n)
		n += s.Rows
	}
	return starts
}

// shardAt returns the number of the shard that holds a position.
func shardAt(starts []int64, pos int64) int {
	return sort.Search(len(starts), func(i int) bool { return starts[i] > pos }) - 1
}

// write appends the objects of a plan in [at, at+n), all of which are to be
// converted, to the open shard.
func (c *converter) write(ctx context.Context, w *shardWriter, p *shardPlan, at, n int) error {
	dim := c.from.Dim
	for n > 0 {
		k := min(n, plain.batchRows(dim))
		if len(c.buf) < 4*k*dim {
			free(c.buf)
			c.buf = nil
			buf, err := allocate(4 * k * dim)
			if err != nil {
				return err
			}
			c.buf = buf
		}
		vecs := arrow.Float32Traits.CastFromBytes(c.buf)[:k*dim]
		if err := c.read(ctx, vecs, p.from[at:at+k]); err != nil {
			return fmt.Errorf("convert embeddings of encoder %q: %w", c.from.Name, err)
		}
		if err := w.append(p.ids[at*idBytes:(at+k)*idBytes], vecs); err != nil {
			return err
		}
		at, n = at+k, n-k
	}
	return nil
}

// read copies float32 embeddings to dst, reading each record batch once.
func (c *converter) read(ctx context.Context, dst []float32, pos []int64) error {
	c.order = c.order[:0]
	for i := range pos {
		c.order = append(c.order, i)
	}
	slices.SortFunc(c.order, func(a, b int) int { return cmp.Compare(pos[a], pos[b]) })
	dim := c.from.Dim
	for _, i := range c.order {
		row, err := c.seek(ctx, pos[i])
		if err != nil {
			return err
		}
		c.vecs.read(dst[i*dim:(i+1)*dim], row)
	}
	return nil
}

// seek makes rec the record batch that holds a position, and returns its row
// there.
func (c *converter) seek(ctx context.Context, pos int64) (int, error) {
	if c.rec == nil || pos < c.first || pos >= c.first+c.rec.NumRows() {
		if err := c.load(ctx, pos); err != nil {
			return 0, err
		}
	}
	return int(pos - c.first), nil
}

// load makes rec the record batch that holds a position.
func (c *converter) load(ctx context.Context, pos int64) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	i := shardAt(c.starts, pos)
	s := c.from.Shards[i]
	err := func() error {
		if c.shard != i {
			if err := c.open(ctx, i); err != nil {
				return err
			}
		}
		off := pos - c.starts[i]
		batch := int(off / c.rows)
		if batch >= c.ipc.NumRecords() {
			return corrupt(s.Name, "it has no row %d", off)
		}
		if err := c.take(batch); err != nil {
			return err
		}
		c.first = c.starts[i] + int64(batch)*c.rows
		if pos >= c.first+c.rec.NumRows() {
			return corrupt(s.Name, "it has no row %d", off)
		}
		return nil
	}()
	if err != nil {
		return fmt.Errorf("read %s of %s: %w", s.Name, c.st, c.cache.moved(ctx, err))
	}
	return nil
}

// open opens a shard and finds out the size of its record batches.
func (c *converter) open(ctx context.Context, i int) (err error) {
	if err := c.shut(); err != nil {
		return err
	}
	f := c.from.Shards[i].File
	if c.file, err = openChecked(ctx, c.st, f); err != nil {
		return err
	}
	c.shard = i
	if c.ipc, err = openIPC(c.file, shardMemory(c.mem, c.from, f)); err != nil {
		return err
	}
	if c.ipc.NumRecords() == 0 {
		return corrupt(f.Name, "it has no record batch")
	}
	if err := c.take(0); err != nil {
		return err
	}
	if c.rows = c.rec.NumRows(); c.rows == 0 {
		return corrupt(f.Name, "it has an empty record batch")
	}
	return nil
}

// take makes rec a record batch of the open shard.
func (c *converter) take(batch int) error {
	c.drop()
	rec, err := c.ipc.recordAt(batch)
	if err != nil {
		return err
	}
	vecs, err := storedColumns(rec, c.from.DType, c.from.Dim)
	if err != nil {
		rec.Release()
		return err
	}
	c.rec, c.vecs = rec, vecs
	return nil
}

func (c *converter) drop() {
	if c.rec != nil {
		c.rec.Release()
		c.rec, c.vecs = nil, storedRows{}
	}
}

// shut closes the open shard.
func (c *converter) shut() (err error) {
	c.drop()
	if c.ipc != nil {
		err = c.ipc.Close()
		c.ipc = nil
	}
	if c.file != nil {
		err = errors.Join(err, c.file.Close())
		c.file = nil
	}
	c.shard = -1
	return err
}

// close frees what the converter holds; nil may be closed.
func (c *converter) close() error {
	if c == nil {
		return nil
	}
	free(c.buf)
	c.buf = nil
	return c.shut()
}
