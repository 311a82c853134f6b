package encode

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"
	"go.uber.org/goleak"

	"github.com/permafrost-ml/permafrost/source"
	"github.com/permafrost-ml/permafrost/stage"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func checked(t *testing.T) memory.Allocator {
	t.Helper()
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	t.Cleanup(func() { mem.AssertSize(t, 0) })
	return mem
}

func emitted[T any](values []T) func(context.Context) iter.Seq2[T, error] {
	return func(context.Context) iter.Seq2[T, error] {
		return func(yield func(T, error) bool) {
			for _, v := range values {
				if !yield(v, nil) {
					return
				}
			}
		}
	}
}

// rows runs the stage and returns each row as column=value, and the schema.
func rows(t *testing.T, samples []Sample, opts SampleOptions) (out []string, schema *arrow.Schema, err error) {
	t.Helper()
	opts.Allocator = checked(t)
	if opts.Split == "" {
		opts.Split = "train"
	}
	if opts.Uses == nil {
		opts.Uses = []Use{{Name: "e"}}
	}
	g, _ := stage.NewGroup(t.Context())
	in := stage.From(g, "rows", emitted(samples))
	stage.Each(g, Samples(g, in, opts), "collect", func(_ context.Context, rec arrow.Record) error {
		defer rec.Release()
		if schema == nil {
			schema = rec.Schema()
		}
		if rec.NumRows() == 0 {
			return errors.New("an empty batch")
		}
		for r := range int(rec.NumRows()) {
			var cells []string
			for c, f := range rec.Schema().Fields() {
				if strings.HasSuffix(f.Name, "_id") || strings.HasSuffix(f.Name, "_input") {
					continue
				}
				cells = append(cells, f.Name+"="+rec.Column(c).ValueStr(r))
			}
			out = append(out, strings.Join(cells, " "))
		}
		return nil
	})
	return out, schema, g.Wait()
}

func at(line int64, s Sample) Sample {
	s.Pos = source.Pos{Name: "data.jsonl", Line: line}
	return s
}

func TestSamples(t *testing.T) {
	index, _ := ParseKey("index")
	text, _ := ParseKey("field:text")
	got, schema, err := rows(t, []Sample{
		GroupSample(Text("a"), "x").With("n", 1).With("gone", nil),
		GroupSample(Text("b"), "").With("n", nil).With("gone", nil),
	}, SampleOptions{Uses: []Use{{Name: "e", Key: text}, {Name: "f", Key: index}}})
	want := []string{"row=0 label=x n=1 gone=(null) e_key=a f_key=train:0", "row=1 label= n=(null) gone=(null) e_key=b f_key=train:1"}
	if err != nil || !slices.Equal(got, want) {
		t.Fatalf("%q, %v, want %q", got, err, want)
	}
	f, _ := schema.FieldsByName("f_input")
	if md := f[0].Metadata.ToMap(); md["permafrost.role"] != "input" || md["permafrost.encoder"] != "f" || md["permafrost.side"] != "" {
		t.Errorf("metadata %v", md)
	}
	if md := schema.Metadata(); md.ToMap()["permafrost.kind"] != "group" || md.ToMap()["permafrost.split"] != "train" {
		t.Errorf("metadata %v", md)
	}
	pair := PairSample(Text("q"), Text("a"))
	pair.Score, pair.Subgroup = 0.5, "s"
	got, schema, err = rows(t, []Sample{pair}, SampleOptions{Uses: []Use{{Name: "e", Key: index}}})
	if err != nil || !slices.Equal(got, []string{"row=0 score=0.5 subgroup=s e_a_key=train:0:a e_b_key=train:0:b"}) {
		t.Fatalf("%q, %v", got, err)
	}
	if md := schema.Metadata(); md.ToMap()["permafrost.kind"] != "pair" {
		t.Errorf("metadata %v", md)
	}
	if got, _, err := rows(t, nil, SampleOptions{}); err != nil || got != nil {
		t.Errorf("of nothing: %q, %v", got, err)
	}
}

type colour string

type celsius float32

