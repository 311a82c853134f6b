package pipeline

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/permafrost-ml/permafrost/cachesink"
	"github.com/permafrost-ml/permafrost/encode"
	"github.com/permafrost-ml/permafrost/internal/classes"
	"github.com/permafrost-ml/permafrost/pipeline/sampler"
	"github.com/permafrost-ml/permafrost/source"
)

// epochs is how the rows of a split, or of several, are replayed.
type epochs struct {
	readers []*cachesink.SplitReader // of equal columns
	opts    source.ReplayOptions
	mem     memory.Allocator
}

// splitColumn is what a batch of several splits has besides their columns: the
// name of the row's split.
const splitColumn = "split"

// split is what all splits have in common.
func (e *epochs) split() *cachesink.Split { return e.readers[0].Split() }

// name is that of all splits.
func (e *epochs) name() string {
	var names []string
	for _, p := range e.parts() {
		names = append(names, p.Name)
	}
	return strings.Join(names, "+")
}

func (e *epochs) parts() (parts []sampler.Part) {
	for _, r := range e.readers {
		parts = append(parts, sampler.Part{Name: r.Split().Name, Rows: r.Rows()})
	}
	return parts
}

func (e *epochs) rows() (n int64) {
	for _, r := range e.readers {
		n += r.Rows()
	}
	return n
}

// table returns what is replayed: the rows of the splits, one split after the
// other.
func (e *epochs) table() source.Table {
	if len(e.readers) == 1 {
		return e.readers[0]
	}
	var members []source.Member
	for _, r := range e.readers {
		members = append(members, source.Member{Name: r.Split().Name, Table: r})
	}
	return source.Join(e.mem, splitColumn, members...)
}

// selected returns the epochs with those columns alone.
func (e epochs) selected(columns ...string) (epochs, error) {
	readers := make([]*cachesink.SplitReader, len(e.readers))
	for i, r := range e.readers {
		var err error
		if readers[i], err = r.Select(columns...); err != nil {
			return epochs{}, err
		}
	}
	e.readers = readers
	return e, nil
}

// joinable reports splits that are not of the same samples.
func (e *epochs) joinable() error {
	first := e.readers[0]
	for _, r := range e.readers[1:] {
		a, b := first.Split(), r.Split()
		if a.Kind != b.Kind || !first.Schema().Equal(r.Schema()) {
			return fmt.Errorf("split %q has %s samples of %v, and %q has %s samples of %v",
				a.Name, a.Kind, first.Schema().Fields(), b.Name, b.Kind, r.Schema().Fields())
		}
	}
	if first.Schema().HasField(splitColumn) {
		return fmt.Errorf("a kept column has the name %q, under which batches of several splits have their names", splitColumn)
	}
	return nil
}

// column returns a column of all rows, which the caller owns.
func (e *epochs) column(ctx context.Context, name string) (arrow.Array, error) {
	var parts []arrow.Array
	for _, r := range e.readers {
		rec, err := r.Columns(ctx, name)
		if err != nil {
			return nil, err
		}
		defer rec.Release()
		parts = append(parts, rec.Column(0))
	}
	if len(parts) == 1 {
		parts[0].Retain()
		return parts[0], nil
	}
	return array.Concatenate(parts, e.mem)
}

// classes numbers the values of a column.
func (e *epochs) classes(ctx context.Context, column string) ([]int32, []string, error) {
	a, err := e.column(ctx, column)
	if err != nil {
		return nil, nil, err
	}
	defer a.Release()
	numbers, names, err := classes.Number(a)
	if err != nil {
		err = fmt.Errorf("column %q: %w", column, err)
	}
	return numbers, names, err
}

