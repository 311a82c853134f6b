package encode

import (
	"context"
	"fmt"
	"iter"
	"math"
	"runtime"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/permafrost-ml/permafrost/stage"
)

// Use is an encoder's part in a dataset: what it reads and how its objects
// are named.
type Use struct {
	// Name is the encoder's name: [a-z][a-z0-9_]*.
	Name string
	// Reads says what it reads of an object. Default: the field "text".
	Reads Reads
	// Key names its objects. Default: the content.
	Key Key
}

// ChoiceColumn is the kept column of the options that objects choose by
// [Reads].By: E_option, or E_a_option and E_b_option for the sides a and b of
// pairs.
func ChoiceColumn(encoder, side string) string {
	if side != "" {
		encoder += "_" + side
	}
	return encoder + "_option"
}

// SampleOptions are the options of [Samples].
type SampleOptions struct {
	// Split is the name of the split that the samples are of.
	Split string
	// Uses are the encoders, in the order of their names.
	Uses []Use
	// KeepTypes declares types of kept columns: int64, float64, bool, text or
	// bytes. Default: from the values of the first 1,024 rows, or of fewer
	// that have 32 MiB.
	KeepTypes map[string]string
	// Skip decides what becomes of a sample that cannot be taken (a field
	// that an encoder reads is missing, say): it returns nil to leave the
	// sample out, else the error that ends the stage. Called from several
	// goroutines at once. Default: nil, every such sample is an error.
	Skip func(s Sample, err error) error
	// Allocator is where Arrow memory comes from. Default:
	// memory.DefaultAllocator.
	Allocator memory.Allocator
}

// sampleRows is the number of samples in a sample batch, and the number from
// which the types of columns are inferred.
const sampleRows = 1024

// sampleBytes is the size of the objects in a sample batch beyond which it
// gets no further ones: a thousand images are too many to hold.
const sampleBytes = 32 << 20

// Metadata keys and roles of sample batches: those of package cachesink,
// whose documentation specifies them.
const (
	metaSplit, metaKind    = "permafrost.split", "permafrost.kind"
	metaRole, metaEncoder  = "permafrost.role", "permafrost.encoder"
	metaSide               = "permafrost.side"
	roleKey, roleID        = "key", "id"
	roleInput              = "input"
	columnRow, columnLabel = "row", "label"
	columnScore, columnSub = "score", "subgroup"
)

// Samples is the stage that turns samples into sample batches: Arrow record
// batches with the row's number, label or score and subgroup, kept columns,
// and for every encoder and side the object's key, id and input. Package
// cachesink documents their schema and indexes them.
//
// All samples of a split are of one kind, with labels of one type and the
// same kept columns; the first 1,024 decide, or the fewer that have 32 MiB,
// and what differs from the first of them is a sample that cannot be taken.
// Only integers beside floats become floats. The options that objects choose by [Reads].By are kept columns
// too: E_option for the encoder E, E_a_option and E_b_option for pairs.
func Samples(g *stage.Group, in stage.Stream[Sample], opts SampleOptions) stage.Stream[arrow.Record] {
	if opts.Allocator == nil {
		opts.Allocator = memory.DefaultAllocator
	}
	ready := stage.OrderedMap(g, sampleBatches(g, in, opts.Split), "identify "+opts.Split, min(2, runtime.GOMAXPROCS(0)),
		func(_ context.Context, samples []Sample) ([]identified, error) { return identify(samples, &opts) })
	return stage.Process(g, ready, "samples of "+opts.Split, func(_ context.Context, in iter.Seq[[]identified], emit func(arrow.Record) error) error {
		var l *layout
		row := int64(0)
		for batch := range in {
			if len(batch) == 0 {
				continue
			}
			var err error
			if l == nil {
				if l, err = newLayout(batch, &opts); err != nil {
					return err
				}
			}
			if batch, err = l.fitting(batch); err != nil {
				return err
			}
			if len(batch) == 0 {
				continue
			}
			rec := l.batch(batch, row)
			row += int64(len(batch))
			if err := emit(rec); err != nil {
				return err
			}
		}
		return nil
	})
}

