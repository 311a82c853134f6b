package cachesink

import (
	"context"
	"errors"
	"runtime/metrics"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/permafrost-ml/permafrost/encode"
	"github.com/permafrost-ml/permafrost/internal/store"
)

// sealedFile puts bytes into a store as a file of a cache, with checksums
// that hold: what someone who knows the format can write.
func sealedFile(t testing.TB, st store.Store, name string, b []byte, rows int64) File {
	t.Helper()
	sums := sumWriter{w: discard{}}
	if _, err := sums.Write(b); err != nil {
		t.Fatal(err)
	}
	done := sums.finish()
	for n, content := range map[string][]byte{name: b, name + sumSuffix: done} {
		if err := store.Put(context.Background(), st, n, content, true); err != nil {
			t.Fatal(err)
		}
	}
	return File{Name: name, Rows: rows, Bytes: int64(len(b)), Sum: sumDigest(done)}
}

type discard struct{}

func (discard) Write(b []byte) (int, error) { return len(b), nil }

// hostileFills are small fills that have all kinds of files.
func hostileFills() []setup {
	var out []setup
	for codec, dtypes := range map[Compression]map[string]DType{
		Uncompressed: {"e": Float32, "f": Float16},
		LZ4:          {"e": Int8, "f": Float32},
		Zstd:         {"e": Float16, "f": Int8},
	} {
		out = append(out, setup{
			splits: map[string][]encode.Sample{"train": groups("a", 5, 4), "val": pairs("a", 3)},
			uses:   []encode.Use{{Name: "e"}, {Name: "f"}, {Name: "raw"}}, uncached: []string{"raw"}, shard: 4,
			dtypes: dtypes, codec: codec,
		})
	}
	return out
}

// filled is a cache in memory with all of its files.
func filled(f *testing.F, s setup) (*Cache, func(name string) []byte) {
	f.Helper()
	mem := store.NewMem()
	c, _, err := s.run(context.Background(), mem)
	if err != nil {
		f.Fatal(err)
	}
	return c, func(name string) []byte {
		b, err := store.ReadAll(context.Background(), mem, name, 1<<30)
		if err != nil {
			f.Fatal(err)
		}
		return b
	}
}

// heapBytes is what was allocated on the heap so far, freed or not.
func heapBytes() uint64 {
	s := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}

// bounds runs fn, which reads a hostile file of n bytes, and fails if that
// takes more memory than an honest file of that size could need, leaks, or
// ends with an error that does not say that the cache is damaged.
func bounds(t *testing.T, n int, fn func(mem memory.Allocator) error) {
	t.Helper()
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	before := heapBytes()
	err := fn(mem)
	if got, limit := heapBytes()-before, uint64(32<<20+256*n); got > limit {
		t.Errorf("%d bytes were allocated for a file of %d (%v)", got, n, err)
	}
	mem.AssertSize(t, 0)
	if err != nil && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrSchema) && !errors.Is(err, ErrMissing) {
		t.Errorf("error %v", err)
	}
}

// FuzzShard reads shards that somebody else has written.
func FuzzShard(f *testing.F) {
	for _, s := range hostileFills() {
		c, read := filled(f, s)
		for _, e := range c.Manifest().Encoders {
			f.Add(read(e.Shards[0].Name), int64(4), e.Dim, string(e.DType))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte, rows int64, dim int, dtype string) {
		d, err := ParseDType(dtype)
		if err != nil {
			return
		}
		e := Encoder{Name: "e", Fingerprint: hexSum(nil), Folder: "encoders/e-0", Dim: dim, DType: d}
		m := &Manifest{Encoders: []Encoder{e}}
		mem := store.NewMem()
		file := sealedFile(t, mem, "encoders/e-0/00000.arrow", b, rows)
		shard := Shard{ID: hexSum(nil), File: file}
		if d != Float32 {
			shard.Storage = layout{dtype: d, codec: Uncompressed}.String()
		}
		m.Encoders[0].Shards = []Shard{shard}
		if m.Format = m.version(); m.check() != nil {
			return
		}
		bounds(t, len(b), func(a memory.Allocator) error {
			c := &Cache{st: mem, mem: a, manifest: m}
			for found := range c.Verify(t.Context()) {
				_ = found // most often: its objects are not the shard's
			}
			tab, err := c.loadTable(t.Context(), &m.Encoders[0], &Tables{})
			if err != nil {
				return err
			}
			defer tab.Release()
			row := make([]float32, dim)
			for i := range min(tab.Rows(), 100) {
				if err := tab.gather(t.Context(), row, []int64{i}, nil); err != nil {
					return err
				}
			}
			if lent, err := tab.lend(t.Context(), []int64{0}, nil); err == nil && lent != nil {
				lent.give()
			}
			return nil
		})
		bounds(t, len(b), func(memory.Allocator) error {
			var ids idTable
			defer ids.close()
			_, err := loadIDs(t.Context(), mem, &m.Encoders[0], &ids)
			return err
		})
		if d != Float32 {
			return
		}
		bounds(t, len(b), func(a memory.Allocator) (err error) {
			conv := newConverter(&Cache{st: mem}, a, &m.Encoders[0])
			defer func() { err = errors.Join(err, conv.close()) }()
			return conv.read(t.Context(), make([]float32, dim), []int64{max(rows, 1) - 1})
		})
	})
}

// FuzzSplit reads files of splits that somebody else has written.
func FuzzSplit(f *testing.F) {
	for _, s := range hostileFills() {
		c, read := filled(f, s)
		for _, sp := range c.Manifest().Splits {
			f.Add(read(sp.Files[0].Name), read(sp.Inputs[0].Name), sp.Rows, sp.Kind == Pair)
		}
	}
	shards, read := filled(f, setup{splits: map[string][]encode.Sample{"train": groups("a", 4, 4)}})
	e := shards.Manifest().Encoders[0]
	embeddings := read(e.Shards[0].Name)
	f.Fuzz(func(t *testing.T, b, inputs []byte, rows int64, pair bool) {
		mem := store.NewMem()
		e := e
		e.Shards = []Shard{{ID: hexSum(nil), File: sealedFile(t, mem, "encoders/e-0/00000.arrow", embeddings, 4)}}
		sp := Split{
			Name: "train", Kind: Group, Rows: rows,
			Encoders: []SplitEncoder{{Name: "e", Folder: e.Folder}, {Name: "raw"}},
			Files:    []File{sealedFile(t, mem, "splits/s/00000.arrow", b, rows)},
			Inputs:   []File{sealedFile(t, mem, "inputs/s/00000.arrow", inputs, rows)},
		}
		if pair {
			sp.Kind = Pair
		}
		m := &Manifest{Encoders: []Encoder{e}, Splits: []Split{sp}}
		if m.Format = m.version(); m.check() != nil {
			return
		}
		bounds(t, len(b)+len(inputs), func(a memory.Allocator) error {
			c := &Cache{st: mem, mem: a, manifest: m}
			for found := range c.Verify(t.Context()) {
				_ = found
			}
			var tables Tables
			defer tables.Release()
			r, err := c.Read(t.Context(), &sp, &tables)
			if err != nil {
				return err
			}
			defer r.Release()
			at := make([]int64, min(rows, 100))
			for i := range at {
				at[i] = int64(i)
			}
			rec, err := r.Gather(t.Context(), at)
			if err != nil {
				return err
			}
			defer rec.Release()
			return serve(rec)
		})
	})
}

// serve touches every value of a batch, as a consumer does.
func serve(rec arrow.Record) error {
	for _, col := range rec.Columns() {
		for i := range col.Len() {
			_ = col.ValueStr(i)
		}
	}
	return nil
}
