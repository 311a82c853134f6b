package source

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/bitutil"
	"github.com/apache/arrow/go/v15/arrow/memory"
)

// Member is a table of a [Join], under a name.
type Member struct {
	Name  string
	Table Table
}

// Join returns a table of the rows of several tables, which are numbered one
// table after the other. Its record batches have the columns of the tables',
// which must be the same, and after them one of texts, of that name: the name of
// the row's table. What a batch has of each table is gathered first, and then
// copied to the places of its rows.
func Join(mem memory.Allocator, column string, members ...Member) Table {
	j := &join{mem: mem, column: column, members: members}
	for _, m := range members {
		j.ends = append(j.ends, j.Rows()+m.Table.Rows())
	}
	return j
}

type join struct {
	mem     memory.Allocator
	column  string
	members []Member
	ends    []int64 // of the members' rows
}

// Rows implements [Table].
func (j *join) Rows() int64 {
	if len(j.ends) == 0 {
		return 0
	}
	return j.ends[len(j.ends)-1]
}

// Gather implements [Table].
func (j *join) Gather(ctx context.Context, rows []int64) (arrow.Record, error) {
	if len(j.members) == 0 {
		return nil, errors.New("no tables are joined")
	}
	of := make([]int, len(rows)) // the member of each row
	wanted := make([][]int64, len(j.members))
	for i, row := range rows {
		m, _ := slices.BinarySearch(j.ends, row+1)
		if row < 0 || m == len(j.ends) {
			return nil, fmt.Errorf("row %d of %d joined ones", row, j.Rows())
		}
		of[i] = m
		wanted[m] = append(wanted[m], row-(j.ends[m]-j.members[m].Table.Rows()))
	}
	recs := make([]arrow.Record, len(j.members))
	defer func() {
		for _, rec := range recs {
			if rec != nil {
				rec.Release()
			}
		}
	}()
	for m := range recs {
		if len(wanted[m]) == 0 && (m > 0 || len(rows) > 0) {
			continue // but for the schema of no rows
		}
		var err error
		if recs[m], err = j.members[m].Table.Gather(ctx, wanted[m]); err != nil {
			return nil, fmt.Errorf("table %q: %w", j.members[m].Name, err)
		}
	}
	return j.interleave(recs, of)
}

// interleave puts the next row of record batch of[i] in place i; those without
// a row are nil.
func (j *join) interleave(recs []arrow.Record, of []int) (arrow.Record, error) {
	first := recs[slices.IndexFunc(recs, func(r arrow.Record) bool { return r != nil })]
	for m, rec := range recs {
		if rec != nil && !rec.Schema().Equal(first.Schema()) {
			return nil, fmt.Errorf("table %q has other columns: %v, not %v", j.members[m].Name, rec.Schema(), first.Schema())
		}
	}
	var made []arrow.Array
	defer func() {
		for _, a := range made {
			a.Release()
		}
	}()
	parts := make([]arrow.Array, len(recs))
	for c, f := range first.Schema().Fields() {
		for m, rec := range recs {
			if rec != nil {
				parts[m] = rec.Column(c)
			}
		}
		a, err := interleave(j.mem, f.Type, parts, of)
		if err != nil {
			return nil, fmt.Errorf("column %q: %w", f.Name, err)
		}
		made = append(made, a)
	}
	names := array.NewStringBuilder(j.mem)
	defer names.Release()
	for _, m := range of {
		names.Append(j.members[m].Name)
	}
	made = append(made, names.NewArray())
	fields := append(slices.Clone(first.Schema().Fields()), arrow.Field{Name: j.column, Type: arrow.BinaryTypes.String})
	return array.NewRecord(arrow.NewSchema(fields, nil), made, int64(len(of))), nil
}

