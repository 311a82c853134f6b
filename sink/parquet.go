package sink

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"iter"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"

	"github.com/permafrost-ml/permafrost/internal/parquet"
	"github.com/permafrost-ml/permafrost/stage"
)

// parquetPage is about the bytes of a page's values.
const parquetPage = 1 << 20

// Parquet writes the record batches to w as a Parquet file, each as a row
// group. Columns are int64, float32, float64, bool, utf8, binary and
// fixed_size_binary, which may have nulls where their field says so, and
// fixed_size_list<float32> without nulls, which becomes list<float>; all but
// the lists are compressed with zstd. The schema's metadata are the file's. A
// stream of no batches writes nothing, since there is no schema then. w is not
// closed.
func Parquet(g *stage.Group, in stage.Stream[arrow.Record], w io.Writer) {
	stage.Consume(g, in, "Parquet", func(ctx context.Context, in iter.Seq[arrow.Record]) error {
		var out *parquet.Writer
		var schema *arrow.Schema
		for rec := range in {
			err := func() (err error) {
				defer rec.Release()
				if out == nil {
					schema = rec.Schema()
					if out, err = parquetWriter(w, schema); err != nil {
						return err
					}
				}
				if !schema.Equal(rec.Schema()) {
					return fmt.Errorf("a record batch of (%v) after one of (%v)", rec.Schema(), schema)
				}
				if rec.NumRows() == 0 {
					return nil
				}
				return writeGroup(out, rec)
			}()
			if err != nil {
				return fmt.Errorf("write a record batch: %w", err)
			}
		}
		if out == nil || ctx.Err() != nil {
			return nil // a file that was cut must not look whole
		}
		md := schema.Metadata()
		return out.Close(md.Keys(), md.Values())
	})
}

func parquetWriter(w io.Writer, schema *arrow.Schema) (*parquet.Writer, error) {
	var fields []parquet.WriteField
	for _, f := range schema.Fields() {
		p := parquet.WriteField{Name: f.Name, Optional: f.Nullable, Compress: true}
		switch t := f.Type.(type) {
		case *arrow.Int64Type:
			p.Kind = parquet.Int64
		case *arrow.Float32Type:
			p.Kind = parquet.Float
		case *arrow.Float64Type:
			p.Kind = parquet.Double
		case *arrow.BooleanType:
			p.Kind = parquet.Bool
		case *arrow.StringType:
			p.Kind, p.Text = parquet.Bytes, true
		case *arrow.BinaryType:
			p.Kind = parquet.Bytes
		case *arrow.FixedSizeBinaryType:
			p.Kind, p.Length = parquet.FixedBytes, t.ByteWidth
		case *arrow.FixedSizeListType:
			p.Kind, p.List, p.Optional, p.Compress = parquet.Float, true, false, false
			if t.Elem().ID() != arrow.FLOAT32 || t.Len() < 1 {
				return nil, fmt.Errorf("column %q: lists are %v, not of float32", f.Name, t)
			}
		default:
			return nil, fmt.Errorf("column %q: cannot write %v", f.Name, f.Type)
		}
		fields = append(fields, p)
	}
	return parquet.NewWriter(w, fields)
}

func writeGroup(out *parquet.Writer, rec arrow.Record) error {
	for i, f := range rec.Schema().Fields() {
		if err := writeColumn(out, f, rec.Column(i)); err != nil {
			return fmt.Errorf("column %q: %w", f.Name, err)
		}
	}
	return out.EndGroup(int(rec.NumRows()))
}

// writeColumn writes a column in pages.
func writeColumn(out *parquet.Writer, f arrow.Field, a arrow.Array) error {
	_, list := a.(*array.FixedSizeList)
	if a.NullN() > 0 && (!f.Nullable || list) {
		return fmt.Errorf("%d nulls where there can be none", a.NullN())
	}
	var buf []byte
	for from := 0; from < a.Len(); {
		page := parquet.WritePage{}
		to := from
		buf = buf[:0]
		var bits []bool
		if list {
			var err error
			if page.Length, to, buf, err = appendLists(buf, a.(*array.FixedSizeList), from); err != nil {
				return err
			}
		} else {
			for ; to < a.Len() && len(buf)+len(bits)/8 < parquetPage; to++ {
				if a.IsNull(to) {
					continue
				}
				if b, ok := a.(*array.Boolean); ok {
					bits = append(bits, b.Value(to))
					continue
				}
				buf = appendPlain(buf, a, to)
			}
		}
		if bits != nil {
			buf = packBits(buf, bits)
		}
		page.Rows, page.Plain = to-from, buf
		if f.Nullable && !list && a.NullN() > 0 {
			page.Valid = make([]bool, to-from)
			for i := range page.Valid {
				page.Valid[i] = a.IsValid(from + i)
			}
		}
		if err := out.Page(page); err != nil {
			return err
		}
		from = to
	}
	out.EndColumn()
	return nil
}

// appendLists appends the values of as many lists as make a page.
func appendLists(dst []byte, a *array.FixedSizeList, from int) (length, to int, out []byte, err error) {
	length = int(a.DataType().(*arrow.FixedSizeListType).Len())
	values := a.ListValues().(*array.Float32)
	to = min(a.Len(), from+max(1, parquetPage/(4*length)))
	first, last := (a.Offset()+from)*length, (a.Offset()+to)*length
	if last > values.Len() {
		return 0, 0, nil, fmt.Errorf("%d values for lists up to %d", values.Len(), last)
	}
	// Arrow holds values in memory as Parquet does in PLAIN: little endian.
	return length, to, append(dst, arrow.Float32Traits.CastToBytes(values.Float32Values()[first:last])...), nil
}

// appendPlain appends a value in the PLAIN encoding.
func appendPlain(dst []byte, a arrow.Array, i int) []byte {
	switch a := a.(type) {
	case *array.Int64:
		return binary.LittleEndian.AppendUint64(dst, uint64(a.Value(i)))
	case *array.Float32:
		return append(dst, arrow.Float32Traits.CastToBytes(a.Float32Values()[i:i+1])...)
	case *array.Float64:
		return append(dst, arrow.Float64Traits.CastToBytes(a.Float64Values()[i:i+1])...)
	case *array.String:
		v := a.Value(i)
		return append(binary.LittleEndian.AppendUint32(dst, uint32(len(v))), v...)
	case *array.Binary:
		v := a.Value(i)
		return append(binary.LittleEndian.AppendUint32(dst, uint32(len(v))), v...)
	case *array.FixedSizeBinary:
		return append(dst, a.Value(i)...)
	}
	return dst // parquetWriter has refused the type
}

// packBits appends bools as bits, the lowest first.
func packBits(dst []byte, bits []bool) []byte {
	at := len(dst)
	dst = append(dst, make([]byte, (len(bits)+7)/8)...)
	for i, b := range bits {
		if b {
			dst[at+i/8] |= 1 << (i % 8)
		}
	}
	return dst
}
