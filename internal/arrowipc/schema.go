package arrowipc

import (
	"errors"
	"fmt"
)

// Type is the type of a field, by its number in the format.
type Type byte

// The types there are.
const (
	Null          Type = 1
	Int           Type = 2
	Float         Type = 3
	Binary        Type = 4
	Text          Type = 5
	Bool          Type = 6
	Decimal       Type = 7
	Date          Type = 8
	Time          Type = 9
	Timestamp     Type = 10
	Interval      Type = 11
	List          Type = 12
	Struct        Type = 13
	Union         Type = 14
	FixedBinary   Type = 15
	FixedList     Type = 16
	Map           Type = 17
	Duration      Type = 18
	LargeBinary   Type = 19
	LargeText     Type = 20
	LargeList     Type = 21
	RunEndEncoded Type = 22
	BinaryView    Type = 23
	TextView      Type = 24
	ListView      Type = 25
	LargeListView Type = 26
)

// Field is a column, or a part of one.
type Field struct {
	Name   string
	Type   Type
	Width  int // bits of numbers and times, bytes of FixedBinary, elements of FixedList
	Signed bool
	// PerSecond is the unit of times: how many make a second. Of a Date it is 0
	// where the unit is a day.
	PerSecond int64
	Zoned     bool // a Timestamp with a time zone: a point in time
	Scale     int  // of Decimal
	Children  []*Field

	dictionary bool
	dictID     int64
	index      *Field // of a dictionary
	buffers    int    // beside those of views
	views      bool
	reason     error // why it cannot be read
}

// Limits of schemas, far above what files have.
const (
	maxFields = 1 << 16
	maxDepth  = 64
)

var errBigEndian = errors.New("its numbers are big-endian")

// readSchema reads the fields of a schema.
func readSchema(t table) ([]*Field, error) {
	if t.i16(0, 0) != 0 {
		return nil, errBigEndian
	}
	s := &schemaReader{left: maxFields}
	fields, err := s.fields(t, 1, 0)
	if err == nil {
		err = s.metadata(t, 2)
	}
	if err == nil && t.f != nil {
		err = t.f.err
	}
	return fields, err
}

// metadata counts keys and values, which Arrow's own reader makes room for as
// many times as it is told.
func (s *schemaReader) metadata(t table, slot int) error {
	_, n := t.vector(slot, 4)
	if s.left -= n; s.left < 0 {
		return fmt.Errorf("%w: over %d fields and their metadata", errFlat, maxFields)
	}
	return nil
}

type schemaReader struct{ left int }

func (s *schemaReader) fields(t table, slot, depth int) ([]*Field, error) {
	at, n := t.vector(slot, 4)
	// Offsets may lead to one field many times, so that the bytes do not bound
	// how many there are.
	if s.left -= n; s.left < 0 || depth > maxDepth {
		return nil, fmt.Errorf("%w: over %d fields, or over %d levels", errFlat, maxFields, maxDepth)
	}
	var fields []*Field
	for i := range n {
		f, err := s.field(t.f.element(at, i), depth)
		if err != nil {
			return nil, err
		}
		fields = append(fields, f)
	}
	return fields, nil
}

func (s *schemaReader) field(t table, depth int) (*Field, error) {
	f := &Field{Name: t.text(0), Type: Type(t.byte(2))}
	var err error
	if f.Children, err = s.fields(t, 5, depth+1); err != nil {
		return nil, err
	}
	if err := s.metadata(t, 6); err != nil {
		return nil, err
	}
	if t.f.err != nil {
		return nil, t.f.err
	}
	if err := f.parameters(t.table(3)); err != nil {
		return nil, fmt.Errorf("column %q: %w", f.Name, err)
	}
	if d := t.table(4); !d.absent() {
		f.dictionary, f.dictID = true, d.i64(0)
		f.index = &Field{Name: f.Name, Type: Int, Width: 32, Signed: true}
		if in := d.table(1); !in.absent() {
			if err := f.index.parameters(in); err != nil {
				return nil, fmt.Errorf("column %q: %w", f.Name, err)
			}
		}
		f.index.buffers = 2
	}
	return f, t.f.err
}

