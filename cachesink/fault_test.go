package cachesink

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/permafrost-ml/permafrost/encode"
	"github.com/permafrost-ml/permafrost/internal/store"
	"github.com/permafrost-ml/permafrost/internal/store/storetest"
)

func smallFill() setup {
	return setup{
		splits: map[string][]encode.Sample{"train": groups("a", 7, 6)},
		uses:   []encode.Use{{Name: "e"}, {Name: "raw"}}, uncached: []string{"raw"}, shard: 4, batch: 2,
	}
}

// TestEveryFault makes each operation on the disk fail once, and from each
// on all: the cache is then as it was or complete, never wrong; what failed
// is reported; nothing leaks; and a next fill ends as if nothing had been.
func TestEveryFault(t *testing.T) {
	t.Parallel()
	whole := t.TempDir()
	count := &storetest.FS{FS: quick{}}
	mustRun(t, smallFill(), store.NewDir(whole, count))
	want := files(t, whole)
	begun := &storetest.FS{FS: quick{}} // of what a fill begins with: others are told of it
	c, err := Open(t.Context(), store.NewDir(t.TempDir(), begun), nil)
	if err != nil {
		t.Fatal(err)
	}
	newSession(t.Context(), c.st, []string{"encoders/e"}).close()
	before := setup{splits: map[string][]encode.Sample{"old": groups("o", 3, 3)}, uses: []encode.Use{{Name: "old"}}}
	for _, lasting := range []bool{false, true} {
		step, silent := 1, 0
		if lasting {
			step = 5
		}
		for k := 1; k <= count.Ops(); k += step {
			dir := t.TempDir()
			mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
			fsys := &storetest.FS{FS: quick{}, FailAt: k, Lasting: lasting, Err: syscall.ENOSPC}
			s := smallFill()
			s.mem = mem
			_, _, err := s.run(t.Context(), store.NewDir(dir, fsys))
			what := fmt.Sprintf("operation %d of %d (%v), lasting %v", k, count.Ops(), fsys.Failed(), lasting)
			if err != nil && !errors.Is(err, syscall.ENOSPC) {
				t.Errorf("%s: %v", what, err)
			}
			if n := fsys.OpenFiles(); n != 0 {
				t.Errorf("%s: %d files are open", what, n)
			}
			mem.AssertSize(t, 0)
			c, e := Open(t.Context(), quickDir(dir), nil)
			if e != nil {
				t.Fatalf("%s: %v", what, e)
			}
			// A fill that ends well has lost nothing but its copy of the
			// manifest, a temporary file, a look at what is not there, or that
			// others know of it.
			harmless := []string{"close", "remove", "stat"}
			alone := k <= begun.Ops() || strings.Contains(fsys.FailedPaths()[0], "leases")
			if err == nil && !alone && !slices.Contains(harmless, fsys.Failed()[0]) && files(t, dir)[manifestCopy] != "" {
				if silent++; silent > 1 { // the sync of the copy's own name
					t.Errorf("%s: it was not reported", what)
				}
			}
			if err == nil || c.Manifest().Generation > 0 {
				checkContent(t, c, smallFill())
			}
			mustRun(t, smallFill(), quickDir(dir))
			got := files(t, dir)
			for name := range got {
				if strings.HasPrefix(name, "tmp/") {
					delete(got, name) // its removal failed
				}
			}
			got[manifestCopy] = want[manifestCopy] // a courtesy, which may be missing
			sameFiles(t, what+", after a next fill", got, want)
			if t.Failed() {
				return
			}
		}
	}
	// What was there before a failed fill is there after it.
	dir := t.TempDir()
	mustRun(t, before, quickDir(dir))
	fsys := &storetest.FS{FS: quick{}, FailAt: 60, Lasting: true, Err: syscall.EIO}
	s := smallFill()
	if _, _, err := s.run(t.Context(), store.NewDir(dir, fsys)); !errors.Is(err, syscall.EIO) {
		t.Fatalf("error %v", err)
	}
	if c, err = Open(t.Context(), quickDir(dir), nil); err != nil {
		t.Fatal(err)
	}
	checkContent(t, c, before)
}

// TestEveryFaultOfConversion does the same to a fill that converts some of
// its embeddings, and compresses: the float32 ones stay what they were.
func TestEveryFaultOfConversion(t *testing.T) {
	t.Parallel()
	first := setup{splits: map[string][]encode.Sample{"train": groups("a", 6, 6)}, shard: 4}
	fill := setup{
		splits: map[string][]encode.Sample{"train": append(groups("new", 3, 3), groups("a", 7, 6)...)}, shard: 4,
		dtypes: map[string]DType{"e": Int8}, codec: LZ4,
	}
	whole := t.TempDir()
	mustRun(t, first, quickDir(whole))
	count := &storetest.FS{FS: quick{}}
	mustRun(t, fill, store.NewDir(whole, count))
	want := files(t, whole)
	for k := 1; k <= count.Ops(); k++ {
		dir := t.TempDir()
		mustRun(t, first, quickDir(dir))
		mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
		fsys := &storetest.FS{FS: quick{}, FailAt: k, Lasting: k%2 == 0, Err: syscall.EIO}
		s := fill
		s.mem = mem
		_, _, err := s.run(t.Context(), store.NewDir(dir, fsys))
		what := fmt.Sprintf("operation %d of %d (%v)", k, count.Ops(), fsys.Failed())
		if err != nil && !errors.Is(err, syscall.EIO) {
			t.Errorf("%s: %v", what, err)
		}
		if n := fsys.OpenFiles(); n != 0 {
			t.Errorf("%s: %d files are open", what, n)
		}
		mem.AssertSize(t, 0)
		c, e := Open(t.Context(), quickDir(dir), nil)
		if e != nil {
			t.Fatalf("%s: %v", what, e)
		}
		checkContent(t, c, first)
		if err == nil || c.Manifest().Generation > 1 {
			checkContent(t, c, fill)
		}
		mustRun(t, fill, quickDir(dir))
		got := files(t, dir)
		for name := range got {
			if strings.HasPrefix(name, "tmp/") {
				delete(got, name) // its removal failed
			}
		}
		got[manifestCopy] = want[manifestCopy]
		sameFiles(t, what+", after a next fill", got, want)
		if t.Failed() {
			return
		}
	}
}

