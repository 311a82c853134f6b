package cachesink

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"
	"go.uber.org/goleak"

	"github.com/permafrost-ml/permafrost/encode"
	"github.com/permafrost-ml/permafrost/stage"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(killedEnv); dir != "" {
		fillToBeKilled(dir)
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
// encodes nothing.
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
	if got := stats.Encoders["e"]; got != (EncoderStats{Objects: 20, Reused: 20}) || c.Manifest().Generation != 2 {
		t.Errorf("third: %+v, generation %d", got, c.Manifest().Generation)
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

func TestBatchesStayInTheirShard(t *testing.T) {
	s := setup{splits: map[string][]encode.Sample{"train": groups("a", 40, 20)}, shard: 8, batch: 3, mem: checked(t)}
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
	if want := []int{3, 3, 2, 3, 3, 2, 3, 1}; !slices.Equal(sizes, want) {
		t.Errorf("batches of %v, want %v", sizes, want)
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

// change returns what a stage between two of the fill's does to a stream.
func change(g *stage.Group, in stage.Stream[arrow.Record], fn func(n int, rec arrow.Record, emit func(arrow.Record) error) error) stage.Stream[arrow.Record] {
	return stage.Process(g, in, "change", func(_ context.Context, in iter.Seq[arrow.Record], emit func(arrow.Record) error) error {
		n := 0
		for rec := range in {
			if err := fn(n, rec, emit); err != nil {
				return err
			}
			n++
		}
		return nil
	})
}

// TestWrongEmbeddings is an encode stage of somebody else's that is wrong.
func TestWrongEmbeddings(t *testing.T) {
	for name, tc := range map[string]struct {
		fn   func(n int, rec arrow.Record, emit func(arrow.Record) error) error
		want error
	}{
		"too few": {func(n int, rec arrow.Record, emit func(arrow.Record) error) error {
			if n == 3 {
				rec.Release()
				return nil
			}
			return emit(rec)
		}, ErrEmbeddings},
		"cut": {func(n int, rec arrow.Record, emit func(arrow.Record) error) error {
			if n >= 6 {
				rec.Release()
				return nil
			}
			return emit(rec)
		}, ErrEmbeddings},
		"too many": {func(n int, rec arrow.Record, emit func(arrow.Record) error) error {
			if n == 6 {
				rec.Retain()
				if err := emit(rec); err != nil {
					return err
				}
			}
			return emit(rec)
		}, ErrEmbeddings},
		"another order": {func(n int, rec arrow.Record, emit func(arrow.Record) error) error {
			defer rec.Release()
			for _, at := range []int64{1, 0} {
				if at < rec.NumRows() {
					if err := emit(rec.NewSlice(at, at+1)); err != nil {
						return err
					}
				}
			}
			return nil
		}, ErrEmbeddings},
		"no embedding column": {func(_ int, rec arrow.Record, emit func(arrow.Record) error) error {
			defer rec.Release()
			return emit(array.NewRecord(arrow.NewSchema(rec.Schema().Fields()[:1], nil), rec.Columns()[:1], rec.NumRows()))
		}, ErrSchema},
	} {
		t.Run(name, func(t *testing.T) {
			s := setup{splits: map[string][]encode.Sample{"train": groups("a", 20, 20)}, mem: checked(t)}
			s.defaults()
			st := Memory()
			err := s.runWith(t.Context(), st, func(g *stage.Group, in stage.Stream[arrow.Record]) stage.Stream[arrow.Record] {
				return change(g, in, tc.fn)
			})
			wantErr(t, err, tc.want)
			if c, err := Open(t.Context(), st, nil); err != nil || c.Manifest().Generation != 0 {
				t.Errorf("the fill counts: %v", err)
			}
		})
	}
}

// runWith is run with something between the encoders and the writers.
func (s *setup) runWith(ctx context.Context, st Storage, between func(*stage.Group, stage.Stream[arrow.Record]) stage.Stream[arrow.Record]) error {
	c, err := Open(ctx, st, s.mem)
	if err != nil {
		return err
	}
	opts, err := s.options(ctx)
	if err != nil {
		return err
	}
	f, err := c.Fill(ctx, opts)
	if err != nil {
		return err
	}
	defer f.Abort()
	g, _ := stage.NewGroup(ctx)
	for name, in := range f.Index(g, s.samples(g)) {
		f.Write(g, name, between(g, encode.Stage(g, in, name, s.models[name], encode.StageOptions{Workers: s.workers, Allocator: s.mem})))
	}
	if err := g.Wait(); err != nil {
		return err
	}
	_, err = f.Commit(ctx)
	return err
}

// TestWrongValues writes batches by hand: a dimension, a null or a NaN that
// the encode stage would not let through.
func TestWrongValues(t *testing.T) {
	for name, tc := range map[string]struct {
		dim  int
		fill func(b *array.FixedSizeListBuilder, v *array.Float32Builder, dim int)
		want error
	}{
		"dimension": {5, func(b *array.FixedSizeListBuilder, v *array.Float32Builder, dim int) {
			b.Append(true)
			v.AppendValues(make([]float32, dim), nil)
		}, ErrSchema},
		"NaN": {4, func(b *array.FixedSizeListBuilder, v *array.Float32Builder, _ int) {
			var zero float32
			b.Append(true)
			v.AppendValues([]float32{0, zero / zero, 0, 0}, nil)
		}, ErrEmbeddings},
		"null": {4, func(b *array.FixedSizeListBuilder, v *array.Float32Builder, dim int) {
			b.AppendNull()
			v.AppendValues(make([]float32, dim), nil)
		}, ErrSchema},
		"null value": {4, func(b *array.FixedSizeListBuilder, v *array.Float32Builder, dim int) {
			b.Append(true)
			v.AppendValues(make([]float32, dim), []bool{true, true, false, true})
		}, ErrSchema},
	} {
		t.Run(name, func(t *testing.T) {
			s := setup{splits: map[string][]encode.Sample{"train": groups("a", 1, 1)}, mem: checked(t)}
			s.defaults()
			err := s.runWith(t.Context(), Memory(), func(g *stage.Group, in stage.Stream[arrow.Record]) stage.Stream[arrow.Record] {
				return change(g, in, func(_ int, rec arrow.Record, emit func(arrow.Record) error) error {
					defer rec.Release()
					b := array.NewFixedSizeListBuilder(s.mem, int32(tc.dim), arrow.PrimitiveTypes.Float32)
					defer b.Release()
					tc.fill(b, b.ValueBuilder().(*array.Float32Builder), tc.dim)
					col := b.NewArray()
					defer col.Release()
					schema := EmbeddingSchema(tc.dim)
					return emit(array.NewRecord(schema, []arrow.Array{rec.Column(0), col}, 1))
				})
			})
			wantErr(t, err, tc.want)
		})
	}
}

// TestSampleBatches feeds the index sample batches that are wrong.
func TestSampleBatches(t *testing.T) {
	good := func(g *stage.Group, s *setup) stage.Stream[arrow.Record] { return s.samples(g) }
	rebuild := func(fn func(s *arrow.Schema, cols []arrow.Array) (*arrow.Schema, []arrow.Array)) func(*stage.Group, *setup) stage.Stream[arrow.Record] {
		return func(g *stage.Group, s *setup) stage.Stream[arrow.Record] {
			return change(g, s.samples(g), func(_ int, rec arrow.Record, emit func(arrow.Record) error) error {
				defer rec.Release()
				schema, cols := fn(rec.Schema(), slices.Clone(rec.Columns()))
				return emit(array.NewRecord(schema, cols, rec.NumRows()))
			})
		}
	}
	withMeta := func(key, value string) func(*stage.Group, *setup) stage.Stream[arrow.Record] {
		return rebuild(func(s *arrow.Schema, cols []arrow.Array) (*arrow.Schema, []arrow.Array) {
			md := s.Metadata()
			m := md.ToMap()
			m[key] = value
			out := arrow.MetadataFrom(m)
			return arrow.NewSchema(s.Fields(), &out), cols
		})
	}
	nulled := func(name string) func(*stage.Group, *setup) stage.Stream[arrow.Record] {
		return rebuild(func(s *arrow.Schema, cols []arrow.Array) (*arrow.Schema, []arrow.Array) {
			i := s.FieldIndices(name)[0]
			cols[i] = array.MakeArrayOfNull(memory.DefaultAllocator, s.Field(i).Type, cols[i].Len())
			return s, cols
		})
	}
	for name, tc := range map[string]struct {
		in   func(*stage.Group, *setup) stage.Stream[arrow.Record]
		want error
	}{
		"good":           {good, nil},
		"no kind":        {withMeta(MetaKind, "triple"), ErrSchema},
		"bad split name": {withMeta(MetaSplit, "../up"), ErrSchema},
		"no label": {rebuild(func(s *arrow.Schema, cols []arrow.Array) (*arrow.Schema, []arrow.Array) {
			md := s.Metadata()
			return arrow.NewSchema(slices.Delete(slices.Clone(s.Fields()), 1, 2), &md), slices.Delete(cols, 1, 2)
		}), ErrSchema},
		"no id": {rebuild(func(s *arrow.Schema, cols []arrow.Array) (*arrow.Schema, []arrow.Array) {
			md := s.Metadata()
			i := s.FieldIndices("e_id")[0]
			return arrow.NewSchema(slices.Delete(slices.Clone(s.Fields()), i, i+1), &md), slices.Delete(cols, i, i+1)
		}), ErrSchema},
		"a kept column named as ours": {rebuild(func(s *arrow.Schema, cols []arrow.Array) (*arrow.Schema, []arrow.Array) {
			md := s.Metadata()
			fields := append(slices.Clone(s.Fields()), arrow.Field{Name: "e", Type: arrow.PrimitiveTypes.Int64})
			return arrow.NewSchema(fields, &md), append(cols, cols[0])
		}), ErrSchema},
		"null row":   {nulled(ColumnRow), ErrSchema},
		"null label": {nulled(ColumnLabel), ErrSchema},
		"null id":    {nulled("e_id"), ErrSchema},
		"null input": {nulled("e_input"), ErrSchema},
		"null key":   {nulled("e_key"), ErrSchema},
		"undeclared encoder": {func(g *stage.Group, s *setup) stage.Stream[arrow.Record] {
			other := *s
			other.uses = []encode.Use{{Name: "other"}}
			return other.samples(g)
		}, ErrSchema},
	} {
		t.Run(name, func(t *testing.T) {
			s := setup{splits: map[string][]encode.Sample{"train": groups("a", 20, 20)}, mem: checked(t)}
			s.defaults()
			opts, err := s.options(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			c, err := Open(t.Context(), Memory(), s.mem)
			if err != nil {
				t.Fatal(err)
			}
			f, err := c.Fill(t.Context(), opts)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Abort()
			g, _ := stage.NewGroup(t.Context())
			in := f.Index(g, tc.in(g, &s))["e"]
			f.Write(g, "e", encode.Stage(g, in, "e", s.models["e"], encode.StageOptions{Allocator: s.mem}))
			if err := g.Wait(); !errors.Is(err, tc.want) {
				t.Fatalf("error %v, want %v", err, tc.want)
			}
		})
	}
}

func TestRowsMustBeInOrder(t *testing.T) {
	for name, order := range map[string][]int64{"twice": {0, 0}, "gap": {0, 10}, "backwards": {5, 0}} {
		t.Run(name, func(t *testing.T) {
			s := setup{splits: map[string][]encode.Sample{"train": groups("a", 20, 20)}, mem: checked(t), dry: true}
			s.defaults()
			opts, _ := s.options(t.Context())
			c, _ := Open(t.Context(), Memory(), s.mem)
			f, err := c.Fill(t.Context(), opts)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Abort()
			g, _ := stage.NewGroup(t.Context())
			f.Index(g, change(g, s.samples(g), func(_ int, rec arrow.Record, emit func(arrow.Record) error) error {
				defer rec.Release()
				for _, at := range order {
					if err := emit(rec.NewSlice(at, at+5)); err != nil {
						return err
					}
				}
				return nil
			}))
			if err := g.Wait(); err == nil || !strings.Contains(err.Error(), "is due") {
				t.Fatalf("error %v", err)
			}
		})
	}
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
