package stage_test

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/permafrost-ml/permafrost/stage"
)

// TestTeeWithBranchesThatStop has each branch read so many values and stop.
func TestTeeWithBranchesThatStop(t *testing.T) {
	for _, tt := range []struct {
		values int // in the source, without end if negative
		reads  []int
		want   []int
	}{
		{rows, []int{0, rows}, []int{1, rows}},
		{rows, []int{rows, 5, 1}, []int{rows, 5, 1}},
		{-1, []int{9, 2, 4}, []int{9, 2, 4}},
	} {
		t.Run(fmt.Sprint(tt.values, tt.reads), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var l ledger
				got := make([]int, len(tt.reads))
				g, _ := stage.NewGroup(t.Context())
				for i, branch := range stage.Tee(g, stage.From(g, "source", l.source(tt.values, -1)), len(tt.reads)) {
					stage.Each(g, branch, "sink", func(_ context.Context, it *item) error {
						it.Release()
						if got[i]++; got[i] >= tt.reads[i] {
							return stage.ErrStopped
						}
						return nil
					})
				}
				if err := g.Wait(); err != nil {
					t.Error(err)
				}
				if !slices.Equal(got, tt.want) {
					t.Errorf("the branches read %v, want %v", got, tt.want)
				}
				l.check(t)
			})
		})
	}
}

// TestTeeReadInAnyOrder has a reader of the first branch that asks for a value
// only when the reader of the second was given it.
func TestTeeReadInAnyOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, _ := stage.NewGroup(t.Context())
		branches := stage.Tee(g, stage.From(g, "source", numbers(10)), 2)
		given := make(chan struct{})
		stage.Consume(g, branches[1], "second", func(_ context.Context, in iter.Seq[int]) error {
			defer close(given)
			for range in {
				given <- struct{}{}
			}
			return nil
		})
		var got []int
		stage.Consume(g, branches[0], "first", func(_ context.Context, in iter.Seq[int]) error {
			next, stop := iter.Pull(in)
			defer stop()
			for range given {
				v, _ := next()
				got = append(got, v)
			}
			return nil
		})
		if err := g.Wait(); err != nil || len(got) != 10 {
			t.Errorf("got %v and error %v", got, err)
		}
	})
}

func TestConcatOrder(t *testing.T) {
	g, _ := stage.NewGroup(t.Context())
	got := list(g, stage.Concat(g, stage.From(g, "a", numbers(3)), stage.From(g, "b", numbers(2)), stage.From(g, "c", numbers(0)), stage.From(g, "d", numbers(1))))
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	if want := []int{0, 1, 2, 0, 1, 0}; !slices.Equal(*got, want) {
		t.Errorf("got %v, want %v", *got, want)
	}
}

func TestNothingToJoin(t *testing.T) {
	g, _ := stage.NewGroup(t.Context())
	merged, joined := list(g, stage.Merge[int](g)), list(g, stage.Concat[int](g))
	if err := g.Wait(); err != nil || len(*merged)+len(*joined) != 0 {
		t.Errorf("got %v, %v and error %v", *merged, *joined, err)
	}
}

// TestBatchSizes checks the lengths of batches, and that none shares memory
// with another.
func TestBatchSizes(t *testing.T) {
	for _, tt := range []struct{ values, size, want, last int }{
		{0, 3, 0, 0},
		{2, 3, 1, 2},
		{3, 3, 1, 3},
		{7, 3, 3, 1},
		{4, 1, 4, 1},
	} {
		t.Run(fmt.Sprint(tt.values, "/", tt.size), func(t *testing.T) {
			g, _ := stage.NewGroup(t.Context())
			got := list(g, stage.Batch(g, stage.From(g, "source", numbers(tt.values)), tt.size))
			if err := g.Wait(); err != nil {
				t.Fatal(err)
			}
			if len(*got) != tt.want || tt.want > 0 && len((*got)[tt.want-1]) != tt.last {
				t.Fatalf("got %v, want %d batches, the last of %d", *got, tt.want, tt.last)
			}
			for i, v := range slices.Concat(*got...) {
				if v != i {
					t.Errorf("value %d is %d", i, v)
				}
			}
		})
	}
}
