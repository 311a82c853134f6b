package stage_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	streams "github.com/reugn/go-streams"
	"github.com/reugn/go-streams/extension"
	"github.com/reugn/go-streams/flow"

	"github.com/permafrost-ml/permafrost/stage"
)

// feedNative returns a native source of elements.
func feedNative(elements ...any) streams.Source {
	ch := make(chan any)
	go func() {
		defer close(ch)
		for _, e := range elements {
			ch <- e
		}
	}()
	return extension.NewChanSource(ch)
}

// TestWrongType sends one element of a wrong type through each adapter.
func TestWrongType(t *testing.T) {
	texts := func(g *stage.Group, in stage.Stream[string]) { list(g, in) }
	for _, tt := range []struct {
		name, stage string
		build       func(g *stage.Group, l *ledger)
	}{
		{"FromSource", "typed", func(g *stage.Group, l *ledger) {
			texts(g, stage.FromSource[string](g, "typed", feedNative("a", l.item(0), "b")))
		}},
		{"Through", "source/through", func(g *stage.Group, l *ledger) {
			in := stage.From(g, "source", l.source(5, -1))
			texts(g, stage.Through[*item, string](g, in, native(2)))
		}},
		{"Through nothing", "source/through", func(g *stage.Group, l *ledger) {
			in := stage.From(g, "source", l.source(5, -1))
			texts(g, stage.Through[*item, string](g, in))
		}},
		{"AsFlow", "typed", func(g *stage.Group, l *ledger) {
			f := stage.AsFlow(g, "typed", func(_ *stage.Group, in stage.Stream[string]) stage.Stream[string] { return in })
			texts(g, stage.FromSource[string](g, "after", outlet{feedNative("a", l.item(0), "b").Via(f)}))
		}},
		{"AsSink", "typed", func(g *stage.Group, l *ledger) {
			feedNative("a", l.item(0), "b").Via(flow.NewPassThrough()).To(stage.AsSink(g, "typed", texts))
		}},
		{"nil", "typed", func(g *stage.Group, _ *ledger) {
			texts(g, stage.FromSource[string](g, "typed", feedNative(nil)))
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var l ledger
				g, _ := stage.NewGroup(t.Context())
				tt.build(g, &l)
				err := g.Wait()
				if !errors.Is(err, stage.ErrType) || !strings.HasPrefix(err.Error(), tt.stage+": ") {
					t.Errorf("got error %v, want %v of %s", err, stage.ErrType, tt.stage)
				}
				synctest.Wait()
				l.check(t)
			})
		})
	}
}

// TestNilInterface checks that a nil of an interface type survives a channel of
// any, where it has no type.
func TestNilInterface(t *testing.T) {
	g, _ := stage.NewGroup(t.Context())
	got := list(g, stage.FromSource[error](g, "errors", feedNative(errBoom, nil)))
	if err := g.Wait(); err != nil || !slices.Equal(*got, []error{errBoom, nil}) {
		t.Errorf("got %v and error %v", *got, err)
	}
}

// TestSinkCompletes checks that a native To returns when the last of a sink's
// stages has ended, not when the last element was taken.
func TestSinkCompletes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, _ := stage.NewGroup(t.Context())
		var got [][]int
		sink := stage.AsSink(g, "sink", func(g *stage.Group, in stage.Stream[int]) {
			stage.Each(g, stage.Batch(g, in, 2), "slow", func(_ context.Context, b []int) error {
				time.Sleep(time.Minute)
				got = append(got, b)
				return nil
			})
		})
		feedNative(1, 2, 3).Via(flow.NewPassThrough()).To(sink)
		if want := "[[1 2] [3]]"; fmt.Sprint(got) != want {
			t.Errorf("To returned after %v, want %s", got, want)
		}
		if err := g.Wait(); err != nil {
			t.Error(err)
		}
	})
}

// slowSink is a native sink that completes some time after its last element.
type slowSink struct {
	in   chan any
	done chan struct{}
	got  []any
}

func newSlowSink() *slowSink {
	s := &slowSink{in: make(chan any), done: make(chan struct{})}
	go func() {
		defer close(s.done)
		for e := range s.in {
			s.got = append(s.got, e)
		}
		time.Sleep(time.Minute)
	}()
	return s
}

