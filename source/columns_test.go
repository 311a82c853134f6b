package source_test

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/permafrost-ml/permafrost/source"
)

// The files of testdata/columns are one table, written by pyarrow and Polars
// (tools/columns/write.py), and rows.jsonl is the same table as JSON lines.
const columnsDir = "testdata/columns/"

// twins returns the rows of rows.jsonl, with bytes where the files have them.
func twins(t *testing.T) []source.Fields {
	t.Helper()
	rows, bad, err := collect(source.JSONL[source.Fields](columnsDir + "rows.jsonl").Rows(t.Context()))
	if err != nil || len(bad) > 0 || len(rows) != 40 {
		t.Fatalf("%d rows, bad %v, error %v", len(rows), bad, err)
	}
	for i, r := range rows {
		for _, name := range []string{"raw", "fixed"} {
			b, err := base64.StdEncoding.DecodeString(r.Value[name].(string))
			if err != nil {
				t.Fatal(err)
			}
			rows[i].Value[name] = b
		}
		for _, name := range []string{"score", "single", "half"} {
			if n, ok := r.Value[name].(int64); ok {
				r.Value[name] = float64(n)
			}
		}
	}
	out := make([]source.Fields, len(rows))
	for i := range rows {
		out[i] = rows[i].Value
	}
	return out
}

// sameValue compares values; JSON by what it says.
func sameValue(got, want any) bool {
	a, isRaw := got.(json.RawMessage)
	b, isRaw2 := want.(json.RawMessage)
	if isRaw && isRaw2 {
		var x, y any
		return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && reflect.DeepEqual(x, y)
	}
	if x, ok := got.([]byte); ok && len(x) == 0 {
		y, ok := want.([]byte)
		return ok && len(y) == 0
	}
	return reflect.DeepEqual(got, want)
}

// checkTwins holds a source to the twin rows, in the columns that it has.
func checkTwins(t *testing.T, s source.Source[source.Fields], columns int) {
	t.Helper()
	rows, bad, err := collect(s.Rows(t.Context()))
	if err != nil || len(bad) > 0 {
		t.Errorf("bad rows %v, error %v", bad, err)
	}
	want := twins(t)
	if len(rows) != len(want) {
		t.Fatalf("%d rows, want %d", len(rows), len(want))
	}
	for i, r := range rows {
		if r.Pos.Line != int64(i)+1 {
			t.Errorf("row %d is at %v", i+1, r.Pos)
		}
		if len(r.Value) != columns {
			t.Fatalf("%d columns, want %d: %v", len(r.Value), columns, r.Value)
		}
		for name, got := range r.Value {
			if !sameValue(got, want[i][name]) {
				t.Errorf("row %d, %s: got %T %v, want %T %v", i+1, name, got, show(got), want[i][name], show(want[i][name]))
			}
		}
	}
}

func show(v any) any {
	if raw, ok := v.(json.RawMessage); ok {
		return string(raw)
	}
	return v
}

func files(t *testing.T, pattern string, atLeast int) []string {
	t.Helper()
	paths, err := filepath.Glob(columnsDir + pattern)
	if err != nil || len(paths) < atLeast {
		t.Fatalf("%s: %v, %v", pattern, paths, err)
	}
	return paths
}

func TestParquetGivesTheRowsOfItsTwin(t *testing.T) {
	for pattern, columns := range map[string]int{"v*.parquet": 21, "polars-*.parquet": 18, "old.parquet": 21} {
		for _, path := range files(t, pattern, 1) {
			t.Run(filepath.Base(path), func(t *testing.T) {
				checkTwins(t, source.Parquet[source.Fields](path), columns)
			})
		}
	}
}

// typedRow has a field of every kind that columns go into.
type typedRow struct {
	ID     int32               `json:"id"`
	Text   *string             `json:"text"`
	Label  string              // by its own name, in any case
	Score  float64             `json:"score"`
	Single float32             `json:"single"`
	Flag   *bool               `json:"flag"`
	Raw    []byte              `json:"raw"`
	At     time.Time           `json:"at"`
	Price  string              `json:"price"`
	Tags   []*string           `json:"tags"`
	Matrix [][]int             `json:"matrix"`
	Point  *struct{ X, Y any } `json:"point"`
	Attrs  map[string]int      `json:"attrs"`
	Absent string              `json:"absent,omitempty"`
	Left   chan int            `json:"-"`
}

