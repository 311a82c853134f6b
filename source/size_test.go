package source_test

import (
	"path/filepath"
	"testing"

	"github.com/permafrost-ml/permafrost/source"
)

// TestSize: files tell their size, compressed ones what they are thought to
// hold; what is not a file, and what is not there, do not.
func TestSize(t *testing.T) {
	dir := t.TempDir()
	plain, packed := write(t, "a.jsonl", "0123456789"), write(t, "b.csv.gz", "0123456789")
	for name, c := range map[string]struct {
		s    source.Source[source.Fields]
		want int64
	}{
		"file":      {source.JSONL[source.Fields](plain), 10},
		"files":     {source.JSONL[source.Fields](plain, plain), 20},
		"packed":    {source.CSV[source.Fields](packed), 80},
		"parquet":   {source.Parquet[source.Fields](plain), 80},
		"arrow":     {source.Arrow[source.Fields](plain), 80},
		"limit":     {source.Limit[source.Fields](source.JSONL[source.Fields](plain), 1), 10},
		"concat":    {source.Concat[source.Fields](source.JSONL[source.Fields](plain), source.CSV[source.Fields](packed)), 90},
		"missing":   {source.JSONL[source.Fields](filepath.Join(dir, "none")), -1},
		"folder":    {source.JSONL[source.Fields](dir), -1},
		"slice":     {source.Slice[source.Fields](nil), -1},
		"one of it": {source.Concat[source.Fields](source.JSONL[source.Fields](plain), source.Slice[source.Fields](nil)), -1},
	} {
		if got := source.Size(t.Context(), c.s); got != c.want {
			t.Errorf("%s: %d bytes, want %d", name, got, c.want)
		}
	}
}
