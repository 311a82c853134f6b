package stage_test

import (
	"context"
	"iter"
	"testing"

	"github.com/permafrost-ml/permafrost/stage"
)

// holder is released through its address.
type holder struct{ it *item }

func (h *holder) Release() { h.it.Release() }
func (h *holder) Retain()  { h.it.Retain() }

// dropped sends values of one type into a stage that has failed, through a
// buffer and two branches.
func dropped[T any](t *testing.T, name string, value func(l *ledger) T) {
	t.Run(name, func(t *testing.T) {
		var l ledger
		full := make(chan struct{}) // 3 are in a batch, 1 in the tee, 4 in the buffer
		g, _ := stage.NewGroup(t.Context())
		in := stage.From(g, "source", func(context.Context) iter.Seq2[T, error] {
			return func(yield func(T, error) bool) {
				for i := 0; yield(value(&l), nil); i++ {
					if i == 7 {
						close(full)
					}
				}
			}
		})
		for _, branch := range stage.Tee(g, stage.Prefetch(g, in, 4), 3) {
			stage.Consume(g, stage.Batch(g, branch, 3), "sink", func(context.Context, iter.Seq[[]T]) error {
				<-full
				return errBoom
			})
		}
		if err := g.Wait(); err == nil {
			t.Error("got no error")
		}
		l.check(t)
	})
}

func TestDroppedValuesAreReleased(t *testing.T) {
	dropped(t, "pointer", func(l *ledger) *item { return l.item(0) })
	dropped(t, "interface", func(l *ledger) stage.Releaser { return l.item(0) })
	dropped(t, "any", func(l *ledger) any { return l.item(0) })
	dropped(t, "value", func(l *ledger) holder { return holder{l.item(0)} })
	dropped(t, "slice", func(l *ledger) []*item { return []*item{l.item(0), nil, l.item(1)} })
	dropped(t, "slice of values", func(l *ledger) []holder { return []holder{{l.item(0)}, {l.item(1)}} })
	dropped(t, "slices", func(l *ledger) [][]*item { return [][]*item{{l.item(0)}, nil, {l.item(1)}} })
	dropped(t, "array", func(l *ledger) [2]*item { return [2]*item{l.item(0), l.item(1)} })
	dropped(t, "slice of any", func(l *ledger) []any { return []any{l.item(0), nil, 7, []*item{l.item(1)}} })
	dropped(t, "nil pointer", func(l *ledger) *item { l.item(0).Release(); return nil })
}
