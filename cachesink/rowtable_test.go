//go:build unix

package cachesink

import (
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"

	"github.com/permafrost-ml/permafrost/internal/store"
)

// TestRowsMapped: rows are the same whether the files are mapped, copied or
// read, in any order, with nulls and in several record batches.
func TestRowsMapped(t *testing.T) {
	const n = 20_000
	dir := t.TempDir()
	mustRun(t, keepingFill(n), quickDir(dir))
	mapped := openedIn(t, Dir(dir), &Tables{})
	copied := openedIn(t, Dir(dir), &Tables{Access: AccessCopy})
	fetched := openedIn(t, Dir(dir), &Tables{VerifyAlways: true})
	fetched.pages.until.Store(math.MaxInt64) // as if pages were missing
	read := openedIn(t, unmapped{Dir(dir)}, &Tables{})
	for _, r := range []*SplitReader{copied, read} {
		if len(r.watch.files) != 0 {
			t.Fatal("files are mapped")
		}
	}
	for _, rows := range [][]int64{nil, {0}, {n - 1}, upTo(n)[8000:8400], shuffledRows(n)[:777], {8191, 8192, 8193, 3, 3, 3, 2}, upTo(n)} {
		want, err := read.Gather(t.Context(), rows)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range []*SplitReader{mapped, copied, fetched} {
			got, err := r.Gather(t.Context(), rows)
			if err != nil {
				t.Fatal(err)
			}
			if !array.RecordEqual(got, want) {
				t.Errorf("%d rows: %v, want %v", len(rows), got, want)
			}
			got.Release()
		}
		for i, row := range rows {
			at := want.Schema().FieldIndices("whole")[0]
			if a := want.Column(at).(*array.Int64); a.IsNull(i) != (row%3 == 2) || a.IsValid(i) && a.Value(i) != row {
				t.Fatalf("row %d has %s", row, a.ValueStr(i))
			}
		}
		want.Release()
	}
}

// TestRowsDamage: a row is either right or refused, wherever the damage is.
func TestRowsDamage(t *testing.T) {
	const n = 9000
	dir := t.TempDir()
	c, _ := mustRun(t, keepingFill(n), quickDir(dir))
	want := openedIn(t, Dir(dir), &Tables{Access: AccessCopy})
	for _, file := range []string{c.Manifest().Splits[0].Files[0].Name, c.Manifest().Splits[0].Inputs[0].Name} {
		path := filepath.Join(dir, file)
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for at := sumBlock / 3; at < len(whole); at += 2 * sumBlock {
			b := slices.Clone(whole)
			b[at] ^= 1
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
			cache, err := Open(t.Context(), Dir(dir), nil)
			if err != nil {
				t.Fatal(err)
			}
			var tables Tables
			r, err := cache.Read(t.Context(), &cache.Manifest().Splits[0], &tables)
			if err != nil { // the block of the schema or of the footer
				wantErr(t, err, ErrCorrupt, file)
				tables.Release()
				continue
			}
			bad := 0
			for row := int64(at % 100); row < n; row += 100 {
				rec, err := r.Gather(t.Context(), []int64{row})
				if err != nil {
					bad++
					wantErr(t, err, ErrCorrupt, file)
					continue
				}
				right, err := want.Gather(t.Context(), []int64{row})
				if err != nil {
					t.Fatal(err)
				}
				if !array.RecordEqual(rec, right) {
					t.Errorf("%s, byte %d: row %d is %v", file, at, row, rec)
				}
				right.Release()
				rec.Release()
			}
			if rec, err := r.Gather(t.Context(), upTo(n)); err == nil {
				rec.Release()
				t.Errorf("%s, byte %d: not found", file, at)
			}
			t.Logf("%s, byte %d: %d of %d rows are refused", file, at, bad, n/100)
			r.Release()
			tables.Release()
		}
		if err := os.WriteFile(path, whole, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRowsOfAnotherWriter: files with checksums that hold and any bytes inside
// give rows or an error.
func TestRowsOfAnotherWriter(t *testing.T) {
	mem := store.NewMem()
	c, _ := mustRun(t, keepingFill(300), mem)
	sp := c.Manifest().Splits[0]
	file := sp.Files[0]
	whole, err := store.ReadAll(t.Context(), mem, file.Name, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	whole = slices.Clone(whole)
	rng := rand.New(rand.NewPCG(1, 2))
	served := 0
	for range 400 {
		b := slices.Clone(whole)
		for range 1 + rng.IntN(3) {
			b[rng.IntN(len(b))] ^= 1 << rng.IntN(8)
		}
		sp.Files = []File{sealedFile(t, mem, file.Name, b, file.Rows)}
		var tables Tables
		r, err := c.Read(t.Context(), &sp, &tables)
		if err == nil {
			var rec arrow.Record
			if rec, err = r.Gather(t.Context(), shuffledRows(300)); err == nil {
				served++
				if err := serve(rec); err != nil {
					t.Error(err)
				}
				rec.Release()
			}
			r.Release()
		}
		tables.Release()
		if err != nil && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrSchema) && !errors.Is(err, ErrMissing) {
			t.Errorf("error %v", err)
		}
	}
	if served == 0 || served == 400 {
		t.Errorf("%d of 400 are served", served)
	}
}

// TestLookupTouchesKeysOnly: damage elsewhere in a mapped file does not matter
// to a key that is not there.
func TestLookupTouchesKeysOnly(t *testing.T) {
	dir := t.TempDir()
	c, _ := mustRun(t, keepingFill(9000), quickDir(dir))
	path := filepath.Join(dir, c.Manifest().Splits[0].Files[0].Name)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	fine, blocks := 0, 0
	for at := sumBlock / 2; at < len(whole); at += sumBlock {
		b := slices.Clone(whole)
		b[at] ^= 1
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		for i, st := range []Storage{Dir(dir), unmapped{Dir(dir)}} {
			c, err := Open(t.Context(), st, checked(t))
			if err != nil {
				t.Fatal(err)
			}
			found, total, err := c.Lookup(t.Context(), "nothing", LookupOptions{})
			switch {
			case err != nil:
				wantErr(t, err, ErrCorrupt, c.Manifest().Splits[0].Files[0].Name)
			case len(found) > 0 || total > 0:
				t.Errorf("%d are found", total)
			case i == 1:
				t.Errorf("damage in byte %d is not found where all is read", at)
			default:
				fine++
			}
		}
		blocks++
	}
	if fine == 0 || fine == blocks {
		t.Errorf("of %d blocks, %d do not matter", blocks, fine)
	}
}
