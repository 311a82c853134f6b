package pipeline

import (
	"strings"
	"unicode/utf8"

	"github.com/permafrost-ml/permafrost/source"
)

// sourceKinds are the keys of which a split has exactly one, each with what
// reads it and the options beside it.
var sourceKinds = []struct {
	key  string
	read func(y *yamlConfig, s *section) source.Source[source.Fields]
}{
	{"jsonl", func(y *yamlConfig, s *section) source.Source[source.Fields] {
		return source.JSONL[source.Fields](y.paths(s, "jsonl")...)
	}},
	{"csv", (*yamlConfig).csv},
	{"parquet", func(y *yamlConfig, s *section) source.Source[source.Fields] {
		return source.Parquet[source.Fields](y.paths(s, "parquet")...)
	}},
	{"arrow", func(y *yamlConfig, s *section) source.Source[source.Fields] {
		return source.Arrow[source.Fields](y.paths(s, "arrow")...)
	}},
	{"images", func(y *yamlConfig, s *section) source.Source[source.Fields] {
		var root string
		s.text("images", &root)
		return source.Images[source.Fields](y.path(root))
	}},
	{"godoc", (*yamlConfig).godoc},
}

// source reads one split: exactly one kind of dataset, with its options.
func (y *yamlConfig) source(s *section) source.Source[source.Fields] {
	var found []source.Source[source.Fields]
	var keys []string
	for _, k := range sourceKinds {
		keys = append(keys, k.key)
		if s.get(k.key) != nil {
			found = append(found, k.read(y, s))
		}
	}
	s.end()
	if len(found) != 1 {
		y.d.fail(s.node, "%s: declare one of %s", s.path, strings.Join(keys, ", "))
		return source.Slice[source.Fields](nil)
	}
	return found[0]
}

// paths reads a path or several.
func (y *yamlConfig) paths(s *section, key string) []string {
	p := s.texts(key)
	for i := range p {
		p[i] = y.path(p[i])
	}
	return p
}

func (y *yamlConfig) csv(s *section) source.Source[source.Fields] {
	o := source.CSVOptions{Columns: s.texts("columns")}
	var comma string
	s.text("comma", &comma)
	if comma != "" {
		r, n := utf8.DecodeRuneInString(comma)
		if n != len(comma) {
			y.d.fail(s.vals["comma"], "%s: want one character", s.name("comma"))
		}
		o.Comma = r
	}
	return source.CSV[source.Fields](y.paths(s, "csv")...).With(o)
}

func (y *yamlConfig) godoc(s *section) source.Source[source.Fields] {
	var root, part string
	var percent int
	s.text("godoc", &root)
	s.text("part", &part)
	s.integer("val_percent", &percent)
	if part != "" {
		s.oneOf("part", part, "train", "val")
	}
	if percent < 0 || percent > 100 {
		y.d.fail(s.vals["val_percent"], "%s: want 0 to 100", s.name("val_percent"))
	}
	if root == "std" {
		root = ""
	}
	return source.Godoc[source.Fields](y.path(root), source.GodocOptions{Split: part, ValPercent: percent})
}
