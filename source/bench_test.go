package source_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/permafrost-ml/permafrost/source"
)

func pass[T any](b *testing.B, s source.Source[T], bytes int) {
	b.Helper()
	b.ReportAllocs()
	b.SetBytes(int64(bytes))
	for b.Loop() {
		for _, err := range s.Rows(b.Context()) {
			if err != nil {
				b.Fatal(err)
			}
		}
	}
}

func BenchmarkRows(b *testing.B) {
	var jsonl, csv strings.Builder
	csv.WriteString("question,answer,source\n")
	for i := range 5000 {
		text := strings.Repeat("some words of a question ", 2+i%4)
		fmt.Fprintf(&jsonl, "{\"question\": %q, \"answer\": %q, \"source\": \"row %d\"}\n", text, text, i)
		fmt.Fprintf(&csv, "%s,\"%s\",row %d\n", text, text, i)
	}
	type row struct {
		Question string `json:"question"`
		Answer   string `json:"answer"`
		Source   string `json:"source"`
	}
	lines, table := write(b, "rows.jsonl", jsonl.String()), write(b, "rows.csv", csv.String())
	b.Run("jsonl/struct", func(b *testing.B) { pass(b, source.JSONL[row](lines), jsonl.Len()) })
	b.Run("jsonl/fields", func(b *testing.B) { pass(b, source.JSONL[source.Fields](lines), jsonl.Len()) })
	b.Run("csv/struct", func(b *testing.B) { pass(b, source.CSV[row](table), csv.Len()) })
	b.Run("csv/fields", func(b *testing.B) { pass(b, source.CSV[source.Fields](table), csv.Len()) })
}
