package pipeline

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/permafrost-ml/permafrost/cachesink"
	"github.com/permafrost-ml/permafrost/encode"
	"github.com/permafrost-ml/permafrost/encode/static"
	"github.com/permafrost-ml/permafrost/pipeline/head"
	"github.com/permafrost-ml/permafrost/pipeline/loss"
	"github.com/permafrost-ml/permafrost/pipeline/metric"
	"github.com/permafrost-ml/permafrost/pipeline/train"
	"github.com/permafrost-ml/permafrost/source"
)

// configVersion is the version of the config format.
const configVersion = 1

// LoadConfig reads a YAML config file, strictly: an unknown key is an error
// with its line and column. ${VAR} and ${VAR:-default} are replaced in
// values, sets (a.b=value) override them, and relative paths are relative to
// the file. All problems are reported at once; each wraps ErrConfig.
func LoadConfig(path string, sets ...string) (Config[source.Fields], error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return Config[source.Fields]{}, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	return ParseConfig(path, data, sets...)
}

// ParseConfig is LoadConfig for a config in memory; name stands for its path.
func ParseConfig(name string, data []byte, sets ...string) (Config[source.Fields], error) {
	var c Config[source.Fields]
	if !utf8.Valid(data) {
		return c, configErr("%s: not UTF-8", name)
	}
	d, top, err := parseDocument(name, data, sets)
	if err != nil {
		return c, err
	}
	y := &yamlConfig{d: d, dir: filepath.Dir(name), c: &c}
	y.read(d.section(top, ""))
	slices.SortStableFunc(d.errs, func(a, b error) int { return cmp.Compare(a.Error(), b.Error()) })
	return c, errors.Join(d.errs...)
}

type yamlConfig struct {
	d   *document
	dir string
	c   *Config[source.Fields]
}

func (y *yamlConfig) path(p string) string {
	if p == "" || filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(y.dir, filepath.FromSlash(p))
}

func (y *yamlConfig) read(s *section) {
	version := 0
	s.integer("version", &version)
	if version != configVersion {
		y.d.fail(s.vals["version"], "version: want %d, the version of this config format", configVersion)
	}
	s.unsigned("seed", &y.c.Seed)
	y.dataset(s.sub("dataset"))
	y.encoders(s.sub("encoders"))
	if s.has("cache") {
		y.c.Cache = &CacheConfig{}
		y.cache(s.sub("cache"))
	}
	if n := s.get("head"); n != nil {
		y.c.Head, _ = typed(y.d, n, "head", head.Parse)
	}
	if n := s.get("loss"); n != nil {
		y.c.Loss, _ = typed(y.d, n, "loss", loss.Parse)
	}
	y.train(s.sub("train"))
	if n := s.get("metrics"); n != nil {
		if n.Kind != yaml.SequenceNode {
			y.d.fail(n, "metrics: want a list")
		} else {
			for i, m := range n.Content {
				if c, ok := typed(y.d, m, fmt.Sprintf("metrics.%d", i), metric.Parse); ok {
					y.c.Metrics = append(y.c.Metrics, c)
				}
			}
		}
	}
	ev := s.sub("eval")
	ev.text("split", &y.c.EvalSplit)
	ev.end()
	s.text("output", &y.c.Output)
	y.c.Output = y.path(y.c.Output)
	s.end()
}

