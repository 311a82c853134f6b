package cachesink

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/permafrost-ml/permafrost/internal/arrowipc"
	"github.com/permafrost-ml/permafrost/internal/store"
)

// salvage is what the damaged file of a shard still holds: the embeddings, and
// the ids, that lie in blocks whose checksums hold. Of a compressed shard those
// are whole record batches. Nothing is known of a shard whose own checksums are
// damaged.
type salvage struct {
	st     store.Store
	mem    memory.Allocator
	e      *Encoder
	shard  Shard
	layout layout
	sums   []byte            // nil where nothing can be had
	placed []arrowipc.Placed // of an uncompressed shard: where its rows are
	vecs   bitmap            // rows whose embeddings hold
	ids    []byte            // of all rows, of which those hold that are named
	named  bitmap
}

// salvage looks for what can be had of a damaged shard, that was encoded in
// batches of a size. It fails only for want of memory or where ctx ends.
func (c *Cache) salvage(ctx context.Context, mem memory.Allocator, e *Encoder, s Shard, l layout, batchSize int) (*salvage, error) {
	g := &salvage{st: c.st, mem: mem, e: e, shard: s, layout: l}
	if l.codec == Uncompressed && s.Rows > s.Bytes/int64(l.dtype.RowBytes(e.Dim)) {
		return g, nil // it says more than it can hold
	}
	g.ids = make([]byte, s.Rows*idBytes)
	var err error
	if g.sums, err = readSums(ctx, c.st, s.File); err != nil {
		return g, ctx.Err()
	}
	r, err := g.open(ctx)
	if err != nil {
		return g, ctx.Err()
	}
	if l.codec == Uncompressed {
		err = g.look(ctx, r, batchSize)
	} else {
		err = g.lookPacked(ctx, r)
	}
	return g, errors.Join(err, r.Close())
}

// open opens the file, however long it is.
func (g *salvage) open(ctx context.Context) (*checkedReader, error) {
	r, err := g.st.Open(ctx, g.shard.Name)
	if err != nil {
		return nil, err
	}
	return &checkedReader{r: sized{r, min(r.Size(), g.shard.Bytes)}, name: g.shard.Name, sums: g.sums, at: -1}, nil
}

// sized is a file of which the first bytes alone count.
type sized struct {
	store.Reader
	size int64
}

func (s sized) Size() int64 { return s.size }

// headed is an Arrow file whose first bytes are known, and so not read.
type headed struct{ *checkedReader }

// ReadAt implements io.ReaderAt.
func (h headed) ReadAt(b []byte, off int64) (int, error) {
	if head := "ARROW1\x00\x00"; off >= 0 && off+int64(len(b)) <= int64(len(head)) {
		return copy(b, head[off:]), nil
	}
	return h.checkedReader.ReadAt(b, off)
}

// look finds the rows of an uncompressed shard. It is known where they are,
// whatever the file says of it.
func (g *salvage) look(ctx context.Context, r *checkedReader, batchSize int) error {
	w, err := newShardWriter(g.st, g.mem, g.e, batchSize)
	if err != nil {
		return err
	}
	placed, size, err := shardPlaces(g.mem, shardSchema(g.e, w.spec, g.layout, batchSize), g.layout, g.e.Dim, g.shard.Rows)
	if err != nil || size != g.shard.Bytes {
		return err // somebody else has written it
	}
	g.placed = placed
	blocks, err := soundBlocks(ctx, r)
	if err != nil {
		return err
	}
	sound := func(at, size int64) bool {
		from, to := at/sumBlock, (at+size-1)/sumBlock+1
		return blocks.count(from, to) == to-from
	}
	first := int64(0)
	for _, p := range placed {
		ids, vals, scales := g.extents(p)
		for i := range p.Rows {
			width := vals.Size / p.Rows
			if sound(vals.At+i*width, width) && (scales.Size == 0 || sound(scales.At+4*i, 4)) {
				g.vecs.set(first + i)
			}
			if !sound(ids.At+i*idBytes, idBytes) {
				continue
			}
			if _, err := r.ReadAt(g.ids[(first+i)*idBytes:][:idBytes], ids.At+i*idBytes); err != nil {
				return err
			}
			g.named.set(first + i)
		}
		first += p.Rows
	}
	return nil
}

// extents returns where the ids, the values and the scales of a record batch
// are, without padding.
func (g *salvage) extents(p arrowipc.Placed) (ids, vals, scales arrowipc.Extent) {
	width := int64(g.layout.dtype.values().(arrow.FixedWidthDataType).Bytes())
	ids = arrowipc.Extent{At: p.Buffers[1].At, Size: p.Rows * idBytes}
	vals = arrowipc.Extent{At: p.Buffers[4].At, Size: p.Rows * int64(g.e.Dim) * width}
	if g.layout.dtype == Int8 {
		scales = arrowipc.Extent{At: p.Buffers[6].At, Size: 4 * p.Rows}
	}
	return ids, vals, scales
}

// soundBlocks returns the blocks of a file whose checksums hold.
func soundBlocks(ctx context.Context, r *checkedReader) (blocks bitmap, err error) {
	buf := make([]byte, 16*sumBlock)
	for at := int64(0); at < r.Size(); at += int64(len(buf)) {
		if ctx.Err() != nil {
			return blocks, context.Cause(ctx)
		}
		part := buf[:min(int64(len(buf)), r.Size()-at)]
		whole := r.fetch(part, at) == nil
		for i := 0; i < len(part); i += sumBlock {
			if whole || r.fetch(part[i:min(i+sumBlock, len(part))], at+int64(i)) == nil {
				blocks.set((at + int64(i)) / sumBlock)
			}
		}
	}
	return blocks, nil
}

