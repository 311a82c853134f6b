package cachesink

import (
	"fmt"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
)

// batch is a gathered record batch. Its memory and its arrays are used again
// when nobody holds any of them any more: an epoch makes no garbage.
type batch struct {
	refs  atomic.Int64
	pool  *batchPool // nil for one that is not used again
	form  *batchForm
	rows  int
	cols  []arrow.Array // what is handed out: of own, or of lent
	own   []ownColumn
	lent  []*loan // where a column is lent
	spots [2][]spot[rowBatch]
	pos   []int64
	fetch fetches
}

// batchForm is what gathered batches of a kind have in common.
type batchForm struct {
	schema *arrow.Schema
	cols   []gatherColumn
}

func newBatch(pool *batchPool, form *batchForm, rows int) *batch {
	n := len(form.cols)
	return &batch{
		pool: pool, form: form, rows: rows, pos: make([]int64, rows),
		cols: make([]arrow.Array, n), own: make([]ownColumn, n), lent: make([]*loan, n),
	}
}

// Retain implements [arrow.Record].
func (b *batch) Retain() { b.refs.Add(1) }

// Release implements [arrow.Record].
func (b *batch) Release() {
	switch n := b.refs.Add(-1); {
	case n < 0:
		panic("cachesink: a record batch is released too often")
	case n > 0:
		return
	}
	for i, v := range b.lent {
		if v != nil {
			b.lent[i] = nil
			v.give()
		}
	}
	clear(b.cols)
	if b.pool == nil || !b.pool.give(b) {
		b.drop()
	}
}

// drop gives up the batch's own memory; what somebody holds of it stays.
func (b *batch) drop() {
	for i := range b.own {
		b.own[i].drop()
	}
}

// held says whether somebody else holds an array, or memory, of the batch.
func (b *batch) held() bool {
	return slices.ContainsFunc(b.own, func(o ownColumn) bool { return o.counts.held() })
}

// Schema implements [arrow.Record].
func (b *batch) Schema() *arrow.Schema { return b.form.schema }

// NumRows implements [arrow.Record].
func (b *batch) NumRows() int64 { return int64(b.rows) }

// NumCols implements [arrow.Record].
func (b *batch) NumCols() int64 { return int64(len(b.cols)) }

// Columns implements [arrow.Record].
func (b *batch) Columns() []arrow.Array { return b.cols }

// Column implements [arrow.Record].
func (b *batch) Column(i int) arrow.Array { return b.cols[i] }

// ColumnName implements [arrow.Record].
func (b *batch) ColumnName(i int) string { return b.form.schema.Field(i).Name }

// plain returns the batch as one of Arrow's own.
func (b *batch) plain() arrow.Record { return array.NewRecord(b.form.schema, b.cols, int64(b.rows)) }

// SetColumn implements [arrow.Record].
func (b *batch) SetColumn(i int, col arrow.Array) (arrow.Record, error) {
	rec := b.plain()
	defer rec.Release()
	return rec.SetColumn(i, col)
}

// NewSlice implements [arrow.Record].
func (b *batch) NewSlice(i, j int64) arrow.Record {
	rec := b.plain()
	defer rec.Release()
	return rec.NewSlice(i, j)
}

// MarshalJSON implements [arrow.Record].
func (b *batch) MarshalJSON() ([]byte, error) {
	rec := b.plain()
	defer rec.Release()
	return rec.MarshalJSON()
}

// String returns the columns, for people.
func (b *batch) String() string {
	rec := b.plain()
	defer rec.Release()
	return fmt.Sprint(rec)
}

// pooledBatches bounds how many batches are kept: those that a few workers have
// gathered ahead.
const pooledBatches = 16

// batchPool keeps batches that nobody holds.
type batchPool struct {
	mu     sync.Mutex
	free   []*batch
	closed bool
}

// take returns a batch, whose columns are to be filled.
func (p *batchPool) take(form *batchForm, rows int) *batch {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := len(p.free) - 1; i >= 0; i-- { // the last is most likely in the processor's cache
		if b := p.free[i]; b.form == form && b.rows == rows {
			p.free = slices.Delete(p.free, i, i+1)
			return b
		}
	}
	return newBatch(p, form, rows)
}

// give takes a batch back. It is false for one that cannot be used again.
func (p *batchPool) give(b *batch) bool {
	if b.held() {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	if len(p.free) == pooledBatches {
		p.free[0].drop()
		p.free = slices.Delete(p.free, 0, 1)
	}
	p.free = append(p.free, b)
	return true
}

// close gives up what is kept, and what is given later.
func (p *batchPool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, b := range p.free {
		b.drop()
	}
	p.free, p.closed = nil, true
}

// loan lends rows of a chunk: an array over the chunk's memory, which is moved
// to other rows when nobody holds it.
type loan struct {
	pool   *loanPool
	c      *chunk
	list   arrow.Array
	data   *array.Data
	counts counts
}

// loanPool keeps the loans of a table.
type loanPool struct {
	mu     sync.Mutex
	closed bool
}

func (p *loanPool) take(c *chunk, row, n int) *loan {
	p.mu.Lock()
	if k := len(c.loans); k > 0 {
		v := c.loans[k-1]
		c.loans = c.loans[:k-1]
		p.mu.Unlock()
		v.data.Reset(v.data.DataType(), n, v.data.Buffers(), v.data.Children(), 0, row)
		return v
	}
	p.mu.Unlock()
	v := &loan{pool: p, c: c, list: array.NewSlice(c.list, int64(row), int64(row+n))}
	v.data = v.list.Data().(*array.Data)
	v.counts.add(v.list, v.data)
	return v
}

func (v *loan) give() {
	v.pool.mu.Lock()
	defer v.pool.mu.Unlock()
	if v.pool.closed || v.counts.held() {
		v.list.Release()
		return
	}
	v.c.loans = append(v.c.loans, v)
}

// close gives up the loans of a table.
func (p *loanPool) close(t *Table) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	t.each(func(c *chunk) {
		for _, v := range c.loans {
			v.list.Release()
		}
		c.loans = nil
	})
}

// counts are the numbers of references to some of Arrow's objects, which are to
// be what they were when nobody else had any.
type counts []count

type count struct {
	at   *int64
	base int64
}

// add notes arrays, their data, or buffers that nobody else has seen. Arrow
// does not tell how many references there are, so their counters are found by
// name; of another Arrow that has none, everything is taken for held.
func (c *counts) add(objects ...any) {
	for _, o := range objects {
		f := reflect.ValueOf(o).Elem().FieldByName("refCount")
		if !f.IsValid() || f.Kind() != reflect.Int64 {
			*c = append(*c, count{})
			continue
		}
		at := (*int64)(unsafe.Pointer(f.UnsafeAddr()))
		*c = append(*c, count{at, atomic.LoadInt64(at)})
	}
}

// held says whether there are more references.
func (c counts) held() bool {
	return slices.ContainsFunc(c, func(c count) bool { return c.at == nil || atomic.LoadInt64(c.at) != c.base })
}
