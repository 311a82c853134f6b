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

// TestEveryFault makes each step of each operation fail once, and from each
// on all: the cache is then as it was or complete, never wrong; what failed
// is reported; nothing leaks; and the operation done again ends as if nothing
// had been. Some of all cases without fullEnv.
func TestEveryFault(t *testing.T) {
	for _, o := range operations() {
		t.Run(o.name, func(t *testing.T) {
			t.Parallel()
			before, in := o.undisturbed(t)
			cases := 0
			for _, fault := range []error{syscall.EIO, syscall.ENOSPC, syscall.EINTR, nil} {
				match := func(op, _ string) bool { return fault != nil || op == "read" || op == "write" }
				count := &storetest.FS{FS: before.Killed(), Match: match}
				if err := in.run(t, count); err != nil {
					t.Fatal(err)
				}
				for _, lasting := range []bool{false, true} {
					step := stepOf(count.Ops(), 6)
					for k := 1 + cases%step; k <= count.Ops(); k += step {
						disk := before.Killed()
						fsys := &storetest.FS{FS: disk, FailAt: k, Lasting: lasting, Err: fault, Match: match}
						in.what = fmt.Sprintf("%s, step %d of %d fails with %v, lasting %v", o.name, k, count.Ops(), fault, lasting)
						err := in.run(t, fsys)
						in.what += fmt.Sprintf(" (%v)", fsys.Failed())
						if err != nil && fault != nil && !errors.Is(err, fault) {
							t.Errorf("%s: error %v", in.what, err)
						}
						in.holds(t, disk, err)
						in.again(t, buried(t, disk))
						cases++
					}
				}
			}
			t.Logf("%d cases", cases)
		})
	}
}

// TestSilentFaults: a fill that ends well although a step has failed has lost
// nothing but its copy of the manifest, a temporary file, a look at what is
// not there, or that others know of it.
func TestSilentFaults(t *testing.T) {
	t.Parallel()
	o := operations()[0]
	before, in := o.undisturbed(t)
	count := &storetest.FS{FS: before.Killed()}
	if err := in.run(t, count); err != nil {
		t.Fatal(err)
	}
	begun := &storetest.FS{FS: before.Killed()} // what a fill begins with: others are told of it
	newSession(t.Context(), store.NewDir(root, begun), []string{"encoders/e"}).close()
	silent := 0
	for k := 1; k <= count.Ops(); k++ {
		disk := before.Killed()
		fsys := &storetest.FS{FS: disk, FailAt: k, Err: syscall.EIO}
		err := in.run(t, fsys)
		harmless := []string{"close", "remove", "stat"}
		alone := k <= begun.Ops() || strings.Contains(fsys.FailedPaths()[0], "leases")
		if err == nil && !alone && !slices.Contains(harmless, fsys.Failed()[0]) && disk.Files(root)[manifestCopy] != "" {
			if silent++; silent > 1 { // the sync of the copy's own name
				t.Errorf("step %d of %d (%v): it was not reported", k, count.Ops(), fsys.Failed())
			}
		}
	}
}

// TestPowerCut cuts the power after each step of each operation, with
// nothing, all or some of what was not synced on the disk: the cache is then
// as it was or complete, and the operation done again ends as if nothing had
// been. Some of all cases without fullEnv.
func TestPowerCut(t *testing.T) {
	everyStep(t, "power cut", func(t *testing.T, in *interrupted, disk *storetest.Disk, k int, err error) (cases int) {
		what := in.what
		for i, keep := range []float64{0, 0.25, 0.5, 0.75, 1} {
			if stepOf(5, 2) > 1 && (k+i)%5 > 1 {
				continue
			}
			in.what = fmt.Sprintf("%s, %v of what was not synced is there", what, keep)
			after := buried(t, disk.Cut(uint64(k), keep))
			in.holds(t, after, err)
			in.again(t, after)
			cases++
		}
		return cases
	})
}

// TestKilledThenCut ends the process after each step of each operation. The
// operation done again by the next process rests on what the first has
// written: when it says that it has ended, a power cut takes nothing of it.
func TestKilledThenCut(t *testing.T) {
	everyStep(t, "killed", func(t *testing.T, in *interrupted, disk *storetest.Disk, _ int, err error) int {
		after := buried(t, disk.Killed())
		in.holds(t, after, err)
		in.again(t, after)
		return 1
	})
}

// everyStep ends each operation after each of its steps, or some of them
// without fullEnv, and has look see to what is left on the disk.
func everyStep(t *testing.T, end string, look func(t *testing.T, in *interrupted, disk *storetest.Disk, k int, err error) (cases int)) {
	for _, o := range operations() {
		t.Run(o.name, func(t *testing.T) {
			t.Parallel()
			before, in := o.undisturbed(t)
			count := before.Killed()
			if err := in.run(t, &storetest.FS{FS: count}); err != nil {
				t.Fatal(err)
			}
			cases := 0
			for k := 1; k <= count.Ops(); k += stepOf(count.Ops(), 20) {
				disk := before.Killed()
				disk.CutAt = k
				in.what = fmt.Sprintf("%s, %s after step %d of %d", o.name, end, k, count.Ops())
				err := in.run(t, &storetest.FS{FS: disk})
				cases += look(t, in, disk, k, err)
			}
			t.Logf("%d cases", cases)
		})
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
