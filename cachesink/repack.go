package cachesink

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
)

// compact writes the new shards of a plan, and the splits that name their
// objects, and returns the manifest that names them.
func (c *Cache) compact(ctx context.Context, cur *Manifest, p *GCPlan) (*Manifest, error) {
	at := &Cache{c.st, c.mem, cur}
	next := &Manifest{Encoders: slices.Clone(cur.Encoders), Splits: slices.Clone(cur.Splits)}
	moved := map[string][]int64{} // new positions by folder
	for _, k := range p.Compact {
		e := cur.Encoder(k.Folder)
		shards, pos, err := at.repack(ctx, e, &k, int64(p.opts.ShardObjects))
		if err != nil {
			return nil, fmt.Errorf("compact encoder %q: %w", e.Name, err)
		}
		next.Encoder(k.Folder).Shards = shards
		if k.Garbage > 0 { // else every position stays
			moved[k.Folder] = pos
		}
	}
	for i := range next.Splits {
		s := &next.Splits[i]
		if !slices.ContainsFunc(s.Encoders, func(e SplitEncoder) bool { return moved[e.Folder] != nil }) {
			continue
		}
		moved, err := at.moveSplit(ctx, s, moved)
		if err != nil {
			return nil, fmt.Errorf("move positions of split %q: %w", s.Name, err)
		}
		*s = moved
	}
	return next, nil
}

// repack writes the objects that splits name of the shards that are to be
// rewritten. It returns all shards, and for each old position the new one, -1
// for what is dropped.
func (c *Cache) repack(ctx context.Context, e *Encoder, p *Compaction, full int64) (shards []Shard, moved []int64, err error) {
	shards, moved = []Shard{}, make([]int64, 0, e.Rows())
	r := &repacker{c: c, e: e, from: newConverter(c, c.mem, e)}
	defer func() { err = errors.Join(err, r.from.close()) }()
	at := int64(0)
	for _, run := range p.runs {
		var take []int64
		for _, s := range e.Shards[run.from:run.to] {
			for range s.Rows {
				pos := int64(len(moved))
				if run.rewrite && !p.used.has(pos) {
					moved = append(moved, -1)
					continue
				}
				if run.rewrite {
					take = append(take, pos)
				}
				moved = append(moved, at)
				at++
			}
		}
		if !run.rewrite {
			shards = append(shards, e.Shards[run.from:run.to]...)
			continue
		}
		l, batchSize, err := r.shape(ctx, run)
		if err != nil {
			return nil, nil, err
		}
		for part := range slices.Chunk(take, int(full)) {
			s, err := r.write(ctx, len(shards), l, batchSize, part)
			if err != nil {
				return nil, nil, err
			}
			shards = append(shards, s)
		}
	}
	return shards, moved, nil
}

// repacker writes stored embeddings to new shards as they are.
type repacker struct {
	c    *Cache
	e    *Encoder
	from *converter
}

// shape returns the layout and the batch size that most objects of a run have.
func (r *repacker) shape(ctx context.Context, run shardRun) (l layout, batchSize int, err error) {
	type shape struct {
		layout
		batchSize int
	}
	rows := map[shape]int64{}
	var best shape
	for _, s := range r.e.Shards[run.from:run.to] {
		schema, err := r.c.Schema(ctx, s.File)
		if err != nil {
			return l, 0, err
		}
		var k shape
		if k.batchSize, err = strconv.Atoi(metaValue(schema.Metadata(), MetaBatchSize)); err != nil {
			return l, 0, corrupt(s.Name, "its schema says batch size %q", metaValue(schema.Metadata(), MetaBatchSize))
		}
		if k.layout, err = s.layout(); err != nil {
			return l, 0, err
		}
		k.converted = ""
		k.output = codecOutput[k.codec]
		if rows[k] += s.Rows; rows[k] > rows[best] {
			best = k
		}
	}
	return best.layout, best.batchSize, nil
}

