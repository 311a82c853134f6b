package pipeline

import (
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
	"github.com/permafrost-ml/permafrost/source"
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
	ids    [][]int64 // by row: numbers of the objects of each side
	// choices are those of the objects of both sides of the switch encoder, by
	// row; nil unless there is exactly one.
	choices [2][]string
	// Classes are the labels in the order of their numbers.
	classes []string
	// First are the numbers of the first rows of splits that were joined; nil
	// for a single one.
	first   map[string]int64
	replay  func(ctx context.Context, sequential bool, epoch int, done int64) iter.Seq2[arrow.Record, error]
	of      epochs // what is replayed
	count   func(epoch int) int64
	partial bool // rows of the class -1 are left out
}

// newData prepares all rows of a split for evaluation.
func (p *Pipeline[Row]) newData(ctx context.Context, split string) (*data, error) {
	e, err := p.whole(ctx, split)
	if err != nil {
		return nil, err
	}
	return p.dataOf(ctx, e)
}

// trainData prepares what is trained on.
func (p *Pipeline[Row]) trainData(ctx context.Context) (*data, error) {
	e, err := p.epochs(ctx, p.cfg.TrainSplit)
	if err != nil {
		return nil, err
	}
	return p.dataOf(ctx, e)
}

func (p *Pipeline[Row]) dataOf(ctx context.Context, of epochs) (*data, error) {
	var read []dataEncoder
	for _, name := range p.names {
		spec, err := p.cfg.Encoders[name].Spec(ctx)
		if err != nil {
			return nil, fmt.Errorf("encoder %q: %w", name, err)
		}
		read = append(read, dataEncoder{name, spec.Dim, p.readsTexts(name)})
	}
	d, sel, err := readData(ctx, of, read)
	if err != nil {
		return nil, err
	}
	rp, err := source.Replay(of.table(), of.opts)
	if err != nil {
		return nil, fmt.Errorf("split %q: %w", of.name(), err)
	}
	d.count = rp.Batches
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

// readData reads what goes with the embeddings of all of the splits'
// encoders, and returns epochs of the columns that the data's replay needs.
func readData(ctx context.Context, of epochs, encoders []dataEncoder) (d *data, sel epochs, err error) {
	s := of.split()
	d = &data{kind: loss.Pairs, rows: of.rows(), of: of}
	if s.Kind == cachesink.Group {
		d.kind = loss.Groups
	}
	if parts := of.parts(); len(parts) > 1 {
		d.first = map[string]int64{}
		first := int64(0)
		for _, part := range parts {
			d.first[part.Name] = first
			first += part.Rows
		}
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
	if err := d.columns(ctx, of); err != nil {
		return nil, epochs{}, fmt.Errorf("split %q: %w", of.name(), err)
	}
	sel, err = of.selected(columns...)
	return d, sel, err
}

// columns reads what goes with the rows and is not an embedding.
func (d *data) columns(ctx context.Context, of epochs) (err error) {
	if d.ids, err = of.objects(ctx); err != nil {
		return err
	}
	for k, side := range of.split().Kind.Sides() {
		if d.choices[k], err = of.choices(ctx, side); err != nil {
			return err
		}
	}
	if d.kind == loss.Groups {
		d.labels, d.classes, err = of.classes(ctx, cachesink.ColumnLabel)
		return err
	}
	if d.subs, _, err = of.classes(ctx, cachesink.ColumnSubgroup); err != nil {
		return err
	}
	a, err := of.column(ctx, cachesink.ColumnScore)
	if err != nil {
		return err
	}
	defer a.Release()
	scores, ok := a.(*array.Float32)
	if !ok {
		return fmt.Errorf("%w: column %q is of type %v", cachesink.ErrSchema, cachesink.ColumnScore, a.DataType())
	}
	d.scores = slices.Clone(scores.Float32Values())
	return nil
}

func columnOf(rec arrow.Record, name string) arrow.Array {
	at := rec.Schema().FieldIndices(name)
	if len(at) != 1 {
		return nil
	}
	return rec.Column(at[0])
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
	if d.of.opts.Sampler == nil {
		return d.count(0) * int64(epochs)
	}
	var n int64
	for e := range epochs {
		n += d.count(e)
	}
	return n
}

// Epoch implements train.Data.
func (d *data) Epoch(ctx context.Context, epoch int, done int64) iter.Seq2[*train.Batch, error] {
	return d.batches(d.replay(ctx, false, epoch, done))
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
	at, err := d.rowsOf(rec, a)
	if err != nil {
		return err
	}
	out.Index = append(out.Index[:0], at...)
	if d.kind == loss.Groups {
		out.A, err = a.join(d, rec, "")
		out.Labels = pick(out.Labels, d.labels, at)
		out.AIDs = pick(out.AIDs, d.ids[0], at)
		out.AChoices = pick(out.AChoices, d.choices[0], at)
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
	out.AChoices = pick(out.AChoices, d.choices[0], at)
	out.BChoices = pick(out.BChoices, d.choices[1], at)
	return errors.Join(err, d.addTexts(out, rec, cachesink.Pair.Sides()))
}

// rowsOf returns the numbers of a batch's rows.
func (d *data) rowsOf(rec arrow.Record, j *joined) ([]int64, error) {
	rows, ok := columnOf(rec, cachesink.ColumnRow).(*array.Int64)
	if !ok {
		return nil, fmt.Errorf("%w: no column row", cachesink.ErrSchema)
	}
	if d.first == nil {
		return rows.Int64Values(), nil
	}
	splits, ok := columnOf(rec, splitColumn).(*array.String)
	if !ok {
		return nil, fmt.Errorf("%w: no column split", cachesink.ErrSchema)
	}
	j.rows = j.rows[:0]
	for i, row := range rows.Int64Values() {
		j.rows = append(j.rows, d.first[splits.Value(i)]+row)
	}
	return j.rows, nil
}

// pick returns the values of some rows, none where there are none.
func pick[T any](dst, from []T, rows []int64) []T {
	if from == nil {
		return nil
	}
	dst = dst[:0]
	for _, r := range rows {
		dst = append(dst, from[r])
	}
	return dst
}

// joined are the buffers in which the embeddings of several encoders stand
// side by side, and the rows of several splits are numbered.
type joined struct {
	buf  []float32
	rows []int64
}

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
		if b.AChoices != nil {
			b.AChoices[n] = b.AChoices[i]
		}
		for _, texts := range b.ATexts {
			texts[n] = texts[i]
		}
		n++
	}
	if b.AChoices != nil {
		b.AChoices = b.AChoices[:n]
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