func TestUnwritable(t *testing.T) {
	root := t.TempDir()
	fsys := &storetest.FS{
		FS: quick{}, FailAt: 1, Lasting: true, Err: syscall.EACCES,
		Match: func(op, _ string) bool { return op == "mkdir" || op == "create" },
	}
	s := smallFill()
	_, _, err := s.run(t.Context(), store.NewDir(filepath.Join(root, "c"), fsys))
	wantErr(t, err, syscall.EACCES, filepath.Join(root, "c"))
}

// TestEveryFaultOfResume does the same to a fill that goes on from what
// another has left: a finished shard, partial ones, and leases.
func TestEveryFaultOfResume(t *testing.T) {
	t.Parallel()
	fill := setup{splits: map[string][]encode.Sample{"train": groups("a", 10, 10)}, shard: 4, batch: 2, workers: 1}
	whole := t.TempDir()
	mustRun(t, fill, quickDir(whole))
	want := files(t, whole)
	boom := errors.New("boom")
	broken := fill
	broken.models = map[string]hashModel{"e": {dim: 4, seed: "e", encoded: new(atomic.Int64), fail: func(n int64) error {
		if n > 6 {
			return boom
		}
		return nil
	}}}
	left := t.TempDir()
	_, _, err := broken.run(t.Context(), quickDir(left))
	wantErr(t, err, boom)
	dead := &session{nonce: "dead", st: quickDir(left)}
	if err := errors.Join(
		store.Put(t.Context(), dead.st, leasesDir+"dead"+sessionSuffix, []byte("{}"), false),
		dead.make(t.Context(), "x", "y", 0),
	); err != nil {
		t.Fatal(err)
	}
	foreign(t, left, dead, owner{Machine: self().Machine, PID: 1 << 30, Started: "1"})
	start := func() string {
		dir := t.TempDir()
		if err := os.CopyFS(dir, os.DirFS(left)); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	count := &storetest.FS{FS: quick{}}
	dir := start()
	if parts, _ := filepath.Glob(filepath.Join(dir, "encoders", "*", "*"+partialSuffix)); len(parts) == 0 {
		t.Fatal("there is nothing to go on from")
	}
	mustRun(t, fill, store.NewDir(dir, count))
	for k := 1; k <= count.Ops(); k++ {
		dir := start()
		mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
		fsys := &storetest.FS{FS: quick{}, FailAt: k, Lasting: k%3 == 0, Err: syscall.EIO}
		s := fill
		s.mem = mem
		_, _, err := s.run(t.Context(), store.NewDir(dir, fsys))
		what := fmt.Sprintf("operation %d of %d (%v)", k, count.Ops(), fsys.Failed())
		if err != nil && !errors.Is(err, syscall.EIO) {
			t.Errorf("%s: %v", what, err)
		}
		if n := fsys.OpenFiles(); n != 0 {
			t.Errorf("%s: %d files are open", what, n)
		}
		mem.AssertSize(t, 0)
		c, e := Open(t.Context(), quickDir(dir), nil)
		if e != nil {
			t.Fatalf("%s: %v", what, e)
		}
		if err == nil || c.Manifest().Generation > 0 {
			checkContent(t, c, fill)
		}
		mustRun(t, fill, quickDir(dir))
		got := files(t, dir)
		for name := range got {
			if strings.HasPrefix(name, "tmp/") {
				delete(got, name) // its removal failed
			}
		}
		got[manifestCopy] = want[manifestCopy]
		sameFiles(t, what+", after a next fill", got, want)
		if t.Failed() {
			return
		}
	}
}

// TestPartialNoSpace: a partial file that cannot be written ends the fill.
func TestPartialNoSpace(t *testing.T) {
	for _, op := range []string{"create", "write"} {
		fsys := &storetest.FS{
			FS: quick{}, FailAt: 1, Lasting: true, Err: syscall.ENOSPC,
			Match: func(o, path string) bool { return o == op && strings.HasSuffix(path, partialSuffix) },
		}
		s := smallFill()
		s.mem = checked(t)
		_, _, err := s.run(t.Context(), store.NewDir(t.TempDir(), fsys))
		wantErr(t, err, syscall.ENOSPC, partialSuffix)
	}
}

// TestNoLeases: a fill goes its way where no lease can be written, at all or
// from some moment on.
func TestNoLeases(t *testing.T) {
	for _, from := range []int{1, 2, 5, 9} {
		fsys := &storetest.FS{
			FS: quick{}, FailAt: from, Lasting: true, Err: syscall.EACCES,
			Match: func(_, path string) bool { return strings.Contains(path, "leases") },
		}
		s := smallFill()
		s.mem = checked(t)
		c, _ := mustRun(t, s, store.NewDir(t.TempDir(), fsys))
		checkContent(t, c, s)
	}
}