// write writes a shard of the embeddings at some positions.
func (r *repacker) write(ctx context.Context, number int, l layout, batchSize int, take []int64) (none Shard, err error) {
	l.converted = r.mark(take)
	w, err := newShardWriter(r.c.st, r.c.mem, r.e, batchSize)
	if err != nil {
		return none, err
	}
	defer func() { err = errors.Join(err, w.drop()) }()
	p := &shardPlan{layout: l, dim: r.e.Dim, rows: int64(len(take)), ids: make([]byte, 0, len(take)*idBytes)}
	if err := w.open(ctx, p); err != nil {
		return none, err
	}
	for _, pos := range take {
		row, err := r.from.seek(ctx, pos)
		if err != nil {
			return none, err
		}
		ids, err := idColumn(r.from.rec)
		if err != nil {
			return none, err
		}
		id := ids[row*idBytes : (row+1)*idBytes]
		p.ids = append(p.ids, id...)
		if err := w.appendStored(id, &r.from.vecs, row); err != nil {
			return none, err
		}
	}
	p.id = shardID(r.e.Fingerprint, l, batchSize, p.ids)
	p.name = fmt.Sprintf("%s/%05d-%s.arrow", r.e.Folder, number, p.id[:8])
	return w.close(ctx, p)
}

// mark tells where the embeddings of a shard come from: a line for each, the
// id of its shard and its row there.
func (r *repacker) mark(take []int64) string {
	h := sha256.New()
	for _, pos := range take {
		i, ok := slices.BinarySearch(r.from.starts, pos)
		if !ok {
			i--
		}
		// A shard without rows begins where the next one does.
		for i+1 < len(r.from.starts) && r.from.starts[i+1] == pos {
			i++
		}
		fmt.Fprintf(h, "%s %d\n", r.e.Shards[i].ID, pos-r.from.starts[i])
	}
	return hex.EncodeToString(h.Sum(nil))
}

// moveSplit writes the files of a split anew with new positions.
func (c *Cache) moveSplit(ctx context.Context, s *Split, moved map[string][]int64) (_ Split, err error) {
	out := *s
	w := &tableWriter{st: c.st, mem: c.mem}
	in := &tableWriter{st: c.st, mem: c.mem}
	defer func() { err = errors.Join(err, w.abort(), in.abort()) }()
	err = c.eachBatch(ctx, s, func(_ int64, rec arrow.Record) error {
		cols := slices.Clone(rec.Columns())
		for _, e := range s.Encoders {
			to := moved[e.Folder]
			if to == nil {
				continue
			}
			for _, side := range s.Kind.Sides() {
				at := rec.Schema().FieldIndices(EncoderColumn(e.Name, side, RolePos))
				if len(at) != 1 {
					return corrupt(s.Folder, "no positions of encoder %q", e.Name)
				}
				old, ok := cols[at[0]].(*array.Int64)
				if !ok {
					return corrupt(s.Folder, "positions of encoder %q are %v", e.Name, cols[at[0]].DataType())
				}
				now := make([]int64, old.Len())
				for i, p := range old.Int64Values() {
					if now[i] = -1; p >= 0 && p < int64(len(to)) {
						now[i] = to[p]
					}
					if now[i] < 0 {
						return corrupt(s.Folder, "it names embedding %d of encoder %q", p, e.Name)
					}
				}
				a := int64Array(now)
				defer a.Release()
				cols[at[0]] = a
			}
		}
		w.schema = cmp.Or(w.schema, rec.Schema())
		moved := array.NewRecord(w.schema, cols, rec.NumRows())
		defer moved.Release()
		return w.write(ctx, moved)
	})
	if err == nil {
		err = w.finish(ctx)
	}
	for _, f := range s.Inputs {
		if err != nil {
			break
		}
		err = readPlain(ctx, c.st, c.mem, f, func(rec arrow.Record) error {
			in.schema = cmp.Or(in.schema, rec.Schema())
			return in.write(ctx, rec)
		})
	}
	if err == nil {
		err = in.finish(ctx)
	}
	if err != nil {
		return out, err
	}
	tail := splitTail(s.Name, s.Fingerprint, w, in)
	out.Folder = "splits/" + tail
	if out.Files, err = w.publish(ctx, out.Folder); err != nil {
		return out, err
	}
	if len(s.Inputs) > 0 {
		out.Inputs, err = in.publish(ctx, "inputs/"+tail)
	}
	return out, err
}
