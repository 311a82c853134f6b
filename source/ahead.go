package source

import (
	"context"
	"sync"

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
	fetch func(ctx context.Context, rows []int64) (arrow.Record, error)
	rows  []int64         // the consumer's
	slots []chan gathered // batch i comes through slot i%len(slots)
	room  chan struct{}   // a token for each batch that is being gathered, waits, or is lent
	done  sync.WaitGroup
	stop  context.CancelFunc
	at    int64 // the batch that the consumer gets next

	mu    sync.Mutex
	draw  func(dst []int64, i int64) []int64 // the rows of a batch, none after the last
	next  int64                              // the batch to draw next
	drawn bool                               // all are
}

// gatherAhead starts the workers. Draw is called for one batch after the
// other, and what it returns is fetched by several goroutines at once. Close
// ends them.
func gatherAhead(ctx context.Context, workers int, draw func(dst []int64, i int64) []int64, fetch func(ctx context.Context, rows []int64) (arrow.Record, error)) *ahead {
	// A worker is not to wait for the consumer while that works on a batch.
	a := &ahead{draw: draw, fetch: fetch, slots: make([]chan gathered, 2*workers+1)}
	ctx, a.stop = context.WithCancel(ctx)
	a.room = make(chan struct{}, len(a.slots))
	for i := range a.slots {
		a.slots[i] = make(chan gathered, 1)
	}
	for range workers {
		a.done.Go(func() {
			var rows []int64
			for {
				select {
				case a.room <- struct{}{}:
				case <-ctx.Done():
					return
				}
				if !a.gather(ctx, &rows) {
					return
				}
			}
		})
	}
	return a
}

// gather does the next batch that nobody has begun, for which there is room,
// with memory for its rows. It is false where none is left, or it failed.
func (a *ahead) gather(ctx context.Context, rows *[]int64) bool {
	a.mu.Lock()
	if a.drawn {
		a.mu.Unlock()
		return false
	}
	i := a.next
	a.next++
	*rows = a.draw((*rows)[:0], i)
	a.drawn = len(*rows) == 0
	a.mu.Unlock()
	var g gathered // the end comes as a batch without a record
	if len(*rows) > 0 {
		g.record, g.err = a.fetch(ctx, *rows)
	}
	a.slot(i) <- g // empty: there was room
	return g.record != nil
}

func (a *ahead) slot(i int64) chan gathered { return a.slots[i%int64(len(a.slots))] }

// get returns the next batch, nil after the last; its consumer owns it, and
// calls free when it was released.
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
			helps = a.gather(ctx, &a.rows)
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
