package sink_test

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"math"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/permafrost-ml/permafrost/internal/parquet"
	"github.com/permafrost-ml/permafrost/sink"
	"github.com/permafrost-ml/permafrost/stage"
)

// everyColumn makes one record batch of each column type, null at every row
// that is a multiple of 7.
func everyColumn(mem memory.Allocator, from, n int) arrow.Record {
	md := arrow.NewMetadata([]string{"who"}, []string{"me"})
	b := array.NewRecordBuilder(mem, arrow.NewSchema([]arrow.Field{
		{Name: "int", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
		{Name: "float", Type: arrow.PrimitiveTypes.Float32, Nullable: true},
		{Name: "double", Type: arrow.PrimitiveTypes.Float64, Nullable: true},
		{Name: "bool", Type: arrow.FixedWidthTypes.Boolean, Nullable: true},
		{Name: "text", Type: arrow.BinaryTypes.String, Nullable: true},
		{Name: "bytes", Type: arrow.BinaryTypes.Binary, Nullable: true},
		{Name: "id", Type: &arrow.FixedSizeBinaryType{ByteWidth: 4}, Nullable: true},
		{Name: "row", Type: arrow.PrimitiveTypes.Int64},
		{Name: "v", Type: arrow.FixedSizeListOf(300, arrow.PrimitiveTypes.Float32)},
	}, &md))
	defer b.Release()
	for i := from; i < from+n; i++ {
		for k := range 7 {
			if i%7 == 0 {
				b.Field(k).AppendNull()
			}
		}
		if i%7 != 0 {
			b.Field(0).(*array.Int64Builder).Append(int64(-i))
			b.Field(1).(*array.Float32Builder).Append(float32(i) / 3)
			b.Field(2).(*array.Float64Builder).Append(float64(i) / 3)
			b.Field(3).(*array.BooleanBuilder).Append(i%3 == 0)
			b.Field(4).(*array.StringBuilder).Append(strings.Repeat("ü", max(i, 0)%900))
			b.Field(5).(*array.BinaryBuilder).Append([]byte{0, byte(i)})
			b.Field(6).(*array.FixedSizeBinaryBuilder).Append([]byte{1, 2, byte(i >> 8), byte(i)})
		}
		b.Field(7).(*array.Int64Builder).Append(int64(i))
		list := b.Field(8).(*array.FixedSizeListBuilder)
		list.Append(true)
		for k := range 300 {
			list.ValueBuilder().(*array.Float32Builder).Append(float32(i) + float32(k)/512)
		}
	}
	return b.NewRecord()
}

// TestParquet reads back every type, with nulls, over pages and row groups,
// from slices of record batches too.
func TestParquet(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	var buf bytes.Buffer
	g, _ := stage.NewGroup(t.Context())
	sizes := []int{0, 2500, 1, 30}
	sink.Parquet(g, stage.From(g, "make", func(context.Context) iter.Seq2[arrow.Record, error] {
		return func(yield func(arrow.Record, error) bool) {
			from := 0
			for _, n := range sizes {
				whole := everyColumn(mem, from-3, n+3)
				from += n
				part := whole.NewSlice(3, int64(n+3))
				whole.Release()
				if !yield(part, nil) {
					return
				}
			}
		}
	}), &buf)
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	f, err := parquet.Open(bytes.NewReader(buf.Bytes()), int64(buf.Len()))
	if err != nil {
		t.Fatal(err)
	}
	if f.Groups() != 3 || f.Rows(0) != 2500 || f.Rows(2) != 30 {
		t.Fatalf("%d row groups", f.Groups())
	}
	row := 0
	for group := range f.Groups() {
		next := make([]func(*parquet.Cell), 9)
		cols := make([]*parquet.Column, 9)
		for i := range cols {
			cols[i] = f.Column(group, i)
			next[i] = func(c *parquet.Cell) {
				if !cols[i].Next(c) {
					t.Fatalf("column %d ends at row %d: %v", i, row, cols[i].Err())
				}
			}
		}
		for range f.Rows(group) {
			var c parquet.Cell
			want := []string{
				fmt.Sprint(-row), fmt.Sprint(float32(row) / 3), fmt.Sprint(float64(row) / 3), fmt.Sprint(row%3 == 0),
				strings.Repeat("ü", row%900), string([]byte{0, byte(row)}), string([]byte{1, 2, byte(row >> 8), byte(row)}), fmt.Sprint(row),
			}
			for i, want := range want {
				next[i](&c)
				got := ""
				switch {
				case i < 7 && c.Def == 0:
					if row%7 != 0 {
						t.Fatalf("row %d, column %d is null", row, i)
					}
					continue
				case i == 0 || i == 7:
					got = fmt.Sprint(c.Int)
				case i == 1:
					got = fmt.Sprint(math.Float32frombits(uint32(c.Int)))
				case i == 2:
					got = fmt.Sprint(math.Float64frombits(uint64(c.Int)))
				case i == 3:
					got = fmt.Sprint(c.Int == 1)
				default:
					got = string(c.Bytes)
				}
				if got != want || i < 7 && row%7 == 0 {
					t.Fatalf("row %d, column %d is %q, want %q", row, i, got, want)
				}
			}
			for k := range 300 {
				next[8](&c)
				if v := math.Float32frombits(uint32(c.Int)); v != float32(row)+float32(k)/512 || (c.Rep == 0) != (k == 0) {
					t.Fatalf("row %d, value %d is %v at level %d", row, k, v, c.Rep)
				}
			}
			row++
		}
		for i, c := range cols {
			if c.Next(&parquet.Cell{}) || c.Err() != nil {
				t.Fatalf("column %d goes on, or %v", i, c.Err())
			}
		}
	}
	if row != 2531 {
		t.Errorf("%d rows", row)
	}
}

// TestParquetRefuses types and nulls that it cannot write.
func TestParquetRefuses(t *testing.T) {
	for _, typ := range []arrow.DataType{arrow.PrimitiveTypes.Int32, arrow.FixedSizeListOf(2, arrow.PrimitiveTypes.Float64), arrow.BinaryTypes.String} {
		mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
		g, _ := stage.NewGroup(t.Context())
		sink.Parquet(g, stage.From(g, "make", func(context.Context) iter.Seq2[arrow.Record, error] {
			return func(yield func(arrow.Record, error) bool) {
				b := array.NewRecordBuilder(mem, arrow.NewSchema([]arrow.Field{{Name: "bad", Type: typ}}, nil))
				defer b.Release()
				b.Field(0).AppendNull()
				yield(b.NewRecord(), nil)
			}
		}), &bytes.Buffer{})
		if err := g.Wait(); err == nil || !strings.Contains(err.Error(), `column "bad"`) {
			t.Errorf("%v: %v", typ, err)
		}
		mem.AssertSize(t, 0)
	}
}
