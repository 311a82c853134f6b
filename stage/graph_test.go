package stage_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	streams "github.com/reugn/go-streams"
	"github.com/reugn/go-streams/flow"

	"github.com/permafrost-ml/permafrost/stage"
)

type items = stage.Stream[*item]

// op is an operation inside a graph: it must apply fn once to every item that
// passes, in a stage named "step".
type op struct {
	name    string
	ordered bool
	copies  func(n int) int // how often an item comes out; nil is once
	build   func(g *stage.Group, in items, n int, fn stage.Func[*item, *item]) items
}

func same(_ context.Context, it *item) (*item, error) { return it, nil }

func native(n int) *flow.Map[*item, *item] {
	return flow.NewMap(func(it *item) *item { return it }, n)
}

func split(g *stage.Group, in items, name string, n int, fn stage.Func[*item, *item]) []items {
	return stage.Split(g, in, name, n, func(ctx context.Context, in iter.Seq[*item], emit func(int, *item) error) error {
		i := 0
		for v := range in {
			v, err := fn(ctx, v)
			if err == nil {
				err = emit(i%n, v)
			}
			if err != nil {
				return err
			}
			i++
		}
		return nil
	})
}

func ops() []op {
	all := []op{
		{"map", false, nil, func(g *stage.Group, in items, n int, fn stage.Func[*item, *item]) items {
			return stage.Map(g, in, "step", n, fn)
		}},
		{"ordered map", true, nil, func(g *stage.Group, in items, n int, fn stage.Func[*item, *item]) items {
			return stage.OrderedMap(g, in, "step", n, fn)
		}},
		{"ordered workers", true, nil, func(g *stage.Group, in items, n int, fn stage.Func[*item, *item]) items {
			// Each state holds a reference of its own.
			l := &ledger{}
			return stage.OrderedWorkers(g, in, "step", n,
				func(_ context.Context, worker int) (*item, error) { return l.item(worker), nil },
				func(ctx context.Context, s, v *item) (*item, error) {
					if s.refs.Load() != 1 {
						return nil, errors.New("state is closed")
					}
					return fn(ctx, v)
				},
				func(s *item) error {
					s.Release()
					return nil
				})
		}},
		{"process", true, nil, func(g *stage.Group, in items, _ int, fn stage.Func[*item, *item]) items {
			return stage.Process(g, in, "step", func(ctx context.Context, in iter.Seq[*item], emit func(*item) error) error {
				for v := range in {
					v, err := fn(ctx, v)
					if err != nil {
						return err
					}
					if err := emit(v); err != nil {
						return err
					}
				}
				return nil
			})
		}},
		{"split and merge", false, nil, func(g *stage.Group, in items, n int, fn stage.Func[*item, *item]) items {
			return stage.Merge(g, split(g, in, "step", n, fn)...)
		}},
		{"flow in a native chain", false, nil, func(g *stage.Group, in items, n int, fn stage.Func[*item, *item]) items {
			return stage.Through[*item, *item](g, in, native(1),
				stage.AsFlow(g, "flow", func(g *stage.Group, in items) items { return stage.Map(g, in, "step", n, fn) }),
				native(1))
		}},
		{"native source", false, nil, func(g *stage.Group, in items, n int, fn stage.Func[*item, *item]) items {
			src := stage.AsSource(g, stage.Map(g, in, "step", n, fn))
			return stage.FromSource[*item](g, "source", outlet{src.Via(native(n))})
		}},
	}
	// The operations that call no function of the user's have a step before or
	// after them.
	for _, o := range []op{
		{"batch", true, nil, func(g *stage.Group, in items, n int, _ stage.Func[*item, *item]) items {
			return stage.Unbatch(g, stage.Batch(g, in, n))
		}},
		{"batches in flight", true, nil, func(g *stage.Group, in items, n int, _ stage.Func[*item, *item]) items {
			return stage.Unbatch(g, stage.Through[[]*item, []*item](g, stage.Prefetch(g, stage.Batch(g, in, 3), n), flow.NewPassThrough()))
		}},
		{"tee", false, func(n int) int { return n }, func(g *stage.Group, in items, n int, _ stage.Func[*item, *item]) items {
			return stage.Merge(g, stage.Tee(g, in, n)...)
		}},
		{"tee of batches", false, func(n int) int { return n }, func(g *stage.Group, in items, n int, _ stage.Func[*item, *item]) items {
			return stage.Unbatch(g, stage.Merge(g, stage.Tee(g, stage.Batch(g, in, 3), n)...))
		}},
		{"concat", false, nil, func(g *stage.Group, in items, n int, _ stage.Func[*item, *item]) items {
			parts := make([]items, 3)
			for i, s := range split(g, in, "deal", 3, same) {
				// Without room for all, the first part's end would wait for ever.
				parts[i] = stage.Prefetch(g, s, rows)
			}
			return stage.Concat(g, parts...)
		}},
		{"prefetch", true, nil, func(g *stage.Group, in items, n int, _ stage.Func[*item, *item]) items {
			return stage.Prefetch(g, in, n)
		}},
		{"native flows", false, nil, func(g *stage.Group, in items, n int, _ stage.Func[*item, *item]) items {
			return stage.Through[*item, *item](g, in, native(1), native(n), native(1))
		}},
		{"no native flow", true, nil, func(g *stage.Group, in items, _ int, _ stage.Func[*item, *item]) items {
			return stage.Through[*item, *item](g, in)
		}},
	} {
		before, after := o, o
		before.name, after.name = "step, then "+o.name, o.name+", then step"
		before.build = func(g *stage.Group, in items, n int, fn stage.Func[*item, *item]) items {
			return o.build(g, stage.Map(g, in, "step", 1, fn), n, nil)
		}
		after.build = func(g *stage.Group, in items, n int, fn stage.Func[*item, *item]) items {
			return stage.Map(g, o.build(g, in, n, nil), "step", 1, fn)
		}
		all = append(all, before, after)
	}
	return all
}

