package cachesink

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/permafrost-ml/permafrost/encode"
)

var update = flag.Bool("update", false, "write the golden cache anew: only together with a new FormatVersion")

// golden is the folder of a format version's cache.
func golden(version int) string { return fmt.Sprint("testdata/golden/v", version) }

// goldenFills are the fills of the golden caches by format version, in order.
var goldenFills = map[int][]setup{1: {goldenFill()}, 2: storageFills()}

// storageFills adds rows three times, each stored in another way: what format
// version 2 brought.
func storageFills() []setup {
	var fills []setup
	for i, codec := range allCodecs {
		s := goldenFill()
		s.models = map[string]hashModel{"plain": {dim: 2, seed: thirds + "p"}, "prompted": {dim: 3, seed: thirds + "q"}}
		s.dtypes, s.codec, s.recRows = map[string]DType{"plain": Float16, "prompted": Int8}, codec, i
		for k := range i * 4 {
			s.splits["train"] = append(s.splits["train"], encode.GroupSample(encode.Text(fmt.Sprint("more ", k)), int64(k)).With("url", "").With("size", 0.5))
		}
		fills = append(fills, s)
	}
	return fills
}

// goldenFill has every kind of column, split and encoder.
func goldenFill() setup {
	group := []encode.Sample{
		encode.GroupSample(encode.Text("the first"), int64(3)).With("url", "https://example.org/1").With("size", 1.5),
		encode.GroupSample(encode.Text("the second"), int64(-1)).With("url", nil).With("size", nil),
		encode.GroupSample(encode.Text("the first"), int64(0)).With("url", "").With("size", -2.0),
	}
	pair := []encode.Sample{
		encode.PairSample(encode.Text("how?"), encode.Text("so")),
		encode.PairSample(encode.Text("the second"), encode.Text("the ünïcode")),
	}
	pair[1].Score = 0.5
	return setup{
		splits: map[string][]encode.Sample{"train": group, "val": pair},
		uses: []encode.Use{
			{Name: "plain"}, {Name: "prompted", Reads: encode.Reads{Template: "query: {text}"}}, {Name: "raw"},
		},
		models:   map[string]hashModel{"plain": {dim: 2, seed: "p"}, "prompted": {dim: 3, seed: "q"}},
		uncached: []string{"raw"}, shard: 3, batch: 2,
	}
}

// TestGolden holds the format: a cache written once is read, bit-equal, and
// written the same. Only a new format version may change these files, and
// then the old ones must still be read.
func TestGolden(t *testing.T) {
	for version, fills := range goldenFills {
		t.Run(fmt.Sprint(version), func(t *testing.T) {
			golden := golden(version)
			if *update && version == FormatVersion {
				if err := os.RemoveAll(golden); err != nil {
					t.Fatal(err)
				}
				for _, s := range fills {
					mustRun(t, s, Dir(golden))
				}
				if err := os.Remove(filepath.Join(golden, "tmp")); err != nil {
					t.Fatal(err)
				}
			}
			want := files(t, golden)
			if len(want) == 0 {
				t.Fatal("no golden cache")
			}
			c, err := Open(t.Context(), Dir(golden), nil)
			if err != nil {
				t.Fatal(err)
			}
			if c.Manifest().Format != version {
				t.Errorf("format version %d", c.Manifest().Format)
			}
			dir := t.TempDir()
			for _, s := range fills {
				checkContent(t, c, s)
				mustRun(t, s, quickDir(dir))
			}
			sameFiles(t, "a fresh fill", files(t, dir), want)
		})
	}
}