func (y *yamlConfig) dataset(s *section) {
	y.c.Splits = Splits[source.Fields]{}
	splits := s.sub("splits")
	for _, name := range splits.names() {
		if src := y.source(splits.sub(name)); src != nil {
			y.c.Splits[name] = src
		}
	}
	if len(splits.names()) == 0 {
		y.d.fail(s.node, "dataset.splits: no split is declared")
	}
	m := mapping{}
	pair, group := s.sub("pair"), s.sub("group")
	switch {
	case pair.node != nil && group.node != nil:
		y.d.fail(s.node, "dataset: pair and group exclude each other")
	case pair.node != nil:
		m.A, m.B = y.object(pair, "a"), y.object(pair, "b")
		pair.text("score", &m.Score)
		pair.text("subgroup", &m.Subgroup)
	case group.node != nil:
		m.A = y.object(group, "object")
		group.text("label", &m.Label)
		if m.Label == "" {
			y.d.fail(group.node, "dataset.group.label: name the column of the label")
		}
	default:
		y.d.fail(s.node, "dataset: declare pair: {a, b} or group: {object, label}")
	}
	pair.end()
	group.end()
	for _, k := range s.texts("keep") {
		name, typ, ok := strings.Cut(k, ":")
		m.Keep = append(m.Keep, name)
		if ok {
			if y.c.KeepTypes == nil {
				y.c.KeepTypes = map[string]string{}
			}
			y.c.KeepTypes[name] = typ
		}
	}
	var onError string
	s.text("on_error", &onError)
	y.c.OnError = source.OnError(onError)
	y.c.Quarantine = defaultQuarantine
	s.text("quarantine", &y.c.Quarantine)
	y.c.Quarantine = y.path(y.c.Quarantine)
	s.end()
	y.c.Sample = m.sample
	spec, err := json.Marshal(m)
	if err != nil {
		y.d.fail(s.node, "dataset: %w", err)
	}
	y.c.Version = "mapping " + string(spec)
}

// object reads an object's declaration: a column, or fields by name.
func (y *yamlConfig) object(s *section, key string) map[string]string {
	n := s.get(key)
	if n == nil {
		y.d.fail(s.node, "%s: name the column, or the columns of the fields", s.name(key))
		return nil
	}
	if n.Kind == yaml.ScalarNode {
		return map[string]string{encode.DefaultField: n.Value}
	}
	fields := map[string]string{}
	sub := s.sub(key)
	for _, name := range sub.names() {
		var column string
		sub.text(name, &column)
		fields[name] = column
	}
	return fields
}

// source reads one split: exactly one kind of dataset, with its options.
func (y *yamlConfig) source(s *section) source.Source[source.Fields] {
	var found []source.Source[source.Fields]
	paths := func(key string) []string {
		p := s.texts(key)
		for i := range p {
			p[i] = y.path(p[i])
		}
		return p
	}
	if p := paths("jsonl"); p != nil {
		found = append(found, source.JSONL[source.Fields](p...))
	}
	if p := paths("csv"); p != nil {
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
		found = append(found, source.CSV[source.Fields](p...).With(o))
	}
	if s.get("godoc") != nil {
		var root, part string
		var percent int
		s.text("godoc", &root)
		s.text("part", &part)
		s.integer("val_percent", &percent)
		if root == "std" {
			root = ""
		}
		found = append(found, source.Godoc[source.Fields](y.path(root), source.GodocOptions{Split: part, ValPercent: percent}))
	}
	s.end()
	if len(found) != 1 {
		y.d.fail(s.node, "%s: declare one of jsonl, csv, godoc", s.path)
		return nil
	}
	return found[0]
}

func (y *yamlConfig) encoders(s *section) {
	y.c.Encoders = Encoders{}
	for _, name := range s.names() {
		e := s.sub(name)
		var typ string
		e.text("type", &typ)
		var r encode.Reads
		e.text("input", &r.Field)
		r.Fields = e.texts("fields")
		e.text("template", &r.Template)
		e.end()
		m, err := newModel(typ)
		if err != nil {
			y.d.fail(e.node, "encoders.%s: %w", name, err)
			continue
		}
		y.c.Encoders[name] = encode.Reading(m, r)
	}
	if len(s.names()) == 0 {
		y.d.fail(s.node, "encoders: no encoder is declared")
	}
}

// newModel returns the model of a type named in a config.
func newModel(typ string) (encode.Model, error) {
	switch typ {
	case "static":
		return static.Default(), nil
	case "":
		return nil, errors.New("no type is given, there is static")
	}
	return nil, fmt.Errorf("unknown type %q, there is static", typ)
}