// outlet makes the end of a native chain a source.
type outlet struct{ streams.Outlet }

func (o outlet) Via(f streams.Flow) streams.Flow {
	flow.DoStream(o, f)
	return f
}

const (
	rows = 60
	at   = 23 // where things fail
)

// TestGraph puts each operation between a source and a sink and ends the graph
// in every way. The bubble fails if a goroutine is left.
func TestGraph(t *testing.T) {
	type scenario struct {
		name                            string
		source, step, panics, sink, end int // where it fails, or -1
		cancel                          time.Duration
		want                            error
		stage                           string
	}
	scenarios := []scenario{
		{"ok", -1, -1, -1, -1, -1, 0, nil, ""},
		{"source fails", at, -1, -1, -1, -1, 0, errBoom, "source"},
		{"stage fails", -1, at, -1, -1, -1, 0, errBoom, "step"},
		{"stage fails at once", -1, 0, -1, -1, -1, 0, errBoom, "step"},
		{"stage panics", -1, -1, at, -1, -1, 0, nil, "step"},
		{"sink fails", -1, -1, -1, at, -1, 0, errBoom, "sink"},
		{"sink fails at once", -1, -1, -1, 0, -1, 0, errBoom, "sink"},
		{"sink stops", -1, -1, -1, -1, at, 0, nil, ""},
		{"cancel", -1, -1, -1, -1, -1, 20 * time.Millisecond, errCause, ""},
		{"cancel at once", -1, -1, -1, -1, -1, 1, errCause, ""},
	}
	for _, o := range ops() {
		for _, n := range []int{1, 2, 5} {
			for _, s := range scenarios {
				t.Run(fmt.Sprintf("%s/%d/%s", o.name, n, s.name), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						var l ledger
						var got []int
						parent, cancel := context.WithCancelCause(t.Context())
						if s.cancel > 0 {
							time.AfterFunc(s.cancel, func() { cancel(errCause) })
						}
						g, ctx := stage.NewGroup(parent)
						out := o.build(g, stage.From(g, "source", l.source(rows, s.source)), n, step(s.step, s.panics))
						stage.Each(g, out, "sink", func(ctx context.Context, it *item) error {
							defer it.Release()
							got = append(got, it.n)
							switch len(got) - 1 {
							case s.sink:
								return errBoom
							case s.end:
								return stage.ErrStopped
							}
							return pause(ctx, time.Millisecond)
						})
						err := g.Wait()
						if ctx.Err() == nil {
							t.Error("the context lives on after Wait")
						}
						cancel(nil)
						synctest.Wait()
						l.check(t)

						switch e, _ := errors.AsType[*stage.Error](err); {
						case s.panics >= 0:
							p, ok := errors.AsType[*stage.PanicError](err)
							if !ok || p.Value != "boom" || len(p.Stack) == 0 || e.Stage != s.stage {
								t.Errorf("got error %v, want the panic in %s", err, s.stage)
							}
						case s.stage != "":
							if want := s.stage + ": boom"; err == nil || err.Error() != want || !errors.Is(err, s.want) {
								t.Errorf("got error %v, want %s", err, want)
							}
						case err != s.want: //nolint:errorlint // a cause comes back as it is
							t.Errorf("got error %v, want %v", err, s.want)
						}
						if o.ordered && !slices.IsSorted(got) {
							t.Errorf("out of order: %v", got)
						}
						if s.name == "ok" {
							copies := 1
							if o.copies != nil {
								copies = o.copies(n)
							}
							slices.Sort(got)
							var want []int
							for i := range rows {
								want = append(want, slices.Repeat([]int{i}, copies)...)
							}
							if !slices.Equal(got, want) {
								t.Errorf("got %v, want %v", got, want)
							}
						}
					})
				})
			}
		}
	}
}

