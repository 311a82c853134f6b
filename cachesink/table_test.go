package cachesink

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"

	"github.com/permafrost-ml/permafrost/encode"
)

// opened fills a cache and reads one split of it.
func opened(t *testing.T, s setup, split int) *SplitReader {
	t.Helper()
	s.mem = checked(t)
	c, _ := mustRun(t, s, Memory())
	return splitOf(t, c, split, &Tables{})
}

func embeddings(t *testing.T, rec arrow.Record, name string) (arrow.Array, []float32, int) {
	t.Helper()
	a := rec.Column(rec.Schema().FieldIndices(name)[0])
	v, dim, err := Vectors(a)
	if err != nil {
		t.Fatal(err)
	}
	return a, v, dim
}

// TestGatherLends: rows whose objects stand one after the other in one
// record batch of a shard share its memory; all others are copied.
func TestGatherLends(t *testing.T) {
	// 20 objects in shards of 8; the last rows come again in another order.
	samples := append(groups("a", 20, 20), groups("a", 3, 3)...)
	r := opened(t, setup{splits: map[string][]encode.Sample{"train": samples}}, 0)
	stored := r.tables["e"]
	for _, tc := range []struct {
		name string
		rows []int64
		lent bool
	}{
		{"a whole shard", []int64{0, 1, 2, 3, 4, 5, 6, 7}, true},
		{"one row", []int64{12}, true},
		{"the end", []int64{18, 19}, true},
		{"the same objects again", []int64{20, 21, 22}, true},
		{"over two shards", []int64{7, 8}, false},
		{"backwards", []int64{3, 2}, false},
		{"with a gap", []int64{1, 3}, false},
		{"twice the same", []int64{1, 1}, false},
		{"none", nil, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			rec, err := r.Gather(t.Context(), tc.rows)
			if err != nil {
				t.Fatal(err)
			}
			defer rec.Release()
			_, got, dim := embeddings(t, rec, "e")
			if rec.NumRows() != int64(len(tc.rows)) || len(got) != len(tc.rows)*dim {
				t.Fatalf("%d rows, %d values", rec.NumRows(), len(got))
			}
			lent := false
			for i, row := range tc.rows {
				pos := row
				if row >= 20 {
					pos -= 20
				}
				c, at, err := stored.find(t.Context(), pos)
				if err != nil {
					t.Fatal(err)
				}
				want := c.vecs.f32[at*dim:][:dim]
				if !slices.Equal(got[i*dim:(i+1)*dim], want) {
					t.Errorf("row %d: %v, want %v", row, got[i*dim:(i+1)*dim], want)
				}
				lent = &got[i*dim] == &want[0]
			}
			if lent != tc.lent {
				t.Errorf("lent: %v", lent)
			}
		})
	}
	for _, bad := range []int64{-1, 23} {
		if _, err := r.Gather(t.Context(), []int64{0, bad}); err == nil {
			t.Errorf("row %d was gathered", bad)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := r.Gather(ended, []int64{0})
	wantErr(t, err, context.Canceled)
}

func TestSelect(t *testing.T) {
	r := opened(t, twoEncoders(), 1)
	sel, err := r.Select("prompted_b", ColumnRow, "trainable_a_input")
	if err != nil {
		t.Fatal(err)
	}
	rec, err := sel.Gather(t.Context(), []int64{4, 2})
	if err != nil {
		t.Fatal(err)
	}
	defer rec.Release()
	if got := columnNames(rec.Schema()); got != "row, prompted_b, trainable_a_input" {
		t.Errorf("columns %s", got)
	}
	rows, err := column[*array.Int64](rec, ColumnRow)
	if err != nil || !slices.Equal(rows.Int64Values(), []int64{4, 2}) {
		t.Errorf("rows %v, %v", rows, err)
	}
	sel.Release() // frees nothing of r
	if _, err := r.Select("nothing"); err == nil {
		t.Error("a column that is not there was selected")
	} else {
		wantErr(t, err, ErrMissing, `"nothing"`, "prompted_b")
	}
	if r.Rows() != 30 || r.Split().Name != "val" {
		t.Errorf("%d rows of %q", r.Rows(), r.Split().Name)
	}
	all, err := r.Columns(t.Context(), ColumnRow)
	if err != nil {
		t.Fatal(err)
	}
	defer all.Release()
	if got := all.Column(0).(*array.Int64).Int64Values(); all.NumCols() != 1 || !slices.Equal(got, upTo(30)) {
		t.Errorf("the column is %v", got)
	}
}

// TestGatherAtOnce is many readers of one split, for the race detector.
func TestGatherAtOnce(t *testing.T) {
	r := opened(t, twoEncoders(), 0)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(1, uint64(i)))
			for range 50 {
				first := rng.Int64N(40)
				rec, err := r.Gather(t.Context(), []int64{first, first + 1, first + 2, rng.Int64N(50)})
				if err != nil {
					t.Error(err)
					return
				}
				rec.Release()
			}
		})
	}
	wg.Wait()
}

// TestReadAtOnce opens the same cache from several goroutines.
func TestReadAtOnce(t *testing.T) {
	s := twoEncoders()
	s.mem = checked(t)
	c, _ := mustRun(t, s, quickDir(t.TempDir()))
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Go(func() {
			var tables Tables
			defer tables.Release()
			r, err := c.Read(t.Context(), &c.Manifest().Splits[i%2], &tables)
			if err != nil {
				t.Error(err)
				return
			}
			r.Release()
		})
	}
	wg.Wait()
}

func TestTableRefusesPositions(t *testing.T) {
	r := opened(t, setup{splits: map[string][]encode.Sample{"train": groups("a", 5, 5)}}, 0)
	for _, pos := range [][]int64{{-1}, {5}, {0, 5}, {4, 5}} {
		tab := r.tables["e"]
		if l, err := tab.lend(t.Context(), pos, nil); l != nil || err != nil {
			t.Errorf("positions %v of 5 are lent, error %v", pos, err)
		}
		wantErr(t, tab.gather(t.Context(), make([]float32, len(pos)*tab.dim), pos, nil), ErrCorrupt, "of 5 embeddings")
	}
}
