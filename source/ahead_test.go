package source_test

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"go.uber.org/goleak"

	"github.com/permafrost-ml/permafrost/source"
)

// TestReplayWorkers: the sequence does not depend on who gathers.
func TestReplayWorkers(t *testing.T) {
	for _, rows := range []int64{0, 1, 10, 95, 1000} {
		for _, sequential := range []bool{false, true} {
			o := source.ReplayOptions{BatchSize: 10, Seed: 3, Sequential: sequential, Workers: -1}
			want := replay(t, table(t, rows), o, 2)
			for _, o.Workers = range []int{0, 1, 2, 5, 200} {
				if got := replay(t, table(t, rows), o, 2); !slices.EqualFunc(got, want, slices.Equal) {
					t.Errorf("%d rows, %d workers: %v, want %v", rows, o.Workers, got, want)
				}
			}
		}
	}
}

// TestReplayWorkersEnd: whatever ends an epoch, the workers are gone and have
// released all; the table's allocator shows what is left.
func TestReplayWorkersEnd(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	for _, workers := range []int{1, 2, 5} {
		for turns := range 12 {
			tab := table(t, 100)
			r, err := source.Replay(tab, source.ReplayOptions{BatchSize: 10, Workers: workers})
			if err != nil {
				t.Fatal(err)
			}
			n := 0
			for _, err := range r.Epoch(t.Context(), 0) {
				if err != nil {
					t.Fatal(err)
				}
				if n++; n > turns {
					break
				}
			}

			ctx, cancel := context.WithCancelCause(t.Context())
			stopped := errors.New("stopped")
			n = 0
			var last error
			for _, last = range r.Epoch(ctx, 0) {
				if n++; n > turns {
					cancel(stopped)
				}
			}
			cancel(nil)
			if turns < 9 && !errors.Is(last, stopped) {
				t.Errorf("%d workers, cancelled in turn %d: %v", workers, turns, last)
			}

			tab.fail = int64(turns) * 8
			n = 0
			for _, last = range r.Epoch(t.Context(), 0) {
				n++
			}
			if failed := tab.fail > 0; failed != errors.Is(last, errNumbers) {
				t.Errorf("%d workers: %v", workers, last)
			}
			func() {
				defer func() {
					if recover() == nil {
						t.Error("the panic of a loop is lost")
					}
				}()
				for range r.Epoch(t.Context(), 1) {
					panic("in the loop")
				}
			}()
		}
	}
}

// TestReplayLendsAhead: a batch keeps its rows until the next turn, and longer
// if it is retained, while others are gathered.
func TestReplayLendsAhead(t *testing.T) {
	tab := table(t, 1000)
	r, err := source.Replay(tab, source.ReplayOptions{BatchSize: 10, Seed: 1, Workers: 3})
	if err != nil {
		t.Fatal(err)
	}
	want := replay(t, tab, source.ReplayOptions{BatchSize: 10, Seed: 1, Workers: -1}, 0)
	var kept []arrow.Record
	for record, err := range r.Epoch(t.Context(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		runtime.Gosched()
		record.Retain()
		kept = append(kept, record)
	}
	for i, record := range kept {
		if got := record.Column(0).(*array.Int64).Int64Values(); !slices.Equal(got, want[i]) {
			t.Errorf("batch %d: %v, want %v", i, got, want[i])
		}
		record.Release()
	}
}

// TestReplayResumes goes on at every two batches of an epoch, each time with
// another number of ranks: no batch is missing, and none comes twice.
func TestReplayResumes(t *testing.T) {
	tab := table(t, 75)
	o := source.ReplayOptions{BatchSize: 10, Seed: 9}
	whole := replay(t, tab, o, 1)
	n := int64(len(whole))
	part := func(from, to int64, world int) [][]int64 {
		out := make([][]int64, to-from)
		for rank := range world {
			o := o
			o.Rank, o.World, o.Start, o.Workers = rank, world, n+from, 2
			for k, batch := range replay(t, tab, o, 1) {
				if at := int64(rank) + int64(k*world); at < to-from {
					out[at] = batch
				}
			}
		}
		return out
	}
	worlds := []int{1, 2, 4, 3}
	for i, first := range worlds {
		second, third := worlds[(i+1)%4], worlds[(i+2)%4]
		for cut := range n + 1 {
			for again := cut; again <= n; again++ {
				got := slices.Concat(part(0, cut, first), part(cut, again, second), part(again, n, third))
				if !slices.EqualFunc(got, whole, slices.Equal) {
					t.Fatalf("%d ranks to %d, %d to %d, %d after: %v, want %v", first, cut, second, again, third, got, whole)
				}
			}
		}
	}
}