// TestKeptTypes: the first rows decide, nulls wait, integers beside floats
// become floats.
func TestKeptTypes(t *testing.T) {
	for _, tc := range []struct {
		name     string
		values   []any
		declared string
		want     arrow.DataType
	}{
		{"int", []any{1, int8(2), uint32(3), nil, int64(4)}, "", arrow.PrimitiveTypes.Int64},
		{"float", []any{1, 2.5}, "", arrow.PrimitiveTypes.Float64},
		{"float first", []any{2.5, float32(1), 1}, "", arrow.PrimitiveTypes.Float64},
		{"late", []any{nil, nil, true}, "", arrow.FixedWidthTypes.Boolean},
		{"text", []any{"a", nil, colour("red")}, "", arrow.BinaryTypes.String},
		{"bytes", []any{[]byte{1}, nil}, "", arrow.BinaryTypes.Binary},
		{"nothing", []any{nil, nil}, "", arrow.BinaryTypes.String},
		{"declared", []any{nil, 1}, "float64", arrow.PrimitiveTypes.Float64},
		{"named", []any{celsius(1), 2}, "", arrow.PrimitiveTypes.Float64},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var samples []Sample
			for i, v := range tc.values {
				samples = append(samples, GroupSample(Text(fmt.Sprint(i)), i).With("k", v))
			}
			opts := SampleOptions{}
			if tc.declared != "" {
				opts.KeepTypes = map[string]string{"k": tc.declared}
			}
			got, schema, err := rows(t, samples, opts)
			if err != nil || len(got) != len(tc.values) {
				t.Fatalf("%q, %v", got, err)
			}
			f, _ := schema.FieldsByName("k")
			if !arrow.TypeEqual(f[0].Type, tc.want) || !f[0].Nullable {
				t.Errorf("type %v, want %v", f[0].Type, tc.want)
			}
		})
	}
	_, _, err := rows(t, []Sample{GroupSample(Text("a"), 1).With("k", 1)}, SampleOptions{KeepTypes: map[string]string{"k": "int32"}})
	if err == nil || !strings.Contains(err.Error(), "int32") {
		t.Errorf("a type that does not exist: %v", err)
	}
}

// TestBadSamples: each is an error that names its line, or left out where
// that is asked for; the rows around it stay, numbered without a gap.
func TestBadSamples(t *testing.T) {
	short, _ := ParseKey("field:title")
	nan := PairSample(Text("a"), Text("b"))
	nan.Score = float32(math.NaN())
	group := func(text string) Sample { return GroupSample(Text(text), "x") }
	titled := func(text string) Sample {
		return GroupSample(Text(text).With("title", TextValue(text)), "x")
	}
	for name, tc := range map[string]struct {
		good func(string) Sample
		bad  Sample
		uses []Use
		want string
	}{
		"missing field":    {group, GroupSample(Record(map[string]Value{"body": TextValue("b")}), "x"), nil, `encoder "e" reads field "text"`},
		"missing key":      {titled, group("b"), []Use{{Name: "e", Key: short}}, `key extractor field:title`},
		"key not UTF-8":    {titled, GroupSample(Text("b").With("title", TextValue("\xff")), "x"), []Use{{Name: "e", Key: short}}, "UTF-8"},
		"no label":         {group, GroupSample(Text("b"), nil), nil, "the label is missing"},
		"float label":      {group, GroupSample(Text("b"), 1.5), nil, "the label is 1.5"},
		"other label":      {group, GroupSample(Text("b"), 1), nil, "int64, earlier rows have text"},
		"label not UTF-8":  {group, GroupSample(Text("b"), "\xff"), nil, "UTF-8"},
		"pair among them":  {group, PairSample(Text("b"), Text("c")), nil, "both pairs and groups"},
		"a kept column":    {group, group("b").With("k", 1), nil, "1 kept columns, earlier rows have 0"},
		"a function":       {group, bad(errors.New("no sample in this row")), nil, "no sample in this row"},
		"score":            {func(s string) Sample { return PairSample(Text(s), Text(s)) }, nan, nil, "the score is NaN"},
		"a type":           {func(s string) Sample { return group(s).With("k", 1) }, group("b").With("k", "one"), nil, `kept column "k" is text, not int64`},
		"an unknown type":  {func(s string) Sample { return group(s).With("k", 1) }, group("b").With("k", struct{}{}), nil, "struct {} cannot be stored"},
		"a large number":   {func(s string) Sample { return group(s).With("k", 1) }, group("b").With("k", uint64(1<<63)), nil, "does not fit"},
		"text not UTF-8":   {func(s string) Sample { return group(s).With("k", "") }, group("b").With("k", "\xff"), nil, "UTF-8"},
		"another column":   {func(s string) Sample { return group(s).With("k", 1) }, group("b").With("l", 1), nil, `is "l", in earlier rows "k"`},
		"side of a pair":   {func(s string) Sample { return PairSample(Text(s), Text(s)) }, PairSample(Text("b"), Record(nil)), nil, "of side b"},
		"subgroup missing": {func(s string) Sample { return PairSample(Text(s), Text(s)) }, Sample{A: Text("b"), B: Text("c"), pair: true}, nil, "the subgroup is missing"},
	} {
		// In the rows that decide the columns' types, and long after them.
		for _, line := range []int{2, sampleRows + 500} {
			t.Run(fmt.Sprintf("%s at %d", name, line), func(t *testing.T) {
				n := line + 3
				samples := make([]Sample, n)
				for i := range samples {
					samples[i] = at(int64(i+1), tc.good(fmt.Sprint("good ", i)))
				}
				samples[line-1] = at(int64(line), tc.bad)
				_, _, err := rows(t, samples, SampleOptions{Uses: tc.uses})
				if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), fmt.Sprintf("data.jsonl:%d", line)) {
					t.Fatalf("error %v, want %q at line %d", err, tc.want, line)
				}
				var mu sync.Mutex
				var skipped []int64
				got, _, err := rows(t, samples, SampleOptions{Uses: tc.uses, Skip: func(s Sample, err error) error {
					mu.Lock()
					defer mu.Unlock()
					skipped = append(skipped, s.Pos.Line)
					if !strings.Contains(err.Error(), tc.want) {
						t.Errorf("skipped for %v", err)
					}
					return nil
				}})
				if err != nil || len(got) != n-1 || !slices.Equal(skipped, []int64{int64(line)}) {
					t.Fatalf("%d rows, skipped %v, %v", len(got), skipped, err)
				}
				for i, row := range got {
					if !strings.HasPrefix(row, fmt.Sprintf("row=%d ", i)) {
						t.Fatalf("row %d is %q", i, row)
					}
				}
				stop := errors.New("enough")
				if _, _, err := rows(t, samples, SampleOptions{Uses: tc.uses, Skip: func(Sample, error) error { return stop }}); !errors.Is(err, stop) {
					t.Errorf("error %v", err)
				}
			})
		}
	}
}

