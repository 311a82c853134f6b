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
	first, err := c.Restore(ctx, opts, damaged)
	for r := first; r != nil && err == nil; {
		if len(r.Encoders()) > 0 {
			g, _ := stage.NewGroup(ctx)
			for name, in := range r.Index(g, s.samples(g)) {
				o := encode.StageOptions{Workers: s.workers, BatchSize: s.batch, Allocator: s.mem}
				r.Write(g, name, encode.Stage(g, in, name, s.models[name], o))
			}
			if err := g.Wait(); err != nil {
				return first, err
			}
			if _, err := r.Commit(ctx); err != nil {
				return first, err
			}
		}
		if r, err = r.Rest(ctx); r != nil {
			maps.Copy(first.Hopeless, r.Hopeless)
		}
	}
	return first, err
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
				flipByte(t, dir, shards[0].Name)
				flipByte(t, dir, shards[1].Name+sumSuffix)
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
	flipByte(t, dir, c.Manifest().Encoders[0].Shards[1].Name)
	s.models = map[string]hashModel{"e": {dim: 4, seed: "e", flaw: func(_ string, dst []float32) { dst[0]++ }}}
	if _, err := s.restore(t.Context(), quickDir(dir)); err != nil {
		t.Fatal(err)
	}
	wholeAt(t, dir, 2)
}

// wholeAt checks every byte of a cache, and its generation.
func wholeAt(t *testing.T, dir string, generation int64) {
	t.Helper()
	c, err := Open(t.Context(), quickDir(dir), nil)
	if err != nil {
		t.Fatal(err)
	}
	for found := range c.Verify(t.Context()) {
		if found != nil {
			t.Errorf("%s: %v", found.File, found.Err)
		}
	}
	if g := c.Manifest().Generation; g != generation {
		t.Errorf("generation %d", g)
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
			flipByte(t, dir, bad)
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
	flipByte(t, dir, manifestName(2))
	if what, err := RepairManifest(t.Context(), quickDir(dir)); err != nil || !strings.Contains(what, "restored from") {
		t.Errorf("%q, %v", what, err)
	}
	sameFiles(t, "from the copy", files(t, dir), want)
	flipByte(t, dir, manifestName(2))
	flipByte(t, dir, manifestCopy)
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
			flipByte(t, dir, name)
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
		flipByte(t, dir, bad)
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

// blocked are fills of one shard of many blocks.
func blocked() map[string]setup {
	out := map[string]setup{}
	for name, s := range map[string]setup{
		"float32":       {models: map[string]hashModel{"e": {dim: 2000, seed: "e"}}},
		"float16":       {models: map[string]hashModel{"e": {dim: 4000, seed: "e"}}, dtypes: map[string]DType{"e": Float16}},
		"int8":          {models: map[string]hashModel{"e": {dim: 8000, seed: "e"}}, dtypes: map[string]DType{"e": Int8}},
		"short batches": {models: map[string]hashModel{"e": {dim: 2000, seed: "e"}}, recRows: 37},
		"by batches":    {models: map[string]hashModel{"e": {dim: 2000, seed: "e", padded: true}}, recRows: 64},
		"zstd":          {models: map[string]hashModel{"e": {dim: 1000, seed: thirds}}, codec: Zstd, recRows: 20},
	} {
		s.splits = map[string][]encode.Sample{"train": groups("a", 170, 170)}
		s.shard = 200
		out[name] = s
	}
	return out
}

// TestRestoreOfBlocks: of a shard of which one block is damaged the objects
// alone are encoded whose embeddings lie there; or the object batch that holds
// them, where embeddings depend on that, as it was; or a record batch, where it
// is compressed. The shard gets its old bytes.
func TestRestoreOfBlocks(t *testing.T) {
	for name, s := range blocked() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var encoded atomic.Int64
			m := s.models["e"]
			m.encoded = &encoded
			s.models["e"], s.mem = m, checked(t)
			dir := t.TempDir()
			c, _ := mustRun(t, s, quickDir(dir))
			want := files(t, dir)
			shard := c.Manifest().Encoders[0].Shards[0]
			whole := want[shard.Name]
			if s.codec == "" && len(whole) < 20*sumBlock || s.codec != "" && len(whole) < 2*sumBlock {
				t.Fatalf("%d bytes", len(whole))
			}
			most := int64(sumBlock/8000 + 2) // rows in a block
			switch {
			case m.padded:
				most = 16 * 3
			case s.codec != "":
				most = 3 * 20 // record batches that a block has some of
			}
			for at := 1000; at < len(whole); at += len(whole)/5 | 1 {
				flipAt(t, dir, shard.Name, at)
				encoded.Store(0)
				r, err := s.restore(t.Context(), quickDir(dir))
				if err != nil || len(r.Hopeless) > 0 {
					t.Fatalf("%v, %v", err, r.Hopeless)
				}
				sameFiles(t, fmt.Sprint("bit at ", at), files(t, dir), want)
				n, reused := encoded.Load(), r.Stats().Encoders["e"].Reused
				limit := most
				if m.padded && at/sumBlock*sumBlock/8000/48 != (at/sumBlock+1)*sumBlock/8000/48 {
					limit *= 2 // the block is in two object batches
				}
				if n < 1 || n > limit || n+reused != shard.Rows || m.padded && n%48 != 0 && n%48 != 170%48 {
					t.Errorf("bit at %d: encoded %d, kept %d of %d, want at most %d", at, n, reused, shard.Rows, limit)
				}
			}
		})
	}
}

