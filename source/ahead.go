package source

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/apache/arrow/go/v15/arrow"
)

// gathered is a record batch that a worker gathered, or why it could not.
type gathered struct {
	record arrow.Record
	err    error
}

// ahead gathers the batches of an epoch by several workers at once, in front
// of the consumer, who gets them in order. A consumer who would have to wait
// gathers, too.
type ahead struct {
	n     int64
	own   func(ctx context.Context, i int64) (arrow.Record, error) // the consumer's
	slots []chan gathered                                          // batch i comes through slot i%len(slots)
	room  chan struct{}                                            // a token for each batch that is being gathered, waits, or is lent
	next  atomic.Int64                                             // the batch to gather next
	done  sync.WaitGroup
	stop  context.CancelFunc
	at    int64 // the batch that the consumer gets next
}

// gatherAhead starts the workers for n batches; each gathers with a function
// of its own. Close ends them.
func gatherAhead(ctx context.Context, workers int, n int64, worker func() func(ctx context.Context, i int64) (arrow.Record, error)) *ahead {
	// A worker is not to wait for the consumer while that works on a batch.
	a := &ahead{n: n, own: worker(), slots: make([]chan gathered, 2*workers+1)}
	ctx, a.stop = context.WithCancel(ctx)
	a.room = make(chan struct{}, len(a.slots))
	for i := range a.slots {
		a.slots[i] = make(chan gathered, 1)
	}
	for range workers {
		a.done.Go(func() {
			gather := worker()
			for {
				select {
				case a.room <- struct{}{}:
				case <-ctx.Done():
					return
				}
				if !a.gather(ctx, gather) {
					return
				}
			}
		})
	}
	return a
}

// gather does the next batch that nobody has begun, for which there is room. It
// is false where none is left, or it failed.
func (a *ahead) gather(ctx context.Context, gather func(ctx context.Context, i int64) (arrow.Record, error)) bool {
	i := a.next.Add(1) - 1
	if i >= a.n {
		return false
	}
	record, err := gather(ctx, i)
	a.slot(i) <- gathered{record, err} // empty: there was room
	return err == nil
}

func (a *ahead) slot(i int64) chan gathered { return a.slots[i%int64(len(a.slots))] }

// get returns the next batch; its consumer owns it, and calls free when it was
// released.
func (a *ahead) get(ctx context.Context) (arrow.Record, error) {
	for helps := true; helps; {
		select {
		case g := <-a.slot(a.at):
			a.at++
			return g.record, g.err
		default:
		}
		select {
		case a.room <- struct{}{}:
			helps = a.gather(ctx, a.own)
		default:
			helps = false
		}
	}
	select {
	case g := <-a.slot(a.at):
		a.at++
		return g.record, g.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (a *ahead) free() { <-a.room }

// close ends the workers, and releases what nobody got.
func (a *ahead) close() {
	a.stop()
	a.done.Wait()
	for _, slot := range a.slots {
		select {
		case g := <-slot:
			if g.record != nil {
				g.record.Release()
			}
		default:
		}
	}
}
