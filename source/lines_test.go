package source_test

import (
	"runtime"
	"strings"
	"testing"

	"github.com/permafrost-ml/permafrost/source"
)

// A small archive of one endless line must not fill the memory.
func TestMemoryIsBoundedByMaxLine(t *testing.T) {
	const unpacked, most = 16 << 20, 512 << 10
	opts := source.FileOptions{MaxLine: most}
	for name, text := range map[string]string{
		"line":   strings.Repeat("x", unpacked),
		"quotes": "a\n\"" + strings.Repeat("line\n", unpacked/5),
	} {
		path := write(t, "rows.gz", gzipped(t, text))
		for format, rows := range map[string]func() error{
			"jsonl": func() error {
				_, bad, err := collect(source.Limit(source.JSONL[source.Fields](path).With(opts), 1).Rows(t.Context()))
				if err == nil && len(bad) > 0 {
					return bad[0]
				}
				return err
			},
			"csv": func() error {
				_, _, err := collect(source.CSV[source.Fields](path).With(source.CSVOptions{FileOptions: opts}).Rows(t.Context()))
				return err
			},
		} {
			if format == "jsonl" && name == "quotes" {
				continue // millions of lines, each of them short
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			err := rows()
			runtime.ReadMemStats(&after)
			if err == nil || !strings.Contains(err.Error(), "MaxLine") {
				t.Errorf("%s as %s: the error is %v", name, format, err)
			}
			if used := after.TotalAlloc - before.TotalAlloc; used > 16*most {
				t.Errorf("%s as %s: a pass allocates %d MiB", name, format, used>>20)
			}
		}
	}
}
