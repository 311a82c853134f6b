package pipeline

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"gorgonia.org/tensor"

	"github.com/permafrost-ml/permafrost/cachesink"
	"github.com/permafrost-ml/permafrost/encode"
	"github.com/permafrost-ml/permafrost/pipeline/train/nn"
	"github.com/permafrost-ml/permafrost/pipeline/train/trainable"
	"github.com/permafrost-ml/permafrost/source"
	"github.com/permafrost-ml/permafrost/stage"
)

// Batch is a batch of samples with their embeddings. It is borrowed: valid
// until the loop's next turn, or until Release after a Retain.
type Batch struct {
	rec  arrow.Record
	kept atomic.Bool // it was retained

	mu      sync.Mutex
	schema  *arrow.Schema     // that sides were looked up in
	sides   [2]map[string]int // the columns of embeddings by encoder, of A and of B
	tensors []*tensor.Dense   // by column; those of turns before are used again
}

// Rows returns the number of samples.
func (b *Batch) Rows() int { return int(b.rec.NumRows()) }

// Record returns the batch as an Arrow record batch: the columns of the
// split, and for every encoder E the column E (for pairs E_a and E_b), a
// fixed_size_list<float32>[dim]. It is borrowed from the batch.
func (b *Batch) Record() arrow.Record { return b.rec }

// A returns an encoder's embeddings of the objects, of the first sides for
// pairs: [rows, dim], over the memory of Record, which may be the cache's
// own: it must not be written to. A is nil for an encoder that the pipeline
// does not have, and for one that is trained on texts; of another trained one
// it is what the frozen encoder gives. The tensor is the batch's: it is
// borrowed like the batch.
func (b *Batch) A(encoder string) *tensor.Dense { return b.tensor(0, encoder) }

// B returns an encoder's embeddings of the second sides, as A does; nil for
// groups.
func (b *Batch) B(encoder string) *tensor.Dense { return b.tensor(1, encoder) }

func (b *Batch) tensor(side int, encoder string) *tensor.Dense {
	b.mu.Lock()
	defer b.mu.Unlock()
	if s := b.rec.Schema(); b.schema != s {
		b.schema, b.sides, b.tensors = s, [2]map[string]int{{}, {}}, make([]*tensor.Dense, len(s.Fields()))
	}
	at, ok := b.sides[side][encoder]
	if !ok {
		at = b.column(side, encoder)
		b.sides[side][encoder] = at
	}
	if at < 0 {
		return nil
	}
	vecs, dim, err := cachesink.Vectors(b.rec.Column(at))
	if err != nil {
		return nil
	}
	b.tensors[at] = nn.Rewrap(b.tensors[at], nn.Mat{Rows: b.Rows(), Cols: dim, Data: vecs})
	return b.tensors[at]
}

// column returns the number of an encoder's column, -1 if there is none.
func (b *Batch) column(side int, encoder string) int {
	for _, s := range [2][]string{{"a", ""}, {"b"}}[side] {
		if at := b.schema.FieldIndices(cachesink.EncoderColumn(encoder, s, "")); len(at) == 1 {
			return at[0]
		}
	}
	return -1
}

// Retain keeps the batch beyond the loop's turn; each Retain needs a Release.
func (b *Batch) Retain() {
	b.kept.Store(true)
	b.rec.Retain()
}

// Release undoes a Retain.
func (b *Batch) Release() { b.rec.Release() }

// Epoch yields the batches of a split: shuffled by (Seed, epoch) unless
// Train.Sequential is set, of Train.BatchSize samples. Of TrainSplit they are
// those of training, as Sampler and Train.DropLast say; of other splits every
// sample comes once. It fills the cache first where that has not been done.
// The sequence depends on the seed, the epoch, the number of rows and, with a
// sampler, on the columns that it reads alone.
func (p *Pipeline[Row]) Epoch(ctx context.Context, split string, epoch int) iter.Seq2[*Batch, error] {
	return p.EpochFrom(ctx, split, epoch, EpochOptions{})
}