// lookPacked finds the record batches of a compressed shard that can be read.
func (g *salvage) lookPacked(ctx context.Context, r *checkedReader) error {
	f, err := openIPC(headed{r}, shardMemory(g.mem, g.e, g.shard.File))
	if err != nil {
		return ctx.Err()
	}
	defer f.Close()
	for i := range f.NumRecords() {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		first := int64(i) * int64(g.layout.batchRows(g.e.Dim))
		rec, _, err := g.packed(f, first)
		if err != nil {
			continue
		}
		ids, err := idColumn(rec)
		for row := range rec.NumRows() {
			g.vecs.set(first + row)
			g.named.set(first + row)
		}
		copy(g.ids[first*idBytes:], ids)
		rec.Release()
		if err != nil {
			return err
		}
	}
	return nil
}

// packed reads the record batch of a compressed shard that begins with a row.
func (g *salvage) packed(f *ipcFile, first int64) (rec arrow.Record, vecs storedRows, err error) {
	most := int64(g.layout.batchRows(g.e.Dim))
	if rec, err = f.recordAt(int(first / most)); err != nil {
		return nil, vecs, err
	}
	_, v, err := shardColumns(rec, g.e, g.shard)
	if want := min(most, g.shard.Rows-first); err == nil && rec.NumRows() != want {
		err = corrupt(g.shard.Name, "a record batch of %d rows, not %d", rec.NumRows(), want)
	}
	if err != nil {
		rec.Release()
		return nil, vecs, err
	}
	return rec, *v, nil
}

// complete adds the ids that hold to those that are known.
func (g *salvage) complete(ids []byte, known *bitmap) (found int64) {
	for row := range g.shard.Rows {
		if g.named.has(row) && known.set(row) {
			copy(ids[row*idBytes:(row+1)*idBytes], g.ids[row*idBytes:])
			found++
		}
	}
	return found
}

// rows returns the row of each embedding that can be had, -1 for the others,
// and the number behind that of the last of these; nil if none can be had.
func (g *salvage) rows() (from []int64, last int64) {
	if g.vecs.count(0, g.shard.Rows) == 0 {
		return nil, g.shard.Rows
	}
	from = make([]int64, g.shard.Rows)
	for i := range from {
		if from[i] = int64(i); !g.vecs.has(int64(i)) {
			from[i], last = -1, int64(i)+1
		}
	}
	return from, last
}

// write appends rows of the plan from at on, all of which can be had, to the
// open shard, as they were stored. Their blocks are checked again.
func (g *salvage) write(ctx context.Context, w *shardWriter, p *shardPlan, at, n int) (err error) {
	r, err := g.open(ctx)
	if err != nil {
		return fmt.Errorf("open %s of %s: %w", g.shard.Name, g.st, err)
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	err = g.each(r, int64(at), int64(n), func(v *storedRows, row int) error {
		id := p.ids[at*idBytes : (at+1)*idBytes]
		at++
		return w.appendStored(id, v, row)
	})
	if err != nil {
		return fmt.Errorf("read %s of %s: %w", g.shard.Name, g.st, err)
	}
	return nil
}

// each calls fn with rows from at on.
func (g *salvage) each(r *checkedReader, at, n int64, fn func(v *storedRows, row int) error) error {
	if g.placed == nil {
		return g.eachPacked(r, at, n, fn)
	}
	var buf []byte
	for _, p := range g.placed {
		if at >= p.Rows {
			at -= p.Rows
			continue
		}
		_, vals, scales := g.extents(p)
		width := vals.Size / p.Rows
		for at < p.Rows && n > 0 {
			k := min(n, p.Rows-at, max(1, 16*sumBlock/width))
			buf = slices.Grow(buf[:0], int(k*(width+4)))[:k*(width+4)]
			rawScales, raw := buf[:4*k], buf[4*k:]
			if _, err := r.ReadAt(raw, vals.At+at*width); err != nil {
				return err
			}
			if scales.Size > 0 {
				if _, err := r.ReadAt(rawScales, scales.At+4*at); err != nil {
					return err
				}
			}
			v := rawRows(g.layout.dtype, g.e.Dim, raw, rawScales)
			for row := range int(k) {
				if err := fn(v, row); err != nil {
					return err
				}
			}
			at, n = at+k, n-k
		}
		if at = 0; n == 0 {
			break
		}
	}
	return nil
}

func (g *salvage) eachPacked(r *checkedReader, at, n int64, fn func(v *storedRows, row int) error) (err error) {
	f, err := openIPC(headed{r}, shardMemory(g.mem, g.e, g.shard.File))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	most := int64(g.layout.batchRows(g.e.Dim))
	for n > 0 {
		rec, v, err := g.packed(f, at-at%most)
		if err != nil {
			return err
		}
		k := min(n, rec.NumRows()-at%most)
		for row := range k {
			if err = fn(&v, int(at%most+row)); err != nil {
				break
			}
		}
		rec.Release()
		if err != nil {
			return err
		}
		at, n = at+k, n-k
	}
	return nil
}

// rawRows are rows over the bytes of their values and scales in a file.
func rawRows(d DType, dim int, values, scales []byte) *storedRows {
	v := &storedRows{dim: dim}
	switch d {
	case Float16:
		v.f16 = arrow.Uint16Traits.CastFromBytes(values)
	case Int8:
		v.i8, v.scales = arrow.Int8Traits.CastFromBytes(values), arrow.Float32Traits.CastFromBytes(scales)
	default:
		v.f32 = arrow.Float32Traits.CastFromBytes(values)
	}
	return v
}
