package source_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/permafrost-ml/permafrost/source"
)

type question struct {
	Text  string   `json:"text"`
	Label string   `json:"label"`
	Score *float64 `json:"score"`
}

func TestJSONLStructs(t *testing.T) {
	path := write(t, "rows.jsonl", "\ufeff{\"text\":\"a\",\"label\":\"x\"}\r\n\n  \r\n {\"text\":\"\u00e9 \\u00e9\",\"score\":0.5} ")
	good, bad, err := collect(source.JSONL[question](path).Rows(t.Context()))
	if err != nil || len(bad) != 0 || len(good) != 2 {
		t.Fatalf("rows %v, bad %v, error %v", good, bad, err)
	}
	if good[0].Value.Text != "a" || good[0].Value.Label != "x" || good[0].Value.Score != nil {
		t.Errorf("first row %+v", good[0].Value)
	}
	if good[1].Value.Text != "é é" || *good[1].Value.Score != 0.5 {
		t.Errorf("second row %+v", good[1].Value)
	}
	if got := good[1].Pos; got != (source.Pos{Name: path, Line: 4}) {
		t.Errorf("second row is at %s", got)
	}
	if got := string(good[0].Raw); got != `{"text":"a","label":"x"}` {
		t.Errorf("raw text of the first row is %q", got)
	}
}

func TestJSONLFields(t *testing.T) {
	tests := []struct {
		json string
		want any
	}{
		{`"a\n\"b\" \\"`, "a\n\"b\" \\"},
		{`""`, ""},
		{`12`, int64(12)},
		{`-9223372036854775808`, int64(-9223372036854775808)},
		{`9223372036854775808`, float64(9223372036854775808)},
		{`1.0`, 1.0},
		{`1e2`, 100.0},
		{`true`, true},
		{`false`, false},
		{`null`, nil},
		{`{ "b" : [ 1 , "}]" ] }`, json.RawMessage(`{"b":[1,"}]"]}`)},
		{`[ ]`, json.RawMessage(`[]`)},
		{`1, "v" : 2`, int64(2)}, // the last of equal keys
	}
	for _, test := range tests {
		path := write(t, "rows.jsonl", fmt.Sprintf(`{ "first" : 1 , "v" : %s , "l\u0061st" : "z" }`, test.json))
		got := values(t, source.JSONL[source.Fields](path))
		want := []source.Fields{{"first": int64(1), "v": test.want, "last": "z"}}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %#v, want %#v", test.json, got, want)
		}
	}
	empty := values(t, source.JSONL[source.Fields](write(t, "rows.jsonl", "{}\n{ }\n")))
	if len(empty) != 2 || len(empty[0])+len(empty[1]) != 0 {
		t.Errorf("empty objects read as %v", empty)
	}
}

func TestJSONLBadRows(t *testing.T) {
	tests := []struct{ line, reason string }{
		{`{"text":"a"} x`, "byte 14"},
		{`{"text":"a"}{"text":"b"}`, "byte 13"},
		{`{"text":`, "unexpected end"},
		{`[1]`, "not a JSON object"},
		{`null`, "not a JSON object"},
		{`"text"`, "not a JSON object"},
		{"{\"text\":\"\xff\"}", "UTF-8"},
		{`{"text":` + strings.Repeat("[", 20000) + strings.Repeat("]", 20000) + "}", "depth"},
	}
	for _, test := range tests {
		path := write(t, "rows.jsonl", "{\"text\":\"before\"}\n"+test.line+"\n{\"text\":\"after\"}\n")
		check := func(good int, bad []*source.RowError, err error) {
			t.Helper()
			if err != nil || good != 2 || len(bad) != 1 {
				t.Errorf("%.40s: %d good rows, bad rows %v, error %v", test.line, good, bad, err)
				return
			}
			if bad[0].Pos != (source.Pos{Name: path, Line: 2}) || string(bad[0].Raw) != test.line || !strings.Contains(bad[0].Error(), test.reason) {
				t.Errorf("%.40s: got %v with raw %.40q, want %q", test.line, bad[0], bad[0].Raw, test.reason)
			}
		}
		structs, bad, err := collect(source.JSONL[question](path).Rows(t.Context()))
		check(len(structs), bad, err)
		fields, bad, err := collect(source.JSONL[source.Fields](path).Rows(t.Context()))
		check(len(fields), bad, err)
	}

	wrongType := write(t, "rows.jsonl", `{"text":7}`)
	if _, bad, _ := collect(source.JSONL[question](wrongType).Rows(t.Context())); len(bad) != 1 || !strings.Contains(bad[0].Error(), "field text") {
		t.Errorf("a number for a string gave %v", bad)
	}
	tooLarge := write(t, "rows.jsonl", `{"text":1e999}`)
	if _, bad, _ := collect(source.JSONL[source.Fields](tooLarge).Rows(t.Context())); len(bad) != 1 || !strings.Contains(bad[0].Error(), "out of range") {
		t.Errorf("a number out of range gave %v", bad)
	}
}