// EpochOptions say which batches of an epoch come. The zero value is all of
// them.
type EpochOptions struct {
	// Rank and World share an epoch among processes that train together: of
	// the batches that are left, rank r of W takes number r, r+W, r+2W, ...
	// Default: 0 of 1.
	Rank, World int
	// Done is how many batches of this epoch all ranks together have done: the
	// position to go on from, with any number of ranks. Default: 0.
	Done int64
	// Workers is how many goroutines gather batches ahead of the loop.
	// Default: that of [source.ReplayOptions].
	Workers int
}

// EpochFrom is [Pipeline.Epoch] for a part of the batches. All batches of all
// ranks are those of Epoch, and in its order, whatever the number of ranks is
// and wherever they went on.
func (p *Pipeline[Row]) EpochFrom(ctx context.Context, split string, epoch int, o EpochOptions) iter.Seq2[*Batch, error] {
	return func(yield func(*Batch, error) bool) {
		e, err := p.epochs(ctx, split)
		if err != nil {
			yield(nil, err)
			return
		}
		b := &Batch{}
		for rec, err := range p.replay(ctx, e, false, epoch, o) {
			if err != nil {
				yield(nil, fmt.Errorf("epoch %d of split %q: %w", epoch, split, err))
				return
			}
			if b.kept.Load() {
				b = &Batch{} // the other is somebody's
			}
			if b.rec = rec; !yield(b, nil) {
				return
			}
		}
	}
}

// reader opens a split of the filled cache, once.
func (p *Pipeline[Row]) reader(ctx context.Context, split string) (*cachesink.SplitReader, error) {
	if r := p.readers[split]; r != nil {
		return r, nil
	}
	if !slices.Contains(p.splits, split) {
		return nil, fmt.Errorf("no split %q is declared, there are %q", split, p.splits)
	}
	if p.filled == nil {
		if _, err := p.Fill(ctx); err != nil {
			return nil, err
		}
	}
	r, err := p.cache.Read(ctx, p.filled[split], &p.tables)
	if err != nil {
		return nil, ended(ctx, err)
	}
	p.readers[split] = r
	return r, nil
}

// replay yields the record batches of one pass, borrowed, with embeddings
// for every encoder: gathered where they are cached, else computed. A
// sequential one is of all samples, whatever the sampler is.
func (p *Pipeline[Row]) replay(ctx context.Context, e epochs, sequential bool, epoch int, o EpochOptions) iter.Seq2[arrow.Record, error] {
	if sequential {
		e.opts = source.ReplayOptions{BatchSize: e.opts.BatchSize, Sequential: true}
	}
	e.opts.Rank, e.opts.World, e.opts.Workers = o.Rank, o.World, o.Workers
	rp, err := source.Replay(e.table(), e.opts)
	if err != nil {
		return func(yield func(arrow.Record, error) bool) { yield(nil, err) }
	}
	recs := rp.EpochFrom(ctx, epoch, o.Done)
	if !p.loop.needed(e.split()) {
		return recs
	}
	return p.loop.encode(ctx, e.split(), recs, p.cfg.Cache.workers())
}

// inLoop runs the encoders that are not cached, in every epoch. Opened
// encoders are kept from epoch to epoch.
type inLoop struct {
	models  Encoders
	trained map[string]trainable.Config // those that read texts are not run
	open    func(ctx context.Context, m encode.Model) (*encode.Columns, error)

	mu   sync.Mutex
	free []map[string]*encode.Columns
}

func (l *inLoop) needed(s *cachesink.Split) bool {
	return slices.ContainsFunc(s.Encoders, l.runs)
}

// runs reports whether an encoder is run in every epoch.
func (l *inLoop) runs(e cachesink.SplitEncoder) bool {
	c := l.trained[e.Name]
	return e.Folder == "" && (c == nil || !c.ReadsTexts())
}

