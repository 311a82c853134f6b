package encode

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Key extracts the name that people give an object: it is stored beside the
// row, and never decides what is stored or reused. The zero Key is the
// content: the object's id in hexadecimal.
type Key struct {
	spec string
	fn   func(o Object) (string, error)
}

const (
	keyContent = "content"
	keyIndex   = "index"
)

// KeyFunc returns a key extractor of Go code. Several objects may share a
// key only if they are equal.
func KeyFunc(fn func(o Object) string) Key {
	return Key{spec: "func", fn: func(o Object) (string, error) { return fn(o), nil }}
}

// ParseKey reads the config form of a key extractor:
//
//	content            the object's id (also the empty string)
//	index              split, row and side: train:17, train:17:a
//	field:NAME         the text of a field
//	fields:NAME,NAME   the texts of several, joined by |
//	prefix:NAME:N      the first N characters of a field
func ParseKey(spec string) (Key, error) {
	kind, arg, _ := strings.Cut(spec, ":")
	switch kind {
	case "", keyContent:
		if arg == "" {
			return Key{}, nil
		}
	case keyIndex:
		if arg == "" {
			return Key{spec: keyIndex}, nil
		}
	case "field", "fields":
		names := []string{arg}
		if kind == "fields" {
			names = strings.Split(arg, ",")
		}
		for _, n := range names {
			if n == "" {
				return Key{}, fmt.Errorf("key extractor %q names no field", spec)
			}
		}
		return Key{spec: spec, fn: func(o Object) (string, error) { return joinFields(o, names) }}, nil
	case "prefix":
		i := strings.LastIndexByte(arg, ':')
		n, err := strconv.Atoi(arg[i+1:])
		if i < 1 || err != nil || n < 1 {
			return Key{}, fmt.Errorf("key extractor %q: want prefix:FIELD:CHARACTERS", spec)
		}
		return Key{spec: spec, fn: func(o Object) (string, error) {
			v, err := o.need(arg[:i])
			return firstRunes(v.Text(), n), err
		}}, nil
	}
	return Key{}, fmt.Errorf("key extractor %q: want content, index, field:NAME, fields:NAME,NAME or prefix:NAME:N", spec)
}

func joinFields(o Object, names []string) (string, error) {
	if len(names) == 1 {
		v, err := o.need(names[0])
		return v.Text(), err
	}
	escape := strings.NewReplacer(`\`, `\\`, `|`, `\|`)
	parts := make([]string, len(names))
	for i, n := range names {
		v, err := o.need(n)
		if err != nil {
			return "", err
		}
		parts[i] = escape.Replace(v.Text())
	}
	return strings.Join(parts, "|"), nil
}

func firstRunes(s string, n int) string {
	for i := range s {
		if n == 0 {
			return s[:i]
		}
		n--
	}
	return s
}

// String returns the config form; "func" for Go code.
func (k Key) String() string {
	if k.spec == "" {
		return keyContent
	}
	return k.spec
}

// Declared reports whether the config form says all: false for Go code.
func (k Key) Declared() bool { return k.fn == nil || k.spec != "func" }

// Free reports whether no two contents can share a key, so that nothing
// needs checking.
func (k Key) Free() bool { return k.fn == nil }

var errKeyUTF8 = errors.New("the key is not valid UTF-8")

// value returns the key of an object; for the key index it is not known yet.
func (k Key) value(o Object, id ID) (string, error) {
	if k.fn == nil {
		return id.String(), nil
	}
	key, err := k.fn(o)
	if err == nil && !utf8.ValidString(key) {
		err = errKeyUTF8
	}
	if err != nil {
		return "", fmt.Errorf("key extractor %s: %w", k, err)
	}
	return key, nil
}
