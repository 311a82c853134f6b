package cachesink

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/permafrost-ml/permafrost/encode"
)

// manyRows makes a cache of so many times the rows of another, in files that
// are links to its files.
func manyRows(b *testing.B, from string, c *Cache, times int) *Cache {
	b.Helper()
	dir := b.TempDir()
	m := *c.Manifest()
	m.Encoders, m.Splits = append([]Encoder{}, m.Encoders...), append([]Split{}, m.Splits...)
	link := func(f File, name string) File {
		for _, suffix := range []string{"", sumSuffix} {
			to := filepath.Join(dir, name+suffix)
			if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
				b.Fatal(err)
			}
			if err := os.Link(filepath.Join(from, f.Name+suffix), to); err != nil {
				b.Fatal(err)
			}
		}
		f.Name = name
		return f
	}
	s, e := &m.Splits[0], &m.Encoders[0]
	file, shard := s.Files[0], e.Shards[0]
	s.Files, e.Shards, s.Rows = nil, nil, 0
	for i := range times {
		s.Files = append(s.Files, link(file, fmt.Sprintf("%s/%05d.arrow", s.Folder, i)))
		s.Rows += file.Rows
	}
	for i := int64(0); i*shard.Rows < s.Rows; i++ {
		to := shard
		to.ID = hexSum([]byte(fmt.Sprint(i)))
		to.File = link(shard.File, fmt.Sprintf("%s/%05d-%s.arrow", e.Folder, i, to.ID[:8]))
		e.Shards = append(e.Shards, to)
	}
	if err := m.commit(b.Context(), Dir(dir), 1); err != nil {
		b.Fatal(err)
	}
	time.Sleep(clockGrain) // or it would not be remembered what was checked
	many, err := Open(b.Context(), Dir(dir), nil)
	if err != nil {
		b.Fatal(err)
	}
	return many
}

// BenchmarkOpen opens caches up to their first batch: of 384 values a row, a
// million rows and a hundred.
func BenchmarkOpen(b *testing.B) {
	b.Setenv("XDG_CACHE_HOME", b.TempDir())
	dir := b.TempDir()
	s := setup{
		splits: map[string][]encode.Sample{"train": groups("a", splitFileRows, 1<<16)}, batch: 512, shard: 1 << 16,
		models: map[string]hashModel{"e": {dim: 384, seed: "e"}},
	}
	c, _, err := s.run(b.Context(), quickDir(dir))
	if err != nil {
		b.Fatal(err)
	}
	for _, times := range []int{1, 96} {
		many := manyRows(b, dir, c, times)
		rows := many.Manifest().Splits[0].Rows
		b.Run(fmt.Sprintf("%d million rows", rows>>20), func(b *testing.B) {
			for _, first := range []string{"manifest", "split", "sequential", "shuffled"} {
				b.Run(first, func(b *testing.B) {
					for b.Loop() {
						if err := openTo(b.Context(), many.Storage(), first); err != nil {
							b.Fatal(err)
						}
					}
				})
			}
		})
	}
}

// openTo opens a cache anew: its manifest, a split, or a first batch.
func openTo(ctx context.Context, st Storage, first string) error {
	c, err := Open(ctx, st, nil)
	if err != nil || first == "manifest" {
		return err
	}
	var tables Tables
	defer tables.Release()
	r, err := c.Read(ctx, &c.Manifest().Splits[0], &tables)
	if err != nil {
		return err
	}
	defer r.Release()
	rows := upTo(256)
	switch {
	case first == "split":
		return nil
	case strings.HasPrefix(first, "sh"):
		for i := range rows {
			rows[i] = int64(i) * 2654435761 % r.Rows()
		}
	}
	rec, err := r.Gather(ctx, rows)
	if err == nil {
		rec.Release()
	}
	return err
}