func bad(err error) Sample { return BadSample(err) }

// TestAllSkipped: batches of nothing but bad rows give no batch.
func TestAllSkipped(t *testing.T) {
	samples := make([]Sample, sampleRows+10)
	for i := range samples {
		samples[i] = BadSample(errors.New("bad"))
	}
	samples[sampleRows+5] = GroupSample(Text("good"), 1)
	got, _, err := rows(t, samples, SampleOptions{Skip: func(Sample, error) error { return nil }})
	if err != nil || len(got) != 1 || !strings.HasPrefix(got[0], "row=0 label=1") {
		t.Errorf("%q, %v", got, err)
	}
}

// TestLargeSamples: objects of megabytes come in batches of few.
func TestLargeSamples(t *testing.T) {
	image := Record(map[string]Value{"text": BytesValue(make([]byte, 1<<20))})
	samples := make([]Sample, 70)
	for i := range samples {
		samples[i] = GroupSample(image, i%2)
	}
	mem := checked(t)
	g, _ := stage.NewGroup(t.Context())
	recs := Samples(g, stage.From(g, "rows", emitted(samples)), SampleOptions{Split: "train", Uses: []Use{{Name: "e"}}, Allocator: mem})
	var sizes []int64
	stage.Each(g, recs, "collect", func(_ context.Context, rec arrow.Record) error {
		defer rec.Release()
		if first := rec.Column(0).(*array.Int64).Value(0); first != int64(len(sizes))*sampleBytes>>20 {
			t.Errorf("batch %d begins with row %d", len(sizes), first)
		}
		sizes = append(sizes, rec.NumRows())
		return nil
	})
	if err := g.Wait(); err != nil || !slices.Equal(sizes, []int64{32, 32, 6}) {
		t.Errorf("batches of %v, %v", sizes, err)
	}
}

func TestReading(t *testing.T) {
	m := &countingModel{}
	r := Reading(m, Reads{Field: "title"})
	if ReadsOf(r).Field != "title" || ReadsOf(m).Field != "" || Unwrap(r) != Model(m) || Unwrap(m) != Model(m) {
		t.Error("what a model reads")
	}
}

// objectBatch is a batch of objects whose texts are numbers from first on.
func objectBatch(mem memory.Allocator, first, size int) arrow.Record {
	schema := arrow.NewSchema([]arrow.Field{{Name: "id", Type: &arrow.FixedSizeBinaryType{ByteWidth: 32}}, {Name: "input", Type: arrow.BinaryTypes.Binary}}, nil)
	b := array.NewRecordBuilder(mem, schema)
	defer b.Release()
	for n := first; n < first+size; n++ {
		input := AppendInput(nil, Input{TextValue(fmt.Sprint(n))})
		id := Identify(input)
		b.Field(0).(*array.FixedSizeBinaryBuilder).Append(id[:])
		b.Field(1).(*array.BinaryBuilder).Append(input)
	}
	return b.NewRecord()
}

// objectBatches yields batches of those sizes.
func objectBatches(mem memory.Allocator, sizes ...int) func(context.Context) iter.Seq2[arrow.Record, error] {
	return func(context.Context) iter.Seq2[arrow.Record, error] {
		return func(yield func(arrow.Record, error) bool) {
			n := 0
			for _, size := range sizes {
				if !yield(objectBatch(mem, n, size), nil) {
					return
				}
				n += size
			}
		}
	}
}
