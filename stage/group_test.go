package stage_test

import (
	"context"
	"errors"
	"iter"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/reugn/go-streams/flow"

	"github.com/permafrost-ml/permafrost/stage"
)

// TestMisuse has every wrongly built graph end with an error that names the
// stage, without a value lost.
func TestMisuse(t *testing.T) {
	discard := func(g *stage.Group, in items) {
		stage.Each(g, in, "sink", func(_ context.Context, it *item) error { it.Release(); return nil })
	}
	for _, tt := range []struct {
		name  string
		build func(g *stage.Group, in items)
		want  error
		stage string
	}{
		{"unconsumed", func(*stage.Group, items) {}, stage.ErrUnconsumed, "source"},
		{"unconsumed branch", func(g *stage.Group, in items) { discard(g, stage.Tee(g, in, 2)[0]) }, stage.ErrUnconsumed, "source/tee[1]"},
		{"unconsumed buffer", func(g *stage.Group, in items) {
			stage.Prefetch(g, in, 5)
			synctest.Wait() // it is full
		}, stage.ErrUnconsumed, "source/prefetch"},
		{"consumed twice", func(g *stage.Group, in items) {
			discard(g, in)
			discard(g, stage.Map(g, in, "second", 2, step(-1, -1)))
		}, stage.ErrConsumed, "source"},
		{"zero stream", func(g *stage.Group, in items) {
			discard(g, in)
			discard(g, items{})
		}, stage.ErrForeign, "sink"},
		{"no workers", func(g *stage.Group, in items) { discard(g, stage.Map(g, in, "step", 0, step(-1, -1))) }, nil, "step"},
		{"no ordered workers", func(g *stage.Group, in items) { discard(g, stage.OrderedMap(g, in, "step", -1, step(-1, -1))) }, nil, "step"},
		{"no batch size", func(g *stage.Group, in items) { discard(g, stage.Unbatch(g, stage.Batch(g, in, 0))) }, nil, "source/batch"},
		{"no branches", func(g *stage.Group, in items) {
			for _, s := range stage.Tee(g, in, -1) {
				discard(g, s)
			}
		}, nil, "source/tee"},
		{"output out of range", func(g *stage.Group, in items) {
			discard(g, stage.Split(g, in, "split", 1, func(_ context.Context, in iter.Seq[*item], emit func(int, *item) error) error {
				for it := range in {
					if err := emit(1, it); err != nil {
						return err
					}
				}
				return nil
			})[0])
		}, nil, "split"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var l ledger
				g, _ := stage.NewGroup(t.Context())
				tt.build(g, stage.From(g, "source", l.source(20, -1)))
				err := g.Wait()
				if e, ok := errors.AsType[*stage.Error](err); !ok || e.Stage != tt.stage || tt.want != nil && !errors.Is(e, tt.want) {
					t.Errorf("got error %v, want %v of %s", err, tt.want, tt.stage)
				}
				l.check(t)
			})
		})
	}
}

func TestNilFunction(t *testing.T) {
	g, _ := stage.NewGroup(t.Context())
	list(g, stage.OrderedMap[int, int](g, stage.From(g, "source", numbers(3)), "step", 2, nil))
	err := g.Wait()
	if _, ok := errors.AsType[*stage.PanicError](err); !ok || !strings.HasPrefix(err.Error(), "step: ") {
		t.Errorf("got error %v, want a panic in step", err)
	}
}

func TestStreamOfAnotherGroup(t *testing.T) {
	a, _ := stage.NewGroup(t.Context())
	b, _ := stage.NewGroup(t.Context())
	list(b, stage.From(a, "source", numbers(3)))
	if err := b.Wait(); !errors.Is(err, stage.ErrForeign) {
		t.Errorf("got error %v, want %v", err, stage.ErrForeign)
	}
	if err := a.Wait(); !errors.Is(err, stage.ErrUnconsumed) {
		t.Errorf("got error %v, want %v", err, stage.ErrUnconsumed)
	}
}

func TestStageAddedAfterWait(t *testing.T) {
	g, _ := stage.NewGroup(t.Context())
	waiting := make(chan struct{})
	g.Go("builder", func(context.Context) error {
		<-waiting
		for range 100 {
			runtime.Gosched()
		}
		time.Sleep(10 * time.Millisecond)
		stage.From(g, "late", numbers(3))
		return nil
	})
	close(waiting)
	if err := g.Wait(); !errors.Is(err, stage.ErrWaiting) || !strings.HasPrefix(err.Error(), "late: ") {
		t.Errorf("got error %v, want %v of late", err, stage.ErrWaiting)
	}
}

