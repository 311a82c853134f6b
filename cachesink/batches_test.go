package cachesink

import (
	"context"
	"errors"
	"iter"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/permafrost-ml/permafrost/encode"
	"github.com/permafrost-ml/permafrost/stage"
)

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
			s := setup{splits: map[string][]encode.Sample{"train": groups("a", 20, 20)}, shard: 3, mem: checked(t)}
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