// flipAt changes a bit of a file.
func flipAt(t *testing.T, dir, name string, at int) {
	t.Helper()
	path := filepath.Join(dir, name)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[at] ^= 4
	if err := errors.Join(os.Remove(path), os.WriteFile(path, b, 0o600)); err != nil {
		t.Fatal(err)
	}
}

// TestRestoreOfOtherDamage: what is sound of a shard that is cut, of which the
// ids alone are damaged, or that no split names any more, is not encoded.
func TestRestoreOfOtherDamage(t *testing.T) {
	small := setup{splits: map[string][]encode.Sample{"train": groups("a", 5000, 5000)}, shard: 5000}
	large := blocked()["float32"]
	cut := func(part int) func(*testing.T, string, *Cache) {
		return func(t *testing.T, dir string, c *Cache) {
			s := c.Manifest().Encoders[0].Shards[0]
			if err := os.Truncate(filepath.Join(dir, s.Name), s.Bytes*int64(part)/4); err != nil {
				t.Fatal(err)
			}
		}
	}
	shardAt := func(at int) func(*testing.T, string, *Cache) {
		return func(t *testing.T, dir string, c *Cache) {
			flipAt(t, dir, c.Manifest().Encoders[0].Shards[0].Name, at)
		}
	}
	for name, tc := range map[string]struct {
		s           setup
		damage      func(t *testing.T, dir string, c *Cache)
		least, most int64
	}{
		"ids":        {small, shardAt(100_000), 0, 0}, // a block of ids alone
		"cut":        {large, cut(1), 100, 140},
		"one byte":   {large, cut(0), 170, 170},
		"longer":     {large, cut(5), 0, 10},
		"its footer": {large, shardAt(170*8032 - 1000), 1, 10},
		"its own sums": {large, func(t *testing.T, dir string, c *Cache) {
			shardAt(70_000)(t, dir, c)
			flipByte(t, dir, c.Manifest().Encoders[0].Shards[0].Name+sumSuffix)
		}, 170, 170},
		"and its split": {large, func(t *testing.T, dir string, c *Cache) {
			shardAt(300_000)(t, dir, c)
			flipByte(t, dir, c.Manifest().Splits[0].Files[0].Name)
		}, 1, 10},
	} {
		t.Run(name, func(t *testing.T) {
			dir, s := t.TempDir(), tc.s
			var encoded atomic.Int64
			s.mem = checked(t)
			s.models = map[string]hashModel{"e": {dim: max(4, s.models["e"].dim), seed: "e", encoded: &encoded}}
			c, _ := mustRun(t, s, quickDir(dir))
			shard := c.Manifest().Encoders[0].Shards[0]
			want := files(t, dir)[shard.Name]
			tc.damage(t, dir, c)
			encoded.Store(0)
			r, err := s.restore(t.Context(), quickDir(dir))
			if err != nil || r.Hopeless[shard.Name] != nil {
				t.Fatalf("%v, %v", err, r.Hopeless)
			}
			if files(t, dir)[shard.Name] != want {
				t.Error("the shard has other bytes")
			}
			if n := encoded.Load(); n < tc.least || n > tc.most || n+r.Stats().Encoders["e"].Reused != shard.Rows {
				t.Errorf("encoded %d, want %d to %d", n, tc.least, tc.most)
			}
			if c, err = Open(t.Context(), quickDir(dir), nil); err != nil || c.Manifest().Generation != 1 {
				t.Errorf("generation %d, %v", c.Manifest().Generation, err)
			}
		})
	}
}

