package cachesink

import (
	"context"
	"errors"
	"fmt"
	"maps"
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
	"github.com/permafrost-ml/permafrost/stage"
)

// restore writes the damaged shards of a cache again.
func (s *setup) restore(ctx context.Context, st Storage) (*Restore, error) {
	s.defaults()
	c, err := Open(ctx, st, s.mem)
	if err != nil {
		return nil, err
	}
	var damaged []string
	for found := range c.Verify(ctx) {
		if found == nil {
			continue
		}
		if ok, err := c.RepairSums(ctx, found.File); err != nil {
			return nil, err
		} else if !ok {
			damaged = append(damaged, found.File)
		}
	}
	opts, err := s.options(ctx)
	if err != nil {
		return nil, err
	}
	r, err := c.Restore(ctx, opts, damaged)
	if err != nil || len(r.Encoders()) == 0 {
		return r, err
	}
	g, _ := stage.NewGroup(ctx)
	for name, in := range r.Index(g, s.samples(g)) {
		r.Write(g, name, encode.Stage(g, in, name, s.models[name], encode.StageOptions{Workers: s.workers, Allocator: s.mem}))
	}
	if err := g.Wait(); err != nil {
		return r, err
	}
	_, err = r.Commit(ctx)
	return r, err
}

func flipFile(t *testing.T, dir, name string) {
	t.Helper()
	path := filepath.Join(dir, name)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := errors.Join(os.Remove(path), os.WriteFile(path, b, 0o600)); err != nil {
		t.Fatal(err)
	}
}

// TestRestore: shards that are damaged or gone are written again to the bit,
// in every storage; what is whole is not encoded.
func TestRestore(t *testing.T) {
	for _, d := range []DType{Float32, Float16, Int8} {
		for _, moody := range []bool{false, true} {
			t.Run(fmt.Sprint(d, " moody ", moody), func(t *testing.T) {
				dir := t.TempDir()
				var encoded atomic.Int64
				s := setup{
					splits: map[string][]encode.Sample{"train": groups("a", 30, 20), "val": pairs("b", 9)}, moody: moody, mem: checked(t),
					dtypes: map[string]DType{"e": d}, codec: map[DType]Compression{Int8: Zstd}[d],
					models: map[string]hashModel{"e": {dim: 4, seed: "e", encoded: &encoded}},
				}
				c, _ := mustRun(t, s, quickDir(dir))
				want := files(t, dir)
				shards := c.Manifest().Encoders[0].Shards
				flipFile(t, dir, shards[0].Name)
				flipFile(t, dir, shards[1].Name+sumSuffix)
				if err := os.Remove(filepath.Join(dir, shards[3].Name)); err != nil {
					t.Fatal(err)
				}
				encoded.Store(0)
				r, err := s.restore(t.Context(), quickDir(dir))
				if err != nil || len(r.Hopeless) > 0 {
					t.Fatalf("%v, %v", err, r.Hopeless)
				}
				if n := shards[0].Rows + shards[3].Rows; encoded.Load() != n {
					t.Errorf("encoded %d, want %d", encoded.Load(), n)
				}
				sameFiles(t, "restored", files(t, dir), want)
			})
		}
	}
}

// TestRestoreOfOtherBits: an encoder that gives other bits now makes a new
// generation, in which all of a shard is of one kind.
func TestRestoreOfOtherBits(t *testing.T) {
	dir := t.TempDir()
	s := setup{splits: map[string][]encode.Sample{"train": groups("a", 20, 20)}}
	c, _ := mustRun(t, s, quickDir(dir))
	flipFile(t, dir, c.Manifest().Encoders[0].Shards[1].Name)
	s.models = map[string]hashModel{"e": {dim: 4, seed: "e", flaw: func(_ string, dst []float32) { dst[0]++ }}}
	if _, err := s.restore(t.Context(), quickDir(dir)); err != nil {
		t.Fatal(err)
	}
	c, err := Open(t.Context(), quickDir(dir), nil)
	if err != nil {
		t.Fatal(err)
	}
	for found := range c.Verify(t.Context()) {
		if found != nil {
			t.Errorf("%s: %v", found.File, found.Err)
		}
	}
	if c.Manifest().Generation != 2 {
		t.Errorf("generation %d", c.Manifest().Generation)
	}
}

