package pipeline

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// section reads one mapping: every key that is asked for is known, the
// others are errors, see end.
type section struct {
	d     *document
	node  *yaml.Node
	path  string
	keys  map[string]*yaml.Node // key nodes
	vals  map[string]*yaml.Node
	asked []string
}

// section returns the mapping of a node; an absent one is empty.
func (d *document) section(n *yaml.Node, path string) *section {
	s := &section{d: d, node: n, path: path, keys: map[string]*yaml.Node{}, vals: map[string]*yaml.Node{}}
	if n == nil || isNull(n) {
		return s
	}
	if n.Kind != yaml.MappingNode {
		d.fail(n, "%s: want a mapping", s.name(""))
		return s
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k := n.Content[i]
		if s.keys[k.Value] != nil {
			d.fail(k, "%s is given twice", s.name(k.Value))
			continue
		}
		s.keys[k.Value], s.vals[k.Value] = k, n.Content[i+1]
	}
	return s
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

func (s *section) name(key string) string {
	return strings.Trim(s.path+"."+key, ".")
}

// at returns the section's node, that of an outer one where it is absent.
func (s *section) at(outer *section) *yaml.Node {
	if s.node != nil {
		return s.node
	}
	return outer.node
}

// get returns a key's node, nil if it is absent or null.
func (s *section) get(key string) *yaml.Node {
	s.asked = append(s.asked, key)
	n := s.vals[key]
	if n == nil || isNull(n) {
		return nil
	}
	return n
}

// has reports whether a key stands there, null or not.
func (s *section) has(key string) bool {
	s.asked = append(s.asked, key)
	return s.vals[key] != nil
}

// names returns the keys in their order in the file.
func (s *section) names() []string {
	var out []string
	if s.node != nil {
		for i := 0; i+1 < len(s.node.Content); i += 2 {
			out = append(out, s.node.Content[i].Value)
		}
	}
	return slices.Compact(out)
}

func (s *section) sub(key string) *section {
	return s.d.section(s.get(key), s.name(key))
}

func (s *section) scalar(key string) *yaml.Node {
	n := s.get(key)
	if n != nil && n.Kind != yaml.ScalarNode {
		s.d.fail(n, "%s: want a single value", s.name(key))
		return nil
	}
	return n
}

func (s *section) text(key string, dst *string) {
	if n := s.scalar(key); n != nil {
		*dst = n.Value
	}
}

func (s *section) boolean(key string, dst *bool) {
	if n := s.scalar(key); n != nil {
		switch n.Value {
		case "true":
			*dst = true
		case "false":
			*dst = false
		default:
			s.d.fail(n, "%s: want true or false, not %q", s.name(key), n.Value)
		}
	}
}

func (s *section) integer(key string, dst *int) {
	if n := s.scalar(key); n != nil {
		v, err := strconv.Atoi(digits(n.Value))
		if err != nil {
			s.d.fail(n, "%s: want a whole number, not %q", s.name(key), n.Value)
			return
		}
		*dst = v
	}
}

func (s *section) unsigned(key string, dst *uint64) {
	if n := s.scalar(key); n != nil {
		v, err := strconv.ParseUint(digits(n.Value), 10, 64)
		if err != nil {
			s.d.fail(n, "%s: want a whole number from 0, not %q", s.name(key), n.Value)
			return
		}
		*dst = v
	}
}

func (s *section) number(key string, dst *float64) {
	if n := s.scalar(key); n != nil {
		v, err := strconv.ParseFloat(digits(n.Value), 64)
		if err != nil || math.IsNaN(v) || math.IsInf(v, 0) {
			s.d.fail(n, "%s: want a number, not %q", s.name(key), n.Value)
			return
		}
		*dst = v
	}
}

// digits drops the _ between digits that YAML allows.
func digits(s string) string { return strings.ReplaceAll(s, "_", "") }

// texts reads a value or a list of values.
func (s *section) texts(key string) []string {
	n := s.get(key)
	switch {
	case n == nil:
		return nil
	case n.Kind == yaml.ScalarNode:
		return []string{n.Value}
	case n.Kind != yaml.SequenceNode:
		s.d.fail(n, "%s: want a value or a list of values", s.name(key))
		return nil
	}
	var out []string
	for _, c := range n.Content {
		if c.Kind != yaml.ScalarNode {
			s.d.fail(c, "%s: want single values", s.name(key))
			continue
		}
		out = append(out, c.Value)
	}
	return out
}

// oneOf holds the value of a key to a choice.
func (s *section) oneOf(key, value string, choice ...string) {
	if !slices.Contains(choice, value) {
		s.d.fail(s.vals[key], "%s: %q is none of %s%s", s.name(key), value, strings.Join(choice, ", "), hint(value, choice))
	}
}

// known reports the keys that are not the name of an encoder.
func (s *section) known(encoders []string) {
	for name, k := range s.keys {
		if !slices.Contains(encoders, name) {
			s.d.fail(k, "%s: no such encoder, there is %s%s", s.name(name), strings.Join(encoders, ", "), hint(name, encoders))
		}
	}
}

// end reports the keys that nothing asked for.
func (s *section) end() {
	for name, k := range s.keys {
		if !slices.Contains(s.asked, name) {
			s.d.fail(k, "unknown key %q%s", s.name(name), hint(name, s.asked))
		}
	}
}

// hint suggests what may have been meant.
func hint(name string, candidates []string) string {
	if near := nearest(name, candidates); near != "" {
		return fmt.Sprintf("; did you mean %q?", near)
	}
	return ""
}

// nearest returns the candidate within two edits of a name, if any.
func nearest(name string, candidates []string) string {
	best, at := 3, ""
	for _, c := range candidates {
		if d := distance(name, c); d < best && d < max(len(c), 3) {
			best, at = d, c
		}
	}
	return at
}

// distance is the Levenshtein distance in bytes.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diag := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diag
			if a[i] != b[j] {
				cost = 1 + min(diag, row[j], row[j+1])
			}
			diag, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
