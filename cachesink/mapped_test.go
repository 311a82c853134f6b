//go:build unix

package cachesink

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/permafrost-ml/permafrost/encode"
	"github.com/permafrost-ml/permafrost/internal/store"
)

// mappedFill is a fill of several shards, of several blocks each.
func mappedFill(d DType) setup {
	return setup{
		splits: map[string][]encode.Sample{"train": groups("a", 1200, 1000)}, shard: 400, batch: 50, recRows: 170,
		models: map[string]hashModel{"e": {dim: 150, seed: "e"}}, dtypes: map[string]DType{"e": d},
	}
}

// within says whether memory lies in a mapped file.
func within(f *mappedFile, p unsafe.Pointer) bool {
	at := uintptr(unsafe.Pointer(&f.m.Bytes[0]))
	return uintptr(p) >= at && uintptr(p) < at+uintptr(len(f.m.Bytes))
}

// TestMapped: what is mapped is what is read, in every dtype, and consecutive
// rows of float32 are the pages themselves.
func TestMapped(t *testing.T) {
	for _, d := range allDTypes {
		t.Run(string(d), func(t *testing.T) {
			dir := t.TempDir()
			mustRun(t, mappedFill(d), quickDir(dir))
			r := openedIn(t, Dir(dir), &Tables{})
			read := openedIn(t, Dir(dir), &Tables{Access: AccessCopy})
			files := r.tables["e"].guard
			if len(files) != 3 || len(r.watch.files) != 4 || len(read.watch.files) != 0 {
				t.Fatalf("%d, %d and %d of 3 shards and a split file are mapped", len(files), len(r.watch.files), len(read.watch.files))
			}
			for _, rows := range [][]int64{{999, 3, 3, 4, 5, 169, 170, 171, 0}, shuffledRows(1200), upTo(1200)} {
				if !slices.Equal(gathered(t, r, rows), gathered(t, read, rows)) {
					t.Errorf("%d rows from %d differ", len(rows), rows[0])
				}
			}
			rec, err := r.Gather(t.Context(), upTo(170)[20:])
			if err != nil {
				t.Fatal(err)
			}
			defer rec.Release()
			if _, v, _ := embeddings(t, rec, "e"); within(files[0], unsafe.Pointer(&v[0])) != (d == Float32) {
				t.Error("rows are copied, or are not those of the file")
			}
		})
	}
}

// TestNotMapped: compressed shards, and storages without pages, are read.
func TestNotMapped(t *testing.T) {
	dir := t.TempDir()
	s := mappedFill(Float32)
	s.codec = LZ4
	mustRun(t, s, quickDir(dir))
	for name, st := range map[string]Storage{"compressed": Dir(dir), "another storage": unmapped{Dir(dir)}} {
		r := openedIn(t, st, &Tables{})
		if n := len(r.tables["e"].guard); n > 0 {
			t.Errorf("%s: %d files are mapped", name, n)
		}
		if got := gathered(t, r, []int64{7, 1000}); len(got) != 300 {
			t.Errorf("%s: %d values", name, len(got))
		}
	}
}

// TestMappedDamage: damage is found by who touches its block, and nothing else
// is refused for it.
func TestMappedDamage(t *testing.T) {
	dir := t.TempDir()
	c, _ := mustRun(t, mappedFill(Float32), quickDir(dir))
	shard := c.Manifest().Encoders[0].Shards[1]
	path := filepath.Join(dir, shard.Name)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for at := sumBlock / 2; at < len(whole); at += sumBlock {
		b := slices.Clone(whole)
		b[at] ^= 8
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		cache, err := Open(t.Context(), Dir(dir), checked(t))
		if err != nil {
			t.Fatal(err)
		}
		var tables Tables
		r, err := cache.Read(t.Context(), &cache.Manifest().Splits[0], &tables)
		if err != nil {
			t.Fatal(err)
		}
		bad, good := 0, 0
		for row := range int64(1000) {
			rec, err := r.Gather(t.Context(), []int64{row})
			if err == nil {
				good++
				rec.Release()
				continue
			}
			bad++
			wantErr(t, err, ErrCorrupt, shard.Name, fmt.Sprintf("block %d", at/sumBlock))
		}
		metadata := bad == int(shard.Rows) // of the block is needed for all rows
		if bad == 0 || !metadata && bad > sumBlock/(4*150)+2 || bad+good != 1000 {
			t.Errorf("damage in byte %d: %d rows are refused, %d are not", at, bad, good)
		}
		if _, err := r.Gather(t.Context(), shuffledRows(1000)); !errors.Is(err, ErrCorrupt) {
			t.Errorf("damage in byte %d: %v", at, err)
		}
		r.Release()
		tables.Release()
	}
}