func (s *slowSink) In() chan<- any   { return s.in }
func (s *slowSink) AwaitCompletion() { <-s.done }

func TestTo(t *testing.T) {
	for _, fail := range []int{-1, 3} {
		synctest.Test(t, func(t *testing.T) {
			var l ledger
			g, _ := stage.NewGroup(t.Context())
			sink := newSlowSink()
			stage.To(g, stage.From(g, "source", l.source(5, fail)), sink)
			start := time.Now()
			if err := g.Wait(); errors.Is(err, errBoom) != (fail >= 0) {
				t.Errorf("got error %v", err)
			}
			if time.Since(start) < time.Minute {
				t.Error("Wait did not wait for the sink")
			}
			if fail < 0 && len(sink.got) != 5 {
				t.Errorf("the sink got %d values, want 5", len(sink.got))
			}
			for _, e := range sink.got {
				e.(*item).Release()
			}
			l.check(t)
		})
	}
}

// TestNativeChain runs a chain that is the library's but for its
// ends, and fails it at each.
func TestNativeChain(t *testing.T) {
	for _, tt := range []struct {
		name         string
		source, sink int
	}{{"ok", -1, -1}, {"source fails", at, -1}, {"sink fails", -1, at}} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var l ledger
				n := 0
				g, _ := stage.NewGroup(t.Context())
				sink := stage.AsSink(g, "sink", func(g *stage.Group, in items) {
					stage.Each(g, in, "each", func(_ context.Context, it *item) error {
						defer it.Release()
						if n == tt.sink {
							return errBoom
						}
						n++
						return nil
					})
				})
				stage.AsSource(g, stage.From(g, "source", l.source(rows, tt.source))).
					Via(native(3)).
					Via(stage.AsFlow(g, "flow", func(g *stage.Group, in items) items { return stage.OrderedMap(g, in, "step", 2, same) })).
					To(sink)
				err := g.Wait()
				if tt.name == "ok" && (err != nil || n != rows) || tt.name != "ok" && !errors.Is(err, errBoom) {
					t.Errorf("got %d values and error %v", n, err)
				}
				synctest.Wait()
				l.check(t)
			})
		})
	}
}

// TestLateSender connects a native component to a flow and to a sink whose group
// has failed already: neither may keep the other from ending.
func TestLateSender(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l ledger
		g, _ := stage.NewGroup(t.Context())
		f := stage.AsFlow(g, "flow", func(_ *stage.Group, in items) items { return in })
		sink := stage.AsSink(g, "sink", func(g *stage.Group, in items) {
			stage.Each(g, in, "each", func(context.Context, *item) error { return nil })
		})
		g.Go("work", func(context.Context) error { return errBoom })
		if err := g.Wait(); !errors.Is(err, errBoom) {
			t.Errorf("got error %v, want %v", err, errBoom)
		}
		for range f.Out() {
			t.Error("a flow that has ended has an output")
		}
		feedNative(l.item(0), l.item(1)).Via(f)
		feedNative(l.item(2), l.item(3)).Via(native(1)).To(sink)
		synctest.Wait()
		l.check(t)
	})
}

// stopper is a native flow that ends after one element and reads no further.
type stopper struct{ in, out chan any }

func (s stopper) In() chan<- any                  { return s.in }
func (s stopper) Out() <-chan any                 { return s.out }
func (s stopper) Via(f streams.Flow) streams.Flow { flow.DoStream(s, f); return f }
func (s stopper) To(sink streams.Sink)            { flow.DoStream(s, sink); sink.AwaitCompletion() }

func TestNativeFlowThatStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l ledger
		s := stopper{make(chan any), make(chan any)}
		go func() {
			s.out <- <-s.in
			close(s.out)
		}()
		n := 0
		g, _ := stage.NewGroup(t.Context())
		stage.Each(g, stage.Through[*item, *item](g, stage.From(g, "source", l.source(-1, -1)), s), "sink", func(_ context.Context, it *item) error {
			it.Release()
			n++
			return nil
		})
		if err := g.Wait(); err != nil || n != 1 {
			t.Errorf("got %d values and error %v, want 1 and none", n, err)
		}
		l.check(t)
	})
}
