package source_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/permafrost-ml/permafrost/source"
)

// everything is a table with a column of every type, some values null. Its
// record batches are slices of others, as they may be.
type everything struct {
	mem  memory.Allocator
	name string
	rows int64
	typ  arrow.DataType // of a further column, if any
}

func (e everything) Rows() int64 { return e.rows }

func (e everything) Gather(_ context.Context, rows []int64) (arrow.Record, error) {
	list := arrow.FixedSizeListOf(3, arrow.PrimitiveTypes.Float32)
	fields := []arrow.Field{
		{Name: "row", Type: arrow.PrimitiveTypes.Int64},
		{Name: "half", Type: arrow.PrimitiveTypes.Float64, Nullable: true},
		{Name: "score", Type: arrow.PrimitiveTypes.Float32},
		{Name: "odd", Type: arrow.FixedWidthTypes.Boolean, Nullable: true},
		{Name: "text", Type: arrow.BinaryTypes.String, Nullable: true},
		{Name: "bytes", Type: arrow.BinaryTypes.Binary},
		{Name: "id", Type: &arrow.FixedSizeBinaryType{ByteWidth: 2}},
		{Name: "e", Type: list},
	}
	if e.typ != nil {
		fields = append(fields, arrow.Field{Name: "other", Type: e.typ, Nullable: true})
	}
	md := arrow.NewMetadata([]string{"table"}, []string{e.name})
	b := array.NewRecordBuilder(e.mem, arrow.NewSchema(fields, &md))
	defer b.Release()
	for _, row := range append([]int64{99}, rows...) {
		text := fmt.Sprint(e.name, row)
		b.Field(0).(*array.Int64Builder).Append(row)
		b.Field(2).(*array.Float32Builder).Append(float32(row))
		b.Field(5).(*array.BinaryBuilder).Append([]byte(text))
		b.Field(6).(*array.FixedSizeBinaryBuilder).Append([]byte{e.name[0], byte(row)})
		l := b.Field(7).(*array.FixedSizeListBuilder)
		l.Append(true)
		l.ValueBuilder().(*array.Float32Builder).AppendValues([]float32{float32(row), float32(e.name[0]), 1}, nil)
		if row%3 == 0 && e.name == "b" {
			b.Field(1).AppendNull()
			b.Field(3).AppendNull()
			b.Field(4).AppendNull()
		} else {
			b.Field(1).(*array.Float64Builder).Append(float64(row) / 2)
			b.Field(3).(*array.BooleanBuilder).Append(row%2 == 1)
			b.Field(4).(*array.StringBuilder).Append(text)
		}
		if e.typ != nil {
			b.Field(8).AppendNull()
		}
	}
	rec := b.NewRecord()
	defer rec.Release()
	return rec.NewSlice(1, rec.NumRows()), nil
}

// TestJoin: a joined row is the one of its table, with the table's name.
func TestJoin(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer mem.AssertSize(t, 0)
	tables := []everything{{mem: mem, name: "a", rows: 5}, {mem: mem, name: "none"}, {mem: mem, name: "b", rows: 20}, {mem: mem, name: "c", rows: 3}}
	var members []source.Member
	for _, tab := range tables {
		members = append(members, source.Member{Name: tab.name, Table: tab})
	}
	joined := source.Join(mem, "table", members...)
	if joined.Rows() != 28 {
		t.Fatalf("%d rows", joined.Rows())
	}
	for _, rows := range [][]int64{{27, 0, 4, 5, 24, 25, 8, 8, 1}, {11, 8, 5}, {0}, nil} {
		got, err := joined.Gather(t.Context(), rows)
		if err != nil {
			t.Fatal(err)
		}
		if got.NumRows() != int64(len(rows)) || got.NumCols() != 9 {
			t.Fatalf("%d rows of %d columns", got.NumRows(), got.NumCols())
		}
		for i, row := range rows {
			of := tables[0]
			for _, next := range tables[1:] {
				if row < of.rows {
					break
				}
				row -= of.rows
				of = next
			}
			want, err := of.Gather(t.Context(), []int64{row})
			if err != nil {
				t.Fatal(err)
			}
			one := got.NewSlice(int64(i), int64(i)+1)
			for c, col := range want.Columns() {
				if !array.Equal(one.Column(c), col) || one.ColumnName(c) != want.ColumnName(c) {
					t.Errorf("row %d of %s: %v, want %v", row, of.name, one.Column(c), col)
				}
			}
			if name := one.Column(8).(*array.String).Value(0); name != of.name || one.ColumnName(8) != "table" {
				t.Errorf("row %d of %s is said to be of %s", row, of.name, name)
			}
			one.Release()
			want.Release()
		}
		got.Release()
	}
	smp, err := source.Batches(source.Shuffled(28, 1), 10, false)
	if err != nil {
		t.Fatal(err)
	}
	r, err := source.Replay(joined, source.ReplayOptions{Sampler: smp, Workers: 3})
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for rec, err := range r.Epoch(t.Context(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		for i := range int(rec.NumRows()) {
			seen[fmt.Sprint(rec.Column(8).(*array.String).Value(i), rec.Column(0).(*array.Int64).Value(i))] = true
		}
	}
	if len(seen) != 28 {
		t.Errorf("%d rows are replayed", len(seen))
	}
}

func TestJoinFails(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer mem.AssertSize(t, 0)
	a, b := everything{mem: mem, name: "a", rows: 5}, everything{mem: mem, name: "b", rows: 5}
	other := b
	other.typ = arrow.PrimitiveTypes.Int64
	for _, test := range []struct {
		want   string
		tables []source.Table
		rows   []int64
	}{
		{"row 10 of 10", []source.Table{a, b}, []int64{1, 10}},
		{"row -1 of 10", []source.Table{a, b}, []int64{-1}},
		{"no tables are joined", nil, nil},
		{`table "1" has other columns`, []source.Table{a, other}, []int64{1, 9}},
		{`table "1": row cannot be read`, []source.Table{a, &numbers{mem: mem, rows: 9, fail: 2}}, []int64{1, 7}},
		{`column "other": it is of type dictionary`, []source.Table{everything{mem: mem, name: "a", rows: 5, typ: &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int32, ValueType: arrow.BinaryTypes.String}}}, []int64{1}},
		{`column "other": it is of type fixed_size_list`, []source.Table{everything{mem: mem, name: "a", rows: 5, typ: arrow.FixedSizeListOf(2, arrow.FixedWidthTypes.Boolean)}}, []int64{1}},
		{`column "other": it is of type list`, []source.Table{everything{mem: mem, name: "a", rows: 5, typ: arrow.ListOf(arrow.PrimitiveTypes.Int64)}}, []int64{1}},
	} {
		var members []source.Member
		for i, tab := range test.tables {
			members = append(members, source.Member{Name: fmt.Sprint(i), Table: tab})
		}
		rec, err := source.Join(mem, "table", members...).Gather(t.Context(), test.rows)
		if err == nil {
			rec.Release()
		}
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%v, want %s", err, test.want)
		}
		if slices.Contains(test.rows, 7) && !errors.Is(err, errNumbers) {
			t.Error(err)
		}
	}
}
