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
// of the consumer, who gets them in order.
type ahead struct {
	slots []chan gathered // batch i comes through slot i%len(slots)
	room  chan struct{}   // a token for each batch that is being gathered, waits, or is lent
	next  atomic.Int64    // the batch to gather next
	done  sync.WaitGroup
	stop  context.CancelFunc
	at    int64 // the batch that the consumer gets next
}

// gatherAhead starts the workers for n batches; each gathers with a function
// of its own. Close ends them.
func gatherAhead(ctx context.Context, workers int, n int64, worker func() func(ctx context.Context, i int64) (arrow.Record, error)) *ahead {
	// A worker is not to wait for the consumer while that works on a batch.
	a := &ahead{slots: make([]chan gathered, 2*workers+1)}
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
				i := a.next.Add(1) - 1
				if i >= n {
					return
				}
				record, err := gather(ctx, i)
				a.slots[i%int64(len(a.slots))] <- gathered{record, err} // empty: there was room
				if err != nil {
					return
				}
			}
		})
	}
	return a
}

// get returns the next batch; its consumer owns it, and calls free when it was
// released.
func (a *ahead) get(ctx context.Context) (arrow.Record, error) {
	select {
	case g := <-a.slots[a.at%int64(len(a.slots))]:
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
