package cachesink

import (
	"context"
	"fmt"
	"sort"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
)

// Table is the embeddings of one encoder in host memory, by position, in the
// dtype that they are stored in. It is safe for concurrent use until Release.
type Table struct {
	dim    int
	dtype  DType
	rows   int64
	shards []Shard
	chunks []chunk
}

// chunk is one record batch of a shard.
type chunk struct {
	first int64 // position of its first row
	vecs  storedRows
	rec   arrow.Record
}

// loadTable reads and checks all shards of an encoder, up to the given
// number of rows.
func (c *Cache) loadTable(ctx context.Context, e *Encoder) (*Table, error) {
	t := &Table{dim: e.Dim, dtype: e.DType, shards: e.Shards}
	for _, s := range e.Shards {
		err := readShard(ctx, c.st, c.mem, e, s.File, func(rec arrow.Record) error {
			vecs, err := storedColumns(rec, e.DType, e.Dim)
			if err != nil {
				return err
			}
			rec.Retain()
			t.chunks = append(t.chunks, chunk{t.rows, vecs, rec})
			t.rows += rec.NumRows()
			return nil
		})
		if err != nil {
			t.Release()
			return nil, fmt.Errorf("load encoder %q: %w", e.Name, err)
		}
	}
	return t, nil
}

// Rows returns the number of embeddings.
func (t *Table) Rows() int64 { return t.rows }

// Dim returns the number of values of an embedding.
func (t *Table) Dim() int { return t.dim }

// Release frees the table's memory.
func (t *Table) Release() {
	for _, c := range t.chunks {
		c.rec.Release()
	}
	t.chunks = nil
}

// find returns the chunk that holds a position in [0, Rows).
func (t *Table) find(pos int64) *chunk {
	i := sort.Search(len(t.chunks), func(i int) bool { return t.chunks[i].first > pos })
	return &t.chunks[i-1]
}

// gather writes the embeddings at the given positions to dst, row by row.
func (t *Table) gather(dst []float32, pos []int64) error {
	var c *chunk
	for i, p := range pos {
		if p < 0 || p >= t.rows {
			return fmt.Errorf("%w: position %d of %d embeddings", ErrCorrupt, p, t.rows)
		}
		if c == nil || p < c.first || p >= c.first+c.rec.NumRows() {
			c = t.find(p)
		}
		c.vecs.read(dst[i*t.dim:(i+1)*t.dim], int(p-c.first))
	}
	return nil
}

// lend returns the embeddings at the given positions without copying, if
// they are float32 and consecutive in one record batch: an array that shares
// its memory.
func (t *Table) lend(pos []int64) (arrow.Array, bool) {
	if t.dtype != Float32 || len(pos) == 0 || pos[0] < 0 || pos[0] >= t.rows {
		return nil, false
	}
	for i, p := range pos {
		if p != pos[0]+int64(i) {
			return nil, false
		}
	}
	c := t.find(pos[0])
	at := pos[0] - c.first
	if at+int64(len(pos)) > c.rec.NumRows() {
		return nil, false
	}
	list := c.rec.Column(c.rec.Schema().FieldIndices(ColumnEmbedding)[0])
	return array.NewSlice(list, at, at+int64(len(pos))), true
}
