package export

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"iter"

	"github.com/apache/arrow/go/v15/arrow"

	"github.com/permafrost-ml/permafrost/cachesink"
	"github.com/permafrost-ml/permafrost/internal/safetensors"
	"github.com/permafrost-ml/permafrost/sink"
	"github.com/permafrost-ml/permafrost/stage"
)

// counted counts the bytes that pass.
type counted struct {
	w io.Writer
	n int64
}

func (c *counted) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	return n, err
}

// write writes some rows of a table as a file.
func (p *plan) write(ctx context.Context, t *table, s span, w io.Writer) (Written, error) {
	count := &counted{w: w}
	buf := bufio.NewWriterSize(count, 1<<18)
	done := p.done
	err := p.encode(ctx, t, s, buf)
	if err == nil {
		err = buf.Flush()
	}
	rows := s.to - s.from
	if p.opts.Epoch != nil {
		rows = p.done - done
	}
	return Written{Rows: rows, Bytes: count.n}, err
}

func (p *plan) encode(ctx context.Context, t *table, s span, w io.Writer) error {
	switch p.opts.Format {
	case NPY:
		if len(t.vectors) != 1 {
			return fmt.Errorf("%w: %s holds one array, and there are %s: choose an encoder, and for pairs a side", ErrOptions, NPY, names(t.vectors))
		}
		if err := writeNPYHeader(w, t.rows, t.vectors[0].dim); err != nil {
			return err
		}
		return p.values(ctx, t, t.vectors[0], w)
	case Safetensors:
		return p.safetensors(ctx, t, w)
	}
	hexIDs := p.opts.Format == JSONL || p.opts.Format == HF
	g, _ := stage.NewGroup(ctx)
	recs := stage.From(g, "read the cache", func(ctx context.Context) iter.Seq2[arrow.Record, error] {
		if p.opts.Epoch != nil {
			return p.counting(t.epoch(ctx, p.opts, hexIDs))
		}
		return p.counting(t.records(ctx, s, hexIDs))
	})
	switch p.opts.Format {
	case JSONL:
		sink.JSONL(g, recs, w)
	case Arrow:
		sink.ArrowStream(g, recs, w)
	default:
		sink.Parquet(g, recs, w)
	}
	return g.Wait()
}

// counting reports the rows that pass.
func (p *plan) counting(recs iter.Seq2[arrow.Record, error]) iter.Seq2[arrow.Record, error] {
	return func(yield func(arrow.Record, error) bool) {
		for rec, err := range recs {
			var n int64
			if err == nil {
				n = rec.NumRows()
			}
			if !yield(rec, err) {
				return
			}
			p.progress(n)
		}
	}
}

func names(vectors []vector) string {
	if len(vectors) == 0 {
		return "no embeddings"
	}
	s := ""
	for i, v := range vectors {
		if i > 0 {
			s += ", "
		}
		s += v.name
	}
	return s
}

// writeNPYHeader writes the beginning of a NumPy file, version 1.0: the array
// is described by a Python literal, padded so that the values begin at a
// multiple of 64 bytes.
func writeNPYHeader(w io.Writer, rows int64, dim int) error {
	const magic, align = "\x93NUMPY\x01\x00", 64
	dict := fmt.Sprintf("{'descr': '<f4', 'fortran_order': False, 'shape': (%d, %d), }", rows, dim)
	for (len(magic)+2+len(dict)+1)%align != 0 {
		dict += " "
	}
	dict += "\n"
	b := binary.LittleEndian.AppendUint16([]byte(magic), uint16(len(dict)))
	_, err := w.Write(append(b, dict...))
	return err
}

// safetensors writes every column of embeddings as a tensor.
func (p *plan) safetensors(ctx context.Context, t *table, w io.Writer) error {
	if len(t.vectors) == 0 {
		return fmt.Errorf("%w: there are no embeddings, only encoders that are not cached", ErrOptions)
	}
	var tensors []safetensors.Tensor
	for _, v := range t.vectors {
		tensors = append(tensors, safetensors.Tensor{Name: v.name, Shape: []int{int(t.rows), v.dim}})
	}
	if err := safetensors.WriteHeader(w, tensors, t.meta); err != nil {
		return err
	}
	p.total += t.rows * int64(len(tensors)-1) // every tensor takes a turn
	for _, v := range t.vectors {
		if err := p.values(ctx, t, v, w); err != nil {
			return err
		}
	}
	return nil
}

// values writes a column of embeddings as float32 values, little endian.
func (p *plan) values(ctx context.Context, t *table, v vector, w io.Writer) error {
	all := span{0, t.rows}
	recs := t.raw(ctx, all)
	if t.split != nil {
		one, err := t.all.Select(v.column)
		if err != nil {
			return err
		}
		recs = gathered(ctx, one, all, t.batch)
	}
	for rec, err := range p.counting(recs) {
		if err != nil {
			return err
		}
		if err := writeVectors(w, rec, v); err != nil {
			return err
		}
	}
	return nil
}

func writeVectors(w io.Writer, rec arrow.Record, v vector) error {
	defer rec.Release()
	at := rec.Schema().FieldIndices(v.column)
	if len(at) != 1 {
		return fmt.Errorf("%d columns %q", len(at), v.column)
	}
	vecs, dim, err := cachesink.Vectors(rec.Column(at[0]))
	if err != nil {
		return err
	}
	if dim != v.dim {
		return fmt.Errorf("embeddings of %d values, not %d", dim, v.dim)
	}
	return safetensors.WriteValues(w, vecs)
}
