package cachesink

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/permafrost-ml/permafrost/encode"
	"github.com/permafrost-ml/permafrost/internal/store"
	"github.com/permafrost-ml/permafrost/internal/store/storetest"
)

// operation is something done to a cache in a directory, that the tests of
// faults, power cuts and kills interrupt wherever they can.
type operation struct {
	name string
	// before leaves what the operation starts from; nil for nothing.
	before func(ctx context.Context, st Storage) error
	act    func(ctx context.Context, st Storage, mem memory.Allocator) error
	// states say what the cache holds after so many commits of the operation,
	// the last of them when it has ended.
	states []func(*testing.T, *Cache)
	// otherHistory says that an operation that begins anew may write other
	// files than an undisturbed one, otherNumber that only its generation may
	// be another.
	otherHistory, otherNumber bool
	// hurt is what was served before some of it was damaged: until the
	// operation ends well, rows of it may be refused, but none is wrong.
	hurt *setup
}

// holds is a state in which all splits of some fills are served.
func holds(fills ...setup) func(*testing.T, *Cache) {
	return func(t *testing.T, c *Cache) {
		t.Helper()
		for _, s := range fills {
			checkContent(t, c, s)
		}
	}
}

// fills returns the fills of a place, one after the other.
func fills(all ...setup) func(context.Context, Storage) error {
	return func(ctx context.Context, st Storage) error {
		for _, s := range all {
			if _, _, err := s.run(ctx, st); err != nil {
				return err
			}
		}
		return nil
	}
}

// broken is a fill that ends early, in the middle of a shard.
func broken(s setup) func(context.Context, Storage) error {
	return func(ctx context.Context, st Storage) error {
		end := errors.New("enough")
		s.models = map[string]hashModel{"e": {dim: 4, seed: "e", encoded: new(atomic.Int64), fail: func(n int64) error {
			if n > 12 {
				return end
			}
			return nil
		}}}
		if _, _, err := s.run(ctx, st); !errors.Is(err, end) {
			return fmt.Errorf("it ended with %w", err)
		}
		left, err := st.List(ctx, "encoders/")
		if err == nil && !slices.ContainsFunc(left, func(i store.Info) bool { return strings.HasSuffix(i.Name, partialSuffix) }) {
			err = fmt.Errorf("no partial shard in %v", left)
		}
		return err
	}
}

// damaged is a fill of which shards, and the checksums of one, were damaged
// since.
func damaged(s setup, shards ...int) func(context.Context, Storage) error {
	return func(ctx context.Context, st Storage) error {
		c, _, err := s.run(ctx, st)
		if err != nil {
			return err
		}
		var names []string
		for _, e := range c.Manifest().Encoders {
			for _, i := range shards {
				names = append(names, e.Shards[i].Name)
			}
			names = append(names, e.Shards[len(shards)].Name+sumSuffix)
		}
		for _, name := range names {
			b, err := store.ReadAll(ctx, st, name, 1<<20)
			if err != nil {
				return err
			}
			b[len(b)/2] ^= 1
			if err := store.Put(ctx, st, name, b, true); err != nil {
				return err
			}
		}
		return nil
	}
}

// repairOf is an operation's act.
func repairOf(s setup) func(context.Context, Storage, memory.Allocator) error {
	return func(ctx context.Context, st Storage, mem memory.Allocator) error {
		s.mem = mem
		r, err := s.restore(ctx, st)
		if err == nil && len(r.Hopeless) > 0 {
			err = fmt.Errorf("hopeless: %v", r.Hopeless)
		}
		return err
	}
}

// refuses checks that each split is served right or not at all.
func refuses(t *testing.T, c *Cache, s setup) {
	t.Helper()
	s.defaults()
	for i := range c.Manifest().Splits {
		sp := &c.Manifest().Splits[i]
		var tables Tables
		r, err := c.Read(t.Context(), sp, &tables)
		if err == nil {
			var rec arrow.Record
			if rec, err = r.Gather(t.Context(), upTo(sp.Rows)); err == nil {
				checkRows(t, sp, rec, upTo(sp.Rows), s.splits[sp.Name], s, nil)
				rec.Release()
			}
			r.Release()
		}
		if err != nil && !errors.Is(err, ErrCorrupt) {
			t.Fatal(err)
		}
		tables.Release()
	}
}

// collecting is a garbage collection without grace.
func collecting(opts GCOptions) func(context.Context, Storage, memory.Allocator) error {
	return func(ctx context.Context, st Storage, mem memory.Allocator) error {
		c, err := Open(ctx, st, mem)
		if err != nil {
			return err
		}
		opts.Grace = -1
		p, err := c.Garbage(ctx, opts)
		if err != nil {
			return err
		}
		_, err = c.Collect(ctx, p)
		return err
	}
}

