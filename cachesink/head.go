package cachesink

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"
)

// Head returns the first rows of a split, at most n, in one record batch that
// the caller owns: the columns of the split's files, then the embeddings of
// the encoders that are cached, as [SplitReader.Gather] gives them. It touches
// only the files that hold these rows, one record batch at a time, and is nil
// for a split without rows.
func (c *Cache) Head(ctx context.Context, s *Split, n int) (rec arrow.Record, err error) {
	err = c.again(ctx, func(at *Cache) error {
		s, err := c.splitAt(at, s)
		if err == nil {
			rec, err = at.head(ctx, s, n)
		}
		return err
	})
	return rec, err
}

func (c *Cache) head(ctx context.Context, s *Split, n int) (arrow.Record, error) {
	var recs []arrow.Record
	defer func() {
		for _, r := range recs {
			r.Release()
		}
	}()
	left := min(int64(max(n, 0)), s.Rows)
	err := c.someBatches(ctx, s, func(int64, int64) bool { return left > 0 }, nil, func(_ int64, rec arrow.Record) error {
		part := rec.NewSlice(0, min(left, rec.NumRows()))
		recs = append(recs, part)
		if left -= part.NumRows(); left == 0 {
			return errEnough
		}
		return nil
	})
	if err := enough(err); err != nil {
		return nil, fmt.Errorf("read split %q: %w", s.Name, err)
	}
	if len(recs) == 0 {
		return nil, nil
	}
	rows, err := concat(c.mem, recs[0].Schema(), recs)
	if err != nil {
		return nil, fmt.Errorf("read split %q: %w", s.Name, err)
	}
	defer rows.Release()
	fields, cols := rows.Schema().Fields(), slices.Clone(rows.Columns())
	for _, se := range s.Encoders {
		e := c.manifest.Encoder(se.Folder)
		if e == nil {
			continue // not cached
		}
		for _, side := range s.Kind.Sides() {
			pos, err := column[*array.Int64](rows, EncoderColumn(e.Name, side, RolePos))
			if err != nil {
				return nil, fmt.Errorf("read split %q: %w: %w", s.Name, ErrCorrupt, err)
			}
			vecs, err := c.vectorsAt(ctx, e, pos.Int64Values(), func(int, []byte) error { return nil })
			if err != nil {
				return nil, err
			}
			col := vectorArray(vecs, e.Dim)
			defer col.Release()
			fields = append(fields, arrow.Field{Name: EncoderColumn(e.Name, side, ""), Type: col.DataType()})
			cols = append(cols, col)
		}
	}
	md := rows.Schema().Metadata()
	return array.NewRecord(arrow.NewSchema(fields, &md), cols, rows.NumRows()), nil
}

// vectorArray wraps embeddings without copying.
func vectorArray(vecs []float32, dim int) arrow.Array {
	n := len(vecs) / dim
	vals := array.NewData(arrow.PrimitiveTypes.Float32, len(vecs),
		[]*memory.Buffer{nil, memory.NewBufferBytes(arrow.Float32Traits.CastToBytes(vecs))}, nil, 0, 0)
	defer vals.Release()
	list := array.NewData(arrow.FixedSizeListOf(int32(dim), arrow.PrimitiveTypes.Float32), n,
		[]*memory.Buffer{nil}, []arrow.ArrayData{vals}, 0, 0)
	defer list.Release()
	return array.MakeFromData(list)
}

// vectorsAt returns the embeddings at some positions, in their order. Of the
// shards that hold them it touches their rows only where it can map the file,
// else it reads the file, one record batch at a time. It calls check with the
// number of each position and the id that stands there.
func (c *Cache) vectorsAt(ctx context.Context, e *Encoder, pos []int64, check func(i int, id []byte) error) ([]float32, error) {
	order := make([]int, len(pos)) // numbers of positions, by position
	for i, p := range pos {
		if order[i] = i; p < 0 || p >= e.Rows() {
			return nil, fmt.Errorf("%w: position %d of %d embeddings of encoder %q", ErrCorrupt, p, e.Rows(), e.Name)
		}
	}
	slices.SortFunc(order, func(i, j int) int { return cmp.Or(cmp.Compare(pos[i], pos[j]), cmp.Compare(i, j)) })
	out := make([]float32, len(pos)*e.Dim)
	start := int64(0)
	for _, s := range e.Shards {
		at := start
		start += s.Rows
		if len(order) == 0 || pos[order[0]] >= start {
			continue
		}
		err := c.eachChunk(ctx, e, s, func(ch *chunk) error {
			ids, vecs, err := shardColumns(ch.rec, e, s)
			if err != nil {
				return err
			}
			for ; len(order) > 0 && pos[order[0]] < at+int64(ch.rows); order = order[1:] {
				i := order[0]
				row := int(pos[i] - at)
				if err := ch.holdRow(row); err != nil {
					return err
				}
				if err := check(i, ids[row*idBytes:(row+1)*idBytes]); err != nil {
					return err
				}
				vecs.read(out[i*e.Dim:(i+1)*e.Dim], row)
			}
			if at += int64(ch.rows); len(order) == 0 || pos[order[0]] >= start {
				return errEnough
			}
			return nil
		})
		if err := enough(err); err != nil {
			return nil, fmt.Errorf("read embeddings of encoder %q: %w", e.Name, err)
		}
	}
	return out, nil
}

// holdRow checks the blocks of a row with its id, where they are mapped.
func (c *chunk) holdRow(row int) error {
	if c.file == nil {
		return nil
	}
	return errors.Join(c.file.hold(c.idsAt+row*idBytes, c.idsAt+(row+1)*idBytes), c.hold(row, 1))
}

// eachChunk calls fn with the record batches of a shard. Rows of mapped ones
// are to be held before they are touched.
func (c *Cache) eachChunk(ctx context.Context, e *Encoder, s Shard, fn func(*chunk) error) error {
	f, err := c.mapShard(ctx, s, &Tables{})
	if err != nil {
		return fmt.Errorf("map %s of %s: %w", s.Name, c.st, err)
	}
	if f != nil {
		defer f.release()
		chunks, err := placeShard(f, e, s)
		if err == nil {
			defer func() {
				for _, ch := range chunks {
					ch.rec.Release()
				}
			}()
			return guarded([]*mappedFile{f}, func() error {
				for i := range chunks {
					if err := fn(&chunks[i]); err != nil {
						return err
					}
				}
				return nil
			})
		}
		if errors.Is(err, ErrCorrupt) {
			return fmt.Errorf("map %s of %s: %w", s.Name, c.st, err)
		}
	}
	return readShard(ctx, c.st, c.mem, e, s.File, func(rec arrow.Record) error {
		ch, err := chunkOf(rec, e)
		if err != nil {
			return corrupt(s.Name, "%v", err)
		}
		return fn(&ch)
	})
}
