package source

import (
	"encoding/binary"
	"math"
	"reflect"
	"slices"
	"strings"
)

// valueHash hashes Go values with all that they hold, so that two values which
// any code could tell apart (but for addresses) are hashed differently. Where
// it cannot promise that, it says so.
type valueHash struct {
	identityHash
	buf []byte
}

// maxDepth is far deeper than rows are, and stops at cycles.
const maxDepth = 64

// addRow adds the value that p points to, or returns false.
func (h *valueHash) addRow(p any) bool {
	v := reflect.ValueOf(p).Elem()
	var ok bool
	h.buf, ok = appendValue(h.buf[:0], v, 0)
	h.add(string(h.buf))
	return ok
}

// appendValue appends an encoding of v from which v could be read back, given
// its type.
func appendValue(b []byte, v reflect.Value, depth int) ([]byte, bool) {
	if depth > maxDepth {
		return b, false
	}
	depth++
	switch v.Kind() {
	case reflect.Bool:
		if v.Bool() {
			return append(b, 1), true
		}
		return append(b, 0), true
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return binary.LittleEndian.AppendUint64(b, uint64(v.Int())), true
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		return binary.LittleEndian.AppendUint64(b, v.Uint()), true
	case reflect.Float32, reflect.Float64:
		return binary.LittleEndian.AppendUint64(b, math.Float64bits(v.Float())), true
	case reflect.Complex64, reflect.Complex128:
		b = binary.LittleEndian.AppendUint64(b, math.Float64bits(real(v.Complex())))
		return binary.LittleEndian.AppendUint64(b, math.Float64bits(imag(v.Complex()))), true
	case reflect.String:
		return append(appendLen(b, v.Len()), v.String()...), true
	case reflect.Slice:
		if v.IsNil() {
			return append(b, 'n'), true
		}
		return appendElements(appendLen(append(b, 's'), v.Len()), v, depth)
	case reflect.Array:
		return appendElements(b, v, depth)
	case reflect.Struct:
		return appendStruct(b, v, depth)
	case reflect.Map:
		return appendMap(b, v, depth)
	case reflect.Pointer:
		if v.IsNil() {
			return append(b, 'n'), true
		}
		return appendValue(append(b, 'p'), v.Elem(), depth)
	case reflect.Interface:
		if v.IsNil() {
			return append(b, 'n'), true
		}
		name := typeName(v.Elem().Type())
		if name == "" {
			return b, false
		}
		b = append(appendLen(append(b, 'i'), len(name)), name...)
		return appendValue(b, v.Elem(), depth)
	default:
		return b, false
	}
}

func appendLen(b []byte, n int) []byte { return binary.AppendUvarint(b, uint64(n)) }

func appendElements(b []byte, v reflect.Value, depth int) ([]byte, bool) {
	if v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Uint8 {
		return append(b, v.Bytes()...), true
	}
	ok := true
	for i := 0; ok && i < v.Len(); i++ {
		b, ok = appendValue(b, v.Index(i), depth)
	}
	return b, ok
}

// appendStruct refuses structs of the standard library with unexported fields:
// they may be changing behind the scenes, as locks and time zones do.
func appendStruct(b []byte, v reflect.Value, depth int) ([]byte, bool) {
	t := v.Type()
	std := t.PkgPath() != "" && t.PkgPath() != "main" && !strings.Contains(t.PkgPath(), ".")
	ok := true
	for i := 0; ok && i < t.NumField(); i++ {
		f := t.Field(i)
		if std && !f.IsExported() {
			return b, false
		}
		b = append(appendLen(b, len(f.Name)), f.Name...)
		b, ok = appendValue(b, v.Field(i), depth)
	}
	return b, ok
}

// appendMap appends the entries sorted by their encoding. Keys that are equal
// in it (NaNs, pointers to equal values) keep the entries' encodings in order.
func appendMap(b []byte, v reflect.Value, depth int) ([]byte, bool) {
	if v.IsNil() {
		return append(b, 'n'), true
	}
	entries := make([]string, 0, v.Len())
	for it := v.MapRange(); it.Next(); {
		entry, ok := appendValue(nil, it.Key(), depth)
		if !ok {
			return b, false
		}
		if entry, ok = appendValue(entry, it.Value(), depth); !ok {
			return b, false
		}
		entries = append(entries, string(entry))
	}
	slices.Sort(entries)
	b = appendLen(append(b, 'm'), len(entries))
	for _, e := range entries {
		b = append(appendLen(b, len(e)), e...)
	}
	return b, true
}

// typeName tells a value's type from any other; it is empty for one that no
// name tells, such as a literal type over named ones of two packages.
func typeName(t reflect.Type) string {
	if t.Name() != "" {
		return t.PkgPath() + "." + t.Name()
	}
	switch t.Kind() {
	case reflect.Slice:
		if elem := typeName(t.Elem()); elem != "" {
			return "[]" + elem
		}
	case reflect.Pointer:
		if elem := typeName(t.Elem()); elem != "" {
			return "*" + elem
		}
	case reflect.Map:
		key, elem := typeName(t.Key()), typeName(t.Elem())
		if key != "" && elem != "" {
			return "map[" + key + "]" + elem
		}
	case reflect.Interface:
		if t.NumMethod() == 0 {
			return "any"
		}
	default:
	}
	return ""
}
