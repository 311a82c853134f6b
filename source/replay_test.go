package source_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/permafrost-ml/permafrost/source"
)

// numbers is a table whose only column holds the row numbers.
type numbers struct {
	mem  memory.Allocator
	rows int64
	fail int64 // the row that cannot be read, if above 0
	lose bool  // gives a row too few
}

var errNumbers = errors.New("row cannot be read")

func (n *numbers) Rows() int64 { return n.rows }

func (n *numbers) Gather(_ context.Context, rows []int64) (arrow.Record, error) {
	if n.fail > 0 && slices.Contains(rows, n.fail) {
		return nil, errNumbers
	}
	if n.lose {
		rows = rows[1:]
	}
	b := array.NewRecordBuilder(n.mem, arrow.NewSchema([]arrow.Field{{Name: "row", Type: arrow.PrimitiveTypes.Int64}}, nil))
	defer b.Release()
	b.Field(0).(*array.Int64Builder).AppendValues(rows, nil)
	return b.NewRecord(), nil
}

func table(t testing.TB, rows int64) *numbers {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	t.Cleanup(func() { mem.AssertSize(t, 0) })
	return &numbers{mem: mem, rows: rows}
}

// replay returns the rows of an epoch's batches.
func replay(t testing.TB, tab source.Table, o source.ReplayOptions, epoch int) [][]int64 {
	t.Helper()
	r, err := source.Replay(tab, o)
	if err != nil {
		t.Fatal(err)
	}
	var batches [][]int64
	for record, err := range r.Epoch(t.Context(), epoch) {
		if err != nil {
			t.Fatal(err)
		}
		batches = append(batches, slices.Clone(record.Column(0).(*array.Int64).Int64Values()))
	}
	return batches
}

func TestReplayBatches(t *testing.T) {
	tests := []struct {
		rows int64
		opts source.ReplayOptions
		want []int
	}{
		{0, source.ReplayOptions{}, nil},
		{600, source.ReplayOptions{}, []int{256, 256, 88}},
		{600, source.ReplayOptions{DropLast: true}, []int{256, 256}},
		{512, source.ReplayOptions{DropLast: true}, []int{256, 256}},
		{5, source.ReplayOptions{DropLast: true}, nil},
		{5, source.ReplayOptions{BatchSize: 2}, []int{2, 2, 1}},
	}
	for _, test := range tests {
		for _, test.opts.Sequential = range []bool{false, true} {
			var sizes []int
			var rows []int64
			for _, batch := range replay(t, table(t, test.rows), test.opts, 0) {
				sizes = append(sizes, len(batch))
				rows = append(rows, batch...)
			}
			if !slices.Equal(sizes, test.want) {
				t.Errorf("%d rows, %+v: batches of %v, want %v", test.rows, test.opts, sizes, test.want)
			}
			if ordered := slices.IsSorted(rows); ordered != test.opts.Sequential && len(rows) > 1 {
				t.Errorf("%d rows, %+v: in the table's order is %v", test.rows, test.opts, ordered)
			}
			slices.Sort(rows)
			if len(slices.Compact(rows)) != len(rows) {
				t.Errorf("%d rows, %+v: a row comes twice", test.rows, test.opts)
			}
			r, err := source.Replay(table(t, test.rows), test.opts)
			if err != nil || r.Batches(0) != int64(len(test.want)) {
				t.Errorf("%d rows, %+v: %d batches, error %v", test.rows, test.opts, r.Batches(0), err)
			}
		}
	}
}

func TestReplayOrder(t *testing.T) {
	tab := table(t, 1000)
	order := func(seed uint64, epoch int) []int64 {
		return slices.Concat(replay(t, tab, source.ReplayOptions{Seed: seed, BatchSize: 100}, epoch)...)
	}
	first := order(1, 0)
	if !slices.Equal(first, order(1, 0)) || slices.Equal(first, order(1, 1)) || slices.Equal(first, order(2, 0)) {
		t.Error("the order does not depend on seed and epoch alone")
	}
	other := slices.Concat(replay(t, tab, source.ReplayOptions{Seed: 1, BatchSize: 7}, 0)...)
	if !slices.Equal(first, other) {
		t.Error("the order depends on the batch size")
	}
}

