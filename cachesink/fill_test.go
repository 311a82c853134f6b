package cachesink

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"
	"go.uber.org/goleak"

	"github.com/permafrost-ml/permafrost/encode"
	"github.com/permafrost-ml/permafrost/stage"
)

func TestMain(m *testing.M) {
	if spec := os.Getenv(killedEnv); spec != "" {
		beKilled(spec)
		return
	}
	if job := os.Getenv(jobEnv); job != "" {
		doJob(job)
		return
	}
	goleak.VerifyTestMain(m)
}

// twoEncoders is a fill with all there is: a group and a pair split that
// share objects, two cached encoders with inputs of their own and one that
// is not cached, kept columns with nulls.
func twoEncoders() setup {
	train, val := groups("t", 50, 23), pairs("t", 30)
	for i := range train {
		var kept any
		if i%3 > 0 {
			kept = int64(i)
		}
		train[i] = train[i].With("number", kept).With("url", fmt.Sprintf("u%d", i))
	}
	return setup{
		splits: map[string][]encode.Sample{"train": train, "val": val},
		uses: []encode.Use{
			{Name: "plain"},
			{Name: "prompted", Reads: encode.Reads{Template: "query: {text}"}},
			{Name: "trainable"},
		},
		models:   map[string]hashModel{"plain": {dim: 4, seed: "p"}, "prompted": {dim: 33, seed: "q"}},
		uncached: []string{"trainable"},
	}
}

func TestFillContent(t *testing.T) {
	s := twoEncoders()
	s.mem = checked(t)
	c, stats := mustRun(t, s, Dir(t.TempDir()))
	checkContent(t, c, s)
	if stats.Rows != 80 || stats.Splits["train"].Rows != 50 {
		t.Errorf("rows: %+v", stats)
	}
	// The 23 texts of train, and 7 more of val's 30.
	for _, name := range []string{"plain", "prompted"} {
		if got := stats.Encoders[name]; got != (EncoderStats{Objects: 30, Encoded: 30}) {
			t.Errorf("%s: %+v", name, got)
		}
		if got := stats.Splits["val"].Encoders[name]; got != (SplitEncoderStats{Objects: 30, Hits: 23, ToEncode: 7}) {
			t.Errorf("%s in val: %+v", name, got)
		}
	}
	for _, e := range c.Manifest().Encoders {
		if len(e.Shards) != 4 || e.Rows() != 30 || e.Shards[3].Rows != 6 {
			t.Errorf("encoder %q: %d shards, %d rows", e.Name, len(e.Shards), e.Rows())
		}
	}
}

// TestSameBytes is what makes caches comparable: workers and batch sizes of
// what comes in leave no trace.
func TestSameBytes(t *testing.T) {
	dir := t.TempDir()
	mustRun(t, twoEncoders(), quickDir(dir))
	want := files(t, dir)
	if len(want) < 20 {
		t.Fatalf("only %d files", len(want))
	}
	for _, workers := range []int{1, 2, 8} {
		for _, regroup := range []int{1, 7, 1000} {
			s, dir := twoEncoders(), t.TempDir()
			s.workers, s.regroup, s.mem = workers, regroup, checked(t)
			mustRun(t, s, quickDir(dir))
			sameFiles(t, fmt.Sprintf("%d workers, %d rows", workers, regroup), files(t, dir), want)
		}
	}
}

func TestSecondFillChangesNothing(t *testing.T) {
	dir := t.TempDir()
	mustRun(t, twoEncoders(), quickDir(dir))
	want := files(t, dir)
	s := twoEncoders()
	var encoded atomic.Int64
	s.models["plain"] = hashModel{dim: 4, seed: "p", encoded: &encoded}
	c, stats := mustRun(t, s, quickDir(dir))
	sameFiles(t, "second fill", files(t, dir), want)
	if encoded.Load() != 0 || stats.Encoders["plain"] != (EncoderStats{Objects: 30, Reused: 30}) || c.Manifest().Generation != 1 {
		t.Errorf("encoded %d, %+v, generation %d", encoded.Load(), stats.Encoders["plain"], c.Manifest().Generation)
	}
}