// TestMappedFileIsCut: a file that is cut while it is mapped ends in an error,
// not the process, whether its blocks were checked before or not.
func TestMappedFileIsCut(t *testing.T) {
	for i := range 4 { // three shards and a file of the split
		for _, seen := range []bool{false, true} {
			for _, size := range []int64{0, 4096, 30_000} {
				dir := t.TempDir()
				c, _ := mustRun(t, mappedFill(Int8), quickDir(dir))
				name := c.Manifest().Files()[i]
				r := openedIn(t, Dir(dir), &Tables{})
				if seen {
					gathered(t, r, upTo(1000))
				}
				if err := os.Truncate(filepath.Join(dir, name), size); err != nil {
					t.Fatal(err)
				}
				if size == 4096 {
					r.pages.until.Store(math.MaxInt64) // while pages are fetched
				}
				r.watch.looked.Store(time.Now().Add(time.Hour).UnixNano()) // without looking
				_, err := r.Gather(t.Context(), shuffledRows(1000))
				wantErr(t, err, ErrCorrupt, name)
				r.watch.looked.Store(0)
				_, err = r.Gather(t.Context(), []int64{0})
				wantErr(t, err, ErrCorrupt, name, "changed")
			}
		}
	}
}

// TestMappedFileIsWritten: a file that is written to is not used on; one that
// is removed is.
func TestMappedFileIsWritten(t *testing.T) {
	for i := range 4 {
		dir := t.TempDir()
		c, _ := mustRun(t, mappedFill(Float32), quickDir(dir))
		name := c.Manifest().Files()[i]
		r := openedIn(t, Dir(dir), &Tables{})
		later := time.Now().Add(time.Minute)
		if err := os.Chtimes(filepath.Join(dir, name), later, later); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			r.watch.looked.Store(0)
			_, err := r.Gather(t.Context(), []int64{0})
			wantErr(t, err, ErrCorrupt, name, "changed")
		}
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
		gathered(t, r, shuffledRows(1000))
	}
}

// TestMappedBatchOutlivesTables: what was retained keeps its file mapped.
func TestMappedBatchOutlivesTables(t *testing.T) {
	dir := t.TempDir()
	mustRun(t, mappedFill(Float32), quickDir(dir))
	c, err := Open(t.Context(), Dir(dir), checked(t))
	if err != nil {
		t.Fatal(err)
	}
	var tables Tables
	r, err := c.Read(t.Context(), &c.Manifest().Splits[0], &tables)
	if err != nil {
		t.Fatal(err)
	}
	kept, err := r.Gather(t.Context(), []int64{5, 6, 7})
	if err != nil {
		t.Fatal(err)
	}
	want := gathered(t, r, []int64{5, 6, 7})
	f := r.tables["e"].guard[0]
	r.Release()
	tables.Release()
	if _, v, _ := embeddings(t, kept, "e"); !slices.Equal(v, want) || f.refs.Load() == 0 {
		t.Error("the rows are gone")
	}
	kept.Release()
	if n := f.refs.Load(); n != 0 {
		t.Errorf("%d references to the file are left", n)
	}
}

// TestMappedConcurrently: many touch the same blocks first.
func TestMappedConcurrently(t *testing.T) {
	dir := t.TempDir()
	mustRun(t, mappedFill(Float16), quickDir(dir))
	r := openedIn(t, Dir(dir), &Tables{})
	want := gathered(t, openedIn(t, Dir(dir), &Tables{Access: AccessCopy}), shuffledRows(1000))
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			rec, err := r.Gather(t.Context(), shuffledRows(1000))
			if err != nil {
				t.Error(err)
				return
			}
			defer rec.Release()
			if v, _, err := Vectors(rec.Column(rec.Schema().FieldIndices("e")[0])); err != nil || !slices.Equal(v, want) {
				t.Errorf("rows differ, error %v", err)
			}
		})
	}
	wg.Wait()
	for _, f := range r.tables["e"].guard {
		if n := f.left.Load(); n < 0 || n > 1 { // the id columns may have a block of their own
			t.Errorf("%s: %d blocks are left", f.name, n)
		}
	}
}

// longAgo is a folder whose files were all written long before.
type longAgo struct{ *store.Dir }

func (s longAgo) Map(ctx context.Context, name string) (*store.Mapping, error) {
	m, err := s.Dir.Map(ctx, name)
	if m != nil {
		m.Opened = m.Opened.Add(time.Hour)
	}
	return m, err
}

