package export_test

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/permafrost-ml/permafrost/cachesink"
	"github.com/permafrost-ml/permafrost/pipeline/export"
	"github.com/permafrost-ml/permafrost/sink/qdrant"
	"github.com/permafrost-ml/permafrost/sink/qdrant/qdranttest"
)

// uploadOf is an upload that fails at once.
func uploadOf(t *testing.T, s *qdranttest.Server, cursors string) export.Upload {
	return export.Upload{To: qdrant.Options{URL: s.URL, Collection: "c", Attempts: 1, Wait: time.Millisecond}, Cursors: cursors}
}

// TestToQdrant compares the points with the rows.
func TestToQdrant(t *testing.T) {
	c := open(t, goldenCaches[1])
	for name, opts := range map[string]export.Options{
		"groups":  {Splits: []*cachesink.Split{newest(t, c, "train")}, Encoder: "plain"},
		"pairs":   {Splits: []*cachesink.Split{newest(t, c, "val")}, Encoder: "plain", Side: "b"},
		"objects": {Encoder: "plain"},
	} {
		s := qdranttest.New(t)
		opts.BatchRows = 2
		res, err := export.ToQdrant(t.Context(), c, opts, uploadOf(t, s, t.TempDir()))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		idColumn, column := "id", "embedding"
		opts.Format = export.JSONL
		var rows []map[string]any
		for line := range slices.Values(splitLines(write(t, c, opts))) {
			row, err := decode[map[string]any](line)
			if err != nil {
				t.Fatal(err)
			}
			rows = append(rows, row)
		}
		if len(opts.Splits) > 0 {
			column = "plain"
			if opts.Side != "" {
				column += "_" + opts.Side
			}
			idColumn = column + "_id"
		}
		want := map[string]qdranttest.Point{}
		for _, row := range rows {
			id := row[idColumn].(string)
			var vector []float32
			for _, v := range row[column].([]any) {
				vector = append(vector, float32(v.(float64)))
			}
			delete(row, column)
			for k, v := range row {
				if v == nil {
					delete(row, k)
				}
			}
			want[id] = qdranttest.Point{Vector: vector, Payload: row}
		}
		got := map[string]qdranttest.Point{}
		for _, p := range s.Points() {
			got[p.Payload[idColumn].(string)] = p
		}
		if !reflect.DeepEqual(got, want) || res.Rows != int64(len(rows)) || res.Resumed != 0 || len(s.Points()) != len(want) {
			t.Errorf("%s, %+v: the points are\n%v, want\n%v", name, res, got, want)
		}
	}
}

func splitLines(b []byte) (lines [][]byte) {
	for len(b) > 0 {
		i := slices.Index(b, '\n')
		lines, b = append(lines, b[:i]), b[i+1:]
	}
	return lines
}

// TestToQdrantResumes where an upload was cut, unless its points are gone.
func TestToQdrantResumes(t *testing.T) {
	c := open(t, goldenCaches[1])
	opts := export.Options{Splits: []*cachesink.Split{newest(t, c, "train")}, Encoder: "plain", BatchRows: 2}
	whole := qdranttest.New(t)
	if _, err := export.ToQdrant(t.Context(), c, opts, uploadOf(t, whole, t.TempDir())); err != nil {
		t.Fatal(err)
	}
	requests := len(whole.Requests())
	for at := range requests {
		for _, fault := range []qdranttest.Fault{qdranttest.Unavailable, qdranttest.LostReset} {
			s, cursors := qdranttest.New(t), t.TempDir()
			s.Fail(func(n int, _ qdranttest.Request) qdranttest.Fault {
				return map[bool]qdranttest.Fault{true: fault}[n == at]
			})
			up := uploadOf(t, s, cursors)
			if _, err := export.ToQdrant(t.Context(), c, opts, up); err == nil && at > 1 {
				t.Fatalf("fault %d at request %d of %d was not noticed", fault, at, requests)
			}
			stored := int64(2 * max(at-2, 0)) // what was acknowledged
			s.Fail(nil)
			res, err := export.ToQdrant(t.Context(), c, opts, up)
			if err != nil || res.Resumed != stored {
				t.Errorf("fault %d at request %d: %+v, want %d rows resumed (%v)", fault, at, res, stored, err)
			}
			if !reflect.DeepEqual(s.Points(), whole.Points()) {
				t.Errorf("fault %d at request %d: the points are %v, want %v", fault, at, s.Points(), whole.Points())
			}
			if left, _ := filepath.Glob(filepath.Join(cursors, "*.json")); len(left) > 0 {
				t.Errorf("fault %d at request %d: %q are left", fault, at, left)
			}
		}
	}

	// The collection is another one by then, or the cursor is damaged.
	for name, change := range map[string]func(s *qdranttest.Server, cursor string){
		"dropped":  func(s *qdranttest.Server, _ string) { s.Drop() },
		"replaced": func(s *qdranttest.Server, _ string) { s.Make("c", 2, "Cosine") },
		"damaged":  func(_ *qdranttest.Server, cursor string) { overwrite(t, cursor, `{"rows":1e9,"last":1}`) },
		"emptied":  func(_ *qdranttest.Server, cursor string) { overwrite(t, cursor, "") },
	} {
		s, cursors := qdranttest.New(t), t.TempDir()
		s.Fail(func(n int, _ qdranttest.Request) qdranttest.Fault {
			return map[bool]qdranttest.Fault{true: qdranttest.Unavailable}[n == requests-1]
		})
		up := uploadOf(t, s, cursors)
		if _, err := export.ToQdrant(t.Context(), c, opts, up); err == nil {
			t.Fatal("the fault was not noticed")
		}
		found, _ := filepath.Glob(filepath.Join(cursors, "*.json"))
		if len(found) != 1 {
			t.Fatalf("the cursors are %q", found)
		}
		s.Fail(nil)
		change(s, found[0])
		if res, err := export.ToQdrant(t.Context(), c, opts, up); err != nil || res.Resumed != 0 || !reflect.DeepEqual(s.Points(), whole.Points()) {
			t.Errorf("%s: %+v, %v", name, res, err)
		}
	}
}

func overwrite(t *testing.T, path, text string) {
	t.Helper()
	if err := errors.Join(os.Remove(path), os.WriteFile(path, []byte(text), 0o644)); err != nil {
		t.Fatal(err)
	}
}

// TestToQdrantRefuses what makes no points, before anything is sent.
func TestToQdrantRefuses(t *testing.T) {
	c := open(t, goldenCaches[1])
	train, val := newest(t, c, "train"), newest(t, c, "val")
	for _, opts := range []export.Options{
		{Splits: []*cachesink.Split{train}},
		{Splits: []*cachesink.Split{val}, Encoder: "plain"},
		{Splits: []*cachesink.Split{train}, Encoder: "raw"},
		{Splits: []*cachesink.Split{train}, Encoder: "plain", Epoch: &export.Epoch{}},
		{},
	} {
		s := qdranttest.New(t)
		if _, err := export.ToQdrant(t.Context(), c, opts, uploadOf(t, s, t.TempDir())); !errors.Is(err, export.ErrOptions) || len(s.Requests()) > 0 {
			t.Errorf("%+v: %v", opts, err)
		}
	}
	s := qdranttest.New(t)
	s.Make("c", 99, "Cosine")
	if _, err := export.ToQdrant(t.Context(), c, export.Options{Encoder: "plain"}, uploadOf(t, s, t.TempDir())); !errors.Is(err, qdrant.ErrCollection) {
		t.Errorf("to a collection of other vectors: %v", err)
	}
}