// fillOf is an operation's act.
func fillOf(s setup) func(context.Context, Storage, memory.Allocator) error {
	return func(ctx context.Context, st Storage, mem memory.Allocator) error {
		s.mem = mem
		_, _, err := s.run(ctx, st)
		return err
	}
}

// operations are all that write to a cache.
func operations() []operation {
	small := setup{
		splits: map[string][]encode.Sample{"train": groups("a", 7, 6)},
		uses:   []encode.Use{{Name: "e"}, {Name: "raw"}}, uncached: []string{"raw"}, shard: 4, batch: 2,
	}
	old := setup{splits: map[string][]encode.Sample{"old": pairs("o", 4)}}
	more := setup{splits: map[string][]encode.Sample{"train": groups("o", 9, 8), "val": pairs("v", 3)}, shard: 4}
	full := setup{splits: map[string][]encode.Sample{"train": groups("a", 6, 6)}, shard: 4}
	wide := setup{ // several blocks a shard
		splits: full.splits, shard: 4, models: map[string]hashModel{"e": {dim: 6000, seed: "e"}},
	}
	convert := setup{
		splits: map[string][]encode.Sample{"train": append(groups("new", 3, 3), groups("a", 7, 6)...)}, shard: 4,
		dtypes: map[string]DType{"e": Int8}, codec: LZ4,
	}
	other := setup{splits: map[string][]encode.Sample{"other": groups("x", 5, 5)}}
	resumed := setup{splits: map[string][]encode.Sample{"train": groups("a", 14, 14)}, batch: 2}
	changed := setup{splits: map[string][]encode.Sample{"train": append(groups("b", 5, 5), groups("a", 2, 2)...)}, shard: 4}
	return []operation{
		{
			name: "fill", act: fillOf(small),
			states: []func(*testing.T, *Cache){holds(), holds(small)},
		},
		{
			name: "another fill", before: fills(old), act: fillOf(more),
			states: []func(*testing.T, *Cache){holds(old), holds(old, more)},
		},
		{
			name: "conversion", before: fills(full), act: fillOf(convert),
			states: []func(*testing.T, *Cache){holds(full), holds(full, convert)},
		},
		{
			name: "resume", before: broken(resumed), act: fillOf(resumed),
			states: []func(*testing.T, *Cache){holds(), holds(resumed)},
		},
		{
			name: "repair", hurt: &wide, before: damaged(wide, 0), act: repairOf(wide),
			states: []func(*testing.T, *Cache){holds(wide)},
		},
		{
			name: "gc", otherNumber: true, before: fills(full, changed), act: collecting(GCOptions{}),
			states: []func(*testing.T, *Cache){holds(full, changed), holds(changed)},
		},
		{
			name: "compact", otherNumber: true, before: fills(full, changed), act: collecting(GCOptions{Compact: true, ShardObjects: 8}),
			states: []func(*testing.T, *Cache){holds(full, changed), holds(changed)},
		},
		{
			name: "merge", before: fills(old), otherHistory: true,
			act: func(ctx context.Context, st Storage, mem memory.Allocator) error {
				s := more
				s.mem = mem
				c, err := Open(ctx, st, mem)
				if err != nil {
					return err
				}
				f, err := s.stages(ctx, c)
				if err == nil {
					err = fillOf(other)(ctx, st, mem)
				}
				if err == nil {
					_, err = f.Commit(ctx)
				}
				if f != nil {
					err = errors.Join(err, f.Abort())
				}
				return err
			},
			states: []func(*testing.T, *Cache){holds(old), holds(old, other), holds(old, other, more)},
		},
	}
}

// fullEnv, if set, makes the tests of what can go wrong try every case.
const fullEnv = "CACHESINK_FAULTS"

// stepOf returns how many cases of n to pass over to try about want of them,
// all with fullEnv.
func stepOf(n, want int) int {
	if os.Getenv(fullEnv) != "" || n <= want {
		return 1
	}
	return n/want | 1 // odd, so that it meets every bit of a byte
}

// root is where the cache lies on a disk of the tests.
const root = "/cache"

// hangs is how long an interrupted operation may take to end.
const hangs = 5 * time.Second

// interrupted is one interrupted run of an operation.
type interrupted struct {
	*operation
	what  string
	clean map[string]string // the files that an undisturbed run leaves
	first int64             // generation before the operation
}

// undisturbed runs the operation on a disk that holds what it starts from,
// and returns that disk as it was before with what the run leaves.
func (o *operation) undisturbed(t *testing.T) (*storetest.Disk, *interrupted) {
	t.Helper()
	before := storetest.NewDisk()
	if o.before != nil {
		if err := o.before(t.Context(), store.NewDir(root, before)); err != nil {
			t.Fatal(err)
		}
	}
	c, err := Open(t.Context(), store.NewDir(root, before), nil)
	if err != nil {
		t.Fatal(err)
	}
	if o.hurt == nil {
		o.states[0](t, c)
	}
	disk := before.Killed()
	if err := o.act(t.Context(), store.NewDir(root, disk), memory.DefaultAllocator); err != nil {
		t.Fatal(err)
	}
	in := &interrupted{operation: o, what: o.name + " undisturbed", first: c.Manifest().Generation, clean: counting(disk.Files(root))}
	in.ended(t, disk.Cut(0, 0), true)
	return before, in
}

