package cachesink

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/permafrost-ml/permafrost/encode"
	"github.com/permafrost-ml/permafrost/internal/store"
)

// readAll serves all rows of all splits.
func readAll(ctx context.Context, st Storage) error {
	c, err := Open(ctx, st, nil)
	if err != nil {
		return err
	}
	for i := range c.Manifest().Splits {
		if err := readSplit(ctx, c, &c.Manifest().Splits[i]); err != nil {
			return err
		}
	}
	return nil
}

// readSplit serves all rows of a split.
func readSplit(ctx context.Context, c *Cache, sp *Split) error {
	var tables Tables
	defer tables.Release()
	r, err := c.Read(ctx, sp, &tables)
	if err != nil {
		return err
	}
	defer r.Release()
	rec, err := r.Gather(ctx, upTo(r.Rows()))
	if err == nil {
		rec.Release()
	}
	return err
}

// TestDamage changes one file of a cache at a time: a bit, the length, the
// whole. Whatever it is, it is found before a row is served, and named.
func TestDamage(t *testing.T) {
	for d, codec := range map[DType]Compression{Float32: Uncompressed, Int8: LZ4} {
		t.Run(fmt.Sprint(d, " ", codec), func(t *testing.T) {
			t.Parallel()
			damage(t, setup{
				splits: map[string][]encode.Sample{"train": groups("a", 300, 200), "val": pairs("a", 3)},
				uses:   []encode.Use{{Name: "e"}, {Name: "raw"}}, uncached: []string{"raw"}, shard: 150, batch: 32,
				models: map[string]hashModel{"e": {dim: 150, seed: "e"}}, dtypes: map[string]DType{"e": d}, codec: codec,
			})
		})
	}
}

// TestDamageOfEveryBit flips every bit of every file of small caches, and cuts
// each to every length: all of it is found before a row is served, and the
// file named. Some of all bits and lengths without fullEnv.
func TestDamageOfEveryBit(t *testing.T) {
	for codec, dtypes := range map[Compression]map[string]DType{
		Uncompressed: {"e": Float32, "f": Float16},
		LZ4:          {"e": Int8, "f": Float32},
		Zstd:         {"e": Float16, "f": Int8},
	} {
		t.Run(string(codec), func(t *testing.T) {
			t.Parallel()
			mem := store.NewMem()
			c, _ := mustRun(t, setup{
				splits: map[string][]encode.Sample{"train": groups("a", 5, 4), "val": pairs("a", 3)},
				uses:   []encode.Use{{Name: "e"}, {Name: "f"}, {Name: "raw"}}, uncached: []string{"raw"}, shard: 4,
				dtypes: dtypes, codec: codec,
			}, mem)
			if err := readAll(t.Context(), mem); err != nil {
				t.Fatal(err)
			}
			cases := 0
			for _, name := range append(c.Manifest().Files(), manifestName(1)) {
				cases += everyBit(t, c, mem, name)
				if !strings.HasPrefix(name, manifestsDir) {
					cases += everyBit(t, c, mem, name+sumSuffix)
				}
			}
			t.Logf("%d cases", cases)
		})
	}
}