// slowError is an error that takes its time when it is looked at.
type slowError struct{}

func (slowError) Error() string { return "slow" }

func (slowError) Is(error) bool {
	time.Sleep(time.Second)
	return false
}

// TestEndUnderLivingContext checks that a stage that looks at its context after
// its input has ended never takes part of the values for all.
func TestEndUnderLivingContext(t *testing.T) {
	for name, build := range map[string]func(*stage.Group, stage.Stream[int]) stage.Stream[int]{
		"source":   func(_ *stage.Group, in stage.Stream[int]) stage.Stream[int] { return in },
		"prefetch": func(g *stage.Group, in stage.Stream[int]) stage.Stream[int] { return stage.Prefetch(g, in, 2) },
		"ordered": func(g *stage.Group, in stage.Stream[int]) stage.Stream[int] {
			return stage.OrderedMap(g, in, "step", 2, func(_ context.Context, v int) (int, error) { return v, nil })
		},
		"native": func(g *stage.Group, in stage.Stream[int]) stage.Stream[int] {
			return stage.Through[int, int](g, in, flow.NewPassThrough())
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g, _ := stage.NewGroup(t.Context())
				in := stage.From(g, "source", func(context.Context) iter.Seq2[int, error] {
					return func(yield func(int, error) bool) { _ = yield(1, nil) && yield(0, slowError{}) }
				})
				stage.Consume(g, build(g, in), "sink", func(ctx context.Context, in iter.Seq[int]) error {
					for range in { //nolint:revive // only the end matters
					}
					if ctx.Err() == nil {
						t.Error("a stream that failed has ended under a living context")
					}
					return nil
				})
				if _, ok := errors.AsType[slowError](g.Wait()); !ok {
					t.Error("the error is lost")
				}
			})
		})
	}
}

// TestContextEndsBlockedStages has all stages wait for ever, for the source,
// for the sink and in a function.
func TestContextEndsBlockedStages(t *testing.T) {
	forever := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	for _, where := range []string{"source", "step", "sink"} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeoutCause(t.Context(), time.Hour, errCause)
			defer cancel()
			g, _ := stage.NewGroup(ctx)
			in := stage.From(g, "source", func(ctx context.Context) iter.Seq2[int, error] {
				return func(yield func(int, error) bool) {
					for yield(1, nil) {
						if where == "source" {
							yield(0, forever(ctx))
							return
						}
					}
				}
			})
			out := stage.OrderedMap(g, stage.Prefetch(g, in, 3), "step", 2, func(ctx context.Context, v int) (int, error) {
				if where == "step" {
					return 0, forever(ctx)
				}
				return v, nil
			})
			stage.Each(g, stage.Batch(g, out, 2), "sink", func(ctx context.Context, _ []int) error {
				if where == "sink" {
					return forever(ctx)
				}
				return nil
			})
			start := time.Now()
			if err := g.Wait(); err != errCause { //nolint:errorlint // a cause comes back as it is
				t.Errorf("%s: got error %v, want %v", where, err, errCause)
			}
			if d := time.Since(start); d != time.Hour {
				t.Errorf("%s: ended after %v, want 1h", where, d)
			}
		})
	}
}

func TestGoexit(t *testing.T) {
	for _, n := range []int{1, 3} {
		synctest.Test(t, func(t *testing.T) {
			g, _ := stage.NewGroup(t.Context())
			list(g, stage.OrderedMap(g, stage.From(g, "source", numbers(50)), "step", n, func(_ context.Context, v int) (int, error) {
				if v >= 7 {
					runtime.Goexit()
				}
				return v, nil
			}))
			if err := g.Wait(); err == nil || !strings.HasPrefix(err.Error(), "step: ") {
				t.Errorf("got error %v, want one of step", err)
			}
		})
	}
}

func TestGo(t *testing.T) {
	g, ctx := stage.NewGroup(t.Context())
	g.Go("watch", func(ctx context.Context) error { <-ctx.Done(); return nil })
	g.Go("work", func(context.Context) error { return errBoom })
	err := g.Wait()
	if err == nil || err.Error() != "work: boom" || context.Cause(ctx) != err { //nolint:errorlint // the same value
		t.Errorf("got error %v and cause %v, want work: boom", err, context.Cause(ctx))
	}
}

// TestPanicValue checks that an error that was panicked with can be found.
func TestPanicValue(t *testing.T) {
	g, _ := stage.NewGroup(t.Context())
	g.Go("work", func(context.Context) error { panic(errBoom) })
	if err := g.Wait(); !errors.Is(err, errBoom) || err.Error() != "work: panic: boom" {
		t.Errorf("got error %v, want work: panic: boom", err)
	}
}