// sampleBatches gathers samples, by their number and size alone.
func sampleBatches(g *stage.Group, in stage.Stream[Sample], split string) stage.Stream[[]Sample] {
	return stage.Process(g, in, "batches of "+split, func(_ context.Context, in iter.Seq[Sample], emit func([]Sample) error) error {
		var batch []Sample
		size := 0
		for s := range in {
			batch = append(batch, s)
			size += s.A.size() + s.B.size()
			if len(batch) < sampleRows && size < sampleBytes {
				continue
			}
			full := batch
			batch, size = make([]Sample, 0, len(full)), 0
			if err := emit(full); err != nil {
				return err
			}
		}
		if len(batch) == 0 {
			return nil
		}
		return emit(batch)
	})
}

// identified is a sample with what its encoders see of it.
type identified struct {
	Sample
	objects []object // encoders in order, within each the sides
}

type object struct {
	key   string
	id    ID
	input []byte
}

// identify computes inputs, ids and keys. Keys that are places wait for the
// row numbers, which are known only when the samples before are.
func identify(samples []Sample, opts *SampleOptions) ([]identified, error) {
	out := make([]identified, 0, len(samples))
	for _, s := range samples {
		d := identified{Sample: s}
		err := d.identify(opts.Uses)
		if err == nil {
			out = append(out, d)
			continue
		}
		if err := opts.skip(s, err); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// skip returns nil for a sample that is to be left out.
func (o *SampleOptions) skip(s Sample, err error) error {
	if o.Skip != nil {
		return o.Skip(s, err)
	}
	return fmt.Errorf("%s: %w", s.Pos, err)
}

func (d *identified) sides() []Object {
	if d.pair {
		return []Object{d.A, d.B}
	}
	return []Object{d.A}
}

func (d *identified) identify(uses []Use) error {
	if d.bad != nil {
		return d.bad
	}
	for _, u := range uses {
		for i, o := range d.sides() {
			in, err := u.Reads.Input(o)
			if err != nil {
				side := ""
				if d.pair {
					side = " of side " + "ab"[i:i+1]
				}
				return fmt.Errorf("encoder %q reads %s%s: %w", u.Name, u.Reads, side, err)
			}
			canonical := AppendInput(nil, in)
			id := Identify(canonical)
			key, err := u.Key.value(o, id)
			if err != nil {
				return fmt.Errorf("encoder %q: %w", u.Name, err)
			}
			d.objects = append(d.objects, object{key, id, canonical})
			if u.Reads.By != "" {
				side := ""
				if d.pair {
					side = "ab"[i : i+1]
				}
				d.Sample = d.With(ChoiceColumn(u.Name, side), u.Reads.Choice(o))
			}
		}
	}
	if f := float64(d.Score); d.pair && (math.IsNaN(f) || math.IsInf(f, 0)) {
		return fmt.Errorf("the score is %v", d.Score)
	}
	if err := d.checkClass(); err != nil {
		return err
	}
	for _, v := range append([]KeepColumn{{columnLabel, d.Label}, {columnSub, d.Subgroup}}, d.Keep...) {
		if s, ok := v.Value.(string); ok && !utf8.ValidString(s) {
			return fmt.Errorf("column %q is not valid UTF-8", v.Name)
		}
		if _, _, err := typeOf(v.Value); err != nil {
			return fmt.Errorf("column %q: %w", v.Name, err)
		}
	}
	return nil
}

// checkClass holds the label, or a pair's subgroup, to its types.
func (d *identified) checkClass() error {
	what := "label"
	if d.pair {
		what = "subgroup"
	}
	switch t, _, err := typeOf(d.class()); {
	case err != nil:
		return fmt.Errorf("the %s: %w", what, err)
	case t == noType:
		return fmt.Errorf("the %s is missing", what)
	case t != intType && t != textType:
		return fmt.Errorf("the %s is %v, it must be a text or an integer", what, d.class())
	}
	return nil
}

// layout is the schema of a split's sample batches, decided by its first
// batch.
type layout struct {
	opts   *SampleOptions
	pair   bool
	label  columnType // or the subgroup's
	keep   []string
	types  []columnType
	schema *arrow.Schema
}

func newLayout(first []identified, opts *SampleOptions) (*layout, error) {
	l := &layout{opts: opts, pair: first[0].pair}
	for _, k := range first[0].Keep {
		if slices.Contains(l.keep, k.Name) {
			return nil, fmt.Errorf("two kept columns are named %q", k.Name)
		}
		l.keep = append(l.keep, k.Name)
	}
	l.types = make([]columnType, len(l.keep))
	for i, name := range l.keep {
		declared, ok := opts.KeepTypes[name]
		if !ok {
			continue
		}
		if l.types[i], ok = columnTypes[declared]; !ok {
			return nil, fmt.Errorf("kept column %q: type %q is none of int64, float64, bool, text, bytes", name, declared)
		}
	}
	for _, d := range first {
		if l.same(&d) == nil {
			l.learn(&d)
		}
	}
	l.schema = l.makeSchema()
	return l, nil
}

// learn takes the types of a sample's values, if they go with those before.
func (l *layout) learn(d *identified) {
	label, _, _ := typeOf(d.class())
	if l.label == noType {
		l.label = label
	}
	types := slices.Clone(l.types)
	for i, k := range d.Keep {
		if _, declared := l.opts.KeepTypes[k.Name]; declared {
			continue
		}
		t, _, _ := typeOf(k.Value)
		var ok bool
		if types[i], ok = widen(types[i], t); !ok {
			return
		}
	}
	l.types = types
}

// fitting returns the samples that the layout has room for.
func (l *layout) fitting(samples []identified) ([]identified, error) {
	out := samples[:0]
	for _, d := range samples {
		err := l.same(&d)
		if err == nil {
			err = l.values(&d)
		}
		if err != nil {
			if err := l.opts.skip(d.Sample, err); err != nil {
				return nil, err
			}
			continue
		}
		out = append(out, d)
	}
	return out, nil
}

// values holds a sample's values to the types of their columns.
func (l *layout) values(d *identified) error {
	if t, _, _ := typeOf(d.class()); t != l.label {
		return fmt.Errorf("the label or subgroup is %v, earlier rows have %v", t, l.label)
	}
	for i, k := range d.Keep {
		t, _, _ := typeOf(k.Value)
		if want := l.stored(i); t != noType && t != want && !(t == intType && want == floatType) {
			return fmt.Errorf("kept column %q is %v, not %v as declared or in earlier rows; declare its type", k.Name, t, want)
		}
	}
	return nil
}

// stored is the type of a kept column in record batches.
func (l *layout) stored(column int) columnType {
	if t := l.types[column]; t != noType {
		return t
	}
	return textType // nothing but nulls in the rows that decide
}

// class is the label, or a pair's subgroup.
func (d *identified) class() any {
	if d.pair {
		return d.Subgroup
	}
	return d.Label
}

// same holds a sample to the kind and the kept columns of its split.
func (l *layout) same(d *identified) error {
	if d.pair != l.pair {
		return fmt.Errorf("split %q has both pairs and groups", l.opts.Split)
	}
	if len(d.Keep) != len(l.keep) {
		return fmt.Errorf("%d kept columns, earlier rows have %d", len(d.Keep), len(l.keep))
	}
	for i, k := range d.Keep {
		if k.Name != l.keep[i] {
			return fmt.Errorf("kept column %d is %q, in earlier rows %q", i, k.Name, l.keep[i])
		}
	}
	return nil
}

func arrowType(t columnType) arrow.DataType {
	switch t {
	case intType:
		return arrow.PrimitiveTypes.Int64
	case floatType:
		return arrow.PrimitiveTypes.Float64
	case boolType:
		return arrow.FixedWidthTypes.Boolean
	case bytesType:
		return arrow.BinaryTypes.Binary
	}
	return arrow.BinaryTypes.String
}

func (l *layout) makeSchema() *arrow.Schema {
	kind := "group"
	fields := []arrow.Field{{Name: columnRow, Type: arrow.PrimitiveTypes.Int64}}
	sides := []string{""}
	if l.pair {
		kind, sides = "pair", []string{"a", "b"}
		fields = append(fields,
			arrow.Field{Name: columnScore, Type: arrow.PrimitiveTypes.Float32},
			arrow.Field{Name: columnSub, Type: arrowType(l.label)})
	} else {
		fields = append(fields, arrow.Field{Name: columnLabel, Type: arrowType(l.label)})
	}
	for i, name := range l.keep {
		fields = append(fields, arrow.Field{Name: name, Type: arrowType(l.stored(i)), Nullable: true})
	}
	for _, u := range l.opts.Uses {
		for _, side := range sides {
			for _, c := range []struct {
				role string
				typ  arrow.DataType
			}{
				{roleKey, arrow.BinaryTypes.String},
				{roleID, &arrow.FixedSizeBinaryType{ByteWidth: len(ID{})}},
				{roleInput, arrow.BinaryTypes.Binary},
			} {
				name := strings.TrimSuffix(u.Name+"_"+side, "_") + "_" + c.role
				fields = append(fields, arrow.Field{Name: name, Type: c.typ, Metadata: arrow.NewMetadata(
					[]string{metaRole, metaEncoder, metaSide}, []string{c.role, u.Name, side})})
			}
		}
	}
	md := arrow.NewMetadata([]string{metaSplit, metaKind}, []string{l.opts.Split, kind})
	return arrow.NewSchema(fields, &md)
}

// batch makes the record batch of some samples, the first of which is of the
// given row. The caller owns it.
func (l *layout) batch(samples []identified, row int64) arrow.Record {
	b := array.NewRecordBuilder(l.opts.Allocator, l.schema)
	defer b.Release()
	for i := range samples {
		l.appendRow(b, &samples[i], row+int64(i))
	}
	return b.NewRecord()
}

func (l *layout) appendRow(b *array.RecordBuilder, d *identified, row int64) {
	b.Field(0).(*array.Int64Builder).Append(row)
	at := 1
	if l.pair {
		b.Field(at).(*array.Float32Builder).Append(d.Score)
		at++
	}
	appendValue(b.Field(at), d.class(), l.label)
	at++
	for i, k := range d.Keep {
		appendValue(b.Field(at), k.Value, l.stored(i))
		at++
	}
	n := 0
	for _, u := range l.opts.Uses {
		for side := range d.sides() {
			ob := &d.objects[n]
			key := ob.key
			if u.Key.spec == keyIndex {
				key = fmt.Sprintf("%s:%d", l.opts.Split, row)
				if l.pair {
					key += ":" + "ab"[side:side+1]
				}
			}
			b.Field(at).(*array.StringBuilder).Append(key)
			b.Field(at + 1).(*array.FixedSizeBinaryBuilder).Append(ob.id[:])
			b.Field(at + 2).(*array.BinaryBuilder).Append(ob.input)
			at += 3
			n++
		}
	}
}

// appendValue appends a value of a type that goes with the column's.
func appendValue(b array.Builder, v any, want columnType) {
	t, v, _ := typeOf(v)
	if t == intType && want == floatType {
		v = float64(v.(int64))
	}
	switch v := v.(type) {
	case nil:
		b.AppendNull()
	case int64:
		b.(*array.Int64Builder).Append(v)
	case float64:
		b.(*array.Float64Builder).Append(v)
	case bool:
		b.(*array.BooleanBuilder).Append(v)
	case []byte:
		b.(*array.BinaryBuilder).Append(v)
	case string:
		b.(*array.StringBuilder).Append(v)
	}
}
