package cachesink

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"math"
	"slices"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/permafrost-ml/permafrost/internal/store"
)

const (
	splitBatchRows = 8 << 10 // rows of a record batch of a split file
	splitFileRows  = 1 << 20 // rows of a split file
)

// tableWriter writes record batches of one schema to a row of files, in
// batches and files of fixed numbers of rows whatever it is given.
type tableWriter struct {
	st      store.Store
	mem     memory.Allocator
	joined  *recycler // memory of the record batch to write, one after the other
	schema  *arrow.Schema
	pending []arrow.Record
	rows    int64 // pending
	files   []*fileWriter
	named   []File // the entries of the files, once they are published
}

// write takes rec's rows; rec is borrowed.
func (w *tableWriter) write(ctx context.Context, rec arrow.Record) error {
	for off := int64(0); off < rec.NumRows(); {
		k := min(rec.NumRows()-off, splitBatchRows-w.rows)
		w.pending = append(w.pending, rec.NewSlice(off, off+k))
		w.rows += k
		off += k
		if w.rows == splitBatchRows {
			if err := w.flush(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *tableWriter) flush(ctx context.Context) error {
	if w.rows == 0 {
		return nil
	}
	if n := len(w.files); n == 0 || w.files[n-1].rows >= splitFileRows {
		f, err := newFileWriter(ctx, w.st, w.mem, w.schema)
		if err != nil {
			return err
		}
		if n > 0 {
			if err := w.files[n-1].finish(); err != nil {
				return errors.Join(err, f.abort())
			}
		}
		w.files = append(w.files, f)
	}
	if w.joined == nil {
		w.joined = &recycler{Allocator: w.mem}
	}
	rec, err := concat(w.joined, w.schema, w.pending)
	if err != nil {
		return err
	}
	defer rec.Release()
	w.drop()
	return w.files[len(w.files)-1].write(rec)
}

// drop releases the pending rows.
func (w *tableWriter) drop() {
	for _, r := range w.pending {
		r.Release()
	}
	w.pending, w.rows = w.pending[:0], 0
}

// finish ends the files, which are then ready to be published.
func (w *tableWriter) finish(ctx context.Context) error {
	if err := w.flush(ctx); err != nil {
		return err
	}
	w.joined.close()
	if n := len(w.files); n > 0 {
		return w.files[n-1].finish()
	}
	return nil
}

// publish names the files folder/00000.arrow, ... A second call returns what
// the first did: the folder's name follows from the files.
func (w *tableWriter) publish(ctx context.Context, folder string) ([]File, error) {
	if w.named != nil {
		return w.named, nil
	}
	out := make([]File, len(w.files))
	for i, f := range w.files {
		var err error
		if out[i], err = f.publish(ctx, fmt.Sprintf("%s/%05d.arrow", folder, i)); err != nil {
			return nil, err
		}
	}
	w.named = out
	return out, nil
}

// each reads the finished files back, published or not.
func (w *tableWriter) each(ctx context.Context, fn func(arrow.Record) error) error {
	for i, f := range w.files {
		if w.named != nil {
			if err := readPlain(ctx, w.st, w.mem, w.named[i], fn); err != nil {
				return err
			}
			continue
		}
		r := &checkedReader{r: unnamed{f}, name: "a file not yet named", sums: f.done, at: -1}
		if _, err := readIPC(ctx, r, w.mem, fn); err != nil {
			return err
		}
	}
	return nil
}

// unnamed lets a finished file without a name be read.
type unnamed struct{ *fileWriter }

func (u unnamed) ReadAt(b []byte, off int64) (int, error) { return u.file.ReadAt(b, off) }
func (u unnamed) Size() int64                             { return u.fileWriter.sums.size }
func (u unnamed) Close() error                            { return nil }

func (w *tableWriter) abort() (err error) {
	w.drop()
	w.joined.close()
	for _, f := range w.files {
		err = errors.Join(err, f.abort())
	}
	w.files = nil
	return err
}

// concat joins record batches into one.
func concat(mem memory.Allocator, schema *arrow.Schema, recs []arrow.Record) (arrow.Record, error) {
	var rows int64
	for _, r := range recs {
		rows += r.NumRows()
	}
	cols := make([]arrow.Array, len(schema.Fields()))
	defer func() {
		for _, c := range cols {
			if c != nil {
				c.Release()
			}
		}
	}()
	parts := make([]arrow.Array, len(recs))
	for c := range cols {
		for i, r := range recs {
			parts[i] = r.Column(c)
		}
		var err error
		if cols[c], err = array.Concatenate(parts, mem); err != nil {
			return nil, fmt.Errorf("join column %q: %w", schema.Field(c).Name, err)
		}
	}
	return array.NewRecord(schema, cols, rows), nil
}

// splitWriter writes the files of one split and hashes its rows.
type splitWriter struct {
	cols    *sampleColumns
	rows    int64
	digest  hash.Hash
	buf     []byte
	table   *tableWriter
	inputs  *tableWriter // nil where every encoder is cached
	posCols []posColumn
	cached  []bool           // of the uses
	objects map[string]int64 // distinct, by encoder
	bytes   int64            // that the rows' values take in the files
}

// posColumn is a column of positions in the split's files.
type posColumn struct {
	column  int
	encoder string
}

func newSplitWriter(f *Fill, in *arrow.Schema, cols *sampleColumns) (*splitWriter, error) {
	w := &splitWriter{cols: cols, digest: sha256.New(), objects: map[string]int64{}}
	md := arrow.NewMetadata([]string{MetaFormat, MetaSplit, MetaKind},
		[]string{fmt.Sprint(baseVersion), cols.split, string(cols.kind)})
	var fields, inputs []arrow.Field
	for _, i := range cols.plain {
		fields = append(fields, in.Field(i))
	}
	inputs = append(inputs, arrow.Field{Name: ColumnRow, Type: arrow.PrimitiveTypes.Int64})
	for _, u := range cols.uses {
		enc := f.byName[u.encoder]
		fields = append(fields,
			arrow.Field{Name: EncoderColumn(u.encoder, u.side, RoleKey), Type: arrow.BinaryTypes.String},
			arrow.Field{Name: EncoderColumn(u.encoder, u.side, RoleID), Type: IDType})
		w.cached = append(w.cached, enc.Cached)
		if enc.Cached {
			w.posCols = append(w.posCols, posColumn{len(fields), u.encoder})
			fields = append(fields, arrow.Field{Name: EncoderColumn(u.encoder, u.side, RolePos), Type: arrow.PrimitiveTypes.Int64})
		} else {
			inputs = append(inputs, arrow.Field{Name: EncoderColumn(u.encoder, u.side, RoleInput), Type: arrow.BinaryTypes.Binary})
		}
	}
	names := map[string]bool{}
	for _, u := range cols.uses {
		names[EncoderColumn(u.encoder, u.side, "")] = true // in replayed batches
	}
	for _, fd := range fields {
		if names[fd.Name] {
			return nil, fmt.Errorf("%w: split %q would have two columns %q", ErrSchema, cols.split, fd.Name)
		}
		names[fd.Name] = true
	}
	w.table = &tableWriter{st: f.c.st, mem: f.mem, schema: arrow.NewSchema(fields, &md)}
	if len(inputs) > 1 {
		w.inputs = &tableWriter{st: f.c.st, mem: f.mem, schema: arrow.NewSchema(inputs, &md)}
	}
	fmt.Fprintf(w.digest, "permafrost.split.v1\n%q %q\n", cols.split, cols.kind)
	for _, i := range cols.plain {
		fmt.Fprintf(w.digest, "%q %v\n", in.Field(i).Name, in.Field(i).Type)
	}
	for _, u := range cols.uses {
		enc := f.byName[u.encoder]
		stored := enc.Fingerprint
		if enc.Cached && enc.DType != Float32 {
			stored += "/" + string(enc.DType) // the positions count through another folder
		}
		fmt.Fprintf(w.digest, "%q %q %s %v %q\n", u.encoder, u.side, stored, enc.Cached, enc.Input)
	}
	return w, nil
}

// write takes one sample batch and the positions of its cached objects, in
// the order of the cached uses.
func (w *splitWriter) write(ctx context.Context, rec arrow.Record, pos [][]int64, dry bool) error {
	if err := w.hash(rec); err != nil {
		return err
	}
	w.rows += rec.NumRows()
	if dry {
		return nil
	}
	var cols, ins []arrow.Array
	for _, i := range w.cols.plain {
		cols = append(cols, rec.Column(i))
		if rec.ColumnName(i) == ColumnRow {
			ins = append(ins, rec.Column(i))
		}
	}
	k := 0
	for _, u := range w.cols.uses {
		cols = append(cols, rec.Column(u.key), rec.Column(u.id))
		if k < len(w.posCols) && w.posCols[k].column == len(cols) {
			p := int64Array(pos[k])
			defer p.Release()
			cols = append(cols, p)
			k++
		} else {
			ins = append(ins, rec.Column(u.input))
		}
	}
	out := array.NewRecord(w.table.schema, cols, rec.NumRows())
	defer out.Release()
	if err := w.table.write(ctx, out); err != nil || w.inputs == nil {
		return err
	}
	inputs := array.NewRecord(w.inputs.schema, ins, rec.NumRows())
	defer inputs.Release()
	return w.inputs.write(ctx, inputs)
}

// measure adds up what the rows take in the files, and returns it.
func (w *splitWriter) measure(rec arrow.Record) int64 {
	before := w.bytes
	for _, i := range w.cols.plain {
		w.bytes += valueBytes(rec.Column(i))
	}
	for _, u := range w.cols.uses {
		w.bytes += valueBytes(rec.Column(u.key)) + valueBytes(rec.Column(u.id))
	}
	w.bytes += int64(len(w.posCols)) * rec.NumRows() * 8
	if w.inputs == nil {
		return w.bytes - before
	}
	w.bytes += rec.NumRows() * 8
	for k, u := range w.cols.uses {
		if !w.cached[k] {
			w.bytes += valueBytes(rec.Column(u.input))
		}
	}
	return w.bytes - before
}

// int64Array wraps a slice without copying.
func int64Array(v []int64) arrow.Array {
	d := array.NewData(arrow.PrimitiveTypes.Int64, len(v),
		[]*memory.Buffer{nil, memory.NewBufferBytes(arrow.Int64Traits.CastToBytes(v))}, nil, 0, 0)
	defer d.Release()
	return array.NewInt64Data(d)
}

// hash adds the rows to the split's fingerprint, row by row, so that it does
// not depend on how the rows came in batches.
func (w *splitWriter) hash(rec arrow.Record) error {
	var cols []int
	cols = append(cols, w.cols.plain...)
	for _, u := range w.cols.uses {
		cols = append(cols, u.key, u.id)
	}
	for r := range int(rec.NumRows()) {
		buf := w.buf[:0]
		for _, c := range cols {
			var err error
			if buf, err = appendCell(buf, rec.Column(c), r); err != nil {
				return fmt.Errorf("column %q: %w", rec.ColumnName(c), err)
			}
		}
		w.digest.Write(buf)
		w.buf = buf
	}
	return nil
}

// appendCell appends an unambiguous form of one value.
func appendCell(b []byte, a arrow.Array, i int) ([]byte, error) {
	if a.IsNull(i) {
		return append(b, 0), nil
	}
	b = append(b, 1)
	le := binary.LittleEndian
	switch a := a.(type) {
	case *array.Int64:
		return le.AppendUint64(b, uint64(a.Value(i))), nil
	case *array.Float32:
		return le.AppendUint32(b, math.Float32bits(a.Value(i))), nil
	case *array.Float64:
		return le.AppendUint64(b, math.Float64bits(a.Value(i))), nil
	case *array.Boolean:
		if a.Value(i) {
			return append(b, 1), nil
		}
		return append(b, 0), nil
	case *array.String:
		return appendBytes(b, a.Value(i)), nil
	case *array.Binary:
		return appendBytes(b, a.ValueString(i)), nil
	case *array.FixedSizeBinary:
		return append(b, a.Value(i)...), nil
	}
	return nil, fmt.Errorf("%w: %v", ErrSchema, a.DataType())
}

func appendBytes(b []byte, s string) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(len(s)))
	return append(b, s...)
}

func (w *splitWriter) fingerprint() string { return hex.EncodeToString(w.digest.Sum(nil)) }

func (w *splitWriter) finish(ctx context.Context) error {
	err := w.table.finish(ctx)
	if err == nil && w.inputs != nil {
		err = w.inputs.finish(ctx)
	}
	return err
}

func (w *splitWriter) abort() error {
	err := w.table.abort()
	if w.inputs != nil {
		err = errors.Join(err, w.inputs.abort())
	}
	return err
}

// move writes the files anew with new positions.
func (w *splitWriter) move(ctx context.Context, shift func(encoder string, pos int64) int64) error {
	next := &tableWriter{st: w.table.st, mem: w.table.mem, schema: w.table.schema}
	err := w.table.each(ctx, func(rec arrow.Record) error {
		cols := slices.Clone(rec.Columns())
		for _, p := range w.posCols {
			old := rec.Column(p.column).(*array.Int64).Int64Values()
			moved := make([]int64, len(old))
			for i, at := range old {
				moved[i] = shift(p.encoder, at)
			}
			a := int64Array(moved)
			defer a.Release()
			cols[p.column] = a
		}
		out := array.NewRecord(w.table.schema, cols, rec.NumRows())
		defer out.Release()
		return next.write(ctx, out)
	})
	if err == nil {
		err = next.finish(ctx)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("move positions of split %q: %w", w.cols.split, err), next.abort())
	}
	err = w.table.abort()
	w.table = next
	return err
}