// counting leaves of some files those that count. The copy of the manifest is
// a courtesy, and what is temporary may stay where its removal failed.
func counting(all map[string]string) map[string]string {
	for name := range all {
		if strings.HasPrefix(name, "tmp/") || strings.HasPrefix(name, leasesDir) || name == manifestCopy {
			delete(all, name)
		}
	}
	return all
}

// run does the operation through a filesystem and returns its error. It must
// end in time, without a panic, and give back all memory and files.
func (in *interrupted) run(t *testing.T, fsys *storetest.FS) (err error) {
	t.Helper()
	hung := time.AfterFunc(hangs, func() {
		debug.SetTraceback("all")
		panic(in.what + ": it hangs")
	})
	defer hung.Stop()
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	err = in.act(t.Context(), store.NewDir(root, fsys), mem)
	if n := fsys.OpenFiles(); n != 0 {
		t.Errorf("%s: %d files are open", in.what, n)
	}
	leaks := leakReport{}
	mem.AssertSize(&leaks, 0)
	if leaks.text != "" {
		t.Errorf("%s: %s", in.what, leaks.text)
	}
	return err
}

type leakReport struct{ text string }

func (l *leakReport) Errorf(format string, args ...any) { l.text += fmt.Sprintf(format, args...) }
func (l *leakReport) Helper()                           {}

// buried makes what is on a disk that of processes that ended long ago: they
// were of this one, which lives on.
func buried(t *testing.T, disk *storetest.Disk) *storetest.Disk {
	t.Helper()
	disk.Age(48 * time.Hour)
	for name := range disk.Files(root) {
		if strings.HasPrefix(name, leasesDir) {
			err := disk.Change(root+"/"+name, func(b []byte) []byte {
				return bytes.Replace(b, []byte(`"started":"`), []byte(`"started":"-`), 1)
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	return disk
}

// holds checks that a disk, on which the operation has ended with err, holds
// one of the operation's states.
func (in *interrupted) holds(t *testing.T, disk *storetest.Disk, err error) {
	t.Helper()
	c, e := Open(t.Context(), store.NewDir(root, disk), nil)
	if e != nil {
		t.Fatalf("%s: %v", in.what, e)
	}
	commits := c.Manifest().Generation - in.first
	last := int64(len(in.states) - 1)
	if err == nil && commits != last || commits < 0 || commits > last {
		t.Fatalf("%s: error %v, and %d commits", in.what, err, commits)
	}
	defer in.tell(t)
	if in.hurt != nil && err != nil {
		refuses(t, c, *in.hurt)
	} else {
		in.states[commits](t, c)
	}
	if t.Failed() {
		t.FailNow()
	}
}

// again runs the operation anew on a disk without faults: it must come to the
// end of an undisturbed run, durably.
func (in *interrupted) again(t *testing.T, disk *storetest.Disk) {
	t.Helper()
	if err := in.run(t, &storetest.FS{FS: disk}); err != nil {
		t.Fatalf("%s, again: %v", in.what, err)
	}
	for name := range disk.Files(root) {
		if strings.HasSuffix(name, partialSuffix) {
			t.Errorf("%s, again: %s is left", in.what, name)
		}
	}
	in.ended(t, disk, false)
	in.ended(t, disk.Cut(0, 0), true)
}

// ended checks that a disk holds what an undisturbed run leaves. After a power
// cut there may be more: what was removed may be there again.
func (in *interrupted) ended(t *testing.T, disk *storetest.Disk, cut bool) {
	t.Helper()
	c, err := Open(t.Context(), store.NewDir(root, disk), nil)
	if err != nil {
		t.Fatalf("%s: %v", in.what, err)
	}
	defer in.tell(t)
	in.states[len(in.states)-1](t, c)
	got := counting(disk.Files(root))
	for name := range got {
		if _, ok := in.clean[name]; !ok && cut {
			delete(got, name)
		}
	}
	in.same(t, got)
	if t.Failed() {
		t.FailNow()
	}
}

// tell says which case failed.
func (in *interrupted) tell(t *testing.T) {
	t.Helper()
	if t.Failed() {
		t.Log(in.what)
	}
}

// same compares files with those of an undisturbed run.
func (in *interrupted) same(t *testing.T, got map[string]string) {
	t.Helper()
	if in.otherHistory {
		return
	}
	want := maps.Clone(in.clean)
	if in.otherNumber {
		for _, all := range []map[string]string{got, want} {
			maps.DeleteFunc(all, func(name, _ string) bool { return strings.HasPrefix(name, manifestsDir) })
		}
	}
	sameFiles(t, in.what, got, want)
}
