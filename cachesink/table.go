package cachesink

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/apache/arrow/go/v15/arrow"
)

// Table is the embeddings of one encoder, by position, in the dtype that they
// are stored in: in the pages of mapped files, or in host memory. It is safe
// for concurrent use until Release.
type Table struct {
	dim    int
	dtype  DType
	list   *arrow.FixedSizeListType // of what is given
	shards []Shard
	pieces[chunk]
	guard []*mappedFile // whose pages may be gone
	loans loanPool
}

// chunk is one record batch of a shard.
type chunk struct {
	rows int
	vecs storedRows
	list arrow.Array // the column of embeddings in
	rec  arrow.Record

	file                      *mappedFile  // nil where it was read
	idsAt, valuesAt, scalesAt int          // where they are in the file, in bytes
	width                     int          // of a row's values, in bytes
	sound                     *atomic.Bool // all blocks of the values were checked
	loans                     []*loan      // that nobody holds
}

func (c chunk) batchRows() int64 { return int64(c.rows) }

// loadTable opens all shards of an encoder. Those that are mapped are checked
// as they are touched, all others are read and checked now.
func (c *Cache) loadTable(ctx context.Context, e *Encoder, o *Tables) (_ *Table, err error) {
	t := &Table{dim: e.Dim, dtype: e.DType, shards: e.Shards, list: arrow.FixedSizeListOf(int32(e.Dim), arrow.PrimitiveTypes.Float32)}
	t.files = make([]piece[chunk], len(e.Shards))
	for i, s := range e.Shards {
		f := &t.files[i]
		f.rows = s.Rows
		if f.mapped, err = c.mapShard(ctx, s, o); err != nil {
			err = fmt.Errorf("map %s of %s: %w", s.Name, c.st, err)
			break
		}
		f.place = func(ctx context.Context) ([]chunk, error) {
			if f.mapped != nil {
				chunks, err := placeShard(f.mapped, e, s)
				switch {
				case err == nil:
					return chunks, nil
				case errors.Is(err, ErrCorrupt):
					return nil, fmt.Errorf("map %s of %s: %w", s.Name, c.st, err)
				}
			}
			return c.readChunks(ctx, e, s)
		}
		if f.mapped == nil {
			if _, err = f.open(ctx); err != nil {
				break
			}
		}
	}
	if err != nil {
		t.Release()
		return nil, fmt.Errorf("load encoder %q: %w", e.Name, err)
	}
	t.index()
	t.guard = t.lent()
	return t, nil
}

func chunkOf(rec arrow.Record, e *Encoder) (ch chunk, err error) {
	ch.rows, ch.rec = int(rec.NumRows()), rec
	if ch.list, err = column[arrow.Array](rec, ColumnEmbedding); err == nil {
		ch.vecs, err = storedColumns(rec, e.DType, e.Dim)
	}
	return ch, err
}

// readChunks reads a shard into host memory.
func (c *Cache) readChunks(ctx context.Context, e *Encoder, s Shard) (chunks []chunk, err error) {
	err = readShard(ctx, c.st, c.mem, e, s.File, func(rec arrow.Record) error {
		ch, err := chunkOf(rec, e)
		if err == nil && ch.rows > 0 {
			rec.Retain()
			chunks = append(chunks, ch)
		}
		return err
	})
	if err != nil {
		for _, ch := range chunks {
			ch.rec.Release()
		}
		return nil, err
	}
	return chunks, nil
}

// Rows returns the number of embeddings.
func (t *Table) Rows() int64 { return t.rows }

// Dim returns the number of values of an embedding.
func (t *Table) Dim() int { return t.dim }

// Release frees the table's memory. What was lent of files and retained keeps
// them in memory.
func (t *Table) Release() {
	t.loans.close(t)
	t.each(func(c *chunk) { c.rec.Release() })
	t.release()
	t.guard = nil
}

// position refuses a number that is no row of the table.
func (t *Table) position(p int64) error {
	if p < 0 || p >= t.rows {
		return fmt.Errorf("%w: position %d of %d embeddings", ErrCorrupt, p, t.rows)
	}
	return nil
}

// gather writes the embeddings at the given positions to dst, row by row; what
// may have to come from the disk is fetched if it is given fetches. What it
// touches may fault: see guarded.
func (t *Table) gather(ctx context.Context, dst []float32, pos []int64, l *fetches) error {
	// First it is found out where a good number of rows are, then they are
	// copied: the processor reads the next rows while it still writes one.
	var spots [256]spot[chunk]
	for len(pos) > 0 {
		k, rows := 0, 0
		for rows < len(pos) && k < len(spots) {
			p := pos[rows]
			if err := t.position(p); err != nil {
				return err
			}
			c, row, err := t.find(ctx, p)
			if err != nil {
				return err
			}
			n := streak(pos[rows:], c.rows-row)
			spots[k] = spot[chunk]{c, row, n}
			k, rows = k+1, rows+n
		}
		if l != nil {
			l.rows(spots[:k])
		}
		for i := range spots[:k] {
			p := &spots[i]
			if err := p.b.hold(p.row, p.n); err != nil {
				return err
			}
		}
		for i := range spots[:k] {
			p := &spots[i]
			p.b.vecs.readRun(dst[:p.n*t.dim], p.row, p.n)
			dst = dst[p.n*t.dim:]
		}
		pos = pos[rows:]
	}
	return nil
}

// lend returns the embeddings at the given positions without copying, if
// they are float32 and consecutive in one record batch: an array that shares
// its memory. It is nil if they are not.
func (t *Table) lend(ctx context.Context, pos []int64, l *fetches) (*loan, error) {
	if t.dtype != Float32 || len(pos) == 0 || t.position(pos[0]) != nil || streak(pos, len(pos)) < len(pos) {
		return nil, nil
	}
	c, row, err := t.find(ctx, pos[0])
	if err != nil || row+len(pos) > c.rows {
		return nil, err
	}
	if l != nil {
		l.ahead(c, row, len(pos))
	}
	if err := c.hold(row, len(pos)); err != nil {
		return nil, err
	}
	return t.loans.take(c, row, len(pos)), nil
}