// encode replaces the input columns of record batches by embeddings, with
// some workers at once, in order.
func (l *inLoop) encode(ctx context.Context, s *cachesink.Split, recs iter.Seq2[arrow.Record, error], workers int) iter.Seq2[arrow.Record, error] {
	return func(yield func(arrow.Record, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		g, _ := stage.NewGroup(ctx)
		in := stage.From(g, "replay "+s.Name, func(context.Context) iter.Seq2[arrow.Record, error] {
			return func(yield func(arrow.Record, error) bool) {
				for rec, err := range recs {
					if err == nil {
						rec.Retain() // the stream owns what it carries
					}
					if !yield(rec, err) || err != nil {
						return
					}
				}
			}
		})
		out := stage.OrderedWorkers(g, in, "encode "+s.Name, workers,
			func(ctx context.Context, _ int) (map[string]*encode.Columns, error) { return l.take(ctx, s) },
			func(ctx context.Context, cols map[string]*encode.Columns, rec arrow.Record) (arrow.Record, error) {
				defer rec.Release()
				return embed(ctx, s, cols, rec)
			},
			l.give)
		ready := make(chan arrow.Record)
		stage.Each(g, out, "deliver "+s.Name, func(ctx context.Context, rec arrow.Record) error {
			select {
			case ready <- rec:
				return nil
			case <-ctx.Done():
				rec.Release()
				return context.Cause(ctx)
			}
		})
		var failed error // read after ready is closed
		go func() {
			failed = g.Wait()
			close(ready)
		}()
		defer func() { // after a break or a panic of the loop's body
			cancel()
			for rec := range ready {
				rec.Release()
			}
		}()
		lend := func(rec arrow.Record) bool {
			defer rec.Release()
			return yield(rec, nil)
		}
		for rec := range ready {
			if !lend(rec) {
				return
			}
		}
		if failed != nil {
			yield(nil, failed)
		}
	}
}

func (l *inLoop) take(ctx context.Context, s *cachesink.Split) (map[string]*encode.Columns, error) {
	l.mu.Lock()
	if n := len(l.free); n > 0 {
		cols := l.free[n-1]
		l.free = l.free[:n-1]
		l.mu.Unlock()
		return cols, nil
	}
	l.mu.Unlock()
	cols := map[string]*encode.Columns{}
	for _, e := range s.Encoders {
		if !l.runs(e) {
			continue
		}
		c, err := l.open(ctx, l.models[e.Name])
		if err != nil {
			return nil, errors.Join(fmt.Errorf("encoder %q: %w", e.Name, err), closeAll(cols))
		}
		cols[e.Name] = c
	}
	return cols, nil
}

func (l *inLoop) give(cols map[string]*encode.Columns) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.free = append(l.free, cols)
	return nil
}

func (l *inLoop) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var err error
	for _, cols := range l.free {
		err = errors.Join(err, closeAll(cols))
	}
	l.free = nil
	return err
}

func closeAll(cols map[string]*encode.Columns) (err error) {
	for _, c := range cols {
		err = errors.Join(err, c.Close())
	}
	return err
}

// embed returns rec with an embedding column in place of each input column.
func embed(ctx context.Context, s *cachesink.Split, encoders map[string]*encode.Columns, rec arrow.Record) (arrow.Record, error) {
	fields := slices.Clone(rec.Schema().Fields())
	cols := slices.Clone(rec.Columns())
	var made []arrow.Array
	defer func() {
		for _, a := range made {
			a.Release()
		}
	}()
	for _, e := range s.Encoders {
		if encoders[e.Name] == nil {
			continue
		}
		for _, side := range s.Kind.Sides() {
			at := rec.Schema().FieldIndices(cachesink.EncoderColumn(e.Name, side, cachesink.RoleInput))
			if len(at) != 1 {
				continue // not selected
			}
			inputs, ok := rec.Column(at[0]).(*array.Binary)
			if !ok {
				return nil, fmt.Errorf("%w: inputs of encoder %q are %v", cachesink.ErrSchema, e.Name, rec.Column(at[0]).DataType())
			}
			a, err := encoders[e.Name].Encode(ctx, inputs)
			if err != nil {
				return nil, fmt.Errorf("encoder %q: %w", e.Name, err)
			}
			made = append(made, a)
			cols[at[0]] = a
			fields[at[0]] = arrow.Field{Name: cachesink.EncoderColumn(e.Name, side, ""), Type: a.DataType()}
		}
	}
	md := rec.Schema().Metadata()
	return array.NewRecord(arrow.NewSchema(fields, &md), cols, rec.NumRows()), nil
}
