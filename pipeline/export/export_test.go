package export_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/ipc"
	"github.com/apache/arrow/go/v15/arrow/memory"
	"go.uber.org/goleak"

	"github.com/permafrost-ml/permafrost/cachesink"
	"github.com/permafrost-ml/permafrost/internal/parquet"
	"github.com/permafrost-ml/permafrost/internal/safetensors"
	"github.com/permafrost-ml/permafrost/pipeline/export"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// goldenCaches are committed caches with groups, pairs, nulls, an encoder that
// is not cached, and in version 2 with float16, int8 and compressions.
var goldenCaches = []string{"../../cachesink/testdata/golden/v1", "../../cachesink/testdata/golden/v2"}

func open(t *testing.T, dir string) *cachesink.Cache {
	t.Helper()
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	t.Cleanup(func() { mem.AssertSize(t, 0) })
	c, err := cachesink.Open(t.Context(), cachesink.Dir(dir), mem)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// newest returns the newest split of a name.
func newest(t *testing.T, c *cachesink.Cache, name string) *cachesink.Split {
	t.Helper()
	var found *cachesink.Split
	for i, s := range c.Manifest().Splits {
		if s.Name == name {
			found = &c.Manifest().Splits[i]
		}
	}
	if found == nil {
		t.Fatalf("no split %q", name)
	}
	return found
}

// content is a split's rows as they are expected: columns by name, with ids as
// bytes, and embeddings as []float32.
func content(t *testing.T, c *cachesink.Cache, s *cachesink.Split) map[string][]any {
	t.Helper()
	var tables cachesink.Tables
	defer tables.Release()
	r, err := c.Read(t.Context(), s, &tables)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Release()
	out := map[string][]any{}
	for row := range s.Rows {
		rec, err := r.Gather(t.Context(), []int64{row})
		if err != nil {
			t.Fatal(err)
		}
		for i, f := range rec.Schema().Fields() {
			if !strings.HasSuffix(f.Name, "_pos") && !strings.HasSuffix(f.Name, "_input") {
				out[f.Name] = append(out[f.Name], value(t, rec.Column(i), 0))
			}
		}
		rec.Release()
	}
	return out
}

func value(t *testing.T, a arrow.Array, i int) any {
	t.Helper()
	if a.IsNull(i) {
		return nil
	}
	switch a := a.(type) {
	case *array.FixedSizeBinary:
		return string(a.Value(i))
	case *array.String:
		return strings.Clone(a.Value(i))
	case *array.FixedSizeList:
		vecs, dim, err := cachesink.Vectors(a)
		if err != nil {
			t.Fatal(err)
		}
		return slices.Clone(vecs[i*dim : (i+1)*dim])
	case *array.Int64:
		return a.Value(i)
	case *array.Float32:
		return a.Value(i)
	case *array.Float64:
		return a.Value(i)
	}
	t.Fatalf("a column of %v", a.DataType())
	return nil
}

func write(t *testing.T, c *cachesink.Cache, opts export.Options) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "out")
	res, err := export.File(t.Context(), c, opts, path, false)
	if err != nil {
		t.Fatalf("%s: %v", opts.Format, err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if w := (export.Written{Path: path, Rows: res.Rows, Bytes: int64(len(b))}); len(res.Files) != 1 || res.Files[0] != w || res.Bytes != w.Bytes {
		t.Errorf("%s: the result is %+v, want %+v", opts.Format, res, w)
	}
	return b
}

func same(t *testing.T, what string, got, want map[string][]any) {
	t.Helper()
	for name := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("%s: a column %q too many", what, name)
		}
	}
	for name := range want {
		if fmt.Sprintf("%#v", got[name]) != fmt.Sprintf("%#v", want[name]) {
			t.Errorf("%s, column %q:\n got %#v\nwant %#v", what, name, got[name], want[name])
		}
	}
}

