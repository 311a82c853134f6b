package pipeline

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"gorgonia.org/tensor"

	"github.com/permafrost-ml/permafrost/cachesink"
	"github.com/permafrost-ml/permafrost/pipeline/loss"
	"github.com/permafrost-ml/permafrost/pipeline/train"
	"github.com/permafrost-ml/permafrost/pipeline/train/nn"
)

// data is a split as the trainer reads it: train.Data. The embeddings of all
// encoders are concatenated in the order of their names.
type data struct {
	kind   loss.Kind
	names  []string // of the encoders
	dims   []int
	dim    int
	rows   int64
	labels []int32 // by row, for groups
	scores []float32
	subs   []int32
	ids    [2][]int64 // by row: numbers of the objects of both sides
	// Classes are the labels in the order of their numbers.
	classes []string
	replay  func(ctx context.Context, sequential bool, epoch int) iter.Seq2[arrow.Record, error]
	seq     bool
}

// newData prepares a split for training or evaluation.
func (p *Pipeline[Row]) newData(ctx context.Context, split string) (*data, error) {
	r, err := p.reader(ctx, split)
	if err != nil {
		return nil, err
	}
	d := &data{names: p.names, rows: r.Rows(), seq: p.cfg.Train.Sequential}
	s := r.Split()
	if s.Kind == cachesink.Group {
		d.kind = loss.Groups
	} else {
		d.kind = loss.Pairs
	}
	columns := []string{cachesink.ColumnRow}
	for _, e := range s.Encoders {
		spec, err := p.cfg.Encoders[e.Name].Spec(ctx)
		if err != nil {
			return nil, fmt.Errorf("encoder %q: %w", e.Name, err)
		}
		d.dims = append(d.dims, spec.Dim)
		d.dim += spec.Dim
		role := ""
		if e.Folder == "" {
			role = cachesink.RoleInput
		}
		for _, side := range s.Kind.Sides() {
			columns = append(columns, cachesink.EncoderColumn(e.Name, side, role))
		}
	}
	if err := d.read(ctx, r); err != nil {
		return nil, fmt.Errorf("split %q: %w", split, err)
	}
	sel, err := r.Select(columns...)
	if err != nil {
		return nil, err
	}
	d.replay = func(ctx context.Context, sequential bool, epoch int) iter.Seq2[arrow.Record, error] {
		return p.replay(ctx, sel, sequential, epoch, EpochOptions{})
	}
	return d, nil
}

// read reads what goes with the rows and is not an embedding.
func (d *data) read(ctx context.Context, r *cachesink.SplitReader) error {
	s := r.Split()
	names := []string{cachesink.ColumnLabel}
	if s.Kind == cachesink.Pair {
		names = []string{cachesink.ColumnScore, cachesink.ColumnSubgroup}
	}
	for _, e := range s.Encoders {
		for _, side := range s.Kind.Sides() {
			names = append(names, cachesink.EncoderColumn(e.Name, side, cachesink.RoleID))
		}
	}
	if s.Rows == 0 {
		names = nil // no files, and no columns
	}
	rec, err := r.Columns(ctx, names...)
	if err != nil {
		return err
	}
	defer rec.Release()
	return d.columns(rec, s)
}

// columns takes the columns over.
func (d *data) columns(rec arrow.Record, s *cachesink.Split) (err error) {
	if s.Kind == cachesink.Group {
		d.labels, d.classes, err = classes(rec, cachesink.ColumnLabel)
	} else {
		d.subs, _, err = classes(rec, cachesink.ColumnSubgroup)
		if scores, ok := columnOf(rec, cachesink.ColumnScore).(*array.Float32); ok {
			d.scores = slices.Clone(scores.Float32Values())
		} else {
			err = errors.Join(err, errors.New("no column score"))
		}
	}
	if err != nil {
		return err
	}
	numbers := map[string]int64{}
	var key []byte
	for k, side := range s.Kind.Sides() {
		d.ids[k] = make([]int64, s.Rows)
		var ids []*array.FixedSizeBinary
		for _, e := range s.Encoders {
			a, ok := columnOf(rec, cachesink.EncoderColumn(e.Name, side, cachesink.RoleID)).(*array.FixedSizeBinary)
			if !ok {
				return fmt.Errorf("no ids of encoder %q", e.Name)
			}
			ids = append(ids, a)
		}
		for row := range int(s.Rows) {
			key = key[:0]
			for _, a := range ids {
				key = append(key, a.Value(row)...)
			}
			n, ok := numbers[string(key)]
			if !ok {
				n = int64(len(numbers))
				numbers[string(key)] = n
			}
			d.ids[k][row] = n
		}
	}
	return nil
}

func columnOf(rec arrow.Record, name string) arrow.Array {
	at := rec.Schema().FieldIndices(name)
	if len(at) != 1 {
		return nil
	}
	return rec.Column(at[0])
}