// TestHopeless: what cannot be restored is said, and nothing is made up.
func TestHopeless(t *testing.T) {
	s := setup{splits: map[string][]encode.Sample{"train": groups("a", 20, 20)}}
	for name, tc := range map[string]struct {
		change func(s *setup)
		says   string
	}{
		"objects that are gone":  {func(s *setup) { s.splits = map[string][]encode.Sample{"train": groups("a", 9, 9)} }, "7 of its objects no more"},
		"another encoder":        {func(s *setup) { s.models = map[string]hashModel{"e": {dim: 4, seed: "f"}} }, "not the configured one"},
		"batches of another one": {func(s *setup) { s.batch = 7 }, "of another size"},
	} {
		t.Run(name, func(t *testing.T) {
			dir, s := t.TempDir(), s
			c, _ := mustRun(t, s, quickDir(dir))
			bad := c.Manifest().Encoders[0].Shards[1].Name
			flipFile(t, dir, bad)
			want := files(t, dir)
			tc.change(&s)
			r, err := s.restore(t.Context(), quickDir(dir))
			if err != nil || r.Hopeless[bad] == nil || !strings.Contains(r.Hopeless[bad].Error(), tc.says) {
				t.Fatalf("%v, %v", err, r.Hopeless)
			}
			sameFiles(t, "untouched", files(t, dir), want)
			if c, err = Open(t.Context(), quickDir(dir), nil); err != nil {
				t.Fatal(err)
			}
			dropped, err := c.Drop(t.Context(), []string{bad})
			if err != nil || len(dropped) != 1 {
				t.Fatalf("%v, %v", dropped, err)
			}
			again := setup{splits: map[string][]encode.Sample{"train": groups("a", 20, 20)}}
			c, stats := mustRun(t, again, quickDir(dir))
			checkContent(t, c, again)
			if n := stats.Encoders["e"].Encoded; n != 8 {
				t.Errorf("encoded %d, want those of the shard", n)
			}
		})
	}
}

func TestRepairManifest(t *testing.T) {
	before := setup{splits: map[string][]encode.Sample{"train": groups("a", 9, 9)}}
	after := setup{splits: map[string][]encode.Sample{"train": groups("b", 8, 8)}}
	dir := t.TempDir()
	mustRun(t, before, quickDir(dir))
	mustRun(t, after, quickDir(dir))
	want := files(t, dir)
	if what, err := RepairManifest(t.Context(), quickDir(dir)); err != nil || what != "" {
		t.Errorf("%q, %v", what, err)
	}
	flipFile(t, dir, manifestName(2))
	if what, err := RepairManifest(t.Context(), quickDir(dir)); err != nil || !strings.Contains(what, "restored from") {
		t.Errorf("%q, %v", what, err)
	}
	sameFiles(t, "from the copy", files(t, dir), want)
	flipFile(t, dir, manifestName(2))
	flipFile(t, dir, manifestCopy)
	if what, err := RepairManifest(t.Context(), quickDir(dir)); err != nil || !strings.Contains(what, "after generation 1") {
		t.Errorf("%q, %v", what, err)
	}
	c, err := Open(t.Context(), quickDir(dir), nil)
	if err != nil {
		t.Fatal(err)
	}
	checkContent(t, c, before)
	c, stats := mustRun(t, after, quickDir(dir))
	checkContent(t, c, after)
	if stats.Encoders["e"].Resumed != 8 {
		t.Errorf("%+v", stats)
	}
	for _, name := range []string{manifestName(1), manifestName(2), manifestName(3), manifestName(4), manifestCopy} {
		if name != manifestName(2) {
			flipFile(t, dir, name)
		}
	}
	_, err = RepairManifest(t.Context(), quickDir(dir))
	wantErr(t, err, ErrCorrupt, "no manifest")
}

// TestEveryFaultOfRestore makes each operation of a restoration fail: no
// wrong row is served, and a next one ends with the bytes that there were.
func TestEveryFaultOfRestore(t *testing.T) {
	t.Parallel()
	s := setup{splits: map[string][]encode.Sample{"train": groups("a", 6, 6)}, shard: 4}
	template := t.TempDir()
	c, _ := mustRun(t, s, quickDir(template))
	want := files(t, template)
	bad := c.Manifest().Encoders[0].Shards[0].Name
	damagedCopy := func() string {
		dir := t.TempDir()
		if err := os.CopyFS(dir, os.DirFS(template)); err != nil {
			t.Fatal(err)
		}
		flipFile(t, dir, bad)
		return dir
	}
	count := &storetest.FS{FS: quick{}}
	if _, err := s.restore(t.Context(), store.NewDir(damagedCopy(), count)); err != nil {
		t.Fatal(err)
	}
	for k := 1; k <= count.Ops(); k++ {
		dir := damagedCopy()
		mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
		s := s
		s.mem = mem
		fsys := &storetest.FS{FS: quick{}, FailAt: k, Lasting: k%2 == 0, Err: syscall.EIO}
		_, err := s.restore(t.Context(), store.NewDir(dir, fsys))
		what := fmt.Sprintf("operation %d of %d (%v): %v", k, count.Ops(), fsys.Failed(), err)
		if n := fsys.OpenFiles(); n != 0 {
			t.Errorf("%s: %d files are open", what, n)
		}
		mem.AssertSize(t, 0)
		s.mem = memory.DefaultAllocator
		if _, err := s.restore(t.Context(), quickDir(dir)); err != nil {
			t.Fatalf("%s: then %v", what, err)
		}
		got := files(t, dir)
		maps.DeleteFunc(got, func(name, _ string) bool { return strings.HasPrefix(name, "tmp/") })
		sameFiles(t, what, got, want)
		if t.Failed() {
			return
		}
	}
	if !slices.Contains(slices.Collect(maps.Keys(want)), bad) {
		t.Fatal("nothing was damaged")
	}
}
