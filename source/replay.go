package source

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"runtime"

	"github.com/apache/arrow/go/v15/arrow"
)

// Table is a split of a filled cache, as replay sees it.
type Table interface {
	// Rows is the number of rows; it does not change.
	Rows() int64
	// Gather returns the given rows (0..Rows-1), in the order given, as a
	// record batch that the caller owns and releases. It borrows rows for the
	// call. It may be called by several goroutines at once.
	Gather(ctx context.Context, rows []int64) (arrow.Record, error)
}

// ReplayOptions say in which batches an epoch comes. The zero value is the
// default.
type ReplayOptions struct {
	// BatchSize is the number of rows of a batch; the last one of an epoch may
	// be smaller. Default 256.
	BatchSize int
	// Sequential keeps the order of the table in every epoch. Default false:
	// each epoch has the order that [NewPermutation] gives.
	Sequential bool
	// Seed chooses the orders. Default 0.
	Seed uint64
	// DropLast leaves out a last batch that is smaller. Default false.
	DropLast bool
	// Sampler chooses the batches, and the four options above have no say.
	// Default: [Batches] of the order that they describe.
	Sampler Sampler
	// Rank and World share an epoch among processes: rank r of W takes the
	// batches r, r+W, r+2W, ... (one rank may get one more than another).
	// Default 0 of 1.
	Rank, World int
	// Start is how many batches all ranks together have done since the
	// beginning of epoch 0, a checkpoint's position. Epochs that it covers are
	// empty, the one that it falls into comes without its first batches, and
	// the remaining ones are shared among ranks anew. Default 0.
	Start int64
	// Workers is how many goroutines gather batches ahead of the consumer, at
	// most two batches each; the sequence does not depend on it. Without any,
	// a batch is gathered when it is asked for.
	// Default: as many as there are processors, at most 4; where Sequential is
	// set, none. A negative number is none.
	Workers int
}

// defaultReplayBatch is the batch size of replay where none is given.
const defaultReplayBatch = 256

// maxReplayWorkers bounds the workers where no number is given: a few take
// all that the memory gives.
const maxReplayWorkers = 4

// Replayer gives the epochs of a table. It is immutable, and as safe for
// concurrent use as its table.
type Replayer struct {
	table   Table
	opts    ReplayOptions
	sampler Sampler
}

// Replay returns the epochs of t. It reads nothing yet.
func Replay(t Table, o ReplayOptions) (*Replayer, error) {
	var errs []error
	if o.BatchSize < 0 {
		errs = append(errs, fmt.Errorf("batch size %d is negative", o.BatchSize))
	}
	if o.World < 0 || o.Rank < 0 || o.Rank >= max(o.World, 1) {
		errs = append(errs, fmt.Errorf("there is no rank %d of %d", o.Rank, max(o.World, 1)))
	}
	if o.Start < 0 {
		errs = append(errs, fmt.Errorf("start %d is negative", o.Start))
	}
	if len(errs) > 0 {
		return nil, fmt.Errorf("replay: %w", errors.Join(errs...))
	}
	if o.BatchSize == 0 {
		o.BatchSize = defaultReplayBatch
	}
	o.World = max(o.World, 1)
	if o.Workers == 0 && !o.Sequential {
		o.Workers = min(runtime.GOMAXPROCS(0), maxReplayWorkers)
	}
	r := &Replayer{table: t, opts: o, sampler: o.Sampler}
	if r.sampler == nil {
		order := Shuffled(t.Rows(), o.Seed)
		if o.Sequential {
			order = Sequential(t.Rows())
		}
		var err error
		if r.sampler, err = Batches(order, o.BatchSize, o.DropLast); err != nil {
			return nil, fmt.Errorf("replay: %w", err)
		}
	}
	return r, nil
}

// Batches returns the number of batches of a whole epoch, all ranks together.
// Without a [ReplayOptions].Sampler it is the same for all epochs.
func (r *Replayer) Batches(epoch int) int64 { return r.sampler.Batches(epoch) }

// Epoch gives this rank's batches of an epoch that are not done yet according
// to [ReplayOptions].Start. Epochs count from 0. A record batch is borrowed
// until the next turn; Retain it to keep it. An error ends the epoch.
func (r *Replayer) Epoch(ctx context.Context, epoch int) iter.Seq2[arrow.Record, error] {
	return r.EpochFrom(ctx, epoch, r.done(epoch))
}

// done returns how many batches of an epoch Start covers.
func (r *Replayer) done(epoch int) int64 {
	left := r.opts.Start
	for e := 0; e < epoch && left > 0; e++ {
		n := r.Batches(e)
		if n == 0 {
			return 0
		}
		left -= n
	}
	return max(left, 0)
}

// EpochFrom is Epoch without the first done batches of this epoch, all ranks
// together, whatever Start is.
func (r *Replayer) EpochFrom(ctx context.Context, epoch int, done int64) iter.Seq2[arrow.Record, error] {
	return func(yield func(arrow.Record, error) bool) {
		first, step := max(done, 0)+int64(r.opts.Rank), int64(r.opts.World)
		batch := r.sampler.Epoch(epoch)
		draw := func(dst []int64, i int64) []int64 { return batch(dst, first+i*step) }
		get, free := r.inTurn(ctx, draw), func() {}
		if r.opts.Workers > 0 {
			a := gatherAhead(ctx, r.opts.Workers, draw, r.gather)
			defer a.close()
			get, free = func() (arrow.Record, error) { return a.get(ctx) }, a.free
		}
		for i := int64(0); ; i++ {
			if ctx.Err() != nil {
				yield(nil, context.Cause(ctx))
				return
			}
			record, err := get()
			if err != nil {
				if ctx.Err() != nil {
					err = context.Cause(ctx)
				}
				yield(nil, fmt.Errorf("epoch %d, batch %d: %w", epoch, first+i*step, err))
				return
			}
			if record == nil || !r.give(record, yield) {
				return
			}
			free()
		}
	}
}

// inTurn returns a function that gathers the next batch, nil after the last.
func (r *Replayer) inTurn(ctx context.Context, draw func(dst []int64, i int64) []int64) func() (arrow.Record, error) {
	var rows []int64
	i := int64(0)
	return func() (arrow.Record, error) {
		if rows = draw(rows[:0], i); len(rows) == 0 {
			return nil, nil
		}
		i++
		return r.gather(ctx, rows)
	}
}

func (r *Replayer) gather(ctx context.Context, rows []int64) (arrow.Record, error) {
	record, err := r.table.Gather(ctx, rows)
	if err != nil {
		return nil, err
	}
	if got := record.NumRows(); got != int64(len(rows)) {
		record.Release()
		return nil, fmt.Errorf("the table gave %d rows for %d", got, len(rows))
	}
	return record, nil
}

// give lends a record batch for one turn, also one that panics.
func (r *Replayer) give(record arrow.Record, yield func(arrow.Record, error) bool) bool {
	defer record.Release()
	return yield(record, nil)
}
