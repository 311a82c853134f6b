package cachesink

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
)

// Objects streams the embeddings of an encoder, an object once, in the order
// of the manifest's shards, as record batches of [EmbeddingSchema]: float32,
// however they are stored. One record batch of a shard is in memory at a
// time; the receiver owns what it is given. The first error ends the
// sequence: ErrMoved where another process has moved the objects to other
// shards after the first of them were given.
func (c *Cache) Objects(ctx context.Context, e *Encoder) iter.Seq2[arrow.Record, error] {
	return func(yield func(arrow.Record, error) bool) {
		schema := EmbeddingSchema(e.Dim)
		given := false
		err := c.again(ctx, func(at *Cache) error {
			if at != c && given {
				return fmt.Errorf("%w: objects were moved while they were read", ErrMoved)
			}
			e, err := c.encoderAt(at, e)
			if err != nil {
				return err
			}
			return at.eachShard(ctx, e, func(s Shard, rec arrow.Record) error {
				out, err := c.decoded(e, schema, rec)
				if err != nil {
					return corrupt(s.Name, "%v", err)
				}
				if given = true; !yield(out, nil) {
					return errEnough
				}
				return nil
			})
		})
		switch {
		case errors.Is(err, errEnough) || err == nil:
			return
		case ctx.Err() != nil:
			err = context.Cause(ctx)
		}
		yield(nil, fmt.Errorf("read encoder %q: %w", e.Name, err))
	}
}

// eachShard calls fn with the record batches of an encoder's shards.
func (c *Cache) eachShard(ctx context.Context, e *Encoder, fn func(Shard, arrow.Record) error) error {
	for _, s := range e.Shards {
		if err := readShard(ctx, c.st, c.mem, e, s.File, func(rec arrow.Record) error { return fn(s, rec) }); err != nil {
			return err
		}
	}
	return nil
}

// decoded returns a shard's record batch with its embeddings in float32.
func (c *Cache) decoded(e *Encoder, schema *arrow.Schema, rec arrow.Record) (arrow.Record, error) {
	if _, err := idColumn(rec); err != nil {
		return nil, err
	}
	vecs, err := storedColumns(rec, e.DType, e.Dim)
	if err != nil {
		return nil, err
	}
	list, err := c.float32s(e, rec, vecs)
	if err != nil {
		return nil, err
	}
	defer list.Release()
	id, err := column[arrow.Array](rec, ColumnID)
	if err != nil {
		return nil, err
	}
	return array.NewRecord(schema, []arrow.Array{id, list}, rec.NumRows()), nil
}

// float32s returns the embeddings of a record batch in float32: those that are
// stored so are not copied.
func (c *Cache) float32s(e *Encoder, rec arrow.Record, vecs storedRows) (arrow.Array, error) {
	if e.DType == Float32 {
		list, err := column[arrow.Array](rec, ColumnEmbedding)
		if err == nil {
			list.Retain()
		}
		return list, err
	}
	var out ownColumn
	out.makeVectors(c.mem, arrow.FixedSizeListOf(int32(e.Dim), arrow.PrimitiveTypes.Float32), int(rec.NumRows()))
	vecs.readRun(arrow.Float32Traits.CastFromBytes(out.values), 0, int(rec.NumRows()))
	return out.array, nil
}
