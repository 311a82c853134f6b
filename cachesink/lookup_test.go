package cachesink

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"

	"github.com/permafrost-ml/permafrost/encode"
)

// TestLookup finds all that a key names, with the embeddings that the
// encoders give.
func TestLookup(t *testing.T) {
	pair := func(a, b string, score float32) encode.Sample {
		s := encode.PairSample(encode.Text(a), encode.Text(b)).With("note", "of "+a)
		s.Score = score
		return s
	}
	var rows []encode.Sample
	for i := range 100 {
		rows = append(rows, pair(fmt.Sprint("a", i), fmt.Sprint("b", i/2), float32(i)))
	}
	for _, d := range []DType{Float32, Float16, Int8} {
		s := setup{
			splits: map[string][]encode.Sample{"train": rows, "val": {pair("a7", "a7", 1)}, "group": groups("g", 5, 5)},
			uses:   []encode.Use{{Name: "e", Key: textKey(t)}, {Name: "f", Key: textKey(t)}, {Name: "none", Key: textKey(t)}},
			dtypes: map[string]DType{"e": d}, uncached: []string{"none"}, mem: checked(t),
		}
		st := Memory()
		mustRun(t, s, st)
		s.splits["val"] = append(s.splits["val"], pair("new", "a7", 2)) // the first val is older now
		c, _ := mustRun(t, s, st)
		s.defaults()
		look := func(key string, opts LookupOptions) string {
			found, total, err := c.Lookup(t.Context(), key, opts)
			if err != nil {
				t.Fatal(err)
			}
			var out []string
			for _, m := range found {
				out = append(out, fmt.Sprintf("%s:%d:%s:%v", m.Split, m.Row.Row, EncoderColumn(m.Encoder, m.Side, ""), m.Columns["score"]))
				input := encode.AppendInput(nil, encode.Input{encode.TextValue(key)})
				want := make([]float32, 4)
				hashVector(want, m.Encoder, input)
				if m.Encoder == "e" {
					want = asStored(d, want)
				}
				if m.Encoder == "none" {
					want = nil
				}
				if !slices.Equal(m.Embedding, want) || m.Keys[EncoderColumn(m.Encoder, m.Side, RoleKey)] != key {
					t.Errorf("%s: %+v, want %v", d, m, want)
				}
			}
			return fmt.Sprintf("%d %s", total, strings.Join(out, " "))
		}
		for _, tt := range []struct {
			key  string
			opts LookupOptions
			want string
		}{
			{"a7", LookupOptions{Encoder: "e"}, "4 train:7:e_a:7 val:0:e_a:1 val:0:e_b:1 val:1:e_b:2"},
			{"a7", LookupOptions{Encoder: "none", Limit: 2}, "4 train:7:none_a:7 val:0:none_a:1"},
			{"b20", LookupOptions{Limit: 4}, "6 train:40:e_b:40 train:40:f_b:40 train:40:none_b:40 train:41:e_b:41"},
			{"a7", LookupOptions{Encoder: "f", Split: &c.manifest.Splits[slices.IndexFunc(c.manifest.Splits, func(s Split) bool { return s.Name == "val" })]}, "2 val:0:f_a:1 val:0:f_b:1"},
			{"g 3", LookupOptions{Encoder: "f"}, "1 group:3:f:<nil>"},
			{"A7", LookupOptions{}, "0 "},
			{"", LookupOptions{}, "0 "},
		} {
			if got := look(tt.key, tt.opts); got != tt.want {
				t.Errorf("%q: got %s, want %s", tt.key, got, tt.want)
			}
		}
	}
}

