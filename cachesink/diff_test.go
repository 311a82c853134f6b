package cachesink

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/permafrost-ml/permafrost/encode"
)

// labelled makes group samples of "text:label:note", the text being the key.
func labelled(rows ...string) []encode.Sample {
	var out []encode.Sample
	for _, r := range rows {
		p := strings.Split(r, ":")
		out = append(out, encode.GroupSample(encode.Text(p[0]), p[1]).With("note", p[2]))
	}
	return out
}

func textKey(t *testing.T) encode.Key {
	t.Helper()
	k, err := encode.ParseKey("field:text")
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func mustDiff(t *testing.T, a, b *Cache) *CacheDiff {
	t.Helper()
	d, err := Diff(t.Context(), a, b, DiffOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// summary writes a diff in short.
func summary(d *CacheDiff) string {
	var out []string
	for _, e := range d.Encoders {
		s := fmt.Sprintf("%s both=%d a=%d b=%d", e.Name, e.Both, e.OnlyA.Count, e.OnlyB.Count)
		if e.Compared {
			s += fmt.Sprintf(" unequal=%d", e.Unequal.Count)
		}
		out = append(out, s+fmt.Sprint(e.Differs))
	}
	for _, s := range d.Splits {
		t := fmt.Sprintf("%s same=%d changed=%d removed=%d added=%d", s.Name, s.Same, s.Changed.Count, s.Removed.Count, s.Added.Count)
		for what, is := range map[string]bool{" reordered": s.Reordered, " rekeyed": s.Rekeyed, " not compared": !s.Compared} {
			if is {
				t += what
			}
		}
		out = append(out, t+fmt.Sprint(s.Differs))
	}
	return strings.Join(out, "; ")
}

func TestDiff(t *testing.T) {
	base := func() setup {
		return setup{
			splits: map[string][]encode.Sample{"train": labelled("x:1:p", "y:1:p", "x:1:p", "z:2:p")},
			uses:   []encode.Use{{Name: "e", Key: textKey(t)}},
			models: map[string]hashModel{"e": {dim: 4, seed: "e"}},
		}
	}
	tests := []struct {
		name   string
		change func(s *setup)
		want   string // all of it
	}{
		{
			"other files", func(s *setup) { s.shard, s.codec, s.workers, s.recRows = 1, Zstd, 1, 2 },
			"e both=3 a=0 b=0 unequal=0[]; train same=4 changed=0 removed=0 added=0[]",
		},
		{
			"one copy of a row less", func(s *setup) { s.splits["train"] = labelled("x:1:p", "y:1:p", "z:2:p") },
			"e both=3 a=0 b=0 unequal=0[]; train same=3 changed=0 removed=1 added=0[]",
		},
		{
			"one copy of a row more", func(s *setup) { s.splits["train"] = append(s.splits["train"], labelled("z:2:p")...) },
			"e both=3 a=0 b=0 unequal=0[]; train same=4 changed=0 removed=0 added=1[]",
		},
		{
			"labels", func(s *setup) { s.splits["train"] = labelled("x:1:p", "y:9:p", "x:8:p", "z:2:p") },
			"e both=3 a=0 b=0 unequal=0[]; train same=2 changed=2 removed=0 added=0[]",
		},
		{
			"kept columns", func(s *setup) { s.splits["train"] = labelled("x:1:p", "y:1:p", "x:1:p", "z:2:q") },
			"e both=3 a=0 b=0 unequal=0[]; train same=3 changed=1 removed=0 added=0[]",
		},
		{
			"a text", func(s *setup) { s.splits["train"] = labelled("x:1:p", "w:1:p", "x:1:p", "z:2:p") },
			"e both=2 a=1 b=1 unequal=0[]; train same=3 changed=0 removed=1 added=1[]",
		},
		{
			"order", func(s *setup) { s.splits["train"] = labelled("y:1:p", "x:1:p", "x:1:p", "z:2:p") },
			"e both=3 a=0 b=0 unequal=0[]; train same=4 changed=0 removed=0 added=0 reordered[]",
		},
		{
			"keys", func(s *setup) { s.uses[0].Key = encode.Key{} },
			"e both=3 a=0 b=0 unequal=0[]; train same=4 changed=0 removed=0 added=0 rekeyed[]",
		},
		{
			"a split more", func(s *setup) { s.splits["val"] = labelled("z:2:p") },
			"e both=3 a=0 b=0 unequal=0[]; train same=4 changed=0 removed=0 added=0[]; val same=0 changed=0 removed=0 added=0 not compared[]",
		},
		{
			"no rows", func(s *setup) { s.splits["train"] = nil },
			"e both=0 a=3 b=0 unequal=0[]; train same=0 changed=0 removed=0 added=0 not compared[]",
		},
		{
			"the kind", func(s *setup) { s.splits["train"] = pairs("p", 2) },
			"e both=0 a=3 b=2 unequal=0[]; train same=0 changed=0 removed=0 added=0 not compared",
		},
		{
			"the encoder", func(s *setup) { s.models["e"] = hashModel{dim: 4, seed: "other"} },
			"e both=3 a=0 b=0[seed: e -> other]; train same=4 changed=0 removed=0 added=0[encoder e fingerprint: ",
		},
		{
			"the dtype", func(s *setup) { s.dtypes = map[string]DType{"e": Float16} },
			"e both=3 a=0 b=0[stored as: float32 -> float16]; train same=4 changed=0 removed=0 added=0[encoder e stored as: float32 -> float16]",
		},
		{
			"another encoder too", func(s *setup) {
				s.uses = append(s.uses, encode.Use{Name: "f", Key: textKey(t)})
			},
			"e both=3 a=0 b=0 unequal=0[]; f both=0 a=0 b=3[]; train same=4 changed=0 removed=0 added=0[encoder f fingerprint: (none) -> ",
		},
		{
			"an embedding", func(s *setup) {
				m := s.models["e"]
				m.flaw = func(input string, dst []float32) {
					if input == "y" {
						dst[3] = math.Float32frombits(math.Float32bits(dst[3]) ^ 1)
					}
				}
				s.models["e"] = m
			},
			"e both=3 a=0 b=0 unequal=1[]; train same=4 changed=0 removed=0 added=0[]",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := base()
			s.mem = checked(t)
			a, _ := mustRun(t, s, Memory())
			s = base()
			s.mem = checked(t)
			tt.change(&s)
			b, _ := mustRun(t, s, Memory())
			d := mustDiff(t, a, b)
			got := summary(d)
			if whole := strings.HasSuffix(tt.want, "]"); whole && got != tt.want || !strings.HasPrefix(got, tt.want) {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
			if want := tt.name == "other files"; d.Equal != want {
				t.Errorf("equal is %v", d.Equal)
			}
			if self := mustDiff(t, b, b); !self.Equal {
				t.Errorf("it differs from itself: %s", summary(self))
			}
			// Seen from the other side, added is removed.
			back := mustDiff(t, b, a)
			for i, sp := range d.Splits {
				o := back.Splits[i]
				if sp.Same != o.Same || sp.Changed.Count != o.Changed.Count || sp.Removed.Count != o.Added.Count || sp.Added.Count != o.Removed.Count {
					t.Errorf("from the other side: %s", summary(back))
				}
			}
		})
	}
}

// TestDiffShowsTheFirst rows and objects that differ, by number.
func TestDiffShowsTheFirst(t *testing.T) {
	const n = 3000
	texts := func(label func(i int) string, from, to int) (out []string) {
		for i := from; i < to; i++ {
			out = append(out, fmt.Sprintf("text %d:%s:n%d", i, label(i), i))
		}
		return out
	}
	s := setup{
		splits: map[string][]encode.Sample{"train": labelled(texts(func(int) string { return "old" }, 0, n)...)},
		uses:   []encode.Use{{Name: "e", Key: textKey(t)}}, shard: 256, mem: checked(t),
	}
	a, _ := mustRun(t, s, Memory())
	s.splits = map[string][]encode.Sample{"train": labelled(texts(func(i int) string {
		if i >= 2000 {
			return "new"
		}
		return "old"
	}, 100, n+50)...)}
	b, _ := mustRun(t, s, Memory())
	d := mustDiff(t, a, b)
	if got, want := summary(d), "e both=2900 a=100 b=50 unequal=0[]; train same=1900 changed=1000 removed=100 added=50[]"; got != want {
		t.Fatalf("got  %s\nwant %s", got, want)
	}
	show := func(rs RowDiffs) (out []string) {
		for _, r := range rs.First {
			for _, row := range []*Row{r.A, r.B} {
				if row != nil {
					out = append(out, fmt.Sprint(row.Row, row.Keys["e_key"], row.Columns["label"], row.Columns["note"]))
				}
			}
			out = append(out, r.Differs...)
		}
		return out
	}
	sp := d.Splits[0]
	for _, tt := range []struct {
		name string
		got  []string
		want []string
	}{
		{"removed", show(sp.Removed), []string{"0text 0oldn0", "1text 1oldn1", "2text 2oldn2"}},
		{"added", show(sp.Added), []string{"2900text 3000newn3000", "2901text 3001newn3001", "2902text 3002newn3002"}},
		{"changed", show(sp.Changed)[:6], []string{
			"2000text 2000oldn2000", "1900text 2000newn2000", "label: old -> new",
			"2001text 2001oldn2001", "1901text 2001newn2001", "label: old -> new",
		}},
	} {
		if fmt.Sprint(tt.got) != fmt.Sprint(tt.want) {
			t.Errorf("%s: got %q, want %q", tt.name, tt.got, tt.want)
		}
	}
	ids := func(c *Cache, key string) string {
		found, _, err := c.Lookup(t.Context(), key, LookupOptions{})
		if err != nil || len(found) != 1 {
			t.Fatalf("%q: %v, %v", key, found, err)
		}
		return found[0].ID
	}
	e := d.Encoders[0]
	if want := []string{ids(a, "text 0"), ids(a, "text 1"), ids(a, "text 2")}; !slices.Equal(e.OnlyA.IDs, want) {
		t.Errorf("only a: %q, want %q", e.OnlyA.IDs, want)
	}
	if want := []string{ids(b, "text 3000"), ids(b, "text 3001"), ids(b, "text 3002")}; !slices.Equal(e.OnlyB.IDs, want) {
		t.Errorf("only b: %q, want %q", e.OnlyB.IDs, want)
	}
	var done, total int64
	none, err := Diff(t.Context(), a, b, DiffOptions{Examples: -1, OnProgress: func(d, of int64) {
		if d <= done || d > of {
			t.Errorf("%d of %d bytes after %d", d, of, done)
		}
		done, total = d, of
	}})
	if want := a.Manifest().Bytes() + b.Manifest().Bytes(); done != want || total != want {
		t.Errorf("%d of %d bytes were read, want %d", done, total, want)
	}
	if err != nil || len(none.Splits[0].Removed.First)+len(none.Encoders[0].OnlyA.IDs) != 0 || summary(none) != summary(d) {
		t.Errorf("without examples: %+v, %v", none, err)
	}
}

// TestDiffTakesTheNewest split of a name, and each encoder with the nearest.
func TestDiffTakesTheNewest(t *testing.T) {
	s := setup{splits: map[string][]encode.Sample{"train": labelled("x:1:p", "y:1:p")}, mem: checked(t)}
	st := Memory()
	mustRun(t, s, st)
	b, _ := mustRun(t, s, Memory())
	s.splits = map[string][]encode.Sample{"train": labelled("y:1:p")}
	a, _ := mustRun(t, s, st)
	d := mustDiff(t, a, b)
	if got, want := summary(d), "e both=2 a=0 b=0 unequal=0[]; train same=1 changed=0 removed=0 added=1[]"; got != want || d.Splits[0].A.Older != 1 {
		t.Errorf("got %s\nwant %s", got, want)
	}

	s.models = map[string]hashModel{"e": {dim: 4, seed: "new"}}
	a, _ = mustRun(t, s, st) // old and new
	d = mustDiff(t, a, b)
	var got []string
	for _, e := range d.Encoders {
		got = append(got, fmt.Sprint(e.A != nil, e.B != nil, e.Compared, e.Both, e.OnlyA.Count))
	}
	if want := []string{"true true true 2 0", "true false false 0 1"}; !slices.Equal(slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want))) {
		t.Errorf("encoders %q, want %q", got, want)
	}
}

// TestDiffOfDamage names the file and serves nothing.
func TestDiffOfDamage(t *testing.T) {
	s := setup{splits: map[string][]encode.Sample{"train": labelled("x:1:p", "y:1:p")}, mem: checked(t)}
	a, _ := mustRun(t, s, Memory())
	for _, folder := range []string{"splits/", "encoders/"} {
		dir := t.TempDir()
		b, _ := mustRun(t, s, quickDir(dir))
		name := b.Manifest().Files()[slices.IndexFunc(b.Manifest().Files(), func(n string) bool { return strings.HasPrefix(n, folder) })]
		flipByte(t, dir, name)
		for _, order := range [][2]*Cache{{a, b}, {b, a}} {
			_, err := Diff(t.Context(), order[0], order[1], DiffOptions{})
			wantErr(t, err, ErrCorrupt, name)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Diff(ctx, a, a, DiffOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// TestDiffOfPairs without an encoder of one side's cache.
func TestDiffOfPairs(t *testing.T) {
	s := setup{splits: map[string][]encode.Sample{"train": pairs("p", 40)}, uncached: []string{"e"}, mem: checked(t)}
	a, _ := mustRun(t, s, Memory())
	s.splits = map[string][]encode.Sample{"train": slices.Concat(pairs("p", 39), pairs("q", 1))}
	b, _ := mustRun(t, s, Memory())
	if got, want := summary(mustDiff(t, a, b)), "train same=39 changed=0 removed=1 added=1[]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	s.uses = []encode.Use{{Name: "other"}}
	s.uncached = []string{"other"}
	b, _ = mustRun(t, s, Memory())
	if d := mustDiff(t, a, b); d.Splits[0].Compared || d.Equal {
		t.Errorf("compared without a common encoder: %s", summary(d))
	}
}

// flipByte damages a file in its middle.
func flipByte(t *testing.T, dir, name string) {
	t.Helper()
	path := filepath.Join(dir, filepath.FromSlash(name))
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := errors.Join(os.Remove(path), os.WriteFile(path, b, 0o600)); err != nil {
		t.Fatal(err)
	}
}

// TestRowSetIsSmall: what a row of a diff takes.
func TestRowSetIsSmall(t *testing.T) {
	const n = 200_000
	var s rowSet
	defer s.free()
	for i := range n {
		r := rowEntry{at: uint64(i)}
		id := randomID(uint64(i))
		r.objects = digest(id[:])
		if err := s.add(r); err != nil {
			t.Fatal(err)
		}
	}
	bytes := 0
	for _, p := range s.parts {
		bytes += len(p.mem)
	}
	if per := float64(bytes) / n; per > 50 {
		t.Errorf("%.1f bytes a row", per)
	}
}

// TestDiffOfSources tells from the notes of the splits why their rows differ:
// of several sources of the same rows the nearest one counts.
func TestDiffOfSources(t *testing.T) {
	cache := func(rows int, facts ...map[string]string) *Cache {
		s := setup{splits: map[string][]encode.Sample{"train": groups("a", rows, rows)}, mem: checked(t)}
		c, _ := mustRun(t, s, Memory())
		for i, f := range facts {
			note := SourceNote{Split: "train", Fingerprint: c.Manifest().Splits[0].Fingerprint, Facts: f}
			if i > 1 {
				note.Fingerprint = hexSum(nil) // of rows that are not there any more
			}
			if err := c.Remember(t.Context(), hexSum([]byte{byte(i)}), note); err != nil {
				t.Fatal(err)
			}
		}
		return c
	}
	fact := func(source, limit string) map[string]string {
		return map[string]string{"source": source, "limit": limit}
	}
	a := cache(3, fact("x", "0"), fact("y", "3"))
	for want, b := range map[string]*Cache{
		"[]":                   cache(3, fact("z", "1"), fact("y", "3")),
		"[limit: 3 -> 4]":      cache(4, fact("z", "1"), fact("y", "4"), fact("y", "3")),
		"[source: x -> other]": cache(5, fact("other", "0")),
	} {
		if got := fmt.Sprint(mustDiff(t, a, b).Splits[0].Sources); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	if got := mustDiff(t, a, cache(3)).Splits[0].Sources; got == nil || len(got) != 0 {
		t.Errorf("without notes: %v", got)
	}
}