func TestJSONLLineLength(t *testing.T) {
	long := strings.Repeat("x", 1<<20)
	path := write(t, "rows.jsonl", `{"text":"a"}`+"\n"+`{"text":"`+long+"\"}\r\n"+`{"text":"b"}`)
	got := values(t, source.JSONL[question](path))
	if len(got) != 3 || got[1].Text != long || got[2].Text != "b" {
		t.Fatalf("a line of a MiB was not read whole: %d rows", len(got))
	}
	const line = len(`{"text":""}`) + 1<<20
	for _, test := range []struct{ max, good int }{{line, 3}, {line - 1, 2}, {100, 2}, {12, 2}} {
		good, bad, err := collect(source.JSONL[question](path).With(source.FileOptions{MaxLine: test.max}).Rows(t.Context()))
		if err != nil || len(good) != test.good || len(good)+len(bad) != 3 {
			t.Fatalf("MaxLine %d: %d rows, bad %v, error %v", test.max, len(good), bad, err)
		}
		if len(bad) == 1 && (bad[0].Pos.Line != 2 || !strings.Contains(bad[0].Error(), "MaxLine") || len(bad[0].Raw) > 4096) {
			t.Errorf("MaxLine %d: %v with %d bytes of raw text", test.max, bad[0], len(bad[0].Raw))
		}
		if last := good[len(good)-1]; last.Value.Text != "b" || last.Pos.Line != 3 {
			t.Errorf("MaxLine %d: the row behind is %+v", test.max, last.Value)
		}
	}
}

