package export

import (
	"context"
	"fmt"
	"iter"

	"github.com/apache/arrow/go/v15/arrow"

	"github.com/permafrost-ml/permafrost/source"
)

// Epoch is a pass over a split as training makes it: in the batches, of
// BatchRows rows, of [source.Replay] with the same options.
type Epoch struct {
	// Number is the epoch's, which chooses the order of a shuffled one.
	// Default: 0.
	Number int
	// Shuffle gives the rows in the order of Seed and Number. Default: in the
	// order of the dataset.
	Shuffle bool
	// Seed chooses the orders. Default: 0.
	Seed uint64
	// DropLast leaves out a last batch that is smaller. Default: false.
	DropLast bool
	// Rank and World share the epoch: rank r of W has the batches FirstBatch+r,
	// FirstBatch+r+W, ... Default: 0 of 1.
	Rank, World int
	// FirstBatch is how many batches all ranks together have done. Default: 0.
	FirstBatch int64
}

// replay returns the epochs of a table of that many rows.
func (o Options) replay(t source.Table) (*source.Replayer, error) {
	e := o.Epoch
	r, err := source.Replay(t, source.ReplayOptions{
		BatchSize: o.BatchRows, Sequential: !e.Shuffle, Seed: e.Seed, DropLast: e.DropLast, Rank: e.Rank, World: e.World,
	})
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrOptions, err)
	case e.Number < 0 || e.FirstBatch < 0:
		return nil, fmt.Errorf("%w: epoch %d from batch %d", ErrOptions, e.Number, e.FirstBatch)
	case e.FirstBatch >= r.Batches(e.Number)-int64(e.Rank): // an export of nothing has no schema
		return nil, fmt.Errorf("%w: rank %d has nothing to do after %d of %d batches", ErrOptions, e.Rank, e.FirstBatch, r.Batches(e.Number))
	}
	return r, nil
}

// epoch streams the batches of a replay, which the receiver owns.
func (t *table) epoch(ctx context.Context, o Options, hexIDs bool) iter.Seq2[arrow.Record, error] {
	return func(yield func(arrow.Record, error) bool) {
		r, err := o.replay(t.split)
		if err != nil {
			yield(nil, err)
			return
		}
		for rec, err := range r.EpochFrom(ctx, o.Epoch.Number, o.Epoch.FirstBatch) {
			if err == nil {
				rec.Retain() // dress takes it over
				rec, err = t.dress(rec, hexIDs)
			}
			if !yield(rec, err) || err != nil {
				return
			}
		}
	}
}