// everyBit damages one file of a cache, and reads what needs the file.
func everyBit(t *testing.T, c *Cache, mem *store.Mem, name string) (cases int) {
	t.Helper()
	whole, err := store.ReadAll(t.Context(), mem, name, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	whole = bytes.Clone(whole)
	base := strings.TrimSuffix(name, sumSuffix)
	needs := func(s *Split) bool {
		return slices.ContainsFunc(slices.Concat(s.Files, s.Inputs), func(f File) bool { return f.Name == base }) ||
			slices.ContainsFunc(s.Encoders, func(e SplitEncoder) bool { return e.Folder != "" && strings.HasPrefix(base, e.Folder+"/") })
	}
	found := func(what string, n int, b []byte) {
		t.Helper()
		cases++
		if err := store.Put(t.Context(), mem, name, b, true); err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(name, manifestsDir) {
			if _, err := Open(t.Context(), mem, nil); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), name) {
				t.Fatalf("%s, %s %d: error %v", name, what, n, err)
			}
			return
		}
		read := 0
		for i := range c.Manifest().Splits {
			sp := &c.Manifest().Splits[i]
			if !needs(sp) {
				continue
			}
			read++
			err := readSplit(t.Context(), c, sp)
			if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), base) {
				t.Fatalf("%s, %s %d, split %q: error %v", name, what, n, sp.Name, err)
			}
			if read == 1 && cases%97 != 0 {
				break // most often one of them is enough
			}
		}
		if read == 0 {
			t.Fatalf("nothing needs %s", name)
		}
	}
	step := stepOf(8*len(whole), 400)
	for i := 0; i < 8*len(whole); i += step {
		b := bytes.Clone(whole)
		b[i/8] ^= 1 << (i % 8)
		found("bit", i, b)
	}
	for n := 0; n < len(whole); n += stepOf(len(whole), 100) {
		found("cut to", n, whole[:n])
	}
	if err := store.Put(t.Context(), mem, name, whole, true); err != nil {
		t.Fatal(err)
	}
	return cases
}

func damage(t *testing.T, s setup) {
	t.Helper()
	dir := t.TempDir()
	mustRun(t, s, quickDir(dir))
	all := files(t, dir)
	delete(all, manifestCopy)
	mem := store.NewMem()
	put := func(name string, b []byte) {
		if err := store.Put(t.Context(), mem, name, b, true); err != nil {
			t.Fatal(err)
		}
	}
	for name, b := range all {
		put(name, []byte(b))
	}
	if err := readAll(t.Context(), mem); err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for _, name := range slices.Sorted(maps.Keys(all)) {
		whole := []byte(all[name])
		base := strings.TrimSuffix(name, sumSuffix)
		found := func(what string, b []byte) {
			t.Helper()
			put(name, b)
			err := readAll(t.Context(), mem)
			if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), base) {
				t.Fatalf("%s, %s: error %v", name, what, err)
			}
		}
		var at []int
		if len(whole) < 3000 {
			for i := range whole {
				at = append(at, i)
			}
		} else {
			for range 150 {
				at = append(at, rng.IntN(len(whole)))
			}
			at = append(at, 0, 7, 8, 12, sumBlock-1, sumBlock%len(whole), len(whole)-7, len(whole)-1)
		}
		for _, i := range at {
			if i >= len(whole) {
				continue
			}
			b := bytes.Clone(whole)
			b[i] ^= 1 << (i % 8)
			found(fmt.Sprintf("bit %d of byte %d", i%8, i), b)
		}
		for range 40 {
			n := rng.IntN(len(whole))
			found(fmt.Sprintf("cut to %d bytes", n), whole[:n])
		}
		found("empty", nil)
		found("one byte more", append(bytes.Clone(whole), 0))
		found("many bytes more", append(bytes.Clone(whole), make([]byte, sumBlock)...))
		if !strings.HasPrefix(name, manifestsDir) {
			if err := mem.Remove(t.Context(), name); err != nil {
				t.Fatal(err)
			}
			if err := readAll(t.Context(), mem); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), base) {
				t.Fatalf("%s is gone: error %v", name, err)
			}
		}
		put(name, whole)
	}
	if err := readAll(t.Context(), mem); err != nil {
		t.Fatal(err)
	}
}