// classes numbers the values of a column in their sorted order.
func classes(rec arrow.Record, column string) (numbers []int32, names []string, err error) {
	switch a := columnOf(rec, column).(type) {
	case *array.String:
		return number(a.Len(), a.Value, strings.Clone)
	case *array.Int64:
		return number(a.Len(), a.Value, func(v int64) string { return fmt.Sprint(v) })
	}
	return nil, nil, fmt.Errorf("no column %q of texts or integers", column)
}

func number[V cmp.Ordered](n int, value func(int) V, name func(V) string) (numbers []int32, names []string, err error) {
	known := map[V]int32{}
	var values []V
	for i := range n {
		v := value(i)
		if _, ok := known[v]; !ok {
			known[v] = 0
			values = append(values, v)
		}
	}
	slices.Sort(values)
	for i, v := range values {
		known[v] = int32(i)
		names = append(names, name(v))
	}
	numbers = make([]int32, n)
	for i := range n {
		numbers[i] = known[value(i)]
	}
	return numbers, names, nil
}

// Kind implements train.Data.
func (d *data) Kind() loss.Kind { return d.kind }

// Dim implements train.Data.
func (d *data) Dim() int { return d.dim }

// Rows implements train.Data.
func (d *data) Rows() int64 { return d.rows }

// Classes implements train.Data.
func (d *data) Classes() int { return len(d.classes) }

// Epoch implements train.Data.
func (d *data) Epoch(ctx context.Context, epoch int) iter.Seq2[*train.Batch, error] {
	return d.batches(d.replay(ctx, d.seq, epoch))
}

// Scan implements train.Data.
func (d *data) Scan(ctx context.Context) iter.Seq2[*train.Batch, error] {
	return d.batches(d.replay(ctx, true, 0))
}

// batches turns record batches into what the trainer takes; everything in a
// batch is valid until the next turn.
func (d *data) batches(recs iter.Seq2[arrow.Record, error]) iter.Seq2[*train.Batch, error] {
	return func(yield func(*train.Batch, error) bool) {
		var a, b joined
		out := &train.Batch{}
		for rec, err := range recs {
			if err == nil {
				err = d.fill(out, rec, &a, &b)
			}
			if err != nil {
				yield(nil, err)
				return
			}
			if !yield(out, nil) {
				return
			}
		}
	}
}

func (d *data) fill(out *train.Batch, rec arrow.Record, a, b *joined) (err error) {
	rows, ok := columnOf(rec, cachesink.ColumnRow).(*array.Int64)
	if !ok {
		return fmt.Errorf("%w: no column row", cachesink.ErrSchema)
	}
	at := rows.Int64Values()
	if d.kind == loss.Groups {
		out.A, err = a.join(d, rec, "")
		out.Labels = pick(out.Labels, d.labels, at)
		out.AIDs = pick(out.AIDs, d.ids[0], at)
		return err
	}
	if out.A, err = a.join(d, rec, "a"); err != nil {
		return err
	}
	out.B, err = b.join(d, rec, "b")
	out.Scores = pick(out.Scores, d.scores, at)
	out.Subgroups = pick(out.Subgroups, d.subs, at)
	out.AIDs = pick(out.AIDs, d.ids[0], at)
	out.BIDs = pick(out.BIDs, d.ids[1], at)
	return err
}

func pick[T any](dst, from []T, rows []int64) []T {
	dst = dst[:0]
	for _, r := range rows {
		dst = append(dst, from[r])
	}
	return dst
}

// joined is the buffer in which the embeddings of several encoders stand
// side by side.
type joined struct{ buf []float32 }

// join returns one side's embeddings, [rows, dim]: over the memory of the
// record batch where there is one encoder.
func (j *joined) join(d *data, rec arrow.Record, side string) (*tensor.Dense, error) {
	n := int(rec.NumRows())
	vecs := make([][]float32, len(d.names))
	for i, name := range d.names {
		col := columnOf(rec, cachesink.EncoderColumn(name, side, ""))
		if col == nil {
			return nil, fmt.Errorf("%w: no embeddings of encoder %q", cachesink.ErrSchema, name)
		}
		v, dim, err := cachesink.Vectors(col)
		if err != nil {
			return nil, err
		}
		if dim != d.dims[i] {
			return nil, fmt.Errorf("%w: encoder %q gives %d values, not %d", cachesink.ErrSchema, name, dim, d.dims[i])
		}
		vecs[i] = v
	}
	all := vecs[0]
	if len(vecs) > 1 {
		if cap(j.buf) < n*d.dim {
			j.buf = make([]float32, n*d.dim)
		}
		all = j.buf[:n*d.dim]
		off := 0
		for i, v := range vecs {
			for r := range n {
				copy(all[r*d.dim+off:], v[r*d.dims[i]:(r+1)*d.dims[i]])
			}
			off += d.dims[i]
		}
	}
	return nn.Wrap(nn.Mat{Rows: n, Cols: d.dim, Data: all}), nil
}
