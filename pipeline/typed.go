package pipeline

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"go.yaml.in/yaml/v3"
)

// options is what heads, losses, metrics and optimizers have in common.
type options interface{ Params() map[string]any }

// typed reads a section {type: T, ...} whose other keys are the options of
// T, as its package parses them from JSON, but for those that are another's.
// It is false after a problem.
func typed[C options](d *document, n *yaml.Node, path string, parse func(typ string, params json.RawMessage) (C, error), others ...string) (c C, ok bool) {
	before := len(d.problems)
	s := d.section(n, path)
	var typ string
	s.text("type", &typ)
	if typ == "" {
		d.fail(n, "%s: no type is given", path)
		return c, false
	}
	c, err := parse(typ, nil)
	if err != nil {
		d.fail(s.vals["type"], "%s: %w", path, err)
		return c, false
	}
	s.asked = append(slices.AppendSeq(s.asked, maps.Keys(c.Params())), others...)
	params := map[string]any{}
	for name, v := range s.vals {
		var x any
		if name == "type" || !slices.Contains(s.asked, name) || slices.Contains(others, name) || isNull(v) {
			continue
		}
		if !inside(d, v, s.name(name), parse) {
			continue
		}
		one := func() error { // a problem of one option has its place
			if err := v.Decode(&x); err != nil {
				return err
			}
			b, err := json.Marshal(map[string]any{name: x})
			if err != nil {
				return err
			}
			_, err = parse(typ, b)
			return err
		}
		if err := one(); err != nil {
			d.fail(v, "%s: %w", s.name(name), readable(err))
		}
		params[name] = x
	}
	s.end()
	if len(d.problems) > before {
		return c, false
	}
	b, err := json.Marshal(params)
	if err == nil {
		c, err = parse(typ, b)
	}
	if err != nil {
		d.fail(n, "%s: %w", path, err)
	}
	return c, err == nil
}

// inside checks the sections {type: T, ...} that an option is or lists, so
// that problems in them have their places. A section of a list may have a
// weight, too.
func inside[C options](d *document, n *yaml.Node, path string, parse func(typ string, params json.RawMessage) (C, error)) (ok bool) {
	ok = true
	check := func(n *yaml.Node, path string, others ...string) {
		for i := 0; n.Kind == yaml.MappingNode && i < len(n.Content); i += 2 {
			if n.Content[i].Value == "type" {
				_, fits := typed(d, n, path, parse, others...)
				ok = ok && fits
				return
			}
		}
	}
	check(n, path)
	if n.Kind == yaml.SequenceNode {
		for i, m := range n.Content {
			check(m, fmt.Sprintf("%s.%d", path, i), "weight")
		}
	}
	return ok
}

// readable says what type of value is wanted in words of YAML, not of Go.
func readable(err error) error {
	e := (*json.UnmarshalTypeError)(nil)
	if !errors.As(err, &e) {
		return err
	}
	want := "another type of value"
	switch e.Type.Kind() {
	case reflect.Bool:
		want = "true or false"
	case reflect.Int, reflect.Int64, reflect.Uint64:
		want = "a whole number"
	case reflect.Float32, reflect.Float64:
		want = "a number"
	case reflect.String:
		want = "a text"
	}
	return fmt.Errorf("want %s, not a %s", want, e.Value)
}
