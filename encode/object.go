package encode

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
)

// Kind is the type of a [Value]: one of [TextKind], [NumberKind] and [BytesKind].
type Kind byte

// The kinds of values that an object's fields may have. Their numbers are
// part of an object's identity and never change.
const (
	TextKind   Kind = 't' // UTF-8 text, stored as given
	NumberKind Kind = 'n' // float64
	BytesKind  Kind = 'b' // anything else: an encoded image, say
)

// Value is one field's content: a text, a number or bytes. The zero Value is
// no value at all; see [Value.IsZero].
type Value struct {
	kind Kind
	text string // of TextKind and BytesKind
	num  float64
}

// TextValue returns a text.
func TextValue(s string) Value { return Value{kind: TextKind, text: s} }

// NumberValue returns a number.
func NumberValue(f float64) Value { return Value{kind: NumberKind, num: f} }

// BytesValue returns bytes; it copies b.
func BytesValue(b []byte) Value { return Value{kind: BytesKind, text: string(b)} }

// Kind says which of the three it is; 0 for the zero Value.
func (v Value) Kind() Kind { return v.kind }

// IsZero reports whether v holds nothing (an absent field, not an empty text).
func (v Value) IsZero() bool { return v.kind == 0 }

// Text returns a text as it is, bytes as a string and a number in its
// shortest decimal form.
func (v Value) Text() string {
	if v.kind == NumberKind {
		return numberText(v.num)
	}
	return v.text
}

// numberText writes 1234567 as JSON and people do, not as 1.234567e+06.
func numberText(f float64) string {
	format := byte('f')
	if abs := math.Abs(f); abs != 0 && (abs < 1e-6 || abs >= 1e21) {
		format = 'g'
	}
	return strconv.FormatFloat(f+0, format, -1, 64) // +0 makes one zero of two
}

// Number returns a number, and NaN for anything else.
func (v Value) Number() float64 {
	if v.kind == NumberKind {
		return v.num
	}
	return math.NaN()
}

// Bytes returns a copy of a text's or bytes' content, nil for a number.
func (v Value) Bytes() []byte {
	if v.kind == NumberKind || v.kind == 0 {
		return nil
	}
	return []byte(v.text)
}

// DefaultField is the name of the field that [Text] and [Bytes] fill, and
// that an encoder reads when it declares no input.
const DefaultField = "text"

// Object is what is encoded: a record of named fields. The zero Object has
// none. An Object is immutable and safe for concurrent use.
type Object struct {
	fields []field // sorted by name
}

type field struct {
	name  string
	value Value
}

// Text returns an object with one text field, named "text".
func Text(s string) Object {
	return Object{fields: []field{{DefaultField, TextValue(s)}}}
}

// Record returns an object with the given fields. Absent values (the zero
// Value) are left out.
func Record(fields map[string]Value) Object {
	o := Object{fields: make([]field, 0, len(fields))}
	for name, v := range fields {
		if !v.IsZero() {
			o.fields = append(o.fields, field{name, v})
		}
	}
	slices.SortFunc(o.fields, func(a, b field) int { return cmp.Compare(a.name, b.name) })
	return o
}

// With returns a copy of o in which the field name has value v.
func (o Object) With(name string, v Value) Object {
	fields := make([]field, 0, len(o.fields)+1)
	for _, f := range o.fields {
		if f.name != name {
			fields = append(fields, f)
		}
	}
	at, _ := slices.BinarySearchFunc(fields, name, func(f field, n string) int { return cmp.Compare(f.name, n) })
	return Object{fields: slices.Insert(fields, at, field{name, v})}
}

// Field returns the value of a field, the zero Value where there is none.
func (o Object) Field(name string) Value {
	for _, f := range o.fields {
		if f.name == name {
			return f.value
		}
	}
	return Value{}
}

// Text returns the text of the field "text", or of the only field there is.
// It is the empty string otherwise.
func (o Object) Text() string {
	if v := o.Field(DefaultField); !v.IsZero() {
		return v.Text()
	}
	if len(o.fields) == 1 {
		return o.fields[0].value.Text()
	}
	return ""
}

// Names returns the names of the fields, sorted.
func (o Object) Names() []string {
	names := make([]string, len(o.fields))
	for i, f := range o.fields {
		names[i] = f.name
	}
	return names
}

// size is the number of bytes of texts and bytes.
func (o Object) size() (n int) {
	for _, f := range o.fields {
		n += len(f.value.text)
	}
	return n
}

// String is for messages: the fields with their values, long ones cut.
func (o Object) String() string {
	s := "{"
	for i, f := range o.fields {
		if i > 0 {
			s += ", "
		}
		s += fmt.Sprintf("%s: %q", f.name, cut(f.value.Text()))
	}
	return s + "}"
}

// cut shortens a text for messages.
func cut(s string) string {
	if len(s) > 40 {
		return s[:40] + "..."
	}
	return s
}
