package encode

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync/atomic"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"
)

// inputBatch is an object batch with its inputs taken apart.
type inputBatch struct {
	rec      arrow.Record
	ids      *array.FixedSizeBinary
	inputs   []Input
	prepared [][]byte // nil if nothing is prepared
	sizes    []int    // of the inputs, by the preparer or in bytes
}

// newInputBatch takes an object batch, which it releases on an error.
func newInputBatch(rec arrow.Record) (*inputBatch, error) {
	b := &inputBatch{rec: rec}
	ids, inputs, err := objects(rec)
	if err == nil {
		b.ids, b.sizes = ids, make([]int, inputs.Len())
		if b.inputs, err = parseInputs(nil, inputs); err == nil {
			for i := range b.sizes {
				b.sizes[i] = inputs.ValueLen(i)
			}
			return b, nil
		}
	}
	b.Release()
	return nil, err
}

// Release releases the record batch.
func (b *inputBatch) Release() { b.rec.Release() }

// window is a part of an object batch that gets one batch of embeddings: its
// rows are encoded in batches of their own, in any order, into one buffer.
type window struct {
	refs   atomic.Int64 // the jobs that are left
	ids    arrow.Array  // of its rows; owned
	batch  *inputBatch  // owned through record
	record arrow.Record
	buf    *memory.Buffer
	vecs   []float32
}

func (w *window) release() {
	if w.refs.Add(-1) == 0 {
		w.ids.Release()
		w.record.Release()
		w.buf.Release()
	}
}

// job is a batch for an encoder: rows of an object batch.
type job struct {
	w     *window
	rows  []int // of the object batch
	order bool  // the window has these rows alone, in this order
	last  bool  // of its window
}

// Release gives up the job's share of its window.
func (j *job) Release() { j.w.release() }

// cutter cuts object batches into jobs.
type cutter struct {
	model Model
	size  int // rows a job
	mem   memory.Allocator

	spec *Spec // of the model, from the first batch on
}

// cut emits the jobs of the batches.
func (c *cutter) cut(ctx context.Context, in iter.Seq[*inputBatch], emit func(*job) error) error {
	for b := range in {
		err := c.describe(ctx)
		if err == nil {
			err = c.jobs(b, emit)
		}
		b.Release()
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *cutter) describe(ctx context.Context) error {
	if c.spec != nil {
		return nil
	}
	s, err := c.model.Spec(ctx)
	if err != nil {
		return fmt.Errorf("describe the encoder: %w", err)
	}
	c.spec = &s
	return nil
}

func (c *cutter) jobs(b *inputBatch, emit func(*job) error) error {
	rows := make([]int, len(b.inputs))
	for i := range rows {
		rows[i] = i
	}
	if c.spec.BatchInvariant {
		for part := range slices.Chunk(rows, c.size) {
			w := c.window(b, part[0], len(part), 1)
			if err := emit(&job{w: w, rows: part, order: true, last: true}); err != nil {
				return err
			}
		}
		return nil
	}
	slices.SortStableFunc(rows, func(x, y int) int { return cmp.Compare(b.sizes[y], b.sizes[x]) })
	n := (len(rows) + c.size - 1) / c.size
	if n == 0 {
		return nil
	}
	w := c.window(b, 0, len(rows), n)
	for i := range n {
		part := rows[i*c.size : min(len(rows), (i+1)*c.size)]
		if err := emit(&job{w: w, rows: part, last: i == n-1}); err != nil {
			for range n - 1 - i {
				w.release() // the jobs that are not sent
			}
			return err
		}
	}
	return nil
}

// window makes a window of rows of a batch, for that many jobs.
func (c *cutter) window(b *inputBatch, first, rows, jobs int) *window {
	w := &window{batch: b, record: b.rec, ids: array.NewSlice(b.ids, int64(first), int64(first+rows)), buf: memory.NewResizableBuffer(c.mem)}
	w.record.Retain()
	w.buf.Resize(rows * c.spec.Dim * 4)
	w.vecs = arrow.Float32Traits.CastFromBytes(w.buf.Bytes())[:rows*c.spec.Dim]
	w.refs.Store(int64(jobs))
	return w
}

// embeddings is the embedding batch of a window whose jobs are all done.
func (w *window) embeddings(schema *arrow.Schema) arrow.Record {
	n := w.ids.Len()
	col := listOf(schema, w.buf, n)
	defer col.Release()
	return array.NewRecord(schema, []arrow.Array{w.ids, col}, int64(n))
}

// encodeJob encodes a job's rows into its window. It releases the job on an
// error, and if the encoder panics.
func (w *worker) encodeJob(ctx context.Context, j *job) (*job, error) {
	done := false
	defer func() {
		if !done {
			j.Release()
		}
	}()
	b := j.w.batch
	dst := j.w.vecs
	if !j.order {
		if len(w.scratch) < len(j.rows)*w.dim {
			w.scratch = make([]float32, len(j.rows)*w.dim)
		}
		dst = w.scratch[:len(j.rows)*w.dim]
	}
	known, err := w.recall(ctx, j, dst)
	if err == nil && !known {
		err = w.encodeRows(ctx, b, j.rows, dst)
	}
	if err != nil {
		return nil, err
	}
	if !j.order {
		for i, r := range j.rows {
			copy(j.w.vecs[r*w.dim:(r+1)*w.dim], dst[i*w.dim:])
		}
	}
	done = true
	return j, nil
}

// encodeRows encodes rows of an object batch.
func (w *worker) encodeRows(ctx context.Context, b *inputBatch, rows []int, dst []float32) error {
	if err := w.open(ctx); err != nil {
		return err
	}
	w.inputs, w.prepared = w.inputs[:0], w.prepared[:0]
	for _, r := range rows {
		w.inputs = append(w.inputs, b.inputs[r])
		if b.prepared != nil {
			w.prepared = append(w.prepared, b.prepared[r])
		}
	}
	if err := w.run(ctx, dst, b.prepared != nil); err != nil {
		return err
	}
	return w.keep(ctx, dst)
}

// run encodes the inputs that are set.
func (w *worker) run(ctx context.Context, dst []float32, prepared bool) error {
	err := errors.New("the encoder of a model that prepares inputs is no encode.PreparedEncoder")
	if !prepared {
		err = w.enc.Encode(ctx, w.inputs, dst)
	} else if p, ok := w.enc.(PreparedEncoder); ok {
		err = p.EncodePrepared(ctx, w.prepared, dst)
	}
	if err != nil {
		return fmt.Errorf("encode %d objects: %w", len(w.inputs), err)
	}
	if i := notFinite(dst); i >= 0 {
		return fmt.Errorf("%w: value %d of the embedding of %q", ErrNotFinite, i%w.dim, cut(w.inputs[i/w.dim].Text()))
	}
	return nil
}