// units are the parts of a second, by the numbers of the format.
var units = []int64{1, 1e3, 1e6, 1e9}

func unitOf(n int) (int64, error) {
	if n < 0 || n >= len(units) {
		return 0, fmt.Errorf("%w: unknown unit of time %d", errFlat, n)
	}
	return units[n], nil
}

// parameters reads what the type has besides, and sets how it is laid out.
func (f *Field) parameters(t table) (err error) {
	f.buffers = 2
	children := 0
	switch f.Type {
	case Null:
		f.buffers = 0
	case Int:
		f.Width, f.Signed = t.i32(0, 0), t.bool(1)
		err = f.width(8, 16, 32, 64)
	case Float:
		f.Width = 16 << max(0, min(t.i16(0, 0), 3))
		err = f.width(16, 32, 64)
	case Bool:
		f.Width = 1
	case Decimal:
		f.Scale, f.Width = t.i32(1, 0), t.i32(2, 128)
		if err = f.width(32, 64, 128, 256); err == nil && (f.Scale < -1000 || f.Scale > 1000) {
			err = fmt.Errorf("%w: a decimal with the scale %d", errFlat, f.Scale)
		}
	case Date:
		f.Width = 32
		if t.i16(0, 1) == 1 {
			f.Width, f.PerSecond = 64, 1e3
		}
	case Time:
		f.Width = t.i32(1, 32)
		if f.PerSecond, err = unitOf(t.i16(0, 1)); err == nil {
			err = f.width(32, 64)
		}
	case Timestamp:
		f.Width, f.Zoned = 64, t.text(1) != ""
		f.PerSecond, err = unitOf(t.i16(0, 0))
	case Duration:
		f.Width, f.Signed = 64, true
		f.PerSecond, err = unitOf(t.i16(0, 1))
	case FixedBinary:
		if f.Width = t.i32(0, 0); f.Width < 0 {
			err = fmt.Errorf("%w: values of %d bytes", errFlat, f.Width)
		}
	case Binary, Text, LargeBinary, LargeText:
		f.buffers = 3
	case BinaryView, TextView:
		f.views = true
	case List, LargeList:
		children = 1
	case ListView, LargeListView:
		f.buffers, children = 3, 1
	case FixedList:
		f.buffers, children = 1, 1
		if f.Width = t.i32(0, 0); f.Width < 0 {
			err = fmt.Errorf("%w: lists of %d", errFlat, f.Width)
		}
	case Map:
		children = 1
		if len(f.Children) == 1 && (f.Children[0].Type != Struct || len(f.Children[0].Children) != 2) {
			err = fmt.Errorf("%w: the entries of a map", errFlat)
		}
	case Struct:
		f.buffers, children = 1, len(f.Children)
	case Union:
		f.buffers, children = 1+t.i16(0, 0)&1, len(f.Children)
		f.reason = errors.New("unions are not supported")
	case RunEndEncoded:
		f.buffers, children = 0, 2
		f.reason = errors.New("run-end encoding is not supported")
	case Interval:
		f.reason = errors.New("intervals are not supported")
	default:
		err = fmt.Errorf("the type %d is not supported", f.Type)
	}
	if err == nil && len(f.Children) != children {
		err = fmt.Errorf("%w: %d children", errFlat, len(f.Children))
	}
	for _, c := range f.Children {
		if f.reason == nil && !c.dictionary {
			f.reason = c.reason
		}
	}
	return err
}

func (f *Field) width(allowed ...int) error {
	for _, w := range allowed {
		if f.Width == w {
			return nil
		}
	}
	return fmt.Errorf("%w: numbers of %d bits", errFlat, f.Width)
}
