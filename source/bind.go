package source

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// boundCell is a field of a struct that a column fills, with the function
// that does.
type boundCell[S any] struct {
	column   int
	index    []int
	set      S
	optional bool
}

// columnName is what a field of a struct says of its column.
type columnName struct {
	name     string
	tagged   bool // it is the tag's, not the field's own
	anyCase  bool
	optional bool
}

// nameOf reads a tag of the form of encoding/json's.
func nameOf(f reflect.StructField, tag string) columnName {
	name, options, _ := strings.Cut(tag, ",")
	n := columnName{name: name, tagged: name != "", optional: slices.Contains(strings.Split(options, ","), "omitempty")}
	if name == "" {
		n.name = f.Name
	}
	return n
}

// bindColumns finds the column of every field of t.
func bindColumns[S any](t reflect.Type, columns []string, name func(reflect.StructField) columnName, setter func(reflect.Type) (S, error)) ([]boundCell[S], error) {
	var cells []boundCell[S]
	for _, f := range reflect.VisibleFields(t) {
		if !f.IsExported() || f.Anonymous && f.Type.Kind() == reflect.Struct {
			continue // the fields of an embedded struct are visible themselves
		}
		n := name(f)
		if n.tagged && n.name == "-" {
			continue
		}
		if throughPointer(t, f.Index) {
			return nil, fmt.Errorf("field %s.%s: it is in an embedded pointer; embed the struct itself", t, f.Name)
		}
		set, err := setter(f.Type)
		if err != nil {
			return nil, fmt.Errorf("field %s.%s: %w", t, f.Name, err)
		}
		column := slices.Index(columns, n.name)
		if column < 0 && n.anyCase {
			column = slices.IndexFunc(columns, func(c string) bool { return strings.EqualFold(c, n.name) })
		}
		switch {
		case column >= 0:
			cells = append(cells, boundCell[S]{column, f.Index, set, n.optional})
		case !n.optional:
			return nil, fmt.Errorf("no column %q for field %s.%s, only %s", n.name, t, f.Name, strings.Join(columns, ", "))
		}
	}
	return cells, nil
}

// throughPointer reports whether the way to a field leads over a pointer.
func throughPointer(t reflect.Type, index []int) bool {
	for _, i := range index[:len(index)-1] {
		if t = t.Field(i).Type; t.Kind() == reflect.Pointer {
			return true
		}
	}
	return false
}