// interleave is that of one column.
func interleave(mem memory.Allocator, typ arrow.DataType, parts []arrow.Array, of []int) (arrow.Array, error) {
	switch typ := typ.(type) {
	case *arrow.StringType:
		b := array.NewStringBuilder(mem)
		defer b.Release()
		return appended(b, b.Append, func(a arrow.Array) func(int) string { return a.(*array.String).Value }, parts, of), nil
	case *arrow.BinaryType:
		b := array.NewBinaryBuilder(mem, typ)
		defer b.Release()
		return appended(b, b.Append, func(a arrow.Array) func(int) []byte { return a.(*array.Binary).Value }, parts, of), nil
	case *arrow.BooleanType:
		b := array.NewBooleanBuilder(mem)
		defer b.Release()
		return appended(b, b.Append, func(a arrow.Array) func(int) bool { return a.(*array.Boolean).Value }, parts, of), nil
	case *arrow.FixedSizeListType:
		elem, ok := typ.Elem().(arrow.FixedWidthDataType)
		if !ok || elem.BitWidth()%8 != 0 {
			break
		}
		n := int(typ.Len())
		values, valid, nulls := copied(mem, n*elem.Bytes(), parts, of, func(d arrow.ArrayData) []byte {
			child := d.Children()[0]
			return child.Buffers()[1].Bytes()[(child.Offset()+d.Offset()*n)*elem.Bytes():]
		})
		defer releaseAll(values, valid)
		elems := array.NewData(elem, len(of)*n, []*memory.Buffer{nil, values}, nil, 0, 0)
		defer elems.Release()
		list := array.NewData(typ, len(of), []*memory.Buffer{valid}, []arrow.ArrayData{elems}, nulls, 0)
		defer list.Release()
		return array.MakeFromData(list), nil
	case *arrow.DictionaryType: // of fixed width, too
	case arrow.FixedWidthDataType:
		values, valid, nulls := copied(mem, typ.Bytes(), parts, of, func(d arrow.ArrayData) []byte {
			return d.Buffers()[1].Bytes()[d.Offset()*typ.Bytes():]
		})
		defer releaseAll(values, valid)
		data := array.NewData(typ, len(of), []*memory.Buffer{valid, values}, nil, nulls, 0)
		defer data.Release()
		return array.MakeFromData(data), nil
	}
	return nil, fmt.Errorf("it is of type %v", typ)
}

// appended interleaves values that are appended to a builder one by one.
func appended[V any](b array.Builder, add func(V), value func(arrow.Array) func(int) V, parts []arrow.Array, of []int) arrow.Array {
	b.Reserve(len(of))
	next := make([]int, len(parts))
	values := make([]func(int) V, len(parts))
	for m, a := range parts {
		if a != nil {
			values[m] = value(a)
		}
	}
	for _, m := range of {
		if i := next[m]; parts[m].IsNull(i) {
			b.AppendNull()
		} else {
			add(values[m](i))
		}
		next[m]++
	}
	return b.NewArray()
}

// copied interleaves values of width bytes each. What has no nulls has no valid
// buffer.
func copied(mem memory.Allocator, width int, parts []arrow.Array, of []int, bytes func(arrow.ArrayData) []byte) (values, valid *memory.Buffer, nulls int) {
	from := make([][]byte, len(parts))
	for m, a := range parts {
		if a != nil && a.Len() > 0 {
			from[m] = bytes(a.Data())
			nulls += a.NullN()
		}
	}
	values = memory.NewResizableBuffer(mem)
	values.Resize(width * len(of))
	if nulls > 0 {
		valid = memory.NewResizableBuffer(mem)
		valid.Resize(int(bitutil.BytesForBits(int64(len(of)))))
		clear(valid.Bytes())
	}
	next := make([]int, len(parts))
	dst := values.Bytes()
	for i, m := range of {
		at := next[m]
		copy(dst[i*width:(i+1)*width], from[m][at*width:])
		if valid != nil {
			bitutil.SetBitTo(valid.Bytes(), i, parts[m].IsValid(at))
		}
		next[m]++
	}
	return values, valid, nulls
}

func releaseAll(buffers ...*memory.Buffer) {
	for _, b := range buffers {
		if b != nil {
			b.Release()
		}
	}
}