func TestParquetIntoStructs(t *testing.T) {
	checkStructs(t, source.Parquet[typedRow](columnsDir+"v1-snappy.parquet"))
}

// checkStructs holds structs to those that the twin gives.
func checkStructs(t *testing.T, s source.Source[typedRow]) {
	t.Helper()
	got, bad, err := collect(s.Rows(t.Context()))
	if err != nil || len(bad) > 0 {
		t.Fatalf("bad rows %v, error %v", bad, err)
	}
	want, bad, err := collect(source.JSONL[typedRow](columnsDir + "rows.jsonl").Rows(t.Context()))
	if err != nil || len(bad) > 0 || len(want) != len(got) {
		t.Fatalf("%d rows, want %d; bad rows %v, error %v", len(got), len(want), bad, err)
	}
	for i := range want {
		a, _ := json.Marshal(got[i].Value.plain())
		b, _ := json.Marshal(want[i].Value.plain())
		if string(a) != string(b) {
			t.Errorf("row %d:\ngot  %s\nwant %s", i+1, a, b)
		}
	}
	if got[0].Value.ID != -2 || got[0].Value.At.IsZero() || len(got[1].Value.Raw) != 4 {
		t.Errorf("the first rows are %+v, %+v", got[0].Value, got[1].Value)
	}
}

// plain is the row without what JSON cannot have, and with one form of empty.
func (r typedRow) plain() map[string]any {
	return map[string]any{
		"id": r.ID, "text": r.Text, "label": r.Label, "score": r.Score, "single": r.Single, "flag": r.Flag, "raw": string(r.Raw),
		"at": r.At, "price": r.Price, "tags": r.Tags, "matrix": r.Matrix, "point": r.Point, "attrs": r.Attrs,
	}
}

func TestParquetMisfits(t *testing.T) {
	path := columnsDir + "v1-none.parquet"
	_, _, err := collect(source.Parquet[struct{ Missing string }](path).Rows(t.Context()))
	if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), `no column "Missing"`) {
		t.Errorf("a field without a column gives %v", err)
	}
	rows, bad, err := collect(source.Parquet[struct {
		ID uint8 `json:"id"`
	}](path).Rows(t.Context()))
	if err != nil || len(rows) != 38 || len(bad) != 2 || bad[1].Pos != (source.Pos{Name: path, Line: 2}) || !strings.Contains(bad[0].Error(), "column id: -2 does not fit uint8") {
		t.Errorf("numbers out of range give %d rows, %v, %v", len(rows), bad, err)
	}
	_, bad, err = collect(source.Parquet[struct{ Label int }](path).Rows(t.Context()))
	if err != nil || len(bad) != 40 || !strings.Contains(bad[0].Error(), `the text "billing" does not fit int`) {
		t.Errorf("a text for a number gives %v, %v", bad, err)
	}
	for _, s := range []source.Source[*int]{source.Parquet[*int](path)} {
		if _, _, err := collect(s.Rows(t.Context())); err == nil {
			t.Error("rows are pointers")
		}
	}
}

