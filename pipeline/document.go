package pipeline

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// document is a config file as a tree of YAML nodes, with the problems found
// in it: all of them are reported at once, each with its line and column.
type document struct {
	name     string
	set      map[*yaml.Node]string // nodes that a setting made, and which
	bad      map[*yaml.Node]bool   // nodes that a problem was reported of
	problems []problem
}

type problem struct {
	line, column int
	err          error
}

// fail reports a problem of a node, the first one only.
func (d *document) fail(n *yaml.Node, format string, args ...any) {
	p := problem{line: math.MaxInt}
	place := d.name
	if n != nil {
		if d.bad[n] {
			return
		}
		d.bad[n] = true
		if n.Line > 0 {
			p.line, p.column = n.Line, n.Column
			place = fmt.Sprintf("%s:%d:%d", d.name, n.Line, n.Column)
		} else if set, ok := d.set[n]; ok {
			place = "--set " + set
		}
	}
	p.err = fmt.Errorf("%w: %s: %w", ErrConfig, place, fmt.Errorf(format, args...))
	d.problems = append(d.problems, p)
}

// err returns all problems in the order of their places.
func (d *document) err() error {
	slices.SortStableFunc(d.problems, func(a, b problem) int {
		return cmp.Or(cmp.Compare(a.line, b.line), cmp.Compare(a.column, b.column))
	})
	var errs []error
	for _, p := range d.problems {
		errs = append(errs, p.err)
	}
	return errors.Join(errs...)
}

// parseDocument reads YAML, replaces ${VAR} and ${VAR:-default} in its
// values and applies settings of the form a.b=value. The error is that of a
// document of which nothing can be read.
func parseDocument(name string, data []byte, sets []string) (*document, *yaml.Node, error) {
	d := &document{name: name, set: map[*yaml.Node]string{}, bad: map[*yaml.Node]bool{}}
	top, err := parseYAML(data)
	if err != nil {
		return nil, nil, syntaxError(name, err)
	}
	d.check(top, 0)
	if top.Kind != yaml.MappingNode {
		d.fail(top, "want a mapping at the top")
	}
	if err := d.err(); err != nil {
		return nil, nil, err
	}
	d.expand(top)
	for _, set := range sets {
		if err := d.apply(top, set); err != nil {
			d.problems = append(d.problems, problem{math.MaxInt, 0, fmt.Errorf("%w: --set %s: %w", ErrConfig, set, err)})
		}
	}
	return d, top, nil
}

// parseYAML reads the one document there is; an empty one is a mapping.
func parseYAML(data []byte) (*yaml.Node, error) {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var root, more yaml.Node
	if err := dec.Decode(&root); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if err := dec.Decode(&more); err == nil {
		return nil, fmt.Errorf("line %d: a second document begins", more.Line)
	} else if !errors.Is(err, io.EOF) {
		return nil, err
	}
	if len(root.Content) == 0 || isNull(root.Content[0]) {
		return &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}, nil
	}
	return root.Content[0], nil
}

var syntaxLine = regexp.MustCompile(`^(?:yaml: )?(?:line (\d+): )?`)

// syntaxError puts the line that the YAML parser names where it belongs.
func syntaxError(name string, err error) error {
	m := syntaxLine.FindStringSubmatch(err.Error())
	if m[1] != "" {
		name += ":" + m[1]
	}
	return fmt.Errorf("%w: %s: %s", ErrConfig, name, err.Error()[len(m[0]):])
}

// maxDepth bounds the nesting.
const maxDepth = 20

// check refuses what a config needs not have and a reader may miss.
func (d *document) check(n *yaml.Node, depth int) {
	switch {
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		d.fail(n, "anchors and aliases are not supported")
		return
	case depth > maxDepth:
		d.fail(n, "nested over %d levels", maxDepth)
		return
	}
	for _, c := range n.Content {
		d.check(c, depth+1)
	}
}

func (d *document) expand(n *yaml.Node) {
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
		d.expand(c)
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

// apply sets a value of the tree: a.b=c, with numbers for list items. An
// empty value is null: as if the key were not there.
func (d *document) apply(top *yaml.Node, set string) error {
	path, value, ok := strings.Cut(set, "=")
	if !ok || path == "" {
		return errors.New("want path=value")
	}
	leaf := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null"}
	if strings.TrimSpace(value) != "" {
		var err error
		if leaf, err = parseYAML([]byte(value)); err != nil {
			return err
		}
	}
	d.mark(leaf, set)
	d.check(leaf, 0)
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
				key := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: p}
				n.Content = append(n.Content, key, &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"})
				slot = &n.Content[len(n.Content)-1]
				d.set[key], d.set[*slot] = set, set
			}
		default:
			return fmt.Errorf("%q is inside a plain value", p)
		}
		if last {
			*slot = leaf
			return nil
		}
		if isNull(*slot) {
			*slot = &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
			d.set[*slot] = set
		}
		n = *slot
	}
	return nil
}

// mark notes where the nodes of a setting come from: from no line.
func (d *document) mark(n *yaml.Node, set string) {
	n.Line, n.Column = 0, 0
	d.set[n] = set
	for _, c := range n.Content {
		d.mark(c, set)
	}
}
