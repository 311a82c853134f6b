package pipeline

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// document is a config file as a tree of YAML nodes, with the errors found
// in it: all of them are reported at once, each with its line and column.
type document struct {
	name string
	errs []error
}

func (d *document) fail(n *yaml.Node, format string, args ...any) {
	place := d.name
	if n != nil && n.Line > 0 {
		place = fmt.Sprintf("%s:%d:%d", d.name, n.Line, n.Column)
	}
	d.errs = append(d.errs, fmt.Errorf("%w: %s: %w", ErrConfig, place, fmt.Errorf(format, args...)))
}

// parseDocument reads YAML, replaces ${VAR} and ${VAR:-default} in its
// values and applies settings of the form a.b=value.
func parseDocument(name string, data []byte, sets []string) (*document, *yaml.Node, error) {
	d := &document{name: name}
	var root yaml.Node
	if err := yaml.Unmarshal(data, &root); err != nil {
		return nil, nil, fmt.Errorf("%w: %s: %w", ErrConfig, name, err)
	}
	top := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
	if len(root.Content) > 0 {
		top = root.Content[0]
	}
	if top.Kind != yaml.MappingNode {
		d.fail(top, "want a mapping at the top")
		return nil, nil, errors.Join(d.errs...)
	}
	d.expand(top, 0)
	for _, set := range sets {
		if err := applySet(top, set); err != nil {
			return nil, nil, fmt.Errorf("%w: --set %s: %w", ErrConfig, set, err)
		}
	}
	return d, top, errors.Join(d.errs...)
}

// maxDepth bounds the nesting, and with it what aliases can grow to.
const maxDepth = 20

func (d *document) expand(n *yaml.Node, depth int) {
	if n.Kind == yaml.AliasNode || n.Anchor != "" || depth > maxDepth {
		d.fail(n, "anchors, aliases and nesting over %d levels are not supported", maxDepth)
		return
	}
	if n.Kind == yaml.ScalarNode && strings.Contains(n.Value, "${") {
		v, err := expandVars(n.Value, os.LookupEnv)
		if err != nil {
			d.fail(n, "%w", err)
		}
		n.Value = v
		if n.Style == 0 {
			n.Tag = "" // the type of a plain value comes from what it became
		}
	}
	for i, c := range n.Content {
		if n.Kind == yaml.MappingNode && i%2 == 0 {
			continue // keys stay as they are
		}
		d.expand(c, depth+1)
	}
}

// expandVars replaces ${NAME} and ${NAME:-default}; $${ is a literal ${.
func expandVars(s string, lookup func(string) (string, bool)) (string, error) {
	var out strings.Builder
	for {
		i := strings.Index(s, "${")
		if i < 0 {
			out.WriteString(s)
			return out.String(), nil
		}
		if i > 0 && s[i-1] == '$' {
			out.WriteString(s[:i-1] + "${")
			s = s[i+2:]
			continue
		}
		out.WriteString(s[:i])
		j := strings.IndexByte(s[i:], '}')
		if j < 0 {
			return "", fmt.Errorf("%q has ${ without }", s)
		}
		name, def, hasDef := strings.Cut(s[i+2:i+j], ":-")
		v, ok := lookup(name)
		switch {
		case hasDef && v == "":
			v = def
		case !ok && !hasDef:
			return "", fmt.Errorf("environment variable %q is not set; ${%s:-default} gives a default", name, name)
		}
		out.WriteString(v)
		s = s[i+j+1:]
	}
}

// applySet sets a value of the tree: a.b=c, with numbers for list items.
func applySet(top *yaml.Node, set string) error {
	path, value, ok := strings.Cut(set, "=")
	if !ok || path == "" {
		return errors.New("want path=value")
	}
	var v yaml.Node
	if err := yaml.Unmarshal([]byte(value), &v); err != nil {
		return err
	}
	leaf := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null"}
	if len(v.Content) > 0 {
		leaf = v.Content[0]
	}
	clearLines(leaf)
	n := top
	parts := strings.Split(path, ".")
	for i, p := range parts {
		last := i == len(parts)-1
		var slot **yaml.Node
		switch n.Kind {
		case yaml.SequenceNode:
			k, err := strconv.Atoi(p)
			if err != nil || k < 0 || k >= len(n.Content) {
				return fmt.Errorf("%q is no item of a list of %d", p, len(n.Content))
			}
			slot = &n.Content[k]
		case yaml.MappingNode:
			for k := 0; k+1 < len(n.Content); k += 2 {
				if n.Content[k].Value == p {
					slot = &n.Content[k+1]
				}
			}
			if slot == nil {
				n.Content = append(n.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: p},
					&yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"})
				slot = &n.Content[len(n.Content)-1]
			}
		default:
			return fmt.Errorf("%q is inside a plain value", p)
		}
		if last {
			*slot = leaf
			return nil
		}
		if (*slot).Kind == yaml.ScalarNode && (*slot).Tag == "!!null" {
			*slot = &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
		}
		n = *slot
	}
	return nil
}

func clearLines(n *yaml.Node) {
	n.Line, n.Column = 0, 0
	for _, c := range n.Content {
		clearLines(c)
	}
}

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
		v, err := strconv.Atoi(strings.ReplaceAll(n.Value, "_", ""))
		if err != nil {
			s.d.fail(n, "%s: want a whole number, not %q", s.name(key), n.Value)
			return
		}
		*dst = v
	}
}

func (s *section) unsigned(key string, dst *uint64) {
	if n := s.scalar(key); n != nil {
		v, err := strconv.ParseUint(n.Value, 10, 64)
		if err != nil {
			s.d.fail(n, "%s: want a whole number from 0, not %q", s.name(key), n.Value)
			return
		}
		*dst = v
	}
}

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

// typed reads a section {type: T, ...} whose other keys are the options of
// T, as its package parses them from JSON.
func typed[C any](d *document, n *yaml.Node, path string, parse func(typ string, params json.RawMessage) (C, error)) (c C, ok bool) {
	s := d.section(n, path)
	var typ string
	s.text("type", &typ)
	if typ == "" {
		d.fail(n, "%s: no type is given", path)
		return c, false
	}
	params := map[string]any{}
	for name, v := range s.vals {
		if name == "type" {
			continue
		}
		var x any
		if err := v.Decode(&x); err != nil {
			d.fail(v, "%s: %w", s.name(name), err)
			return c, false
		}
		params[name] = x
	}
	b, err := json.Marshal(params)
	if err == nil {
		c, err = parse(typ, b)
	}
	if err != nil {
		d.fail(n, "%s: %w", path, err)
		return c, false
	}
	return c, true
}

// end reports the keys that nothing asked for.
func (s *section) end() {
	for name, k := range s.keys {
		if slices.Contains(s.asked, name) {
			continue
		}
		hint := ""
		if near := nearest(name, s.asked); near != "" {
			hint = fmt.Sprintf("; did you mean %q?", near)
		}
		s.d.fail(k, "unknown key %q%s", s.name(name), hint)
	}
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