// TestLaterFillsAdd is A, B, A in one place: nothing is lost, the third
// encodes nothing, and its split is the newest.
func TestLaterFillsAdd(t *testing.T) {
	st := quickDir(t.TempDir())
	a := setup{splits: map[string][]encode.Sample{"train": groups("a", 20, 20)}}
	b := setup{splits: map[string][]encode.Sample{"train": append(groups("a", 5, 5), groups("b", 20, 20)...), "val": groups("c", 3, 3)}}
	mustRun(t, a, st)
	_, stats := mustRun(t, b, st)
	if got := stats.Encoders["e"]; got != (EncoderStats{Objects: 28, Reused: 5, Encoded: 23}) {
		t.Errorf("second: %+v", got)
	}
	c, stats := mustRun(t, a, st)
	if got := stats.Encoders["e"]; got != (EncoderStats{Objects: 20, Reused: 20}) || c.Manifest().Generation != 3 {
		t.Errorf("third: %+v, generation %d", got, c.Manifest().Generation)
	}
	if s := c.Manifest().Splits; len(s) != 3 || s[0].Rows != 25 || s[1].Rows != 20 {
		t.Errorf("third: splits %+v", s)
	}
	checkContent(t, c, a)
	checkContent(t, c, b)
	relabelled := groups("a", 20, 20)
	for i := range relabelled {
		relabelled[i].Label = "other"
	}
	c, stats = mustRun(t, setup{splits: map[string][]encode.Sample{"train": relabelled}}, st)
	if got := stats.Encoders["e"]; got.Encoded != 0 || len(c.Manifest().Splits) != 4 {
		t.Errorf("other labels: %+v, %d splits", got, len(c.Manifest().Splits))
	}
}