// TestEndlessSource stops a source that would never end, through every
// operation.
func TestEndlessSource(t *testing.T) {
	for _, o := range ops() {
		switch o.name {
		case "concat, then step", "step, then concat":
			continue // its first part never ends
		case "native source":
			continue // it cannot be told to stop
		}
		t.Run(o.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var l ledger
				n := 0
				g, _ := stage.NewGroup(t.Context())
				out := o.build(g, stage.From(g, "source", l.source(-1, -1)), 2, step(-1, -1))
				stage.Each(g, out, "sink", func(_ context.Context, it *item) error {
					it.Release()
					if n++; n == 10 {
						return fmt.Errorf("enough: %w", stage.ErrStopped)
					}
					return nil
				})
				if err := g.Wait(); err != nil || n != 10 {
					t.Errorf("got %d values and error %v, want 10 and none", n, err)
				}
				l.check(t)
			})
		})
	}
}

// TestBackPressure counts how many values leave the source while the sink holds
// on to its first.
func TestBackPressure(t *testing.T) {
	step := func(_ context.Context, it *item) (*item, error) { return it, nil }
	for _, tt := range []struct {
		name  string
		held  func(n int) int
		build func(g *stage.Group, in items, n int) items
	}{
		{"none", func(int) int { return 0 }, func(_ *stage.Group, in items, _ int) items { return in }},
		{"map", func(n int) int { return n }, func(g *stage.Group, in items, n int) items { return stage.Map(g, in, "step", n, step) }},
		{"ordered map", func(n int) int { return 2 * n }, func(g *stage.Group, in items, n int) items { return stage.OrderedMap(g, in, "step", n, step) }},
		{"prefetch", func(n int) int { return n }, func(g *stage.Group, in items, n int) items { return stage.Prefetch(g, in, n) }},
		// A batch is offered whole; the rest of the one before it is being taken
		// apart, and where there is no rest, the next.
		{"batch", func(n int) int { return max(2*n-1, 2) }, func(g *stage.Group, in items, n int) items { return stage.Unbatch(g, stage.Batch(g, in, n)) }},
		{"tee", func(int) int { return 1 }, func(g *stage.Group, in items, _ int) items {
			branches := stage.Tee(g, in, 2)
			stage.Each(g, branches[1], "fast", func(_ context.Context, it *item) error {
				it.Release()
				return nil
			})
			return branches[0]
		}},
	} {
		for _, n := range []int{1, 2, 5} {
			t.Run(fmt.Sprint(tt.name, "/", n), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var l ledger
					var taken atomic.Int64
					g, _ := stage.NewGroup(t.Context())
					out := tt.build(g, stage.From(g, "source", l.source(rows, -1)), n)
					hold := make(chan struct{})
					stage.Each(g, out, "sink", func(_ context.Context, it *item) error {
						defer it.Release()
						taken.Add(1)
						<-hold
						return nil
					})
					synctest.Wait()
					// One is in the sink, one is offered by the source.
					if got, want := l.made.Load(), int64(tt.held(n)+2); got != want {
						t.Errorf("the source was asked for %d values, want %d", got, want)
					}
					if got := taken.Load(); got != 1 {
						t.Errorf("the sink was given %d values, want 1", got)
					}
					close(hold)
					if err := g.Wait(); err != nil {
						t.Error(err)
					}
					l.check(t)
				})
			})
		}
	}
}
