package cachesink

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
)

// Table is the embeddings of one encoder, by position, in the dtype that they
// are stored in: in the pages of mapped files, or in host memory. It is safe
// for concurrent use until Release.
type Table struct {
	dim    int
	dtype  DType
	rows   int64
	shards []Shard
	chunks []chunk
	files  []*mappedFile
	looked atomic.Int64 // when the files were last held to be unchanged, in ns
	near   []int32      // the chunk at every position that is a multiple of 1<<shift
	shift  uint
}

// chunk is one record batch of a shard.
type chunk struct {
	first int64 // position of its first row
	rows  int
	vecs  storedRows
	rec   arrow.Record

	file               *mappedFile // nil in host memory
	valuesAt, scalesAt int         // where they are in the file, in bytes
	width              int         // of a row's values, in bytes
}

// loadTable opens all shards of an encoder. Those that are mapped are checked
// as they are touched, all others are read and checked now.
func (c *Cache) loadTable(ctx context.Context, e *Encoder, o *Tables) (*Table, error) {
	t := &Table{dim: e.Dim, dtype: e.DType, shards: e.Shards}
	for _, s := range e.Shards {
		if !o.Copy {
			f, chunks, err := c.mapShard(ctx, e, s, o.notes())
			if err != nil {
				t.Release()
				return nil, fmt.Errorf("load encoder %q: %w", e.Name, err)
			}
			if f != nil {
				for _, ch := range chunks {
					ch.first += t.rows
					t.chunks = append(t.chunks, ch)
				}
				t.files, t.rows = append(t.files, f), t.rows+s.Rows
				continue
			}
		}
		err := readShard(ctx, c.st, c.mem, e, s.File, func(rec arrow.Record) error {
			vecs, err := storedColumns(rec, e.DType, e.Dim)
			if err != nil {
				return err
			}
			rec.Retain()
			t.chunks = append(t.chunks, chunk{first: t.rows, rows: int(rec.NumRows()), vecs: vecs, rec: rec})
			t.rows += rec.NumRows()
			return nil
		})
		if err != nil {
			t.Release()
			return nil, fmt.Errorf("load encoder %q: %w", e.Name, err)
		}
	}
	t.index()
	return t, nil
}

// Rows returns the number of embeddings.
func (t *Table) Rows() int64 { return t.rows }

// Dim returns the number of values of an embedding.
func (t *Table) Dim() int { return t.dim }

// Release frees the table's memory. What was lent of mapped files and retained
// keeps them mapped.
func (t *Table) Release() {
	for _, c := range t.chunks {
		c.rec.Release()
	}
	for _, f := range t.files {
		f.release()
	}
	t.chunks, t.files = nil, nil
}

// lookEvery is how often mapped files are held to be unchanged.
const lookEvery = 100 * time.Millisecond

// unchanged finds mapped files that somebody writes to.
func (t *Table) unchanged() error {
	if len(t.files) == 0 {
		return nil
	}
	now, last := time.Now().UnixNano(), t.looked.Load()
	if now-last < lookEvery.Nanoseconds() || !t.looked.CompareAndSwap(last, now) {
		return nil
	}
	for _, f := range t.files {
		if err := f.m.Unchanged(); err != nil {
			t.looked.Store(last) // for others to find it, too
			return fmt.Errorf("%w: %s: %w", ErrCorrupt, f.name, err)
		}
	}
	return nil
}

// find returns the chunk that holds a position in [0, Rows). It does not
// search: what a processor cannot foresee keeps it from reading ahead.
func (t *Table) find(pos int64) *chunk {
	i := 0
	if at := pos >> t.shift; at < int64(len(t.near)) {
		i = int(t.near[at])
	}
	for i+1 < len(t.chunks) && t.chunks[i+1].first <= pos {
		i++
	}
	return &t.chunks[i]
}

// index makes find quick: for about four places a chunk it notes which chunk
// is there, so that few steps are left.
func (t *Table) index() {
	for t.rows>>t.shift > 4*int64(len(t.chunks)) {
		t.shift++
	}
	t.near = make([]int32, 0, t.rows>>t.shift+1)
	i := 0
	for pos := int64(0); pos < t.rows; pos += 1 << t.shift {
		for i+1 < len(t.chunks) && t.chunks[i+1].first <= pos {
			i++
		}
		t.near = append(t.near, int32(i))
	}
}

// gather writes the embeddings at the given positions to dst, row by row.
func (t *Table) gather(dst []float32, pos []int64) error {
	return guarded(t.files, func() error { return t.copyRows(dst, pos) })
}

// place is where some rows of a batch are that follow one another.
type place struct {
	c      *chunk
	row, n int
}

func (t *Table) copyRows(dst []float32, pos []int64) error {
	// First it is found out where a good number of rows are, then they are
	// copied: the processor reads the next rows while it still writes one.
	var places [256]place
	for len(pos) > 0 {
		k, rows := 0, 0
		for rows < len(pos) && k < len(places) {
			p := pos[rows]
			if p < 0 || p >= t.rows {
				return fmt.Errorf("%w: position %d of %d embeddings", ErrCorrupt, p, t.rows)
			}
			c := t.find(p)
			row := int(p - c.first)
			n := streak(pos[rows:], c.rows-row)
			if err := c.hold(row, n); err != nil {
				return err
			}
			places[k] = place{c, row, n}
			k, rows = k+1, rows+n
		}
		for i := range places[:k] {
			p := &places[i]
			p.c.vecs.readRun(dst[:p.n*t.dim], p.row, p.n)
			dst = dst[p.n*t.dim:]
		}
		pos = pos[rows:]
	}
	return nil
}

// streak returns how many positions from the first on, at most so many, follow
// one another.
func streak(pos []int64, most int) int {
	most = min(most, len(pos))
	n := 1
	for n < most && pos[n] == pos[0]+int64(n) {
		n++
	}
	return n
}

// lend returns the embeddings at the given positions without copying, if
// they are float32 and consecutive in one record batch: an array that shares
// its memory. It is nil if they are not.
func (t *Table) lend(pos []int64) (arrow.Array, error) {
	if t.dtype != Float32 || len(pos) == 0 || pos[0] < 0 || pos[0] >= t.rows || streak(pos, len(pos)) < len(pos) {
		return nil, nil
	}
	c := t.find(pos[0])
	at := pos[0] - c.first
	if at+int64(len(pos)) > int64(c.rows) {
		return nil, nil
	}
	if c.file != nil && c.file.left.Load() > 0 {
		err := guarded(t.files, func() error { return c.hold(int(at), len(pos)) })
		if err != nil {
			return nil, err
		}
	}
	list := c.rec.Column(c.rec.Schema().FieldIndices(ColumnEmbedding)[0])
	return array.NewSlice(list, at, at+int64(len(pos))), nil
}
