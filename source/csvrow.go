package source

import (
	"encoding"
	"errors"
	"fmt"
	"reflect"
	"strconv"
)

// csvDecoder returns the function that fills a T from a record of the columns.
func csvDecoder[T any](columns []string) (func(*csvReader, *T) error, error) {
	t := reflect.TypeFor[T]()
	if t == reflect.TypeFor[Fields]() {
		return func(r *csvReader, v *T) error {
			f := make(Fields, len(columns))
			for i, c := range columns {
				f[c] = r.cell(i)
			}
			*any(v).(*Fields) = f
			return nil
		}, nil
	}
	if t.Kind() != reflect.Struct {
		return nil, fmt.Errorf("rows of CSV files are structs or source.Fields, not %s", t)
	}
	cells, err := bindColumns(t, columns, csvTag, setterOf)
	if err != nil {
		return nil, err
	}
	return func(r *csvReader, v *T) error {
		row := reflect.ValueOf(v).Elem()
		for _, c := range cells {
			text := r.cell(c.column)
			if text == "" && c.optional {
				continue
			}
			if err := c.set(row.FieldByIndex(c.index), text); err != nil {
				return fmt.Errorf("column %s: %w", columns[c.column], err)
			}
		}
		return nil
	}, nil
}

type setCell func(v reflect.Value, text string) error

// csvTag returns the column's name as the tags of a field have it.
func csvTag(f reflect.StructField) columnName {
	tag, ok := f.Tag.Lookup("csv")
	if !ok {
		tag = f.Tag.Get("json")
	}
	n := nameOf(f, tag)
	n.anyCase = !n.tagged
	return n
}

// setterOf returns the function that reads a cell into a value of type t.
func setterOf(t reflect.Type) (setCell, error) {
	if reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) {
		return func(v reflect.Value, text string) error {
			return v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(text))
		}, nil
	}
	switch t.Kind() {
	case reflect.Pointer:
		set, err := setterOf(t.Elem())
		if err != nil {
			return nil, err
		}
		return func(v reflect.Value, text string) error {
			if text == "" {
				return nil
			}
			v.Set(reflect.New(t.Elem()))
			return set(v.Elem(), text)
		}, nil
	case reflect.String:
		return func(v reflect.Value, text string) error {
			v.SetString(text)
			return nil
		}, nil
	case reflect.Bool:
		return func(v reflect.Value, text string) error {
			b, err := strconv.ParseBool(text)
			v.SetBool(b)
			return cellError(text, "bool", err)
		}, nil
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return func(v reflect.Value, text string) error {
			n, err := strconv.ParseInt(text, 10, t.Bits())
			v.SetInt(n)
			return cellError(text, t.Kind().String(), err)
		}, nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return func(v reflect.Value, text string) error {
			n, err := strconv.ParseUint(text, 10, t.Bits())
			v.SetUint(n)
			return cellError(text, t.Kind().String(), err)
		}, nil
	case reflect.Float32, reflect.Float64:
		return func(v reflect.Value, text string) error {
			f, err := strconv.ParseFloat(text, t.Bits())
			v.SetFloat(f)
			return cellError(text, t.Kind().String(), err)
		}, nil
	default:
		return nil, fmt.Errorf("a cell cannot be read into %s", t)
	}
}

// cellError says what of a text that is no number strconv's error says.
func cellError(text, kind string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, strconv.ErrRange):
		return fmt.Errorf("%.40q is out of range of %s", text, kind)
	default:
		return fmt.Errorf("%.40q is no %s", text, kind)
	}
}