func gzipped(t testing.TB, s string) string {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write([]byte(s)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func zstded(t testing.TB, s string) string {
	t.Helper()
	z, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return string(z.EncodeAll([]byte(s), nil))
}

func TestCompressedFiles(t *testing.T) {
	first, second := `{"text":"a"}`+"\n", `{"text":"b"}`+"\n"
	for name, content := range map[string]string{
		"rows.jsonl":     first + second,
		"rows.jsonl.gz":  gzipped(t, first) + gzipped(t, second),
		"rows.jsonl.zst": zstded(t, first) + zstded(t, second),
		"unnamed":        gzipped(t, first+second),
	} {
		if got := values(t, source.JSONL[question](write(t, name, content))); len(got) != 2 || got[1].Text != "b" {
			t.Errorf("%s: read %v", name, got)
		}
	}
}

func TestJSONLFailures(t *testing.T) {
	dir := t.TempDir()
	var rows strings.Builder
	for i := range 20000 {
		fmt.Fprintf(&rows, "{\"text\":\"row %d %x\"}\n", i, i*i*7919)
	}
	archive := gzipped(t, rows.String())
	flipped := []byte(archive)
	flipped[len(flipped)/2] ^= 0x10
	tests := map[string]struct {
		path string
		want string
	}{
		"missing":       {filepath.Join(dir, "absent.jsonl"), "absent.jsonl"},
		"directory":     {dir, "is a directory"},
		"no match":      {filepath.Join(dir, "*.jsonl"), "no file matches"},
		"bad pattern":   {filepath.Join(dir, "[*.jsonl"), "[*.jsonl"},
		"not gzip":      {write(t, "plain.jsonl.gz", "{}"), "not gzip"},
		"not zstd":      {write(t, "plain.jsonl.zst", "{}"), "not zstd"},
		"cut gzip":      {write(t, "cut.jsonl.gz", archive[:len(archive)/2]), "cut.jsonl.gz:"},
		"damaged gzip":  {write(t, "flipped.jsonl.gz", string(flipped)), "flipped.jsonl.gz:"},
		"damaged zstd":  {write(t, "cut.jsonl.zst", zstded(t, rows.String())[:5000]), "cut.jsonl.zst:"},
		"damaged magic": {write(t, "magic.jsonl.gz", "\x1f\x8b\xff\xff"), "magic.jsonl.gz"},
	}
	for name, test := range tests {
		good, _, err := collect(source.JSONL[question](test.path).Rows(t.Context()))
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: after %d rows the error is %v, want %q", name, len(good), err, test.want)
		}
	}
	if _, _, err := collect(source.JSONL[question]().Rows(t.Context())); err == nil {
		t.Error("a source of no files is read without an error")
	}
}

func TestSeveralFiles(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"b2.jsonl", "b1.jsonl", "a.jsonl", "odd[1].jsonl"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(`{"text":"`+name+`"}`), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := source.JSONL[question](filepath.Join(dir, "b*.jsonl"), filepath.Join(dir, "a.jsonl"), filepath.Join(dir, "odd[1].jsonl"))
	var names []string
	for _, q := range values(t, s) {
		names = append(names, q.Text)
	}
	if got := strings.Join(names, " "); got != "b1.jsonl b2.jsonl a.jsonl odd[1].jsonl" {
		t.Errorf("files are read in the order %s", got)
	}
}

func TestRowsEndWithTheContext(t *testing.T) {
	path := write(t, "rows.jsonl", strings.Repeat("{}\n", 1000))
	reason := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	n := 0
	for _, err := range source.JSONL[source.Fields](path).Rows(ctx) {
		if n++; n == 10 {
			cancel(reason)
		}
		if n == 11 && !errors.Is(err, reason) || n > 11 {
			t.Fatalf("turn %d after cancelling gave %v", n, err)
		}
	}
	if n != 11 {
		t.Errorf("the pass had %d turns", n)
	}
}

// A row must not change when the next one is read.
func TestRowsAreOwned(t *testing.T) {
	path := write(t, "rows.jsonl", "{\"text\":\"first\",\"n\":[1]}\n{\"text\":\"other\",\"n\":[2]}\n")
	good, _, _ := collect(source.JSONL[source.Fields](path).Rows(t.Context()))
	if got := string(good[0].Raw) + string(good[0].Value["n"].(json.RawMessage)); got != `{"text":"first","n":[1]}[1]` {
		t.Errorf("the first row became %s", got)
	}
}

func FuzzJSONL(f *testing.F) {
	for _, seed := range []string{"", "{}", "{\"a\":1}\n", "{\"a\":\"\\u00e9\",\"b\":[{}]}\r\n\n{\"a\":null}", "{\"a\":1}x", "\ufeff{\"\":-0}", "{\"a\":1e400}", "\x1f\x8b\x08"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		path := write(t, "rows", string(content))
		const most = 64
		fields, badFields, err := collect(source.JSONL[source.Fields](path).With(source.FileOptions{MaxLine: most}).Rows(t.Context()))
		for _, row := range fields {
			if len(row.Raw) > most {
				t.Fatalf("a row of %d bytes", len(row.Raw))
			}
			// The walk over valid JSON agrees with encoding/json.
			var want map[string]any
			if err := json.Unmarshal(row.Raw, &want); err != nil || len(want) != len(row.Value) {
				t.Fatalf("%q: read %v, encoding/json reads %v, %v", row.Raw, row.Value, want, err)
			}
			for key, w := range want {
				text, err := json.Marshal(row.Value[key])
				if err != nil {
					t.Fatal(err)
				}
				var got any
				if err := json.Unmarshal(text, &got); err != nil || !reflect.DeepEqual(got, w) {
					t.Fatalf("%q: key %q is %v, encoding/json reads %v", row.Raw, key, row.Value[key], w)
				}
			}
		}
		maps, badMaps, mapErr := collect(source.JSONL[map[string]json.RawMessage](path).With(source.FileOptions{MaxLine: most}).Rows(t.Context()))
		if (err == nil) != (mapErr == nil) || len(fields)+len(badFields) != len(maps)+len(badMaps) || len(maps) < len(fields) {
			t.Fatalf("Fields: %d good, %d bad, %v; maps: %d good, %d bad, %v", len(fields), len(badFields), err, len(maps), len(badMaps), mapErr)
		}
	})
}
