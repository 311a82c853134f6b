package cachesink

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

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
