package cachesink

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/permafrost-ml/permafrost/encode"
)

var update = flag.Bool("update", false, "write the golden cache anew: only together with a new FormatVersion")

const golden = "testdata/golden/v1"

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
	if *update {
		if err := os.RemoveAll(golden); err != nil {
			t.Fatal(err)
		}
		mustRun(t, goldenFill(), Dir(golden))
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
	checkContent(t, c, goldenFill())
	dir := t.TempDir()
	mustRun(t, goldenFill(), quickDir(dir))
	sameFiles(t, "a fresh fill", files(t, dir), want)
}
