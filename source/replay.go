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
	rows    int64
	batches int64
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
	r := &Replayer{table: t, opts: o, rows: t.Rows()}
	r.batches = r.rows / int64(o.BatchSize)
	if !o.DropLast && r.rows%int64(o.BatchSize) > 0 {
		r.batches++
	}
	return r, nil
}

// Batches returns the number of batches of a whole epoch, all ranks together.
func (r *Replayer) Batches() int64 { return r.batches }

// Epoch gives this rank's batches of an epoch that are not done yet according
// to [ReplayOptions].Start. Epochs count from 0. A record batch is borrowed
// until the next turn; Retain it to keep it. An error ends the epoch.
func (r *Replayer) Epoch(ctx context.Context, epoch int) iter.Seq2[arrow.Record, error] {
	return r.EpochFrom(ctx, epoch, r.done(epoch))
}

// done returns how many batches of an epoch Start covers.
func (r *Replayer) done(epoch int) int64 {
	if r.batches == 0 || epoch < 0 || int64(epoch) > r.opts.Start/r.batches {
		return 0
	}
	return min(r.opts.Start-int64(epoch)*r.batches, r.batches)
}

// EpochFrom is Epoch without the first done batches of this epoch, all ranks
// together, whatever Start is.
func (r *Replayer) EpochFrom(ctx context.Context, epoch int, done int64) iter.Seq2[arrow.Record, error] {
	return func(yield func(arrow.Record, error) bool) {
		first, step := max(done, 0)+int64(r.opts.Rank), int64(r.opts.World)
		if first >= r.batches {
			return
		}
		n := (r.batches-first-1)/step + 1 // batches of this rank
		worker := func() func(context.Context, int64) (arrow.Record, error) {
			gather := r.gatherer(epoch)
			return func(ctx context.Context, i int64) (arrow.Record, error) { return gather(ctx, first+i*step) }
		}
		get, free := worker(), func() {}
		if workers := int(min(int64(r.opts.Workers), n)); workers > 0 {
			a := gatherAhead(ctx, workers, n, worker)
			defer a.close()
			get = func(ctx context.Context, _ int64) (arrow.Record, error) { return a.get(ctx) }
			free = a.free
		}
		for i := range n {
			if ctx.Err() != nil {
				yield(nil, context.Cause(ctx))
				return
			}
			record, err := get(ctx, i)
			if err != nil {
				if ctx.Err() != nil {
					err = context.Cause(ctx)
				}
				yield(nil, fmt.Errorf("epoch %d, batch %d: %w", epoch, first+i*step, err))
				return
			}
			if !r.give(record, yield) {
				return
			}
			free()
		}
	}
}

// gatherer returns a function that gathers a batch of an epoch. It is for one
// goroutine.
func (r *Replayer) gatherer(epoch int) func(ctx context.Context, batch int64) (arrow.Record, error) {
	size := int64(r.opts.BatchSize)
	order := NewPermutation(r.rows, r.opts.Seed, epoch)
	rows := make([]int64, min(size, r.rows))
	return func(ctx context.Context, batch int64) (arrow.Record, error) {
		first := batch * size
		rows = rows[:min(size, r.rows-first)]
		if r.opts.Sequential {
			for i := range rows {
				rows[i] = first + int64(i)
			}
		} else {
			order.Fill(rows, first)
		}
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