func (y *yamlConfig) cache(s *section) {
	c := y.c.Cache
	var t string
	s.text("cache_type", &t)
	c.CacheType = cachesink.CacheType(t)
	m := s.sub("mapping")
	for _, name := range m.names() {
		if c.Mapping == nil {
			c.Mapping = Mapping{}
		}
		var t string
		m.text(name, &t)
		c.Mapping[name] = cachesink.CacheType(t)
	}
	m.end()
	s.integer("batch_size", &c.BatchSize)
	s.integer("num_workers", &c.NumWorkers)
	s.integer("shard_objects", &c.ShardObjects)
	s.text("save_dir", &c.SaveDir)
	c.SaveDir = y.path(c.SaveDir)
	if n := s.get("key_extractors"); n != nil {
		key := func(n *yaml.Node, path string) encode.Key {
			k, err := encode.ParseKey(n.Value)
			if err != nil {
				y.d.fail(n, "%s: %w", path, err)
			}
			return k
		}
		if n.Kind == yaml.ScalarNode {
			c.KeyExtractors = NamedKey(key(n, "cache.key_extractors"))
		} else {
			keys := map[string]encode.Key{}
			sub := s.sub("key_extractors")
			for _, name := range sub.names() {
				if v := sub.scalar(name); v != nil {
					keys[name] = key(v, sub.name(name))
				}
			}
			c.KeyExtractors = Keys(keys)
		}
	}
	s.end()
}

func (y *yamlConfig) train(s *section) {
	t := &y.c.Train
	s.integer("epochs", &t.Epochs)
	s.integer("batch_size", &t.BatchSize)
	shuffle := true
	s.boolean("shuffle", &shuffle)
	t.Sequential = !shuffle
	s.text("split", &y.c.TrainSplit)
	if n := s.get("optimizer"); n != nil {
		t.Optimizer, _ = typed(y.d, n, "train.optimizer", train.ParseOptimizer)
	}
	s.end()
}

// mapping makes samples of rows by the names of columns.
type mapping struct {
	A        map[string]string `json:"a"` // field -> column
	B        map[string]string `json:"b,omitempty"`
	Label    string            `json:"label,omitempty"`
	Score    string            `json:"score,omitempty"`
	Subgroup string            `json:"subgroup,omitempty"`
	Keep     []string          `json:"keep,omitempty"`
}

// sample implements Config.Sample.
func (m *mapping) sample(row source.Fields) Sample {
	a, err := m.object(row, m.A)
	if err != nil {
		return Bad(err)
	}
	var s Sample
	if m.Label != "" {
		label, ok := row[m.Label]
		if !ok || label == nil {
			return Bad(missing(row, m.Label))
		}
		s = Group(a, label)
	} else {
		b, err := m.object(row, m.B)
		if err != nil {
			return Bad(err)
		}
		s = Pair(a, b)
		if m.Score != "" {
			v, err := m.number(row, m.Score)
			if err != nil {
				return Bad(err)
			}
			s.Score = v
		}
		if m.Subgroup != "" {
			if s.Subgroup = row[m.Subgroup]; s.Subgroup == nil {
				return Bad(missing(row, m.Subgroup))
			}
		}
	}
	for _, name := range m.Keep {
		v, ok := row[name]
		if !ok {
			v = nil
		}
		if raw, ok := v.(json.RawMessage); ok {
			v = string(raw)
		}
		s = s.With(name, v)
	}
	return s
}

func missing(row source.Fields, column string) error {
	return fmt.Errorf("%w: column %q (the row has %q)", encode.ErrField, column, slices.Sorted(maps.Keys(row)))
}

func (m *mapping) object(row source.Fields, fields map[string]string) (encode.Object, error) {
	vals := make(map[string]encode.Value, len(fields))
	for field, column := range fields {
		switch v := row[column].(type) {
		case string:
			vals[field] = encode.TextValue(v)
		case int64:
			vals[field] = encode.NumberValue(float64(v))
		case float64:
			vals[field] = encode.NumberValue(v)
		case bool:
			vals[field] = encode.TextValue(fmt.Sprint(v))
		case []byte:
			vals[field] = encode.BytesValue(v)
		case json.RawMessage:
			vals[field] = encode.TextValue(string(v))
		default:
			return encode.Object{}, missing(row, column)
		}
	}
	return encode.Record(vals), nil
}

func (m *mapping) number(row source.Fields, column string) (float32, error) {
	switch v := row[column].(type) {
	case int64:
		return float32(v), nil
	case float64:
		return float32(v), nil
	case string: // every value of a CSV file
		if f, err := strconv.ParseFloat(strings.TrimSpace(v), 32); err == nil {
			return float32(f), nil
		}
	case nil:
		return 0, missing(row, column)
	}
	return 0, fmt.Errorf("column %q: %v is no number", column, row[column])
}
