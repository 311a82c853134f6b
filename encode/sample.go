package encode

import (
	"fmt"
	"math"
	"reflect"

	"github.com/permafrost-ml/permafrost/source"
)

// Sample is one row of a split as training sees it: an object with a label,
// or a pair of objects with a score. Make one with [GroupSample] or
// [PairSample].
type Sample struct {
	A, B Object
	pair bool
	bad  error
	// Label is the class of a group sample: a string or an integer.
	Label any
	// Score of a pair says how similar its objects are; above 0 they match.
	Score float32
	// Subgroup of a pair: objects of pairs of different subgroups do not
	// match. A string or an integer.
	Subgroup any
	// Keep are further columns to store with the row. All samples of a split
	// have the same.
	Keep []KeepColumn
	// Pos is the sample's place in its dataset and Raw its source text, for
	// messages and quarantine.
	Pos source.Pos
	Raw []byte
}

// KeepColumn is one value of a kept column: nil, a string, an integer, a
// float64, a bool or []byte.
type KeepColumn struct {
	Name  string
	Value any
}

// GroupSample returns a sample of one object and its label, a string or an
// integer.
func GroupSample(o Object, label any) Sample { return Sample{A: o, Label: label} }

// PairSample returns a sample of two objects that match: its score is 1 and
// its subgroup 0.
func PairSample(a, b Object) Sample {
	return Sample{A: a, B: b, pair: true, Score: 1, Subgroup: int64(0)}
}

// BadSample returns a sample that stands for a row which cannot be one; the
// stage [Samples] treats it as the error that it is.
func BadSample(err error) Sample { return Sample{bad: err} }

// IsPair reports whether s was made by [PairSample].
func (s Sample) IsPair() bool { return s.pair }

// With returns a copy of s with one more kept column.
func (s Sample) With(name string, value any) Sample {
	s.Keep = append(s.Keep[:len(s.Keep):len(s.Keep)], KeepColumn{name, value})
	return s
}

// columnType is the type of a column of labels or kept values.
type columnType byte

const (
	noType columnType = iota // nothing but nulls so far
	intType
	floatType
	boolType
	textType
	bytesType
)

// columnTypes are the names by which a config declares a kept column's type.
var columnTypes = map[string]columnType{
	"int64": intType, "float64": floatType, "bool": boolType, "text": textType, "bytes": bytesType,
}

func (t columnType) String() string {
	for name, c := range columnTypes {
		if c == t {
			return name
		}
	}
	return "null"
}

// typeOf returns the type and normal form of a value: int64, float64, bool,
// string or []byte.
func typeOf(v any) (columnType, any, error) {
	switch v := v.(type) {
	case nil:
		return noType, nil, nil
	case string:
		return textType, v, nil
	case bool:
		return boolType, v, nil
	case []byte:
		return bytesType, v, nil
	case int64:
		return intType, v, nil
	case int:
		return intType, int64(v), nil
	case int32:
		return intType, int64(v), nil
	case int16:
		return intType, int64(v), nil
	case int8:
		return intType, int64(v), nil
	case uint8:
		return intType, int64(v), nil
	case uint16:
		return intType, int64(v), nil
	case uint32:
		return intType, int64(v), nil
	case uint64:
		if v > math.MaxInt64 {
			return noType, nil, fmt.Errorf("%d does not fit int64", v)
		}
		return intType, int64(v), nil
	case uint:
		return typeOf(uint64(v))
	case float64:
		return floatType, v, nil
	case float32:
		return floatType, float64(v), nil
	case fmt.Stringer:
		return textType, v.String(), nil
	}
	return typeOfKind(v)
}

// typeOfKind is typeOf for types that a program has named itself.
func typeOfKind(v any) (columnType, any, error) {
	r := reflect.ValueOf(v)
	switch k := r.Kind(); {
	case k == reflect.String:
		return textType, r.String(), nil
	case k == reflect.Bool:
		return boolType, r.Bool(), nil
	case r.CanInt():
		return intType, r.Int(), nil
	case r.CanUint():
		return typeOf(r.Uint())
	case r.CanFloat():
		return floatType, r.Float(), nil
	}
	return noType, nil, fmt.Errorf("a value of type %T cannot be stored", v)
}

// widen returns the type that holds both.
func widen(a, b columnType) (columnType, bool) {
	switch {
	case a == b || b == noType:
		return a, true
	case a == noType:
		return b, true
	case a == intType && b == floatType || a == floatType && b == intType:
		return floatType, true
	}
	return noType, false
}