// TestRowsAreJSON whatever the kept columns hold.
func TestRowsAreJSON(t *testing.T) {
	sample := encode.GroupSample(encode.Text("x"), int64(7)).With("nan", math.NaN()).With("inf", math.Inf(-1)).
		With("raw", []byte{0, 255}).With("yes", true)
	empty := encode.GroupSample(encode.Text("y"), int64(8)).With("nan", nil).With("inf", nil).With("raw", nil).With("yes", nil)
	s := setup{
		splits: map[string][]encode.Sample{"train": {sample, empty}},
		uses:   []encode.Use{{Name: "e", Key: textKey(t)}}, mem: checked(t),
	}
	c, _ := mustRun(t, s, Memory())
	for key, want := range map[string]string{
		"x": `{"inf":"-Inf","label":7,"nan":"NaN","raw":"AP8=","yes":true}`,
		"y": `{"inf":null,"label":8,"nan":null,"raw":null,"yes":null}`,
	} {
		found, _, err := c.Lookup(t.Context(), key, LookupOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := json.Marshal(found[0].Columns); string(got) != want || err != nil {
			t.Errorf("got %s, %v, want %s", got, err, want)
		}
	}
}

func TestLookupErrors(t *testing.T) {
	s := setup{
		splits: map[string][]encode.Sample{"train": groups("g", 50, 50)},
		uses:   []encode.Use{{Name: "e", Key: textKey(t)}}, mem: checked(t),
	}
	for _, folder := range []string{"splits/", "encoders/"} {
		dir := t.TempDir()
		c, _ := mustRun(t, s, quickDir(dir))
		if _, _, err := c.Lookup(t.Context(), "g 1", LookupOptions{Encoder: "nobody"}); err != nil {
			wantErr(t, err, ErrMissing, `"nobody"`, `["e"]`)
		} else {
			t.Error("an encoder that is not there was found")
		}
		name := c.Manifest().Files()[slices.IndexFunc(c.Manifest().Files(), func(n string) bool { return strings.HasPrefix(n, folder) })]
		flipByte(t, dir, name)
		_, _, err := c.Lookup(t.Context(), "g 1", LookupOptions{})
		wantErr(t, err, ErrCorrupt, name)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, _, err := c.Lookup(ctx, "g 1", LookupOptions{}); err == nil {
			t.Error("a cancelled look-up found something")
		}
	}
}

// TestReadersOfForeignRows: split files whose checksums hold, but which no
// fill writes, end as errors in all that reads rows.
func TestReadersOfForeignRows(t *testing.T) {
	mem := checked(t)
	s := setup{
		splits: map[string][]encode.Sample{"train": labelled("x:1:p", "y:1:p")},
		uses:   []encode.Use{{Name: "e", Key: textKey(t)}}, mem: mem,
	}
	good, _ := mustRun(t, s, Memory())
	id := &arrow.FixedSizeBinaryType{ByteWidth: 8}
	for name, swap := range map[string]func(f arrow.Field) (arrow.Field, bool){
		"no key":         func(f arrow.Field) (arrow.Field, bool) { return f, f.Name != "e_key" },
		"a key of int64": func(f arrow.Field) (arrow.Field, bool) { return retype(f, "e_key", arrow.PrimitiveTypes.Int64), true },
		"short ids":      func(f arrow.Field) (arrow.Field, bool) { return retype(f, "e_id", id), true },
		"no positions":   func(f arrow.Field) (arrow.Field, bool) { return f, f.Name != "e_pos" },
		"far positions":  func(f arrow.Field) (arrow.Field, bool) { return f, true },
		"lists": func(f arrow.Field) (arrow.Field, bool) {
			return retype(f, "note", arrow.ListOf(arrow.PrimitiveTypes.Int64)), true
		},
	} {
		c, _ := mustRun(t, s, Memory())
		schema, err := c.Schema(t.Context(), c.manifest.Splits[0].Files[0])
		if err != nil {
			t.Fatal(err)
		}
		var fields []arrow.Field
		for _, f := range schema.Fields() {
			if f, keep := swap(f); keep {
				fields = append(fields, f)
			}
		}
		w, err := newFileWriter(t.Context(), c.st, mem, arrow.NewSchema(fields, nil))
		if err != nil {
			t.Fatal(err)
		}
		b := array.NewRecordBuilder(mem, arrow.NewSchema(fields, nil))
		for range 2 {
			for _, col := range b.Fields() {
				switch col := col.(type) {
				case *array.Int64Builder:
					col.Append(99)
				case *array.StringBuilder:
					col.Append("x")
				default:
					col.AppendEmptyValue()
				}
			}
		}
		rec := b.NewRecord()
		err = errors.Join(w.write(rec), w.finish())
		rec.Release()
		b.Release()
		if err != nil {
			t.Fatal(err)
		}
		if c.manifest.Splits[0].Files[0], err = w.publish(t.Context(), "splits/foreign.arrow"); err != nil {
			t.Fatal(err)
		}
		if _, _, err := c.Lookup(t.Context(), "x", LookupOptions{}); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: look-up: %v", name, err)
		}
		if rec, err := c.Head(t.Context(), &c.manifest.Splits[0], 1); err != nil {
			wantErr(t, err, ErrCorrupt)
		} else if rec.Release(); name == "no positions" || name == "far positions" {
			t.Errorf("%s: its first rows are served", name)
		}
		if _, err := Diff(t.Context(), good, c, DiffOptions{}); err != nil {
			wantErr(t, err, ErrCorrupt)
		} else if name != "no positions" && name != "far positions" {
			t.Errorf("%s: compared", name) // rows are compared without positions
		}
	}
}

func retype(f arrow.Field, name string, t arrow.DataType) arrow.Field {
	if f.Name == name {
		f.Type = t
	}
	return f
}