// TestRows exports every split of the golden caches and reads it back.
func TestRows(t *testing.T) {
	for _, dir := range goldenCaches {
		for _, name := range []string{"train", "val"} {
			t.Run(filepath.Base(dir)+"/"+name, func(t *testing.T) {
				c := open(t, dir)
				s := newest(t, c, name)
				want := content(t, c, s)
				if len(want) < 9 || !slices.ContainsFunc(want["url"], func(v any) bool { return v == nil }) && name == "train" {
					t.Fatalf("the golden cache has %v", want)
				}
				for _, batch := range []int{0, 2} {
					opts := export.Options{Splits: []*cachesink.Split{s}, BatchRows: batch}
					opts.Format = export.Arrow
					same(t, "arrow", readArrow(t, write(t, c, opts), s), want)
					opts.Format = export.Parquet
					same(t, "parquet", readParquet(t, write(t, c, opts), batch), want)
					opts.Format = export.JSONL
					same(t, "jsonl", readJSONL(t, write(t, c, opts), want), want)
					opts.Format = export.Safetensors
					tensors(t, write(t, c, opts), s, want)
					arrays(t, c, opts, s, want)
				}
			})
		}
	}
}

func readArrow(t *testing.T, b []byte, s *cachesink.Split) map[string][]any {
	t.Helper()
	r, err := ipc.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Release()
	md := r.Schema().Metadata().ToMap()
	if md[cachesink.MetaSplit] != s.Name || md["permafrost.split_fingerprint"] != s.Fingerprint || md["permafrost.fingerprint.plain"] == "" {
		t.Errorf("the metadata are %v", md)
	}
	out := map[string][]any{}
	for r.Next() {
		for i, f := range r.Schema().Fields() {
			for row := range int(r.Record().NumRows()) {
				out[f.Name] = append(out[f.Name], value(t, r.Record().Column(i), row))
			}
		}
	}
	if r.Err() != nil || !bytes.HasSuffix(b, []byte{0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0}) {
		t.Fatalf("%v, or no end", r.Err())
	}
	return out
}

func readParquet(t *testing.T, b []byte, batch int) map[string][]any {
	t.Helper()
	f, err := parquet.Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	if batch > 0 && f.Rows(0) > int64(batch) {
		t.Errorf("a row group of %d rows, with batches of %d", f.Rows(0), batch)
	}
	out := map[string][]any{}
	for _, n := range f.Root.Children {
		leaf, list := n, !n.Leaf()
		if list {
			leaf = n.Children[0].Children[0]
		}
		for g := range f.Groups() {
			col := f.Column(g, n.First)
			for cell := (parquet.Cell{}); col.Next(&cell); {
				var v any
				switch {
				case cell.Def < leaf.MaxDef:
				case leaf.Kind == parquet.Int64:
					v = cell.Int
				case leaf.Kind == parquet.Double:
					v = math.Float64frombits(uint64(cell.Int))
				case leaf.Kind == parquet.Float:
					v = math.Float32frombits(uint32(cell.Int))
				default:
					v = string(cell.Bytes)
				}
				switch {
				case !list:
					out[n.Name] = append(out[n.Name], v)
				case cell.Rep == 0:
					out[n.Name] = append(out[n.Name], []float32{v.(float32)})
				default:
					last := &out[n.Name][len(out[n.Name])-1]
					*last = append((*last).([]float32), v.(float32))
				}
			}
			if col.Err() != nil {
				t.Fatalf("column %q: %v", n.Name, col.Err())
			}
		}
	}
	return out
}

