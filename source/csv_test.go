package source_test

import (
	"bytes"
	"encoding/csv"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/permafrost-ml/permafrost/source"
)

func TestCSVFields(t *testing.T) {
	path := write(t, "rows.csv", "\ufefftext,\"a,b\"\r\n\r\nplain,\r\n\"two\nlines, \"\"quoted\"\"\",x\r\n\n say \"hi\" , y\n\"\",\"z\"")
	good, bad, err := collect(source.CSV[source.Fields](path).Rows(t.Context()))
	if err != nil || len(bad) > 0 {
		t.Fatal(bad, err)
	}
	want := []struct {
		line  int64
		value source.Fields
	}{
		{3, source.Fields{"text": "plain", "a,b": ""}},
		{4, source.Fields{"text": "two\nlines, \"quoted\"", "a,b": "x"}},
		{7, source.Fields{"text": " say \"hi\" ", "a,b": " y"}},
		{8, source.Fields{"text": "", "a,b": "z"}},
	}
	if len(good) != len(want) {
		t.Fatalf("%d rows, want %d", len(good), len(want))
	}
	for i, w := range want {
		if !reflect.DeepEqual(good[i].Value, w.value) || good[i].Pos.Line != w.line {
			t.Errorf("row %d: %q at %s, want %q at line %d", i, good[i].Value, good[i].Pos, w.value, w.line)
		}
	}
	if got := string(good[1].Raw); got != "\"two\nlines, \"\"quoted\"\"\",x" {
		t.Errorf("raw text of the second row is %q", got)
	}
}

type base struct {
	Text string
}

type record struct {
	base
	Label  string  `csv:"category" json:"label"`
	Score  float32 `json:"score,omitempty"`
	Count  uint8   `csv:"n"`
	OK     bool    `csv:"ok,omitempty"`
	Rank   *int    `csv:"rank"`
	Absent int     `csv:"absent,omitempty"`
	Unread string  `csv:"-"`
	_      string
}

func TestCSVStructs(t *testing.T) {
	path := write(t, "rows.csv", "n,TEXT,category,more,score,ok,rank\n7,hello,greeting,x,0.5,true,-3\n255,bye,,x,,,\n")
	got := values(t, source.CSV[record](path))
	three := -3
	want := []record{
		{base: base{"hello"}, Label: "greeting", Score: 0.5, Count: 7, OK: true, Rank: &three},
		{base: base{"bye"}, Count: 255},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("read %+v, want %+v", got, want)
	}

	path = write(t, "rows.csv", "n,text,category,rank\n256,a,b,1\n,a,b,1\n1,a,b,x\n1,good,b,\n")
	good, bad, err := collect(source.CSV[record](path).Rows(t.Context()))
	if err != nil || len(good) != 1 || len(bad) != 3 {
		t.Fatal(good, bad, err)
	}
	for i, reason := range []string{`:2: column n: "256" is out of range of uint8`, `:3: column n: "" is no uint8`, `:4: column rank: "x" is no int`} {
		if !strings.HasSuffix(bad[i].Error(), reason) {
			t.Errorf("%v, want %s", bad[i], reason)
		}
	}
}

func TestCSVBadRows(t *testing.T) {
	tests := []struct{ record, reason string }{
		{"a", "1 cells, but there are 2 columns"},
		{"a,b,c", "3 cells"},
		{`"a"b,c`, "behind the quote closed on line 2"},
		{"\"a\nb\" ,c", "behind the quote closed on line 3"},
		{"\xff,b", "UTF-8"},
	}
	for _, test := range tests {
		path := write(t, "rows.csv", "x,y\n"+test.record+"\nafter,1\n")
		good, bad, err := collect(source.CSV[source.Fields](path).Rows(t.Context()))
		if err != nil || len(good) != 1 || len(bad) != 1 {
			t.Errorf("%q: good %v, bad %v, error %v", test.record, good, bad, err)
			continue
		}
		if bad[0].Pos != (source.Pos{Name: path, Line: 2}) || string(bad[0].Raw) != test.record || !strings.Contains(bad[0].Error(), test.reason) {
			t.Errorf("%q: got %v with raw %q", test.record, bad[0], bad[0].Raw)
		}
	}
	open := write(t, "rows.csv", "x,y\n1,\"a\n2,b\n")
	_, bad, err := collect(source.CSV[source.Fields](open).Rows(t.Context()))
	if err != nil || len(bad) != 1 || string(bad[0].Raw) != "1,\"a\n2,b" || !strings.Contains(bad[0].Error(), "opened on line 2 is never closed") {
		t.Errorf("an open quote gave %v, %v", bad, err)
	}
}