// TestVerifyFindsEach damages files in pairs: verification goes on after a
// finding, and names each file.
func TestVerifyFindsEach(t *testing.T) {
	mem := store.NewMem()
	s := twoEncoders()
	s.mem = checked(t)
	c, _ := mustRun(t, s, mem)
	names := c.Manifest().Files()
	for i, name := range names {
		other := names[(i+1)%len(names)]
		for _, n := range []string{name, other} {
			b, err := store.ReadAll(t.Context(), mem, n, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			b = bytes.Clone(b)
			b[len(b)/3] ^= 4
			if err := store.Put(t.Context(), mem, n, b, true); err != nil {
				t.Fatal(err)
			}
		}
		var found []string
		var total int64
		for f, n := range c.Verify(t.Context()) {
			total += n
			if f == nil {
				continue
			}
			if !errors.Is(f.Err, ErrCorrupt) || !strings.Contains(f.Err.Error(), f.File) {
				t.Errorf("%s: %v", f.File, f.Err)
			}
			found = append(found, f.File)
		}
		want := []string{name, other}
		slices.Sort(found)
		slices.Sort(want)
		if !slices.Equal(found, want) || total != c.Manifest().Bytes() {
			t.Fatalf("found %v of %v in %d of %d bytes", found, want, total, c.Manifest().Bytes())
		}
		for _, n := range want {
			b, _ := store.ReadAll(t.Context(), mem, n, 1<<20)
			b = bytes.Clone(b)
			b[len(b)/3] ^= 4
			if err := store.Put(t.Context(), mem, n, b, true); err != nil {
				t.Fatal(err)
			}
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for f := range c.Verify(ctx) {
		t.Errorf("a finding after the end: %v", f)
	}
}

// TestFillOnDamage: a fill reads the ids of what is stored, and does not build
// on those that are damaged. Embeddings it leaves to who reads them.
func TestFillOnDamage(t *testing.T) {
	for _, codec := range []Compression{Uncompressed, LZ4, Zstd} {
		t.Run(string(codec), func(t *testing.T) {
			mem := store.NewMem()
			s := setup{
				splits: map[string][]encode.Sample{"train": groups("a", 200, 200)}, shard: 100, codec: codec,
				models: map[string]hashModel{"e": {dim: 600, seed: "e"}}, mem: checked(t),
			}
			c, _ := mustRun(t, s, mem)
			shard := c.Manifest().Encoders[0].Shards[1]
			whole, err := store.ReadAll(t.Context(), mem, shard.Name, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			fill := func(name string, flip int) error {
				b := bytes.Clone(whole)
				b[flip] ^= 1
				if err := store.Put(t.Context(), mem, shard.Name, b, true); err != nil {
					t.Fatal(err)
				}
				s := s
				s.splits = map[string][]encode.Sample{name: append(groups("a", 200, 200), groups(name, 3, 3)...)}
				_, stats, err := s.run(t.Context(), mem)
				if e := stats.Encoders["e"]; err == nil && (e.Reused != 200 || e.Encoded != 3) {
					t.Errorf("%+v", e)
				}
				return err
			}
			wantErr(t, fill("val", 2000), ErrCorrupt, shard.Name)
			wantErr(t, fill("val", len(whole)-100), ErrCorrupt, shard.Name)
			if codec != Uncompressed {
				return // there is less than a block of embeddings alone
			}
			if err := fill("val", len(whole)/2); err != nil {
				t.Fatal(err)
			}
			wantErr(t, readAll(t.Context(), mem), ErrCorrupt, shard.Name)
		})
	}
}

// TestIDsOfOtherFiles: what is no shard has no ids.
func TestIDsOfOtherFiles(t *testing.T) {
	mem := store.NewMem()
	c, _ := mustRun(t, setup{splits: map[string][]encode.Sample{"train": groups("a", 8, 8)}}, mem)
	shard, split := c.Manifest().Encoders[0].Shards[0].File, c.Manifest().Splits[0].Files[0]
	few, many := shard, shard
	few.Rows--
	many.Rows++
	for name, tc := range map[string]struct {
		f    File
		says string
	}{
		"split":      {split, "not that of ids"},
		"fewer rows": {few, "more rows than the 7"},
		"more rows":  {many, "it has 8 rows"},
	} {
		none := func(*[idBytes]byte) error { return nil }
		err := eachID(t.Context(), mem, tc.f, none)
		if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
