package source_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/permafrost-ml/permafrost/source"
)

// TestSize: sources of lines are bounded by the sizes of their files or, where
// these are compressed, whatever they are called, by counting; folders of
// images by their files. What is no file, or not there, is not bounded.
func TestSize(t *testing.T) {
	type sized struct {
		rows, bytes int64
		ok          bool
	}
	none := sized{}
	dir := t.TempDir()
	text := "{}\n{}\n\n{\"a\": 1}\n{}"
	plain, csv := write(t, "a.jsonl", text), write(t, "a.csv", "a\n1\n2\n")
	packed, renamed, zst := write(t, "b.jsonl.gz", gzipped(t, text)), write(t, "b.jsonl", gzipped(t, text)), write(t, "b.jsonl.zst", zstded(t, text))
	bomb := write(t, "c.gz", gzipped(t, strings.Repeat("{}\n", 1<<15)))
	writeUnder(t, dir, "cat/x.png", "0123456789")
	writeUnder(t, dir, "cat/notes.txt", "0123456789")
	of := source.JSONL[source.Fields]
	for name, c := range map[string]struct {
		s              source.Source[source.Fields]
		guess, counted sized
	}{
		"file":      {of(plain), sized{6, 18, true}, sized{5, 18, true}},
		"files":     {of(plain, plain), sized{12, 36, true}, sized{10, 36, true}},
		"csv":       {source.CSV[source.Fields](csv), sized{3, 6, true}, sized{3, 6, true}},
		"gzip":      {of(packed), none, sized{5, 18, true}},
		"renamed":   {of(renamed), none, sized{5, 18, true}},
		"zstd":      {of(zst), none, sized{5, 18, true}},
		"bomb":      {of(bomb), none, sized{1 << 15, 3 << 15, true}},
		"cut":       {of(write(t, "d.gz", gzipped(t, text)[:30])), none, none},
		"images":    {source.Images[source.Fields](dir), sized{1, 37, true}, sized{1, 37, true}},
		"limit":     {source.Limit[source.Fields](of(plain), 2), sized{2, 18, true}, sized{2, 18, true}},
		"of packed": {source.Limit[source.Fields](of(packed), 2), none, none},
		"concat":    {source.Concat[source.Fields](of(plain), of(packed)), none, sized{10, 36, true}},
		"missing":   {of(filepath.Join(dir, "none")), none, none},
		"folder":    {of(dir), none, none},
		"parquet":   {source.Parquet[source.Fields](plain), none, none},
		"slice":     {source.Slice[source.Fields](nil), none, none},
		"one of it": {source.Concat[source.Fields](of(plain), source.Slice[source.Fields](nil)), none, none},
	} {
		for count, want := range map[bool]sized{false: c.guess, true: c.counted} {
			rows, bytes, ok := source.Size(t.Context(), c.s, count)
			if got := (sized{rows, bytes, ok}); got != want && (ok || want.ok) {
				t.Errorf("%s, counted %v: %+v, want %+v", name, count, got, want)
			}
		}
		rows, _, ok := source.Size(t.Context(), c.s, true)
		values, bad, err := collect(c.s.Rows(t.Context()))
		if ok && (err != nil || int64(len(values)+len(bad)) > rows) {
			t.Errorf("%s: %d rows and %d bad ones come, at most %d should: %v", name, len(values), len(bad), rows, err)
		}
	}
}
