package export

import (
	"context"
	"encoding/hex"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/permafrost-ml/permafrost/cachesink"
)

const (
	batchBytes = 16 << 20
	// plainBytes is what a row is taken to have beside its embeddings.
	plainBytes   = 256
	maxBatchRows = 65536
)

// Keys of metadata beside those of the cache.
const (
	metaSplitFingerprint = "permafrost.split_fingerprint"
	metaFingerprint      = "permafrost.fingerprint." // and the encoder's name
)

// span is the rows [from, to).
type span struct{ from, to int64 }

// vector is a column of embeddings.
type vector struct {
	name   string // of its tensor
	column string
	dim    int
}

// table is what a file is made of: the rows of a split or an encoder's
// objects.
type table struct {
	rows    int64
	vectors []vector // sorted by name
	meta    map[string]string
	batch   int64 // rows in memory at once

	c       *cachesink.Cache
	objects *cachesink.Encoder     // or
	split   *cachesink.SplitReader // with the columns that are exported, of
	all     *cachesink.SplitReader
}

// opener opens the tables of a plan. Embeddings that several splits share are
// read once.
type opener struct {
	p      *plan
	loaded cachesink.Tables
}

// tables calls fn with an opener, which lives as long.
func (p *plan) tables(fn func(*opener) error) error {
	o := &opener{p: p}
	defer o.loaded.Release()
	return fn(o)
}

func (o *opener) table(ctx context.Context, of part) (*table, error) {
	t := &table{rows: of.rows(), c: o.p.c, objects: of.encoder, meta: map[string]string{}}
	if e := of.encoder; e != nil {
		t.vectors = []vector{{e.Name, cachesink.ColumnEmbedding, e.Dim}}
		t.meta[metaFingerprint+e.Name] = e.Fingerprint
	} else if err := t.read(ctx, o, of.split); err != nil {
		return nil, err
	}
	if t.batch = int64(o.p.opts.BatchRows); t.batch == 0 {
		t.batch = min(max(batchBytes/t.rowBytes(), 1), maxBatchRows)
	}
	return t, nil
}

// rowBytes is about what a row takes.
func (t *table) rowBytes() int64 {
	n := int64(plainBytes)
	for _, v := range t.vectors {
		n += 4 * int64(v.dim)
	}
	return n
}

// read loads a split, without the embeddings that are not exported.
func (t *table) read(ctx context.Context, o *opener, s *cachesink.Split) (err error) {
	only, hidden := *s, map[string]bool{}
	only.Encoders, only.Inputs = nil, nil // the inputs of encoders that are not cached stay in the cache
	for _, e := range s.Encoders {
		out := o.p.opts.Encoder != "" && e.Name != o.p.opts.Encoder
		for _, side := range s.Kind.Sides() {
			for _, role := range []string{cachesink.RoleKey, cachesink.RoleID, ""} {
				if out || o.p.opts.Side != "" && side != o.p.opts.Side {
					hidden[cachesink.EncoderColumn(e.Name, side, role)] = true
				}
			}
			hidden[cachesink.EncoderColumn(e.Name, side, cachesink.RolePos)] = true
			hidden[cachesink.EncoderColumn(e.Name, side, cachesink.RoleInput)] = true
		}
		if !out {
			t.meta[metaFingerprint+e.Name] = e.Fingerprint
		}
		if !out && e.Folder != "" {
			only.Encoders = append(only.Encoders, e)
		}
	}
	if t.all, err = o.p.c.Read(ctx, &only, &o.loaded); err != nil {
		return err
	}
	var names []string
	for _, f := range t.all.Schema().Fields() {
		if hidden[f.Name] {
			continue
		}
		names = append(names, f.Name)
		if list, ok := f.Type.(*arrow.FixedSizeListType); ok {
			t.vectors = append(t.vectors, vector{f.Name, f.Name, int(list.Len())})
		}
	}
	slices.SortFunc(t.vectors, func(a, b vector) int { return strings.Compare(a.name, b.name) })
	t.meta[cachesink.MetaSplit], t.meta[cachesink.MetaKind] = s.Name, string(s.Kind)
	t.meta[metaSplitFingerprint] = s.Fingerprint
	if t.split, err = t.all.Select(names...); err != nil {
		t.release()
	}
	return err
}

