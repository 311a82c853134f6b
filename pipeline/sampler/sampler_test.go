package sampler_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/permafrost-ml/permafrost/pipeline/sampler"
)

const rows = 120

// split is a table of two parts with columns of every type.
func split(t testing.TB) sampler.Split {
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	b := array.NewRecordBuilder(mem, arrow.NewSchema([]arrow.Field{
		{Name: "label", Type: arrow.BinaryTypes.String},
		{Name: "number", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
		{Name: "weight", Type: arrow.PrimitiveTypes.Float64},
		{Name: "score", Type: arrow.PrimitiveTypes.Float32},
		{Name: "good", Type: arrow.FixedWidthTypes.Boolean},
		{Name: "bytes", Type: arrow.BinaryTypes.Binary},
		{Name: "big", Type: arrow.PrimitiveTypes.Int64},
		{Name: "none", Type: arrow.BinaryTypes.String, Nullable: true},
	}, nil))
	defer b.Release()
	objects := make([]int64, rows)
	for i := range rows {
		b.Field(0).(*array.StringBuilder).Append(fmt.Sprint("label ", i*i%rows%7))
		if b := b.Field(1).(*array.Int64Builder); i == 5 {
			b.AppendNull()
		} else {
			b.Append(int64(i % 10))
		}
		b.Field(2).(*array.Float64Builder).Append(float64(i % 4))
		b.Field(3).(*array.Float32Builder).Append(float32(i % 3))
		b.Field(4).(*array.BooleanBuilder).Append(i%5 == 0)
		b.Field(5).(*array.BinaryBuilder).Append(nil)
		b.Field(6).(*array.Int64Builder).Append(math.MaxInt64 - int64(i%2))
		b.Field(7).(*array.StringBuilder).AppendNull()
		objects[i] = int64(i % 100)
	}
	rec := b.NewRecord()
	t.Cleanup(func() {
		rec.Release()
		mem.AssertSize(t, 0)
	})
	return sampler.Split{
		Parts: []sampler.Part{{Name: "a", Rows: 90}, {Name: "b", Rows: 30}},
		Column: func(name string) (arrow.Array, error) {
			at := rec.Schema().FieldIndices(name)
			if len(at) != 1 {
				return nil, fmt.Errorf("no column %q", name)
			}
			return rec.Column(at[0]), nil
		},
		Objects: func() ([][]int64, error) { return [][]int64{objects}, nil },
	}
}

// all are one of each sampler, and some before others.
func all() []sampler.Config {
	return []sampler.Config{
		sampler.GroupBalanced{Groups: 3, Samples: 5},
		sampler.Weighted{Column: "weight"},
		sampler.Weighted{InverseFrequency: "label"},
		sampler.Mixed{Weights: map[string]float64{"a": 1, "b": 2}},
		sampler.Subset{Column: "label", Values: sampler.Values{"label 1", "label 4"}},
		sampler.Subset{Column: "number", Values: sampler.Values{"3"}, Fraction: 0.5},
		sampler.Subset{Fraction: 0.25, Of: sampler.Weighted{InverseFrequency: "label"}},
		sampler.Subset{Fraction: 0.5, Of: sampler.GroupBalanced{Groups: 2, Samples: 2, Column: "big"}},
		sampler.NoDuplicates{},
		sampler.NoDuplicates{Of: sampler.Subset{Column: "good", Values: sampler.Values{"true"}, Of: sampler.Mixed{Weights: map[string]float64{"a": 1, "b": 2}}}},
	}
}

// batching has small batches.
var batching = sampler.Batching{Size: 8, Seed: 3}

// sampled returns the rows of an epoch.
func sampled(t testing.TB, c sampler.Config, b sampler.Batching) (out [][]int64) {
	t.Helper()
	if c != nil {
		if err := c.Validate(b); err != nil {
			t.Fatal(err)
		}
	}
	s, err := sampler.New(c, b, split(t))
	if err != nil {
		t.Fatal(err)
	}
	draw := s.Epoch(1)
	for n := range s.Batches(1) {
		out = append(out, draw(nil, n))
	}
	return out
}

// TestParse: what a sampler says of itself makes the same sampler again.
func TestParse(t *testing.T) {
	for _, c := range all() {
		declared, err := json.Marshal(c.Params())
		if err != nil {
			t.Fatal(err)
		}
		again, err := sampler.Parse(c.Type(), declared)
		if err != nil {
			t.Fatalf("%s: %v", declared, err)
		}
		if !reflect.DeepEqual(again.Params(), c.Params()) {
			t.Errorf("%s comes back as %v", declared, again.Params())
		}
		if want, got := sampled(t, c, batching), sampled(t, again, batching); len(want) == 0 || !slices.EqualFunc(want, got, slices.Equal) {
			t.Errorf("%s has other batches", declared)
		}
		if d := sampler.Declared(c); d["type"] != c.Type() || len(d) != len(c.Params())+1 {
			t.Errorf("%s is declared as %v", declared, d)
		}
	}
	if sampler.Declared(nil) != nil {
		t.Error("no sampler is declared as one")
	}
	for _, test := range []struct{ typ, params, want string }{
		{"balanced", "", `unknown sampler type "balanced" (known: group_balanced, mixed, no_duplicates, subset, weighted)`},
		{"group_balanced", `{"grops": 3}`, `unknown field "grops"`},
		{"subset", `{"fractoin": 3}`, `unknown field "fractoin"`},
		{"subset", `{"values": "a"}`, "want a list of values"},
		{"subset", `{"values": [[]]}`, "want a list of texts, numbers or booleans"},
		{"no_duplicates", `{"of": {}}`, "of: no type is given"},
		{"no_duplicates", `{"of": 3}`, "cannot unmarshal"},
		{"no_duplicates", `{"of": {"type": "weihted"}}`, `unknown sampler type "weihted"`},
		{"no_duplicates", `{"of": {"type": "subset", "of": {"type": "mixed", "weigths": {}}}}`, `unknown field "weigths"`},
	} {
		_, err := sampler.Parse(test.typ, json.RawMessage(test.params))
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s %s gives %v, want %s", test.typ, test.params, err, test.want)
		}
	}
	if _, err := sampler.Parse("x", nil); !errors.Is(err, sampler.ErrType) {
		t.Error(err)
	}
}