func TestReplayRanks(t *testing.T) {
	tab := table(t, 95)
	whole := replay(t, tab, source.ReplayOptions{BatchSize: 10, Seed: 3}, 2)
	for world := 1; world <= 4; world++ {
		for start := range int64(11) {
			var got [][]int64
			parts := make([][][]int64, world)
			for rank := range world {
				// Two epochs of 10 batches lie before epoch 2.
				parts[rank] = replay(t, tab, source.ReplayOptions{BatchSize: 10, Seed: 3, Rank: rank, World: world, Start: 20 + start}, 2)
			}
			for i := range len(whole) - int(start) {
				got = append(got, parts[i%world][i/world])
			}
			if !slices.EqualFunc(got, whole[start:], slices.Equal) {
				t.Fatalf("%d ranks, start %d: %v", world, start, got)
			}
		}
	}
}

func TestReplayStart(t *testing.T) {
	tab := table(t, 40)
	for start := range int64(14) {
		for epoch := range 4 {
			got := replay(t, tab, source.ReplayOptions{BatchSize: 10, Start: start}, epoch)
			whole := replay(t, tab, source.ReplayOptions{BatchSize: 10}, epoch)
			want := whole[min(max(start-int64(epoch)*4, 0), 4):]
			if !slices.EqualFunc(got, want, slices.Equal) {
				t.Errorf("start %d, epoch %d: %d batches, want %d", start, epoch, len(got), len(want))
			}
		}
	}
	r, err := source.Replay(tab, source.ReplayOptions{BatchSize: 10, Start: 2})
	if err != nil {
		t.Fatal(err)
	}
	for done, want := range map[int64]int{-1: 4, 0: 4, 3: 1, 4: 0, 9: 0} {
		n := 0
		for range r.EpochFrom(t.Context(), 0, done) {
			n++
		}
		if n != want {
			t.Errorf("from batch %d: %d batches, want %d", done, n, want)
		}
	}
}

func TestReplayFailures(t *testing.T) {
	for _, o := range []source.ReplayOptions{{BatchSize: -1}, {Rank: 1}, {Rank: 2, World: 2}, {Rank: -1}, {World: -1}, {Start: -1}} {
		if _, err := source.Replay(table(t, 1), o); err == nil {
			t.Errorf("%+v is accepted", o)
		}
	}
	last := func(ctx context.Context, tab source.Table) (turns int, err error) {
		r, err := source.Replay(tab, source.ReplayOptions{BatchSize: 10, Sequential: true})
		if err != nil {
			t.Fatal(err)
		}
		for _, err = range r.Epoch(ctx, 1) {
			turns++
		}
		return turns, err
	}
	broken := table(t, 100)
	broken.fail = 25
	if turns, err := last(t.Context(), broken); turns != 3 || !errors.Is(err, errNumbers) || err.Error() != "epoch 1, batch 2: row cannot be read" {
		t.Errorf("a row that cannot be read: %v in turn %d", err, turns)
	}
	short := table(t, 100)
	short.lose = true
	if turns, err := last(t.Context(), short); turns != 1 || err == nil {
		t.Errorf("a row too few: %v in turn %d", err, turns)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if turns, err := last(ctx, table(t, 100)); turns != 1 || !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v in turn %d", err, turns)
	}
}

func TestReplayLendsRecords(t *testing.T) {
	r, err := source.Replay(table(t, 100), source.ReplayOptions{BatchSize: 10})
	if err != nil {
		t.Fatal(err)
	}
	var kept arrow.Record
	for record, err := range r.Epoch(t.Context(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		if kept != nil {
			break // the allocator shows whether this one is released
		}
		record.Retain()
		kept = record
	}
	if got := fmt.Sprint(kept.Column(0).(*array.Int64).Len()); got != "10" {
		t.Errorf("the batch that was kept has %s rows", got)
	}
	kept.Release()

	var wg sync.WaitGroup
	for epoch := range 4 {
		wg.Go(func() {
			n := int64(0)
			for record, err := range r.Epoch(t.Context(), epoch) {
				if err != nil {
					t.Error(err)
					return
				}
				n += record.NumRows()
			}
			if n != 100 {
				t.Errorf("epoch %d has %d rows", epoch, n)
			}
		})
	}
	wg.Wait()
}
