package cachesink

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
)

// TestBatchesAreUsedAgain: what nobody holds is filled anew, what somebody holds
// of a batch, by whatever means, never changes.
func TestBatchesAreUsedAgain(t *testing.T) {
	dir := t.TempDir()
	mustRun(t, keepingFill(600), quickDir(dir))
	for what, keep := range map[string]func(rec arrow.Record) (text func() string, release func()){
		"nothing": nil,
		"the record batch": func(rec arrow.Record) (func() string, func()) {
			rec.Retain()
			return func() string { return fmt.Sprint(rec) }, rec.Release
		},
		"a column": func(rec arrow.Record) (func() string, func()) {
			a := rec.Column(rec.Schema().FieldIndices("text")[0])
			a.Retain()
			return func() string { return fmt.Sprint(a) }, a.Release
		},
		"embeddings": func(rec arrow.Record) (func() string, func()) {
			a := rec.Column(rec.Schema().FieldIndices("e")[0])
			a.Retain()
			return func() string { return fmt.Sprint(a) }, a.Release
		},
		"values of embeddings": func(rec arrow.Record) (func() string, func()) {
			a := rec.Column(rec.Schema().FieldIndices("e")[0]).(*array.FixedSizeList).ListValues()
			a.Retain()
			return func() string { return fmt.Sprint(a) }, a.Release
		},
		"data": func(rec arrow.Record) (func() string, func()) {
			d := rec.Column(0).Data()
			d.Retain()
			return func() string { return fmt.Sprint(d.Buffers()[1].Bytes()) }, d.Release
		},
		"a buffer": func(rec arrow.Record) (func() string, func()) {
			b := rec.Column(rec.Schema().FieldIndices("is")[0]).Data().Buffers()[0]
			b.Retain()
			return func() string { return fmt.Sprint(b.Bytes()) }, b.Release
		},
		"a slice": func(rec arrow.Record) (func() string, func()) {
			s := rec.NewSlice(1, 3)
			return func() string { return fmt.Sprint(s) }, s.Release
		},
		"a slice of a column": func(rec arrow.Record) (func() string, func()) {
			s := array.NewSlice(rec.Column(rec.Schema().FieldIndices("e")[0]), 1, 3)
			return func() string { return fmt.Sprint(s) }, s.Release
		},
		"a column in another record batch": func(rec arrow.Record) (func() string, func()) {
			other, err := rec.SetColumn(0, rec.Column(0))
			if err != nil {
				t.Fatal(err)
			}
			return func() string { return fmt.Sprint(other) }, other.Release
		},
	} {
		for _, order := range [][]int64{upTo(600), shuffledRows(600)} {
			r := openedIn(t, Dir(dir), &Tables{})
			var texts []string
			var kept []func() string
			var releases []func()
			used := map[arrow.Record]bool{}
			for at := 0; at+5 <= 100; at += 5 {
				rec, err := r.Gather(t.Context(), order[at:at+5])
				if err != nil {
					t.Fatal(err)
				}
				used[rec] = true
				if keep != nil {
					text, release := keep(rec)
					kept, releases = append(kept, text), append(releases, release)
					texts = append(texts, text())
				}
				rec.Release()
			}
			if keep == nil && len(used) != 1 {
				t.Errorf("%d batches for one at a time", len(used))
			}
			for i, text := range kept {
				if got := text(); got != texts[i] {
					t.Errorf("%s: batch %d has become %s from %s", what, i, got, texts[i])
				}
				releases[i]()
			}
		}
	}
}

// TestBatchesAtOnce: many gather and keep for a while, for the race detector.
func TestBatchesAtOnce(t *testing.T) {
	dir := t.TempDir()
	mustRun(t, keepingFill(600), quickDir(dir))
	r := openedIn(t, Dir(dir), &Tables{})
	want := gathered(t, r, upTo(600))
	dim := len(want) / 600
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(3, uint64(i)))
			var kept []arrow.Array
			defer func() {
				for _, a := range kept {
					a.Release()
				}
			}()
			for range 300 {
				first := rng.Int64N(590)
				rows := upTo(600)[first : first+4]
				if rng.IntN(2) == 0 {
					rows = []int64{first, first + 9, first + 3, first}
				}
				rec, err := r.Gather(t.Context(), rows)
				if err != nil {
					t.Error(err)
					return
				}
				a := rec.Column(rec.Schema().FieldIndices("e")[0])
				v, _, err := Vectors(a)
				for k, row := range rows {
					if err != nil || !slices.Equal(v[k*dim:(k+1)*dim], want[int(row)*dim:(int(row)+1)*dim]) {
						t.Errorf("row %d is wrong, error %v", row, err)
					}
				}
				if rng.IntN(3) == 0 {
					a.Retain()
					kept = append(kept, a)
				}
				if len(kept) > 5 {
					kept[0].Release()
					kept = kept[1:]
				}
				rec.Release()
			}
		})
	}
	wg.Wait()
}