func TestProject(t *testing.T) {
	path := columnsDir + "v1-zstd.parquet"
	s := source.Project(source.Parquet[source.Fields](path), "text", "id", "text")
	checkTwins(t, s, 2)
	if _, _, err := collect(source.Project(source.Parquet[source.Fields](path), "text", "txt").Rows(t.Context())); err == nil || !strings.Contains(err.Error(), `no column "txt", only id, text`) {
		t.Errorf("a column that is not there gives %v", err)
	}
	all, err := source.Parquet[source.Fields](path).With(source.FileOptions{NoHints: true}).Identity(t.Context())
	some, err2 := source.Project(source.Parquet[source.Fields](path).With(source.FileOptions{NoHints: true}), "id").Identity(t.Context())
	if err != nil || err2 != nil || all == some || all == "" {
		t.Errorf("identities %q and %q, %v, %v", all, some, err, err2)
	}
	// What is not asked for is not read: the column may be damaged.
	b, err := os.ReadFile(columnsDir + "v1-pages.parquet")
	if err != nil {
		t.Fatal(err)
	}
	at := strings.Index(string(b), "hardware")
	b[at] ^= 1
	damaged := filepath.Join(t.TempDir(), "damaged.parquet")
	if err := os.WriteFile(damaged, b, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, _, err := collect(source.Parquet[source.Fields](damaged).Rows(t.Context())); err == nil || !strings.Contains(err.Error(), damaged+":1: column label: a page has another checksum") {
		t.Errorf("a damaged column gives %v", err)
	}
	checkTwins(t, source.Project(source.Parquet[source.Fields](damaged), "id", "text", "tags"), 3)

	if lines := source.JSONL[source.Fields](columnsDir + "rows.jsonl"); source.Project(lines, "id") != source.Source[source.Fields](lines) {
		t.Error("a source of lines is projected")
	}
}

func TestParquetFilesAndLimits(t *testing.T) {
	s := source.Parquet[source.Fields](columnsDir+"v1-none.parquet", columnsDir+"empty.parquet", columnsDir+"polars-z*.parquet")
	rows, bad, err := collect(source.Project(s, "id").Rows(t.Context()))
	if err != nil || len(bad) > 0 || len(rows) != 80 || rows[40].Pos.Line != 1 || rows[40].Pos.Name != columnsDir+"polars-zstd.parquet" {
		t.Errorf("%d rows, %v, %v", len(rows), bad, err)
	}
	rows, _, err = collect(source.Limit[source.Fields](s, 3).Rows(t.Context()))
	if err != nil || len(rows) != 3 {
		t.Errorf("a limit of 3 gives %d rows, %v", len(rows), err)
	}
	small := source.Parquet[source.Fields](columnsDir + "v1-none.parquet").With(source.FileOptions{MaxLine: 300})
	rows, bad, err = collect(small.Rows(t.Context()))
	if err != nil || len(rows)+len(bad) != 40 || len(bad) == 0 || len(rows) == 0 || !strings.Contains(bad[0].Error(), "larger than MaxLine") {
		t.Errorf("rows that are too large give %d rows, %d bad ones, %v", len(rows), len(bad), err)
	}
	for name, want := range map[string]string{
		"rows.jsonl": "not a Parquet file", "": "it is a directory", "file-none.arrow": "not a Parquet file",
	} {
		if _, _, err := collect(source.Parquet[source.Fields](columnsDir + name).Rows(t.Context())); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q gives %v, want %q", name, err, want)
		}
	}
	if _, _, err := collect(source.Parquet[source.Fields](columnsDir + "nowhere.parquet").Rows(t.Context())); !os.IsNotExist(err) {
		t.Errorf("a file that is not there gives %v", err)
	}
}

func TestParquetInt96(t *testing.T) {
	rows, _, err := collect(source.Parquet[source.Fields](columnsDir + "int96.parquet").Rows(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range twins(t) {
		if got := rows[i].Value; got["local"] != want["local"] || got["at"].(string)+"Z" != want["at"] {
			t.Errorf("row %d: %v and %v, want %v and %v", i+1, got["local"], got["at"], want["local"], want["at"])
		}
	}
}

func TestArrowGivesTheRowsOfItsTwin(t *testing.T) {
	for pattern, columns := range map[string]int{
		"file-*.arrow": 21, "stream-*.arrow": 21, "large.arrow": 21, "feather.feather": 21, "views.arrow": 4, "dictionaries.arrow": 2,
		"polars-*.arrow": 18,
	} {
		for _, path := range files(t, pattern, 1) {
			t.Run(filepath.Base(path), func(t *testing.T) {
				checkTwins(t, source.Arrow[source.Fields](path), columns)
			})
		}
	}
}

func TestArrowIntoStructs(t *testing.T) {
	checkStructs(t, source.Arrow[typedRow](columnsDir+"stream-lz4.arrow"))
}

func TestArrowProject(t *testing.T) {
	checkTwins(t, source.Project(source.Arrow[source.Fields](columnsDir+"file-zstd.arrow"), "text", "label", "attrs"), 3)
	rows, bad, err := collect(source.Arrow[source.Fields](columnsDir+"empty.arrow", columnsDir+"file-*.arrow").Rows(t.Context()))
	if err != nil || len(bad) > 0 || len(rows) != 120 {
		t.Errorf("%d rows, %v, %v", len(rows), bad, err)
	}
	small := source.Arrow[source.Fields](columnsDir + "file-none.arrow").With(source.FileOptions{MaxLine: 40})
	rows, bad, err = collect(small.Rows(t.Context()))
	if err != nil || len(rows)+len(bad) != 40 || len(bad) == 0 || len(rows) == 0 || !strings.Contains(bad[0].Error(), "larger than MaxLine") {
		t.Errorf("rows that are too large give %d rows, %d bad ones, %v", len(rows), len(bad), err)
	}
}