// TestRestoreWithoutSomeObjects: what a dataset has no more need not be
// encoded where its embedding holds, unless its batch does not.
func TestRestoreWithoutSomeObjects(t *testing.T) {
	for _, padded := range []bool{false, true} {
		s := blocked()["float32"]
		s.models = map[string]hashModel{"e": {dim: 2000, seed: "e", padded: padded}}
		dir := t.TempDir()
		c, _ := mustRun(t, s, quickDir(dir))
		want := files(t, dir)
		shard := c.Manifest().Encoders[0].Shards[0]
		flipAt(t, dir, shard.Name, 60*8000) // in objects 48 to 95
		for _, lacks := range []int{60, 20, 90, 110, 160} {
			after := s
			after.splits = map[string][]encode.Sample{"train": slices.Delete(slices.Clone(s.splits["train"]), lacks, lacks+1)}
			r, err := after.restore(t.Context(), quickDir(dir))
			if err != nil {
				t.Fatal(err)
			}
			hopeless := lacks == 60 || padded && lacks < 96
			if got := r.Hopeless[shard.Name]; (got != nil) != hopeless {
				t.Errorf("batches %v, without object %d: %v", padded, lacks, got)
			}
			if !hopeless {
				sameFiles(t, fmt.Sprint("without object ", lacks), files(t, dir), want)
				flipAt(t, dir, shard.Name, 60*8000)
			}
		}
	}
}

// TestRestoreOfOtherBitsInSomeBlocks: an encoder that gives other bits now than
// the sound blocks have encodes all of the shard.
func TestRestoreOfOtherBitsInSomeBlocks(t *testing.T) {
	s := blocked()["float32"]
	dir := t.TempDir()
	c, _ := mustRun(t, s, quickDir(dir))
	flipAt(t, dir, c.Manifest().Encoders[0].Shards[0].Name, 500_000)
	var encoded atomic.Int64
	flaw := func(_ string, dst []float32) { dst[0]++ }
	s.models = map[string]hashModel{"e": {dim: 2000, seed: "e", flaw: flaw, encoded: &encoded}}
	s.mem = checked(t)
	if _, err := s.restore(t.Context(), quickDir(dir)); err != nil {
		t.Fatal(err)
	}
	if n := encoded.Load(); n <= 170 || n > 180 {
		t.Errorf("encoded %d", n)
	}
	wholeAt(t, dir, 2)
}

// TestRestoreOfCompacted: a shard that was put together of others is written
// again where its embeddings hold; they cannot be encoded if batches count.
func TestRestoreOfCompacted(t *testing.T) {
	for _, padded := range []bool{false, true} {
		dir := t.TempDir()
		m := map[string]hashModel{"e": {dim: 4, seed: "e", padded: padded}}
		all := setup{splits: map[string][]encode.Sample{"train": groups("a", 6000, 6000)}, shard: 3000, models: m}
		half := setup{splits: map[string][]encode.Sample{"train": groups("a", 5000, 5000)}, shard: 3000, models: m}
		mustRun(t, all, quickDir(dir))
		mustRun(t, half, quickDir(dir))
		if err := collecting(GCOptions{Compact: true, ShardObjects: 1 << 20})(t.Context(), quickDir(dir), nil); err != nil {
			t.Fatal(err)
		}
		c, err := Open(t.Context(), quickDir(dir), nil)
		if err != nil {
			t.Fatal(err)
		}
		shard := c.Manifest().Encoders[0].Shards[0]
		if shard.Rows != 5000 || padded && shard.Storage == "" {
			t.Fatalf("%+v", shard)
		}
		want := files(t, dir)
		for at, lost := range map[int64]bool{100_000: false, shard.Bytes - 20_000: true} {
			flipAt(t, dir, shard.Name, int(at))
			r, err := half.restore(t.Context(), quickDir(dir))
			if err != nil {
				t.Fatal(err)
			}
			if hopeless := r.Hopeless[shard.Name] != nil; hopeless != (padded && lost) {
				t.Errorf("batches %v, bit at %d of %d, storage %q: %v", padded, at, shard.Bytes, shard.Storage, r.Hopeless)
			} else if !hopeless {
				sameFiles(t, fmt.Sprint("bit at ", at), files(t, dir), want)
			} else {
				flipAt(t, dir, shard.Name, int(at))
			}
		}
	}
}
