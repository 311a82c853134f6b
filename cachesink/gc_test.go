package cachesink

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/permafrost-ml/permafrost/encode"
	"github.com/permafrost-ml/permafrost/internal/store"
	"github.com/permafrost-ml/permafrost/internal/store/storetest"
)

// ageAll makes every file look as if it had last changed some time ago.
func ageAll(t *testing.T, dir string, age time.Duration) {
	t.Helper()
	at := time.Now().Add(-age)
	for name := range files(t, dir) {
		if err := os.Chtimes(filepath.Join(dir, name), at, at); err != nil {
			t.Fatal(err)
		}
	}
}

func collect(t *testing.T, st Storage, mem memory.Allocator, opts GCOptions) (*Cache, *GCPlan) {
	t.Helper()
	c, err := Open(t.Context(), st, mem)
	if err != nil {
		t.Fatal(err)
	}
	plan, err := c.Garbage(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	if plan, err = c.Collect(t.Context(), plan); err != nil {
		t.Fatal(err)
	}
	if c, err = Open(t.Context(), st, mem); err != nil {
		t.Fatal(err)
	}
	return c, plan
}

// edited is a cache of two generations: the second has some of the rows of
// the first and new ones, and an encoder of its own.
func edited(t *testing.T, dir string) (before, after setup) {
	t.Helper()
	before = setup{splits: map[string][]encode.Sample{"train": groups("a", 20, 20), "val": pairs("b", 6)}, uses: []encode.Use{{Name: "e"}, {Name: "old"}}}
	after = setup{splits: map[string][]encode.Sample{"train": append(groups("a", 3, 3), groups("c", 9, 9)...), "val": pairs("b", 6)}, uses: []encode.Use{{Name: "e"}}}
	mustRun(t, before, quickDir(dir))
	mustRun(t, after, quickDir(dir))
	return before, after
}

func TestGarbageIsListedAndNotDeleted(t *testing.T) {
	dir := t.TempDir()
	edited(t, dir)
	ageAll(t, dir, 48*time.Hour)
	want := files(t, dir)
	c, err := Open(t.Context(), quickDir(dir), nil)
	if err != nil {
		t.Fatal(err)
	}
	plan, err := c.Garbage(t.Context(), GCOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(plan.Splits) != 2 || len(plan.Encoders) != 1 || plan.Bytes() == 0 {
		t.Errorf("plan %+v", plan)
	}
	sameFiles(t, "after a plan", files(t, dir), want)
}

func TestCollect(t *testing.T) {
	for name, tc := range map[string]struct {
		age   time.Duration
		opts  GCOptions
		gone  bool // what superseded rows had
		later bool
	}{
		"young":         {0, GCOptions{}, false, true},
		"old":           {48 * time.Hour, GCOptions{}, true, false},
		"no grace":      {0, GCOptions{Grace: -1}, true, false},
		"a longer one":  {48 * time.Hour, GCOptions{Grace: 72 * time.Hour}, false, true},
		"two are kept":  {48 * time.Hour, GCOptions{Keep: 2}, false, false},
		"and compacted": {48 * time.Hour, GCOptions{Compact: true, ShardObjects: 8}, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			before, after := edited(t, dir)
			ageAll(t, dir, tc.age)
			c, plan := collect(t, quickDir(dir), checked(t), tc.opts)
			checkContent(t, c, after)
			kept := len(c.Manifest().Encoders) == 2
			if kept != (tc.opts.Keep == 2) || (len(plan.Later) > 0) != tc.later {
				t.Errorf("encoders %d, later %v", len(c.Manifest().Encoders), plan.Later)
			}
			old, _ := filepath.Glob(filepath.Join(dir, "encoders", "old-*", "*"))
			if (len(old) == 0) != tc.gone {
				t.Errorf("files of the encoder that is not used: %q", old)
			}
			if tc.opts.Keep == 2 {
				checkContent(t, c, before)
			}
			// Nothing needed is gone: nothing is encoded again.
			_, stats := mustRun(t, after, quickDir(dir))
			if n := stats.Encoders["e"].Encoded; n != 0 {
				t.Errorf("encoded %d again", n)
			}
			if _, again := collect(t, quickDir(dir), nil, tc.opts); again.Committed != 0 || len(again.Files) != 0 && !tc.gone {
				t.Errorf("again: %+v", again)
			}
		})
	}
}

// TestCollectOrphans: what no generation names goes when it is old, unless a
// running fill claims it; what is not a cache's stays.
func TestCollectOrphans(t *testing.T) {
	dir := t.TempDir()
	st := quickDir(dir)
	s := setup{splits: map[string][]encode.Sample{"train": groups("a", 9, 9)}}
	c, _ := mustRun(t, s, st)
	e := c.Manifest().Encoders[0].Folder
	id := strings.Repeat("ab", 32)
	dead := strings.Repeat("cd", 32)
	put := func(name, text string) string {
		t.Helper()
		if err := store.Put(t.Context(), st, name, []byte(text), true); err != nil {
			t.Fatal(err)
		}
		return name
	}
	gone := []string{
		put(e+"/00009-"+dead[:8]+".arrow", "x"), put(e+"/00009-"+dead[:8]+".arrow.sum", "x"), put(e+"/"+dead+"-n.partial", "x"),
		put("encoders/x-1/00000-11111111.arrow", "x"), put("splits/train-0/00000.arrow", "x"), put("inputs/train-0/00000.arrow.sum", "x"),
		put("tmp/new-1", "x"), put("manifests/0000000007.json.claim", ""), put("sources/k.json", `{"split":"train","fingerprint":"0"}`),
		put("sources/damaged.json", "{"),
	}
	stays := []string{
		put(e+"/README", "x"), put("manifests/notes.txt", "x"), put("encoders/00000.parquet", "x"),
	}
	if err := c.Remember(t.Context(), "good", SourceNote{Split: "train", Fingerprint: c.Manifest().Splits[0].Fingerprint}); err != nil {
		t.Fatal(err)
	}
	stays = append(stays, "sources/good.json")
	want := files(t, dir)
	_, young := collectStale(t, dir, st, gone[7])
	if len(young.Files) != 1 || young.Young.Files != int64(len(gone))-1 {
		t.Errorf("young: %+v", young)
	}
	put(gone[7], "")
	ageAll(t, dir, 48*time.Hour)
	l := testSession(t, st, time.Hour)
	l.claim(t.Context(), id, e+"/00009-"+id[:8]+".arrow")
	held := []string{put(e+"/00009-"+id[:8]+".arrow", "x"), put(e+"/"+id+"-n.partial", "x")}
	ageAll(t, dir, 48*time.Hour)
	_, running := collect(t, st, nil, GCOptions{})
	for _, name := range held {
		if _, ok := files(t, dir)[name]; !ok {
			t.Errorf("%s is claimed and is gone", name)
		}
	}
	if running.Spared.Files == 0 {
		t.Errorf("spared %+v", running.Spared)
	}
	l.close()
	collect(t, st, nil, GCOptions{})
	got := files(t, dir)
	for _, name := range append(gone, held...) {
		if _, ok := got[name]; ok {
			t.Errorf("%s is still there", name)
		}
		delete(want, name)
	}
	for name := range want {
		if name == manifestCopy || strings.HasPrefix(name, manifestsDir) { // a generation for each deletion
			got[name] = want[name]
		}
	}
	maps.DeleteFunc(got, func(name, _ string) bool { return strings.HasPrefix(name, manifestsDir) && want[name] == "" })
	for _, name := range stays {
		if _, ok := got[name]; !ok {
			t.Errorf("%s is gone", name)
		}
	}
	sameFiles(t, "after the collection", got, want)
}

// collectStale collects where a commit has died long ago.
func collectStale(t *testing.T, dir string, st Storage, claim string) (*Cache, *GCPlan) {
	t.Helper()
	at := time.Now().Add(-48 * time.Hour)
	if err := os.Chtimes(filepath.Join(dir, claim), at, at); err != nil {
		t.Fatal(err)
	}
	return collect(t, st, nil, GCOptions{})
}

// TestCollectSparesRunningFills: what is superseded stays while a fill that
// uses its encoders runs.
func TestCollectSparesRunningFills(t *testing.T) {
	dir := t.TempDir()
	before, _ := edited(t, dir)
	ageAll(t, dir, 48*time.Hour)
	c, err := Open(t.Context(), quickDir(dir), nil)
	if err != nil {
		t.Fatal(err)
	}
	var folders []string
	for _, e := range c.Manifest().Encoders {
		folders = append(folders, e.Folder)
	}
	l := testSession(t, quickDir(dir), time.Hour, folders...)
	c, plan := collect(t, quickDir(dir), nil, GCOptions{Compact: true, ShardObjects: 1000})
	if plan.Committed != 0 || len(plan.Files) != 0 && plan.Files[0].Why != whyManifest {
		t.Errorf("%+v", plan)
	}
	checkContent(t, c, before)
	l.close()
}

// TestCollectGivesWay: a commit that comes between plan and collection wins,
// and what it names stays.
func TestCollectGivesWay(t *testing.T) {
	dir := t.TempDir()
	before, _ := edited(t, dir)
	ageAll(t, dir, 48*time.Hour)
	c, err := Open(t.Context(), quickDir(dir), nil)
	if err != nil {
		t.Fatal(err)
	}
	plan, err := c.Garbage(t.Context(), GCOptions{})
	if err != nil {
		t.Fatal(err)
	}
	third := setup{splits: map[string][]encode.Sample{"test": groups("z", 4, 4)}, uses: before.uses}
	mustRun(t, third, quickDir(dir))
	if plan, err = c.Collect(t.Context(), plan); err != nil {
		t.Fatal(err)
	}
	if plan.Generation != 3 || plan.Committed != 4 || len(plan.Encoders) != 0 {
		t.Errorf("%+v", plan)
	}
	if c, err = Open(t.Context(), quickDir(dir), nil); err != nil {
		t.Fatal(err)
	}
	checkContent(t, c, third)
}

// TestFillsMeetCollections: a fill whose reused shards are gone at its commit
// says so, and one that takes up old shards keeps them.
func TestFillsMeetCollections(t *testing.T) {
	dir := t.TempDir()
	before, after := edited(t, dir)
	c, err := Open(t.Context(), quickDir(dir), nil)
	if err != nil {
		t.Fatal(err)
	}
	alone := func(Storage, FillOptions) leases { return noLeases{} }
	late := before
	late.leases = alone // the collection does not know of it
	late.splits = map[string][]encode.Sample{"late": append(groups("a", 20, 20), groups("new", 9, 9)...)}
	f, err := late.stages(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	ageAll(t, dir, 48*time.Hour)
	collect(t, quickDir(dir), nil, GCOptions{Grace: -1})
	_, err = f.Commit(t.Context())
	wantErr(t, err, ErrMoved)
	now, err := Open(t.Context(), quickDir(dir), nil)
	if err != nil {
		t.Fatal(err)
	}
	checkContent(t, now, after)
	now, _ = mustRun(t, late, quickDir(dir))
	checkContent(t, now, late)
	// What a killed fill left, and a collection has listed since.
	orphan := setup{splits: map[string][]encode.Sample{"orphan": groups("q", 9, 9)}}
	if f, err = orphan.stages(t.Context(), now); err != nil {
		t.Fatal(err)
	}
	if err := f.Abort(); err != nil {
		t.Fatal(err)
	}
	ageAll(t, dir, 48*time.Hour)
	plan, err := now.Garbage(t.Context(), GCOptions{})
	if err != nil {
		t.Fatal(err)
	}
	now, stats := mustRun(t, orphan, quickDir(dir))
	if stats.Encoders["e"].Resumed != 9 {
		t.Errorf("%+v", stats)
	}
	if err := now.remove(t.Context(), plan, func(Garbage) bool { return true }); err != nil {
		t.Fatal(err)
	}
	checkContent(t, now, orphan)
}

// TestEveryFaultOfCollect makes each operation of a collection fail, once and
// for good: the cache is then at the old or the new state, serves the right
// rows, and a next collection ends as if nothing had been.
func TestEveryFaultOfCollect(t *testing.T) {
	t.Parallel()
	for _, opts := range []GCOptions{{Grace: -1}, {Grace: -1, Compact: true, ShardObjects: 8}} {
		run := func(fsys *storetest.FS, dir string, mem memory.Allocator) error {
			c, err := Open(t.Context(), store.NewDir(dir, fsys), mem)
			if err != nil {
				return err
			}
			plan, err := c.Garbage(t.Context(), opts)
			if err == nil {
				_, err = c.Collect(t.Context(), plan)
			}
			return err
		}
		whole, template := t.TempDir(), t.TempDir()
		edited(t, whole)
		_, after := edited(t, template)
		count := &storetest.FS{FS: quick{}}
		if err := run(count, whole, nil); err != nil {
			t.Fatal(err)
		}
		left := func(dir string) []string {
			got := files(t, dir)
			maps.DeleteFunc(got, func(name, _ string) bool { return name == manifestCopy || strings.HasPrefix(name, manifestsDir) })
			return slices.Sorted(maps.Keys(got))
		}
		ageAll(t, whole, 48*time.Hour)
		collect(t, quickDir(whole), nil, opts)
		want := left(whole)
		step := 2
		if opts.Compact {
			step = 3 // many are those of the other one
		}
		for k := 1; k <= count.Ops(); k += step {
			dir := t.TempDir()
			if err := os.CopyFS(dir, os.DirFS(template)); err != nil {
				t.Fatal(err)
			}
			mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
			fsys := &storetest.FS{FS: quick{}, FailAt: k, Lasting: k%2 == 0, Err: syscall.EIO}
			err := run(fsys, dir, mem)
			what := fmt.Sprintf("%+v: operation %d of %d (%v): %v", opts, k, count.Ops(), fsys.Failed(), err)
			if n := fsys.OpenFiles(); n != 0 {
				t.Errorf("%s: %d files are open", what, n)
			}
			mem.AssertSize(t, 0)
			c, e := Open(t.Context(), quickDir(dir), nil)
			if e != nil {
				t.Fatalf("%s: %v", what, e)
			}
			checkContent(t, c, after)
			ageAll(t, dir, 48*time.Hour)
			collect(t, quickDir(dir), nil, opts)
			collect(t, quickDir(dir), nil, opts) // of what the first one superseded
			if got := left(dir); !slices.Equal(got, want) {
				t.Errorf("%s: left %q, want %q", what, got, want)
			}
			if t.Failed() {
				return
			}
		}
	}
}