// TestVerifiedIsRemembered: blocks that held are not checked again while the
// file is the same; any doubt, and they are.
func TestVerifiedIsRemembered(t *testing.T) {
	cache := t.TempDir()
	t.Setenv("XDG_CACHE_HOME", cache)
	t.Setenv("HOME", cache) // where a Mac has it
	dir := t.TempDir()
	fill := mappedFill(Float32)
	fill.recRows = 0 // fewer blocks with metadata
	c, _ := mustRun(t, fill, quickDir(dir))
	st := longAgo{store.NewDir(dir, nil)}
	left := func(st Storage, always bool, rows []int64) (before, after int64) {
		t.Helper()
		cache, err := Open(t.Context(), st, checked(t))
		if err != nil {
			t.Fatal(err)
		}
		tables := &Tables{VerifyAlways: always}
		defer tables.Release()
		r, err := cache.Read(t.Context(), &cache.Manifest().Splits[0], tables)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Release()
		sum := func() (n int64) {
			for _, f := range r.tables["e"].guard {
				n += f.left.Load()
			}
			return n
		}
		for i := range r.tables["e"].files {
			if _, err := r.tables["e"].files[i].open(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		before = sum()
		gathered(t, r, rows)
		return before, sum()
	}
	all := upTo(1000)
	notes := func() []string {
		found, err := filepath.Glob(filepath.Join(cache, "*", "verified", "*"))
		if deeper, _ := filepath.Glob(filepath.Join(cache, "Library", "Caches", "*", "verified", "*")); err == nil {
			found = append(found, deeper...)
		}
		return found
	}
	left(Dir(dir), false, all)
	if n := len(notes()); n != 0 {
		t.Fatalf("%d notes of files that were written just now", n)
	}
	fresh, some := left(st, false, all[:100])
	if fresh <= some || len(notes()) != 4 { // those of the shards, and of the split
		t.Fatalf("%d blocks, then %d, and notes %v", fresh, some, notes())
	}
	again, none := left(st, false, all)
	if again != some {
		t.Errorf("%d blocks are left, not %d", again, some)
	}
	if warm, _ := left(st, false, nil); warm != none {
		t.Errorf("warm, %d blocks are left, not %d", warm, none)
	}
	if always, _ := left(st, true, nil); always != fresh {
		t.Errorf("always: %d blocks are left, not %d", always, fresh)
	}
	for _, name := range notes() {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(strings.Replace(string(text), `"sum":`, `"sum":1`, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got, _ := left(st, false, all); got != fresh {
		t.Errorf("damaged notes: %d blocks are left, not %d", got, fresh)
	}
	for _, s := range c.Manifest().Encoders[0].Shards {
		at := time.Now().Add(-time.Minute)
		if err := os.Chtimes(filepath.Join(dir, s.Name), at, at); err != nil {
			t.Fatal(err)
		}
	}
	if got, _ := left(st, false, nil); got != fresh {
		t.Errorf("other times: %d blocks are left, not %d", got, fresh)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.Contains(e.Name(), "verified") {
			t.Errorf("%s is in the cache directory", e.Name())
		}
	}
}

// TestCopyNeedsNoFiles: what is copied is served, lent and gathered, whatever
// becomes of the files.
func TestCopyNeedsNoFiles(t *testing.T) {
	dir := t.TempDir()
	c, _ := mustRun(t, mappedFill(Float32), quickDir(dir))
	want := slices.Clone(gathered(t, openedIn(t, Dir(dir), &Tables{}), upTo(1200)))
	r := openedIn(t, Dir(dir), &Tables{Access: AccessCopy})
	for _, name := range c.Manifest().Files() {
		if err := os.Truncate(filepath.Join(dir, name), 0); err != nil {
			t.Fatal(err)
		}
	}
	r.watch.looked.Store(0)
	for _, rows := range [][]int64{upTo(100), shuffledRows(1200)} {
		got := gathered(t, r, rows)
		for i, row := range rows {
			if !slices.Equal(got[150*i:150*(i+1)], want[150*row:150*(row+1)]) {
				t.Fatalf("row %d is another", row)
			}
		}
	}
}

// TestCopyChecks: a copy of damaged files is refused when it is made.
func TestCopyChecks(t *testing.T) {
	for i := range 4 { // three shards and a file of the split
		dir := t.TempDir()
		c, _ := mustRun(t, mappedFill(Float32), quickDir(dir))
		name := c.Manifest().Files()[i]
		flipByte(t, dir, name)
		cache, err := Open(t.Context(), Dir(dir), checked(t))
		if err != nil {
			t.Fatal(err)
		}
		tables := &Tables{Access: AccessCopy}
		_, err = cache.Read(t.Context(), &cache.Manifest().Splits[0], tables)
		wantErr(t, err, ErrCorrupt, name)
		tables.Release()
	}
}