func TestCSVFailures(t *testing.T) {
	tests := map[string]struct {
		content string
		opts    source.CSVOptions
		want    string
	}{
		"empty":          {"", source.CSVOptions{}, "rows.csv:1: no header line"},
		"same names":     {"a,b,a\n", source.CSVOptions{}, `rows.csv:1: header: two columns are named "a"`},
		"missing column": {"text,category,n\n", source.CSVOptions{}, `rows.csv:1: no column "rank" for field source_test.record.Rank, only text, category, n`},
		"long record":    {"text,category,n,rank\n1,2,3,4\n\"" + strings.Repeat("x\n", 500), source.CSVOptions{FileOptions: source.FileOptions{MaxLine: 100}}, "rows.csv:3: the quote opened on line 3 is not closed: longer than MaxLine"},
		"long line":      {"text,category,n,rank\n" + strings.Repeat("x", 500), source.CSVOptions{FileOptions: source.FileOptions{MaxLine: 100}}, "rows.csv:2: longer than MaxLine"},
		"comma":          {"a\n", source.CSVOptions{Comma: '"'}, "cannot separate"},
	}
	for name, test := range tests {
		s := source.CSV[record](write(t, "rows.csv", test.content)).With(test.opts)
		if _, _, err := collect(s.Rows(t.Context())); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: the error is %v, want %q", name, err, test.want)
		}
	}
	if _, _, err := collect(source.CSV[[]string](write(t, "rows.csv", "a\n")).Rows(t.Context())); err == nil {
		t.Error("rows were read into a []string")
	}
	type odd struct{ A chan int }
	if _, _, err := collect(source.CSV[odd](write(t, "rows.csv", "a\n1\n")).Rows(t.Context())); err == nil || !strings.Contains(err.Error(), "odd.A") {
		t.Errorf("reading a cell into a channel gave %v", err)
	}
}

func TestCSVOptions(t *testing.T) {
	want := []source.Fields{{"a": "1", "b": "2,3"}}
	tests := map[string]struct {
		name, content string
		opts          source.CSVOptions
	}{
		"tsv":     {"rows.tsv", "a\tb\n1\t2,3\n", source.CSVOptions{}},
		"tsv.gz":  {"rows.TSV.gz", gzipped(t, "a\tb\n1\t2,3\n"), source.CSVOptions{}},
		"comma":   {"rows.csv", "a→b\n1→2,3\n", source.CSVOptions{Comma: '→'}},
		"columns": {"rows.csv", "1;2,3\n", source.CSVOptions{Comma: ';', Columns: []string{"a", "b"}}},
	}
	for name, test := range tests {
		s := source.CSV[source.Fields](write(t, test.name, test.content)).With(test.opts)
		if got := values(t, s); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: read %v", name, got)
		}
	}
}

func TestCSVFilesHaveTheirOwnHeaders(t *testing.T) {
	s := source.CSV[source.Fields](write(t, "1.csv", "a,b\n1,2\n"), write(t, "2.csv", "b,a\n4,3\n"))
	want := []source.Fields{{"a": "1", "b": "2"}, {"a": "3", "b": "4"}}
	if got := values(t, s); !reflect.DeepEqual(got, want) {
		t.Errorf("read %v", got)
	}
}

func FuzzCSV(f *testing.F) {
	for _, seed := range []string{"", "a\n1", "a,b\r\n1,\"2\n3\"\n", "a\n\"x\"\"y\"\n\"z", "a,b\n\"1\"2,3\n4,5\n", "\ufeffa\n\xff\n"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		path := write(t, "rows", string(content))
		good, bad, err := collect(source.CSV[source.Fields](path).With(source.CSVOptions{FileOptions: source.FileOptions{MaxLine: 256}}).Rows(t.Context()))
		for _, row := range good {
			if len(row.Raw) > 256 {
				t.Fatalf("a row of %d bytes", len(row.Raw))
			}
		}
		// What encoding/csv takes is read here alike. It drops the carriage
		// return of line ends in cells, and takes text that is not UTF-8.
		if bytes.ContainsRune(content, '\r') || bytes.HasPrefix(content, []byte("\ufeff")) || bytes.HasPrefix(content, []byte("\x1f\x8b")) {
			return
		}
		records, csvErr := csv.NewReader(bytes.NewReader(content)).ReadAll()
		if csvErr != nil || err != nil || len(bad) > 0 || len(records) == 0 {
			return
		}
		if len(records)-1 != len(good) {
			t.Fatalf("%q: %d rows, encoding/csv reads %d", content, len(good), len(records)-1)
		}
		for i, row := range good {
			for c, name := range records[0] {
				if row.Value[name] != records[i+1][c] {
					t.Fatalf("%q: row %d is %q, encoding/csv reads %q", content, i, row.Value, records[i+1])
				}
			}
		}
	})
}

// What encoding/csv writes is read back as it was.
func TestCSVRoundTrip(t *testing.T) {
	cells := []string{"", "a", "\"", "\"\"", "a,b", "two\nlines", " space ", "#", `\.`, "日本", "\t"}
	var b bytes.Buffer
	w := csv.NewWriter(&b)
	want := [][]string{{"a", "b"}}
	for _, x := range cells {
		for _, y := range cells {
			want = append(want, []string{x, y})
		}
	}
	if err := w.WriteAll(want); err != nil {
		t.Fatal(err)
	}
	for i, got := range values(t, source.CSV[source.Fields](write(t, "rows.csv", b.String()))) {
		if g := []string{got["a"].(string), got["b"].(string)}; !slices.Equal(g, want[i+1]) {
			t.Errorf("row %d is %q, want %q", i, g, want[i+1])
		}
	}
}
