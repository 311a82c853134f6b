package pipeline

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

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
	names  []string // of the encoders that have embeddings
	texts  []string // of those that are trained on texts
	dims   []int
	dim    int
	rows   int64
	labels []int32 // by row, for groups
	scores []float32
	subs   []int32
	ids    [2][]int64 // by row: numbers of the objects of both sides
	// Classes are the labels in the order of their numbers.
	classes []string
	replay  func(ctx context.Context, sequential bool, epoch int, done int64) iter.Seq2[arrow.Record, error]
	seq     bool
	batch   int    // rows of a batch
	split   string // what its rows are: the fingerprint
	partial bool   // rows of the class -1 are left out
}

// newData prepares a split for training or evaluation.
func (p *Pipeline[Row]) newData(ctx context.Context, split string) (*data, error) {
	r, err := p.reader(ctx, split)
	if err != nil {
		return nil, err
	}
	var read []dataEncoder
	for _, name := range p.names {
		spec, err := p.cfg.Encoders[name].Spec(ctx)
		if err != nil {
			return nil, fmt.Errorf("encoder %q: %w", name, err)
		}
		read = append(read, dataEncoder{name, spec.Dim, p.readsTexts(name)})
	}
	d, sel, err := readData(r, read)
	if err != nil {
		return nil, err
	}
	d.seq, d.batch = p.cfg.Train.Sequential, p.cfg.Train.BatchSize
	d.replay = func(ctx context.Context, sequential bool, epoch int, done int64) iter.Seq2[arrow.Record, error] {
		return p.replay(ctx, sel, sequential, epoch, EpochOptions{Done: done})
	}
	return d, nil
}

// dataEncoder is an encoder of a split, as the trainer reads it: its
// embeddings, or the texts of one that is trained on them.
type dataEncoder struct {
	name  string
	dim   int
	texts bool
}

// readData reads what goes with the embeddings of all of a split's encoders,
// and returns a reader of the columns that the data's replay needs.
func readData(r *cachesink.SplitReader, encoders []dataEncoder) (*data, *cachesink.SplitReader, error) {
	s := r.Split()
	d := &data{kind: loss.Pairs, rows: r.Rows(), split: s.Fingerprint}
	if s.Kind == cachesink.Group {
		d.kind = loss.Groups
	}
	columns := []string{cachesink.ColumnRow}
	for i, e := range encoders {
		role := ""
		if s.Encoders[i].Folder == "" {
			role = cachesink.RoleInput
		}
		for _, side := range s.Kind.Sides() {
			columns = append(columns, cachesink.EncoderColumn(e.name, side, role))
		}
		if e.texts {
			d.texts = append(d.texts, e.name)
			continue
		}
		d.names, d.dims = append(d.names, e.name), append(d.dims, e.dim)
		d.dim += e.dim
	}
	if err := d.columns(r.Columns(), s); err != nil {
		return nil, nil, fmt.Errorf("split %q: %w", s.Name, err)
	}
	sel, err := r.Select(columns...)
	return d, sel, err
}

// columns reads what goes with the rows and is not an embedding.
func (d *data) columns(rec arrow.Record, s *cachesink.Split) (err error) {
	if s.Kind == cachesink.Group {
		d.labels, d.classes, err = classes(rec, cachesink.ColumnLabel)
	} else {
		d.subs, _, err = classes(rec, cachesink.ColumnSubgroup)
		if scores, ok := columnOf(rec, cachesink.ColumnScore).(*array.Float32); ok {
			d.scores = scores.Float32Values()
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
		return number(a.Len(), a.Value, func(v string) string { return v })
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

// Batches implements train.Data.
func (d *data) Batches(epochs int) int64 {
	return (d.rows + int64(d.batch) - 1) / int64(d.batch) * int64(epochs)
}

// Epoch implements train.Data.
func (d *data) Epoch(ctx context.Context, epoch int, done int64) iter.Seq2[*train.Batch, error] {
	return d.batches(d.replay(ctx, d.seq, epoch, done))
}

// Scan implements train.Data.
func (d *data) Scan(ctx context.Context) iter.Seq2[*train.Batch, error] {
	return d.batches(d.replay(ctx, true, 0, 0))
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
			if err == nil && d.partial {
				err = known(out, &a)
			}
			if err != nil {
				yield(nil, err)
				return
			}
			if out.A == nil {
				continue // no row of it is left
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
	out.Index = append(out.Index[:0], at...)
	if d.kind == loss.Groups {
		out.A, err = a.join(d, rec, "")
		out.Labels = pick(out.Labels, d.labels, at)
		out.AIDs = pick(out.AIDs, d.ids[0], at)
		return errors.Join(err, d.addTexts(out, rec, cachesink.Group.Sides()))
	}
	if out.A, err = a.join(d, rec, "a"); err != nil {
		return err
	}
	out.B, err = b.join(d, rec, "b")
	out.Scores = pick(out.Scores, d.scores, at)
	out.Subgroups = pick(out.Subgroups, d.subs, at)
	out.AIDs = pick(out.AIDs, d.ids[0], at)
	out.BIDs = pick(out.BIDs, d.ids[1], at)
	return errors.Join(err, d.addTexts(out, rec, cachesink.Pair.Sides()))
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

// numbered returns the split with the numbers that classes of another have
// there. Others follow behind them, or are left out where only those classes
// will do.
func (d *data) numbered(classes []string, only bool) *data {
	to := *d
	to.classes = slices.Clone(classes)
	at := map[string]int32{}
	for i, name := range classes {
		at[name] = int32(i)
	}
	numbers := make([]int32, len(d.classes))
	for i, name := range d.classes {
		n, ok := at[name]
		switch {
		case !ok && only:
			n, to.partial = -1, true
		case !ok:
			n = int32(len(to.classes))
			to.classes = append(to.classes, name)
		}
		numbers[i] = n
	}
	to.labels = make([]int32, len(d.labels))
	for i, l := range d.labels {
		to.labels[i] = numbers[l]
	}
	return &to
}

// known leaves the rows of the class -1 out of a batch of groups, all of whose
// embeddings then lie in j's memory. A is nil where none is left.
func known(b *train.Batch, j *joined) error {
	m, err := nn.View(b.A)
	if err != nil {
		return err
	}
	if cap(j.buf) < len(m.Data) {
		j.buf = make([]float32, len(m.Data))
	}
	n := 0
	for i, l := range b.Labels {
		if l < 0 {
			continue
		}
		copy(j.buf[:len(m.Data)][n*m.Cols:], m.Row(i)) // forward, so also within itself
		b.Labels[n], b.AIDs[n], b.Index[n] = l, b.AIDs[i], b.Index[i]
		for _, texts := range b.ATexts {
			texts[n] = texts[i]
		}
		n++
	}
	for k, texts := range b.ATexts {
		b.ATexts[k] = texts[:n]
	}
	b.Labels, b.AIDs, b.Index, b.A = b.Labels[:n], b.AIDs[:n], b.Index[:n], nil
	if n > 0 {
		b.A = nn.Wrap(nn.Mat{Rows: n, Cols: m.Cols, Data: j.buf[:n*m.Cols]})
	}
	return nil
}
