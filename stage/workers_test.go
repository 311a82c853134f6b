package stage_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/permafrost-ml/permafrost/stage"
)

func goroutine() string {
	buf := make([]byte, 64)
	return string(bytes.Fields(buf[:runtime.Stack(buf, false)])[1])
}

// TestWorkersOwnTheirGoroutine checks where open, fn and close run, and that
// all that was opened is closed, however the stage ends.
func TestWorkersOwnTheirGoroutine(t *testing.T) {
	type state struct {
		worker int
		home   string
	}
	for _, n := range []int{1, 2, 5} {
		for _, failAt := range []int{-1, 17} {
			t.Run(fmt.Sprint(n, "/", failAt), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var mu sync.Mutex
					homes := map[string]int{}
					var inFn, most, closed atomic.Int64
					g, _ := stage.NewGroup(t.Context())
					out := stage.OrderedWorkers(g, stage.From(g, "source", numbers(50)), "work", n,
						func(_ context.Context, worker int) (*state, error) {
							mu.Lock()
							defer mu.Unlock()
							if _, ok := homes[goroutine()]; ok || worker < 0 || worker >= n {
								t.Errorf("worker %d opens on a goroutine that has a state, or is not one of %d", worker, n)
							}
							homes[goroutine()] = worker
							return &state{worker, goroutine()}, nil
						},
						func(_ context.Context, s *state, v int) (int, error) {
							if s.home != goroutine() {
								t.Errorf("worker %d calls fn on another goroutine", s.worker)
							}
							now := inFn.Add(1)
							defer inFn.Add(-1)
							most.Store(max(most.Load(), now))
							time.Sleep(time.Duration(1+v%3) * time.Millisecond)
							if v == failAt {
								return 0, errBoom
							}
							return v, nil
						},
						func(s *state) error {
							if s.home != goroutine() {
								t.Errorf("worker %d closes on another goroutine", s.worker)
							}
							closed.Add(1)
							return nil
						})
					list(g, out)
					if err := g.Wait(); (err != nil) != (failAt >= 0) {
						t.Errorf("got error %v", err)
					}
					if len(homes) != n || closed.Load() != int64(n) {
						t.Errorf("%d opened and %d closed, want %d", len(homes), closed.Load(), n)
					}
					if most.Load() != int64(n) {
						t.Errorf("at most %d at work at once, want %d", most.Load(), n)
					}
				})
			})
		}
	}
}

func TestWorkersOpenAtTheirFirstValue(t *testing.T) {
	for values, want := range []int64{0, 1} {
		var opened, closed atomic.Int64
		g, _ := stage.NewGroup(t.Context())
		list(g, stage.OrderedWorkers(g, stage.From(g, "source", numbers(values)), "work", 5,
			func(context.Context, int) (int, error) { opened.Add(1); return 0, nil },
			func(_ context.Context, _, v int) (int, error) { return v, nil },
			func(int) error { closed.Add(1); return nil }))
		if err := g.Wait(); err != nil {
			t.Error(err)
		}
		if opened.Load() != want || closed.Load() != want {
			t.Errorf("%d values: %d opened and %d closed, want %d", values, opened.Load(), closed.Load(), want)
		}
	}
}

func TestWorkersErrors(t *testing.T) {
	errOpen, errClose := errors.New("no device"), errors.New("cannot free")
	for _, tt := range []struct {
		name                  string
		open, fn, close, want error
	}{
		{"open", errOpen, nil, nil, errOpen},
		{"close", nil, nil, errClose, errClose},
		{"fn and close", nil, errBoom, errClose, errBoom},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var l ledger
				g, _ := stage.NewGroup(t.Context())
				out := stage.OrderedWorkers(g, stage.From(g, "source", l.source(20, -1)), "work", 2,
					func(context.Context, int) (int, error) { return 0, tt.open },
					func(_ context.Context, _ int, it *item) (*item, error) {
						if it.n == 10 && tt.fn != nil {
							it.Release()
							return nil, tt.fn
						}
						return it, nil
					},
					func(int) error { return tt.close })
				stage.Each(g, out, "sink", func(_ context.Context, it *item) error { it.Release(); return nil })
				err := g.Wait()
				if e, ok := errors.AsType[*stage.Error](err); !ok || e.Stage != "work" || !errors.Is(e, tt.want) {
					t.Errorf("got error %v, want %v of work", err, tt.want)
				}
				if tt.close != nil && !errors.Is(err, tt.close) {
					t.Errorf("error %v does not hold %v", err, tt.close)
				}
				l.check(t)
			})
		})
	}
}

// TestOrderedMapFailsTheSame has two values fail, the later one sooner: what
// comes out and what fails must not depend on n.
func TestOrderedMapFailsTheSame(t *testing.T) {
	for _, n := range []int{1, 2, 5} {
		synctest.Test(t, func(t *testing.T) {
			g, _ := stage.NewGroup(t.Context())
			got := list(g, stage.OrderedMap(g, stage.From(g, "source", numbers(50)), "step", n, func(_ context.Context, v int) (int, error) {
				switch v {
				case 7:
					time.Sleep(time.Hour)
					return 0, errBoom
				case 9:
					return 0, errors.New("later")
				}
				return v, nil
			}))
			if err := g.Wait(); !errors.Is(err, errBoom) {
				t.Errorf("%d workers: got error %v, want %v", n, err, errBoom)
			}
			if want := []int{0, 1, 2, 3, 4, 5, 6}; !slices.Equal(*got, want) {
				t.Errorf("%d workers: got %v, want %v", n, *got, want)
			}
		})
	}
}

func TestOrderedMapUnderLoad(t *testing.T) {
	const values = 20_000
	g, _ := stage.NewGroup(t.Context())
	got := list(g, stage.OrderedMap(g, stage.From(g, "source", numbers(values)), "step", 5, func(_ context.Context, v int) (int, error) {
		for range rand.IntN(3) {
			runtime.Gosched()
		}
		return v, nil
	}))
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	if len(*got) != values || !slices.IsSorted(*got) {
		t.Errorf("%d values, sorted %v; want %d, sorted", len(*got), slices.IsSorted(*got), values)
	}
}