// readJSONL reads the values as the types that are wanted.
func readJSONL(t *testing.T, b []byte, want map[string][]any) map[string][]any {
	t.Helper()
	out := map[string][]any{}
	row := 0
	for line := range bytes.Lines(b) {
		var fields map[string]json.RawMessage
		if err := json.Unmarshal(line, &fields); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		for name, raw := range fields {
			var v any
			var err error
			switch {
			case string(raw) == "null":
			case strings.HasSuffix(name, "_id"):
				var s string
				var id []byte
				err = json.Unmarshal(raw, &s)
				if id, _ = hex.DecodeString(s); len(s) == 64 {
					v = string(id)
				}
			default:
				switch want[name][row].(type) {
				case int64:
					v, err = decode[int64](raw)
				case float32:
					v, err = decode[float32](raw)
				case float64:
					v, err = decode[float64](raw)
				case []float32:
					v, err = decode[[]float32](raw)
				default:
					v, err = decode[string](raw)
				}
			}
			if err != nil {
				t.Fatalf("%s: %s: %v", name, raw, err)
			}
			out[name] = append(out[name], v)
		}
		row++
	}
	return out
}

func decode[T any](raw []byte) (v T, err error) { return v, json.Unmarshal(raw, &v) }

// flat are the values of a column of embeddings.
func flat(rows []any) (out []float32) {
	for _, v := range rows {
		out = append(out, v.([]float32)...)
	}
	return out
}

func bits(x []float32) []byte {
	var b []byte
	for _, v := range x {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
	}
	return b
}

// tensorNames are the cached encoders' columns.
func tensorNames(s *cachesink.Split) (names []string) {
	for _, e := range s.Encoders {
		for _, side := range s.Kind.Sides() {
			if e.Folder != "" {
				names = append(names, cachesink.EncoderColumn(e.Name, side, ""))
			}
		}
	}
	return names
}

func tensors(t *testing.T, b []byte, s *cachesink.Split, want map[string][]any) {
	t.Helper()
	got := map[string][]float32{}
	md, err := safetensors.Read(bytes.NewReader(b), func(name string, shape []int) ([]float32, error) {
		if shape[0] != int(s.Rows) || shape[1] != len(want[name][0].([]float32)) {
			t.Errorf("tensor %q has the shape %v", name, shape)
		}
		got[name] = make([]float32, shape[0]*shape[1])
		return got[name], nil
	})
	if err != nil {
		t.Fatal(err)
	}
	names := tensorNames(s)
	if len(got) != len(names) || md["permafrost.split"] != s.Name {
		t.Errorf("tensors %v, metadata %v", got, md)
	}
	for _, e := range s.Encoders {
		if md["permafrost.fingerprint."+e.Name] != e.Fingerprint {
			t.Errorf("the metadata are %v", md)
		}
	}
	for _, name := range names {
		if !bytes.Equal(bits(got[name]), bits(flat(want[name]))) {
			t.Errorf("tensor %q has other values", name)
		}
	}
}

// arrays exports every column of embeddings as a NumPy file.
func arrays(t *testing.T, c *cachesink.Cache, opts export.Options, s *cachesink.Split, want map[string][]any) {
	t.Helper()
	opts.Format = export.NPY
	for _, e := range s.Encoders {
		for _, side := range s.Kind.Sides() {
			if e.Folder == "" {
				continue
			}
			name := cachesink.EncoderColumn(e.Name, side, "")
			opts.Encoder, opts.Side = e.Name, side
			npy(t, write(t, c, opts), int(s.Rows), len(want[name][0].([]float32)), flat(want[name]))
		}
	}
}

func npy(t *testing.T, b []byte, rows, dim int, want []float32) {
	t.Helper()
	n := 10 + int(binary.LittleEndian.Uint16(b[8:]))
	if string(b[:8]) != "\x93NUMPY\x01\x00" || n%64 != 0 || b[n-1] != '\n' {
		t.Fatalf("it begins with %q", b[:n])
	}
	head := fmt.Sprintf("{'descr': '<f4', 'fortran_order': False, 'shape': (%d, %d), }", rows, dim)
	if got := strings.TrimRight(string(b[10:n-1]), " "); got != head {
		t.Errorf("the header is %s, want %s", got, head)
	}
	if !bytes.Equal(b[n:], bits(want)) {
		t.Error("other values")
	}
}

