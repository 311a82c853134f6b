package cachesink

import (
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v15/arrow/array"

	"github.com/permafrost-ml/permafrost/encode"
)

// TestHead gives what Gather gives, and reads no file that it does not need.
func TestHead(t *testing.T) {
	dir := t.TempDir()
	s := setup{
		splits:   map[string][]encode.Sample{"train": pairs("p", 9000)},
		uses:     []encode.Use{{Name: "e"}, {Name: "f"}, {Name: "none"}},
		dtypes:   map[string]DType{"f": Int8},
		uncached: []string{"none"}, shard: 4000, batch: 64, mem: checked(t),
	}
	mustRun(t, s, quickDir(dir))
	for what, st := range map[string]Storage{"read": unmapped{Dir(dir)}, "mapped": Dir(dir)} {
		c, err := Open(t.Context(), st, s.mem)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(what, func(t *testing.T) { heads(t, c) })
	}
	c, err := Open(t.Context(), Dir(dir), s.mem)
	if err != nil {
		t.Fatal(err)
	}
	sp := &c.manifest.Splits[0]
	shards := c.manifest.Encoders[0].Shards
	flipByte(t, dir, shards[len(shards)-1].Name)
	rec, err := c.Head(t.Context(), sp, 7)
	if err != nil {
		t.Fatalf("the last shard was touched for the first rows: %v", err)
	}
	rec.Release()
	_, err = c.Head(t.Context(), sp, 9000)
	wantErr(t, err, ErrCorrupt, shards[len(shards)-1].Name)
}

func heads(t *testing.T, c *Cache) {
	sp := &c.manifest.Splits[0]
	for _, n := range []int{1, 7, 8192, 8193, 9000, 1 << 30} {
		var tables Tables
		r, err := c.Read(t.Context(), sp, &tables)
		if err != nil {
			t.Fatal(err)
		}
		want := min(n, 9000)
		rows := make([]int64, want)
		for i := range rows {
			rows[i] = int64(i)
		}
		names := slices.DeleteFunc(strings.Split(columnNames(r.Schema()), ", "), func(n string) bool { return strings.HasSuffix(n, "_input") })
		sel, err := r.Select(names...)
		if err != nil {
			t.Fatal(err)
		}
		all, err := sel.Gather(t.Context(), rows)
		if err != nil {
			t.Fatal(err)
		}
		got, err := c.Head(t.Context(), sp, n)
		if err != nil {
			t.Fatal(err)
		}
		if !array.RecordEqual(got, all) {
			t.Errorf("n = %d: %d rows, not those of Gather", n, got.NumRows())
		}
		got.Release()
		all.Release()
		r.Release()
		tables.Release()
	}
	if rec, err := c.Head(t.Context(), sp, 0); rec != nil || err != nil {
		t.Errorf("no rows: %v, %v", rec, err)
	}
}
