package source

import (
	"encoding"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"unicode/utf8"
)

// columnDecoder returns which of the columns of a file are read, by their
// numbers, and the function that makes a T of their values. wanted are the
// columns of Fields, nil for all.
func columnDecoder[T any](names, wanted []string) ([]int, func([]any, *T) error, error) {
	for i, name := range names {
		if slices.Contains(names[:i], name) {
			return nil, nil, fmt.Errorf("two columns are named %q", name)
		}
	}
	t := reflect.TypeFor[T]()
	if t == reflect.TypeFor[Fields]() {
		var columns []int
		for i := range names {
			if wanted == nil || slices.Contains(wanted, names[i]) {
				columns = append(columns, i)
			}
		}
		for _, name := range wanted {
			if !slices.Contains(names, name) {
				return nil, nil, fmt.Errorf("no column %q, only %s", name, strings.Join(names, ", "))
			}
		}
		return columns, func(values []any, v *T) error {
			f := make(Fields, len(columns))
			for i, c := range columns {
				f[names[c]] = values[i]
			}
			*any(v).(*Fields) = f
			return nil
		}, nil
	}
	if t.Kind() != reflect.Struct {
		return nil, nil, fmt.Errorf("rows of files of columns are structs or source.Fields, not %s", t)
	}
	cells, err := bindColumns(t, names, jsonTag, valueSetter)
	if err != nil {
		return nil, nil, err
	}
	columns := make([]int, len(cells))
	for i, c := range cells {
		columns[i] = c.column
	}
	return columns, func(values []any, v *T) error {
		row := reflect.ValueOf(v).Elem()
		for i, c := range cells {
			if values[i] == nil {
				continue // as encoding/json does with null
			}
			if err := c.set(row.FieldByIndex(c.index), values[i]); err != nil {
				return fmt.Errorf("column %s: %w", names[c.column], err)
			}
		}
		return nil
	}, nil
}

// jsonTag returns the column's name by the rules of encoding/json.
func jsonTag(f reflect.StructField) columnName {
	tag := f.Tag.Get("json")
	n := nameOf(f, tag)
	n.tagged = tag == "-"
	n.anyCase = true
	return n
}

type setValue func(v reflect.Value, x any) error

// valueSetter returns the function that stores a value of [Fields], not nil,
// in a value of type t.
func valueSetter(t reflect.Type) (setValue, error) {
	misfit := func(x any) error { return fmt.Errorf("%s does not fit %s", describe(x), t) }
	if reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) {
		return func(v reflect.Value, x any) error {
			s, ok := x.(string)
			if !ok {
				return misfit(x)
			}
			return v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(s))
		}, nil
	}
	switch t.Kind() {
	case reflect.Pointer:
		set, err := valueSetter(t.Elem())
		if err != nil {
			return nil, err
		}
		return func(v reflect.Value, x any) error {
			v.Set(reflect.New(t.Elem()))
			return set(v.Elem(), x)
		}, nil
	case reflect.Interface:
		if t.NumMethod() > 0 {
			return nil, fmt.Errorf("a value of a column cannot be read into %s", t)
		}
		return func(v reflect.Value, x any) error {
			v.Set(reflect.ValueOf(x))
			return nil
		}, nil
	case reflect.String:
		return func(v reflect.Value, x any) error {
			switch x := x.(type) {
			case string:
				v.SetString(x)
				return nil
			case []byte: // older writers do not say that their bytes are text
				if utf8.Valid(x) {
					v.SetString(string(x))
					return nil
				}
			}
			return misfit(x)
		}, nil
	case reflect.Bool:
		return func(v reflect.Value, x any) error {
			b, ok := x.(bool)
			if !ok {
				return misfit(x)
			}
			v.SetBool(b)
			return nil
		}, nil
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return func(v reflect.Value, x any) error {
			n, ok := x.(int64)
			if !ok || v.OverflowInt(n) {
				return misfit(x)
			}
			v.SetInt(n)
			return nil
		}, nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return func(v reflect.Value, x any) error {
			n, ok := x.(int64)
			if !ok || n < 0 || v.OverflowUint(uint64(n)) {
				return misfit(x)
			}
			v.SetUint(uint64(n))
			return nil
		}, nil
	case reflect.Float32, reflect.Float64:
		return func(v reflect.Value, x any) error {
			f, ok := x.(float64)
			if n, isInt := x.(int64); isInt {
				f, ok = float64(n), true
			}
			if !ok || !math.IsInf(f, 0) && v.OverflowFloat(f) {
				return misfit(x)
			}
			v.SetFloat(f)
			return nil
		}, nil
	case reflect.Chan, reflect.Func, reflect.Complex64, reflect.Complex128, reflect.UnsafePointer, reflect.Uintptr:
		return nil, fmt.Errorf("a value of a column cannot be read into %s", t)
	default:
		return func(v reflect.Value, x any) error { return setNested(v, x, misfit) }, nil
	}
}

// setNested stores bytes, and lists, structs and maps by their JSON.
func setNested(v reflect.Value, x any, misfit func(any) error) error {
	raw, isRaw := x.(json.RawMessage)
	switch {
	case v.Type() == reflect.TypeFor[json.RawMessage]():
		text, err := appendJSON(nil, x)
		v.SetBytes(text)
		return err
	case isRaw:
		return readableJSONError(json.Unmarshal(raw, v.Addr().Interface()))
	case v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Uint8:
		switch x := x.(type) {
		case []byte:
			v.SetBytes(x)
			return nil
		case string:
			v.SetBytes([]byte(x))
			return nil
		}
	}
	return misfit(x)
}

// describe is a value for a message.
func describe(x any) string {
	switch x := x.(type) {
	case string:
		return fmt.Sprintf("the text %.40q", x)
	case []byte:
		return "a value of bytes"
	case json.RawMessage:
		return fmt.Sprintf("the JSON %.40s", x)
	default:
		return fmt.Sprint(x)
	}
}