// TestObjects exports distinct objects in the order of the manifest.
func TestObjects(t *testing.T) {
	for _, dir := range goldenCaches {
		c := open(t, dir)
		for i := range c.Manifest().Encoders {
			e := &c.Manifest().Encoders[i]
			want := map[string][]any{}
			for rec, err := range c.Objects(t.Context(), e) {
				if err != nil {
					t.Fatal(err)
				}
				for row := range int(rec.NumRows()) {
					want["id"] = append(want["id"], value(t, rec.Column(0), row))
					want["embedding"] = append(want["embedding"], value(t, rec.Column(1), row))
				}
				rec.Release()
			}
			if int64(len(want["id"])) != e.Rows() || len(e.Shards) < 2 {
				t.Fatalf("%d objects of %d", len(want["id"]), e.Rows())
			}
			train := content(t, c, newest(t, c, "train"))
			for row, id := range train[e.Name+"_id"] {
				at := slices.Index(want["id"], id)
				if at < 0 || fmt.Sprint(want["embedding"][at]) != fmt.Sprint(train[e.Name][row]) {
					t.Errorf("encoder %s, object %x: object %d has another embedding than row %d", e.Name, id, at, row)
				}
			}
			for _, batch := range []int{0, 1, 2} {
				opts := export.Options{Encoder: e.Name, BatchRows: batch, Format: export.Parquet}
				same(t, "parquet", readParquet(t, write(t, c, opts), batch), want)
				opts.Format = export.NPY
				npy(t, write(t, c, opts), int(e.Rows()), e.Dim, flat(want["embedding"]))
			}
			// A consumer that leaves early leaves nothing behind.
			for rec, err := range c.Objects(t.Context(), e) {
				if err != nil {
					t.Fatal(err)
				}
				rec.Release()
				break
			}
		}
	}
}