// TestReads: a sampler says what it reads, and reads no more.
func TestReads(t *testing.T) {
	for _, c := range append(all(), sampler.Weighted{Column: "score"}) {
		s := split(t)
		column := s.Column
		read := []string{}
		s.Column = func(name string) (arrow.Array, error) {
			read = append(read, name)
			return column(name)
		}
		if _, err := c.New(batching, s); err != nil {
			t.Fatal(err)
		}
		if want := c.Columns(); !slices.Equal(read, append([]string{}, want...)) {
			t.Errorf("%v reads %q, and says %q", c, read, want)
		}
		if mix := strings.Contains(fmt.Sprint(sampler.Declared(c)), "mixed"); (len(c.Splits()) > 0) != mix || mix && !slices.Equal(c.Splits(), []string{"a", "b"}) {
			t.Errorf("%v is of the splits %q", c, c.Splits())
		}
	}
}

func TestDefaults(t *testing.T) {
	want := map[string]any{"groups": 16, "samples": 4, "column": "label"}
	if got := (sampler.GroupBalanced{}).Params(); !reflect.DeepEqual(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	whole := slices.Concat(sampled(t, nil, batching)...)
	if slices.Sort(whole); len(slices.Compact(whole)) != rows {
		t.Errorf("without a sampler, rows are %v", whole)
	}
	b := batching
	b.Sequential, b.DropLast, b.Size = true, true, 100
	if got := sampled(t, nil, b); len(got) != 1 || len(got[0]) != 100 || !slices.IsSorted(got[0]) {
		t.Errorf("in the split's order: %v", got)
	}
}

// TestSubset: the rows that are asked for, each once, in every epoch.
func TestSubset(t *testing.T) {
	s := split(t)
	for _, test := range []struct {
		name string
		c    sampler.Subset
		want func(row int) bool
		n    int
	}{
		{"texts", sampler.Subset{Column: "label", Values: sampler.Values{"label 1"}}, func(i int) bool { return i*i%rows%7 == 1 }, 0},
		{"integers", sampler.Subset{Column: "number", Values: sampler.Values{"5", "6"}}, func(i int) bool { return i != 5 && (i%10 == 5 || i%10 == 6) }, 23},
		{"large integers", sampler.Subset{Column: "big", Values: sampler.Values{"9223372036854775807"}}, func(i int) bool { return i%2 == 0 }, 60},
		{"booleans", sampler.Subset{Column: "good", Values: sampler.Values{"false"}}, func(i int) bool { return i%5 != 0 }, 96},
		{"a fraction", sampler.Subset{Fraction: 0.3}, nil, 36},
		{"a little", sampler.Subset{Fraction: 1e-9}, nil, 1},
		{"a fraction of some", sampler.Subset{Column: "good", Values: sampler.Values{"true"}, Fraction: 0.51}, func(i int) bool { return i%5 == 0 }, 13},
		{"some of some", sampler.Subset{
			Column: "good", Values: sampler.Values{"true"},
			Of: sampler.Subset{Column: "big", Values: sampler.Values{"9223372036854775807"}},
		}, func(i int) bool { return i%10 == 0 }, 12},
	} {
		t.Run(test.name, func(t *testing.T) {
			var before []int64
			for epoch := range 2 {
				smp, err := sampler.New(test.c, batching, s)
				if err != nil {
					t.Fatal(err)
				}
				var got []int64
				for n, draw := int64(0), smp.Epoch(epoch); n < smp.Batches(epoch); n++ {
					got = draw(got, n)
				}
				slices.Sort(got)
				want := 0
				for i := range rows {
					if test.want != nil && test.want(i) {
						want++
					}
				}
				if test.n > 0 {
					want = test.n
				}
				if len(got) != want || len(slices.Compact(slices.Clone(got))) != len(got) {
					t.Fatalf("%d rows, want %d: %v", len(got), want, got)
				}
				for _, row := range got {
					if test.want != nil && !test.want(int(row)) {
						t.Errorf("row %d is taken", row)
					}
				}
				if epoch > 0 && !slices.Equal(got, before) {
					t.Error("another epoch has other rows")
				}
				before = got
			}
		})
	}
	b := batching
	b.Sequential = true
	if got := slices.Concat(sampled(t, sampler.Subset{Fraction: 0.5}, b)...); !slices.IsSorted(got) {
		t.Errorf("in the split's order: %v", got)
	}
}

// TestStages: each sampler does what it says, also before another one.
func TestStages(t *testing.T) {
	count := func(batches [][]int64, is func(row int64) bool) (n int) {
		for _, row := range slices.Concat(batches...) {
			if is(row) {
				n++
			}
		}
		return n
	}
	ofA := func(row int64) bool { return row < 90 }
	if got := sampled(t, sampler.Mixed{Weights: map[string]float64{"a": 1, "b": 2}}, batching); count(got, ofA) != 40 {
		t.Errorf("mixed: %d of the first split, want 40", count(got, ofA))
	}
	nested := sampled(t, all()[9], batching) // 24 good rows, 18 of them in a
	good := func(row int64) bool { return row%5 == 0 }
	if count(nested, good) != 24 || count(nested, ofA) != 8 {
		t.Errorf("a subset of a mix: %v", nested)
	}
	for _, c := range []sampler.Config{sampler.NoDuplicates{}, all()[9]} {
		for _, batch := range sampled(t, c, batching) {
			for i, row := range batch {
				for _, other := range batch[i+1:] {
					if row%100 == other%100 {
						t.Errorf("%v has an object twice", batch)
					}
				}
			}
		}
	}
	for _, batch := range sampled(t, sampler.GroupBalanced{Groups: 3, Samples: 5}, batching) {
		if len(batch) != 15 {
			t.Errorf("group balanced: %v", batch)
		}
	}
	for _, c := range []sampler.Config{sampler.Weighted{Column: "weight"}, sampler.Weighted{Column: "score"}, sampler.Weighted{Column: "big"}} {
		if got := sampled(t, c, batching); count(got, func(int64) bool { return true }) != rows {
			t.Errorf("weighted: %v", got)
		}
	}
	if got := sampled(t, sampler.Weighted{Column: "weight"}, batching); count(got, func(row int64) bool { return row%4 == 0 }) > 0 {
		t.Errorf("rows of no weight: %v", got)
	}
}

func TestRefused(t *testing.T) {
	sequential, distinct := batching, batching
	sequential.Sequential, distinct.Distinct = true, true
	for _, test := range []struct {
		c    sampler.Config
		b    sampler.Batching
		want string
	}{
		{sampler.GroupBalanced{Groups: -1}, batching, "groups is -1"},
		{sampler.GroupBalanced{}, sequential, "does not go with shuffle: false"},
		{sampler.GroupBalanced{}, distinct, "does not go with no_duplicates"},
		{sampler.NoDuplicates{Of: sampler.GroupBalanced{}}, batching, "of group_balanced: it has samples of few groups"},
		{sampler.NoDuplicates{Of: sampler.Subset{Fraction: 1, Of: sampler.Mixed{}}}, batching, "of subset: name a column with values, or a fraction"},
		{sampler.Weighted{}, batching, "name a column of weights"},
		{sampler.Weighted{Column: "a", InverseFrequency: "b"}, batching, "name a column of weights"},
		{sampler.Weighted{Column: "a"}, sequential, "does not go with shuffle: false"},
		{sampler.Mixed{}, batching, "weights: name the splits"},
		{sampler.Mixed{Weights: map[string]float64{"a": 0}}, batching, "weights: that of a is 0"},
		{sampler.Mixed{Weights: map[string]float64{"a": math.NaN()}}, batching, "weights: that of a is NaN"},
		{sampler.Mixed{Weights: map[string]float64{"a": 1}}, sequential, "does not go with shuffle: false"},
		{sampler.Subset{Fraction: 1.5}, batching, "fraction is 1.5"},
		{sampler.Subset{Fraction: math.NaN()}, batching, "fraction is NaN"},
		{sampler.Subset{Column: "a"}, batching, "column and values go together"},
		{sampler.Subset{Fraction: 0.5, Of: sampler.Mixed{}}, batching, "of mixed: weights: name the splits"},
	} {
		if err := test.c.Validate(test.b); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%+v: %v, want %s", test.c, err, test.want)
		}
	}
	s := split(t)
	for _, test := range []struct {
		c    sampler.Config
		want string
	}{
		{sampler.GroupBalanced{Column: "lable"}, `no column "lable"`},
		{sampler.GroupBalanced{Column: "weight"}, `column "weight": it is of type`},
		{sampler.GroupBalanced{Column: "number"}, `column "number": 1 rows have no value`},
		{sampler.GroupBalanced{}, "a batch of 16 groups of rows that have "},
		{sampler.Weighted{Column: "x"}, `no column "x"`},
		{sampler.Weighted{InverseFrequency: "x"}, `no column "x"`},
		{sampler.Weighted{InverseFrequency: "good"}, `column "good": it is of type`},
		{sampler.Weighted{Column: "label"}, `column "label" is of type utf8, not of numbers`},
		{sampler.Weighted{Column: "number"}, `column "number" has no value in row 5`},
		{sampler.Subset{Column: "x", Values: sampler.Values{"a"}}, `no column "x"`},
		{sampler.Subset{Column: "bytes", Values: sampler.Values{"a"}}, `column "bytes" is of type binary`},
		{sampler.Subset{Column: "number", Values: sampler.Values{"a"}}, `column "number" is of integers, and "a" is none`},
		{sampler.Subset{Column: "none", Values: sampler.Values{"", "a"}}, `no row has one of the values , a in the column "none"`},
		{sampler.Subset{Column: "label", Values: sampler.Values{"label 0"}, Of: sampler.Weighted{Column: "x"}}, `no column "x"`},
		{sampler.Subset{Fraction: 1e-9, Of: sampler.Mixed{Weights: map[string]float64{"a": 1, "b": 1}}}, "has no row that is sampled"},
	} {
		if _, err := test.c.New(batching, s); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%+v: %v, want %s", test.c, err, test.want)
		}
	}
	failing := s
	failing.Objects = func() ([][]int64, error) { return nil, errors.ErrUnsupported }
	if _, err := sampler.New(sampler.NoDuplicates{}, batching, failing); !errors.Is(err, errors.ErrUnsupported) {
		t.Error(err)
	}
}