// choices are those of one side's objects of the switch encoder, nil unless
// there is exactly one.
func (e *epochs) choices(ctx context.Context, side string) (choices []string, err error) {
	for _, encoder := range e.split().Encoders {
		column := encode.ChoiceColumn(encoder.Name, side)
		if !e.readers[0].Schema().HasField(column) {
			continue
		}
		if choices != nil {
			return nil, nil
		}
		a, err := e.column(ctx, column)
		if err != nil {
			return nil, err
		}
		defer a.Release()
		texts, ok := a.(*array.String)
		if !ok {
			return nil, fmt.Errorf("%w: column %q is of type %v", cachesink.ErrSchema, column, a.DataType())
		}
		choices = make([]string, texts.Len())
		for i := range choices {
			choices[i] = strings.Clone(texts.Value(i))
		}
	}
	return choices, nil
}

// fingerprint is what the rows are.
func (e *epochs) fingerprint() string {
	var all []string
	for _, r := range e.readers {
		all = append(all, r.Split().Fingerprint)
	}
	return strings.Join(all, "+")
}

// epochs returns how a split is replayed: with the sampler, if it is the one
// that is trained on.
func (p *Pipeline[Row]) epochs(ctx context.Context, split string) (epochs, error) {
	training := split == p.cfg.TrainSplit
	if training && p.sampled != nil {
		return *p.sampled, nil
	}
	e, err := p.whole(ctx, split)
	if err != nil || !training {
		return e, err
	}
	e.opts.DropLast = p.cfg.Train.DropLast
	if p.cfg.Sampler == nil {
		return e, nil
	}
	if err := p.addSampler(ctx, &e); err != nil {
		return epochs{}, fmt.Errorf("sampler %s: %w", p.cfg.Sampler.Type(), err)
	}
	p.sampled = &e
	return e, nil
}

// whole returns how a split is replayed without a sampler: every sample once.
func (p *Pipeline[Row]) whole(ctx context.Context, split string) (epochs, error) {
	r, err := p.reader(ctx, split)
	if err != nil {
		return epochs{}, err
	}
	return epochs{readers: []*cachesink.SplitReader{r}, mem: p.cfg.Allocator, opts: source.ReplayOptions{
		BatchSize: p.cfg.Train.BatchSize, Sequential: p.cfg.Train.Sequential, Seed: p.cfg.Seed,
	}}, nil
}

// addSampler gives the sampler to the epochs of the split that is trained on,
// and adds the rows of other splits if the sampler takes them.
func (p *Pipeline[Row]) addSampler(ctx context.Context, e *epochs) (err error) {
	if splits := p.cfg.Sampler.Splits(); len(splits) > 1 {
		e.readers = nil
		for _, name := range splits {
			r, err := p.reader(ctx, name)
			if err != nil {
				return err
			}
			e.readers = append(e.readers, r)
		}
		if err := e.joinable(); err != nil {
			return err
		}
	}
	var lent []arrow.Array
	defer func() {
		for _, a := range lent {
			a.Release()
		}
	}()
	e.opts.Sampler, err = sampler.New(p.cfg.Sampler, p.cfg.batching(), sampler.Split{
		Parts: e.parts(),
		Column: func(name string) (arrow.Array, error) {
			a, err := e.column(ctx, name)
			if err == nil {
				lent = append(lent, a)
			}
			return a, err
		},
		Objects: func() ([][]int64, error) { return e.objects(ctx) },
	})
	return err
}

// checkSampler holds the sampler to what else is declared.
func (c *Config[Row]) checkSampler() error {
	if c.Sampler == nil {
		return nil
	}
	splits := c.Sampler.Splits()
	for _, name := range splits {
		if c.Splits[name] == nil {
			return fmt.Errorf("it takes samples of the split %q, which is not declared", name)
		}
	}
	if len(splits) > 0 && !slices.Contains(splits, c.TrainSplit) {
		return fmt.Errorf("it takes samples of %s, and not of the split to train on, %q", strings.Join(splits, ", "), c.TrainSplit)
	}
	return c.Sampler.Validate(c.batching())
}

// batching is what the batches of training have in common.
func (c *Config[Row]) batching() sampler.Batching {
	return sampler.Batching{
		Size: c.Train.BatchSize, DropLast: c.Train.DropLast, Sequential: c.Train.Sequential, Seed: c.Seed,
	}
}