// TestFolder exports splits of different kinds: each its own configuration.
func TestFolder(t *testing.T) {
	c := open(t, goldenCaches[0])
	dir := filepath.Join(t.TempDir(), "set")
	opts := export.Options{Format: export.HF, Splits: []*cachesink.Split{newest(t, c, "train"), newest(t, c, "val")}}
	res, err := export.File(t.Context(), c, opts, dir, false)
	if err != nil {
		t.Fatal(err)
	}
	if res.Rows != 5 || len(res.Files) != 3 {
		t.Errorf("the result is %+v", res)
	}
	card, err := os.ReadFile(filepath.Join(dir, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	want := `---
configs:
- config_name: "train"
  data_files:
  - split: "train"
    path: data/train-*-of-*.parquet
- config_name: "val"
  data_files:
  - split: "val"
    path: data/val-*-of-*.parquet
---
`
	if !strings.HasPrefix(string(card), want) {
		t.Errorf("the card is\n%s", card)
	}
	b, err := os.ReadFile(filepath.Join(dir, "data", "train-00000-of-00001.parquet"))
	if err != nil {
		t.Fatal(err)
	}
	expected := content(t, c, opts.Splits[0])
	for name, rows := range expected {
		for i, v := range rows {
			if id, ok := v.(string); ok && strings.HasSuffix(name, "_id") {
				rows[i] = hex.EncodeToString([]byte(id))
			}
		}
	}
	same(t, "folder", readParquet(t, b, 0), expected)

	if _, err := export.File(t.Context(), c, opts, dir, false); !errors.Is(err, export.ErrExists) {
		t.Errorf("a second time: %v", err)
	}
	opts.Splits = opts.Splits[:1]
	if _, err := export.File(t.Context(), c, opts, dir, true); err != nil {
		t.Errorf("with force: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "data", "*")); len(left) != 1 {
		t.Errorf("after the second export the folder has %q", left)
	}
	// What is not of an export stays, with force too.
	mine := filepath.Join(dir, "notes.txt")
	for _, path := range []string{mine, filepath.Join(dir, "data", "notes.txt"), filepath.Join(dir, "README.md")} {
		old, _ := os.ReadFile(path)
		if err := os.WriteFile(path, []byte("mine"), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := export.File(t.Context(), c, opts, dir, true); !errors.Is(err, export.ErrNotOurs) {
			t.Errorf("over %s: %v", path, err)
		}
		if b, err := os.ReadFile(path); err != nil || string(b) != "mine" {
			t.Errorf("%s is gone: %v", path, err)
		}
		if old == nil {
			os.Remove(path)
		}
	}
	entries(t, filepath.Dir(dir), "set")
}

// TestFolderOfManyFiles cuts rows into files at other places than the cache
// has its shards and record batches.
func TestFolderOfManyFiles(t *testing.T) {
	for _, objects := range []bool{false, true} {
		for fileRows := range int64(5) {
			c := open(t, goldenCaches[1])
			opts := export.Options{Format: export.HF, Encoder: "plain", FileRows: fileRows, BatchRows: 2}
			if !objects {
				opts.Splits = []*cachesink.Split{newest(t, c, "train")}
			}
			dir := filepath.Join(t.TempDir(), "set")
			res, err := export.File(t.Context(), c, opts, dir, false)
			if err != nil {
				t.Fatal(err)
			}
			var got []any
			column, rows := "plain", int64(0)
			if objects {
				column = "embedding"
			}
			for _, f := range res.Files[:len(res.Files)-1] {
				b, err := os.ReadFile(f.Path)
				if err != nil {
					t.Fatal(err)
				}
				part := readParquet(t, b, 2)[column]
				if int64(len(part)) != f.Rows || fileRows > 0 && f.Rows > fileRows {
					t.Errorf("%s has %d rows, said to be %d", f.Path, len(part), f.Rows)
				}
				rows += f.Rows
				got = append(got, part...)
			}
			if n := int64(len(res.Files) - 1); fileRows > 0 && n != (rows+fileRows-1)/fileRows || rows != res.Rows {
				t.Errorf("%d files of %d rows for %d", n, fileRows, rows)
			}
			opts.Format = export.NPY
			want := write(t, c, opts)
			if !bytes.HasSuffix(want, bits(flat(got))) || len(flat(got)) != int(rows)*2 {
				t.Errorf("files of %d rows, objects %v: other values", fileRows, objects)
			}
		}
	}
}

// entries holds a folder to the names in it, hidden ones too.
func entries(t *testing.T, dir string, want ...string) {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range list {
		names = append(names, e.Name())
	}
	if !slices.Equal(names, want) {
		t.Errorf("%s holds %q, want %q", dir, names, want)
	}
}

// TestInterrupted ends exports in the middle, by a cancelled context and by a
// damaged cache: nothing new is there, and what was stays.
func TestInterrupted(t *testing.T) {
	damaged := filepath.Join(t.TempDir(), "cache")
	if err := os.CopyFS(damaged, os.DirFS(goldenCaches[1])); err != nil {
		t.Fatal(err)
	}
	shards, _ := filepath.Glob(filepath.Join(damaged, "encoders", "plain-*", "00005-*.arrow"))
	b, err := os.ReadFile(shards[0])
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := errors.Join(os.Chmod(shards[0], 0o644), os.WriteFile(shards[0], b, 0o644)); err != nil {
		t.Fatal(err)
	}
	errStop := errors.New("stop")
	for _, format := range export.Formats() {
		for name, objects := range map[string]bool{"split": false, "objects": true} {
			t.Run(string(format)+"/"+name, func(t *testing.T) {
				run := func(dir, path string, force bool, stop bool) error {
					c := open(t, dir)
					ctx, cancel := context.WithCancelCause(t.Context())
					defer cancel(nil)
					opts := export.Options{Format: format, Encoder: "plain", BatchRows: 1}
					if !objects {
						opts.Splits = []*cachesink.Split{newest(t, c, "train")}
					}
					if stop {
						opts.OnProgress = func(rows, _ int64) {
							if rows == 2 {
								cancel(errStop)
							}
						}
					}
					_, err := export.File(ctx, c, opts, path, force)
					return err
				}
				dir := t.TempDir()
				path := filepath.Join(dir, "out")
				if err := run(goldenCaches[1], path, false, true); !errors.Is(err, errStop) {
					t.Errorf("cancelled: %v", err)
				}
				if err := run(damaged, path, false, false); !errors.Is(err, cachesink.ErrCorrupt) {
					t.Errorf("damaged: %v", err)
				}
				entries(t, dir)
				if err := run(goldenCaches[1], path, false, false); err != nil {
					t.Fatal(err)
				}
				before := snapshot(t, path)
				if err := run(goldenCaches[1], path, true, true); !errors.Is(err, errStop) {
					t.Errorf("cancelled: %v", err)
				}
				if err := run(goldenCaches[1], path, false, false); !errors.Is(err, export.ErrExists) {
					t.Errorf("without force: %v", err)
				}
				if after := snapshot(t, path); after != before {
					t.Error("what was there has changed")
				}
				entries(t, dir, "out")
				if err := run(goldenCaches[1], path, true, false); err != nil || snapshot(t, path) != before {
					t.Errorf("the same again, with force: %v, or other bytes", err)
				}
			})
		}
	}
}

// snapshot is all that lies under a path.
func snapshot(t *testing.T, path string) string {
	t.Helper()
	var all strings.Builder
	err := filepath.WalkDir(path, func(p string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(p)
		fmt.Fprintf(&all, "%s %x\n", p, b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}

// TestRefusals are options that cannot be.
func TestRefusals(t *testing.T) {
	c := open(t, goldenCaches[0])
	train, val := newest(t, c, "train"), newest(t, c, "val")
	for want, opts := range map[string]export.Options{
		"no format":                   {Format: "csv", Encoder: "plain"},
		"neither splits":              {Format: export.Parquet},
		"2 splits do not fit":         {Format: export.Arrow, Splits: []*cachesink.Split{train, val}},
		"two splits are named":        {Format: export.HF, Splits: []*cachesink.Split{train, train}},
		`no side "a"`:                 {Format: export.NPY, Splits: []*cachesink.Split{train}, Side: "a"},
		"have no sides":               {Format: export.NPY, Encoder: "plain", Side: "a"},
		"there are plain, prompted":   {Format: export.NPY, Splits: []*cachesink.Split{train}},
		"there are plain_a, plain_b":  {Format: export.NPY, Splits: []*cachesink.Split{val}, Encoder: "plain"},
		"there are no embeddings:":    {Format: export.NPY, Splits: []*cachesink.Split{train}, Encoder: "raw"},
		"no embeddings, only":         {Format: export.Safetensors, Splits: []*cachesink.Split{train}, Encoder: "raw"},
		`no encoder "other", but`:     {Format: export.NPY, Splits: []*cachesink.Split{train}, Encoder: "other"},
		`encoder "other", there are `: {Format: export.NPY, Encoder: "other"},
	} {
		dir := t.TempDir()
		_, err := export.File(t.Context(), c, opts, filepath.Join(dir, "out"), true)
		if err == nil || !strings.Contains(err.Error(), want) || !errors.Is(err, export.ErrOptions) && !errors.Is(err, cachesink.ErrMissing) {
			t.Errorf("got %v, want %s", err, want)
		}
		entries(t, dir)
	}
	dir := t.TempDir()
	if _, err := export.File(t.Context(), c, export.Options{Format: export.NPY, Encoder: "plain"}, dir, true); err == nil || !strings.Contains(err.Error(), "is a folder") {
		t.Errorf("over a folder: %v", err)
	}
}