// objectBatches returns the ids of every batch that Index emits.
func objectBatches(t *testing.T, s setup) (batches [][]string) {
	t.Helper()
	s.defaults()
	c, err := Open(t.Context(), Memory(), s.mem)
	if err != nil {
		t.Fatal(err)
	}
	opts, err := s.options(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	f, err := c.Fill(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Abort()
	g, _ := stage.NewGroup(t.Context())
	stage.Each(g, f.Index(g, s.samples(g))["e"], "collect", func(_ context.Context, rec arrow.Record) error {
		defer rec.Release()
		ids, err := idColumn(rec)
		var batch []string
		for id := range slices.Chunk(ids, idBytes) {
			batch = append(batch, string(id))
		}
		batches = append(batches, batch)
		return err
	})
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	return batches
}

// TestObjectBatches: they hold 16 batches of the encoder, fewer whole ones of
// large inputs, and never objects of two shards.
func TestObjectBatches(t *testing.T) {
	large := make([]encode.Sample, 7)
	for i := range large {
		large[i] = encode.GroupSample(encode.Text(strings.Repeat(fmt.Sprint(i), windowBytes/2)), int64(i))
	}
	for name, tc := range map[string]struct {
		samples      []encode.Sample
		shard, batch int
		want         []int
	}{
		"small shards": {groups("a", 40, 20), 8, 3, []int{8, 8, 4}},
		"windows":      {groups("a", 40, 20), 100, 1, []int{16, 4}},
		"both":         {groups("a", 40, 40), 20, 1, []int{16, 4, 16, 4}},
		"large":        {large, 100, 2, []int{2, 2, 2, 1}},
		"larger batch": {large, 100, 3, []int{3, 3, 1}},
	} {
		t.Run(name, func(t *testing.T) {
			s := setup{splits: map[string][]encode.Sample{"train": tc.samples}, shard: tc.shard, batch: tc.batch, mem: checked(t)}
			var sizes []int
			seen := map[string]bool{}
			for _, b := range objectBatches(t, s) {
				sizes = append(sizes, len(b))
				for _, id := range b {
					if seen[id] {
						t.Fatalf("object %x comes twice", id)
					}
					seen[id] = true
				}
			}
			if !slices.Equal(sizes, tc.want) {
				t.Errorf("batches of %v, want %v", sizes, tc.want)
			}
		})
	}
}

// TestLargeInputsSpill goes through the scratch file of a shard.
func TestLargeInputsSpill(t *testing.T) {
	samples := make([]encode.Sample, 12)
	for i := range samples {
		samples[i] = encode.GroupSample(encode.Text(strings.Repeat(fmt.Sprint(i), 1<<20)), int64(i))
	}
	dir := t.TempDir()
	s := setup{splits: map[string][]encode.Sample{"train": samples}, shard: 100, mem: checked(t)}
	c, _ := mustRun(t, s, quickDir(dir))
	checkContent(t, c, s)
	if left, _ := os.ReadDir(filepath.Join(dir, "tmp")); len(left) != 0 {
		t.Errorf("left in tmp: %v", left)
	}
}

func TestDryRunCounts(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cache")
	s := twoEncoders()
	s.dry, s.mem = true, checked(t)
	c, stats, err := s.run(t.Context(), quickDir(dir))
	if err != nil {
		t.Fatal(err)
	}
	if got := stats.Splits["val"].Encoders["plain"]; got != (SplitEncoderStats{Objects: 30, Hits: 23, ToEncode: 7}) {
		t.Errorf("val: %+v", got)
	}
	if got := files(t, dir); len(got) != 0 || c.Manifest().Generation != 0 {
		t.Errorf("a dry run wrote %d files", len(got))
	}
}

func TestEmptySplitAndNoRows(t *testing.T) {
	c, stats := mustRun(t, setup{splits: map[string][]encode.Sample{"train": nil}, mem: checked(t)}, Memory())
	if stats.Rows != 0 || len(c.Manifest().Splits) != 0 {
		t.Errorf("%+v, %d splits", stats, len(c.Manifest().Splits))
	}
}

func TestKeyConflictsNameBothRows(t *testing.T) {
	prefix, err := encode.ParseKey("prefix:text:3")
	if err != nil {
		t.Fatal(err)
	}
	text := encode.Text
	for name, tc := range map[string]struct {
		splits map[string][]encode.Sample
		want   []string
	}{
		"in a split": {
			map[string][]encode.Sample{"train": {encode.GroupSample(text("abc one"), "x"), encode.GroupSample(text("xyz"), "x"), encode.GroupSample(text("abc two"), "x")}},
			[]string{`key "abc"`, `row 0 of split "train"`, `row 2 of split "train"`},
		},
		"across splits": {
			map[string][]encode.Sample{"train": {encode.GroupSample(text("abc one"), "x")}, "val": {encode.GroupSample(text("zzz"), "x"), encode.GroupSample(text("abc two"), "x")}},
			[]string{`row 0 of split "train"`, `row 1 of split "val"`},
		},
		"across sides": {
			map[string][]encode.Sample{"train": {encode.PairSample(text("abc one"), text("q")), encode.PairSample(text("r"), text("abc two"))}},
			[]string{`row 0 of split "train", side a`, `row 1 of split "train", side b`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, dry := range []bool{false, true} {
				s := setup{splits: tc.splits, uses: []encode.Use{{Name: "e", Key: prefix}}, mem: checked(t), dry: dry}
				dir := t.TempDir()
				_, _, err := s.run(t.Context(), quickDir(dir))
				wantErr(t, err, ErrKeyConflict, append(tc.want, `encoder "e"`)...)
				if files(t, dir)[manifestName(1)] != "" {
					t.Error("the fill counts all the same")
				}
			}
		})
	}
	same := setup{splits: map[string][]encode.Sample{"train": {encode.GroupSample(text("abc"), "x"), encode.GroupSample(text("abc"), "y")}}, uses: []encode.Use{{Name: "e", Key: prefix}}}
	mustRun(t, same, Memory())
}

func TestBadFillOptions(t *testing.T) {
	fp := hexSum([]byte("x"))
	for name, opts := range map[string]FillOptions{
		"shard":       {ShardObjects: -1},
		"name":        {Encoders: []Use{{Name: "../e", Fingerprint: fp, Dim: 1, Cached: true}}},
		"twice":       {Encoders: []Use{{Name: "e", Fingerprint: fp, Dim: 1}, {Name: "e", Fingerprint: fp, Dim: 1}}},
		"fingerprint": {Encoders: []Use{{Name: "e", Fingerprint: "abc", Dim: 1}}},
		"dim":         {Encoders: []Use{{Name: "e", Fingerprint: fp}}},
		"batch":       {Encoders: []Use{{Name: "e", Fingerprint: fp, Dim: 1, BatchSize: -1}}},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := Open(t.Context(), Memory(), nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.Fill(t.Context(), opts); err == nil {
				t.Fatal("accepted")
			}
		})
	}
}

// TestKeptColumns stores every type of value that a sample can have.
func TestKeptColumns(t *testing.T) {
	values := map[string][]any{
		"ints": {int64(1), nil, int64(-5)}, "floats": {1.5, nil, 2.5}, "bools": {true, nil, false},
		"texts": {"", nil, "ü"}, "blobs": {[]byte{0, 1}, nil, []byte{}}, "nothing": {nil, nil, nil},
	}
	var samples []encode.Sample
	for i := range 3 {
		s := encode.GroupSample(encode.Text(fmt.Sprint(i)), int64(i-1))
		for _, name := range []string{"ints", "floats", "bools", "texts", "blobs", "nothing"} {
			s = s.With(name, values[name][i])
		}
		samples = append(samples, s)
	}
	s := setup{splits: map[string][]encode.Sample{"train": samples}, mem: checked(t)}
	c, _ := mustRun(t, s, Memory())
	var tables Tables
	defer tables.Release()
	r, err := c.Read(t.Context(), &c.Manifest().Splits[0], &tables)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Release()
	rec, err := r.Gather(t.Context(), []int64{2, 1, 0})
	if err != nil {
		t.Fatal(err)
	}
	defer rec.Release()
	b, err := rec.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`"blobs":"","bools":false,`, `"floats":2.5,"ints":-5,"label":1,"nothing":null,"row":2,"texts":"ü"}`,
		`"blobs":null,"bools":null,`, `"floats":null,"ints":null,"label":0,"nothing":null,"row":1,"texts":null}`,
		`"blobs":"AAE=","bools":true,`, `"floats":1.5,"ints":1,"label":-1,"nothing":null,"row":0,"texts":""}`,
	} {
		if !bytes.Contains(b, []byte(want)) {
			t.Errorf("no %s in %s", want, b)
		}
	}
}