func (t *table) release() {
	if t.all != nil {
		t.all.Release()
	}
}

// records streams rows in record batches that the receiver owns. With hexIDs,
// ids are text.
func (t *table) records(ctx context.Context, s span, hexIDs bool) iter.Seq2[arrow.Record, error] {
	return func(yield func(arrow.Record, error) bool) {
		for rec, err := range t.raw(ctx, s) {
			if err == nil {
				rec, err = t.dress(rec, hexIDs)
			}
			if !yield(rec, err) || err != nil {
				return
			}
		}
	}
}

func (t *table) raw(ctx context.Context, s span) iter.Seq2[arrow.Record, error] {
	if t.split == nil {
		return t.objectRows(ctx, s)
	}
	return gathered(ctx, t.split, s, t.batch)
}

// gathered streams consecutive rows of a split.
func gathered(ctx context.Context, r *cachesink.SplitReader, s span, batch int64) iter.Seq2[arrow.Record, error] {
	return func(yield func(arrow.Record, error) bool) {
		var rows []int64
		for at := s.from; at < s.to; at += batch {
			rows = rows[:0]
			for i := at; i < min(at+batch, s.to); i++ {
				rows = append(rows, i)
			}
			rec, err := r.Gather(ctx, rows)
			if !yield(rec, err) || err != nil {
				return
			}
		}
	}
}

// objectRows streams an encoder's objects; only the shards that have some of
// the rows are read.
func (t *table) objectRows(ctx context.Context, s span) iter.Seq2[arrow.Record, error] {
	return func(yield func(arrow.Record, error) bool) {
		part := *t.objects
		part.Shards = nil
		var at, first int64
		for _, shard := range t.objects.Shards {
			if at+shard.Rows > s.from && at < s.to {
				if len(part.Shards) == 0 {
					first = at
				}
				part.Shards = append(part.Shards, shard)
			}
			at += shard.Rows
		}
		at = first
		for rec, err := range t.c.Objects(ctx, &part) {
			if err != nil {
				yield(nil, err)
				return
			}
			n := rec.NumRows()
			from, to := max(s.from-at, 0), min(s.to-at, n)
			at += n
			more := true
			for ; from < to && more; from += t.batch {
				more = yield(rec.NewSlice(from, min(from+t.batch, to)), nil)
			}
			if rec.Release(); !more || at >= s.to {
				return
			}
		}
	}
}

// dress gives a record batch the schema of the export, and takes it over.
func (t *table) dress(rec arrow.Record, hexIDs bool) (arrow.Record, error) {
	defer rec.Release()
	fields, cols := rec.Schema().Fields(), slices.Clone(rec.Columns())
	for i, f := range fields {
		ids, ok := cols[i].(*array.FixedSizeBinary)
		if !hexIDs || !ok {
			continue
		}
		text, err := hexColumn(ids)
		if err != nil {
			return nil, fmt.Errorf("column %q: %w", f.Name, err)
		}
		defer text.Release()
		fields[i] = arrow.Field{Name: f.Name, Type: text.DataType(), Metadata: f.Metadata}
		cols[i] = text
	}
	md := arrow.MetadataFrom(t.metadata(rec.Schema()))
	return array.NewRecord(arrow.NewSchema(fields, &md), cols, rec.NumRows()), nil
}

// metadata is what a record batch says of itself and what the table does.
func (t *table) metadata(s *arrow.Schema) map[string]string {
	m := s.Metadata().ToMap()
	maps.Copy(m, t.meta)
	return m
}

func hexColumn(ids *array.FixedSizeBinary) (arrow.Array, error) {
	if ids.NullN() > 0 {
		return nil, fmt.Errorf("%d nulls among the ids", ids.NullN())
	}
	b := array.NewStringBuilder(memory.DefaultAllocator)
	defer b.Release()
	for i := range ids.Len() {
		b.Append(hex.EncodeToString(ids.Value(i)))
	}
	return b.NewArray(), nil
}
