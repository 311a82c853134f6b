package pipeline

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/permafrost-ml/permafrost/cachesink"
	"github.com/permafrost-ml/permafrost/encode"
	"github.com/permafrost-ml/permafrost/pipeline/head"
	"github.com/permafrost-ml/permafrost/pipeline/loss"
	"github.com/permafrost-ml/permafrost/pipeline/metric"
	"github.com/permafrost-ml/permafrost/pipeline/sampler"
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
	return c, d.err()
}

type yamlConfig struct {
	d       *document
	dir     string
	c       *Config[source.Fields]
	mapping mapping
	pairs   bool
}

func (y *yamlConfig) path(p string) string { return files{y.dir}.path(p) }

func (y *yamlConfig) read(s *section) {
	version := 0
	if s.integer("version", &version); version != configVersion {
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
		l, ok := typed(y.d, n, "loss", loss.Parse)
		if ok && (l.Kind() == loss.Pairs) != y.pairs {
			y.d.fail(n, "loss: %s takes %v, which dataset does not declare; use %s",
				l.Type(), l.Kind(), strings.Join(loss.Types(y.kind()), " or "))
		}
		y.c.Loss = l
	}
	y.train(s.sub("train"))
	if n := s.get("metrics"); n != nil {
		if n.Kind != yaml.SequenceNode {
			y.d.fail(n, "metrics: want a list")
		} else {
			for i, m := range n.Content {
				c, ok := typed(y.d, m, fmt.Sprintf("metrics.%d", i), metric.Parse)
				if !ok {
					continue
				}
				if _, scored := c.(metric.Correlation); scored && !y.pairs {
					y.d.fail(m, "metrics.%d: %s takes scored pairs, which dataset does not declare", i, c.Type())
				}
				y.c.Metrics = append(y.c.Metrics, c)
			}
		}
	}
	ev := s.sub("eval")
	y.split(ev, &y.c.EvalSplit)
	y.sample(ev.sub("sample"))
	ev.end()
	s.text("output", &y.c.Output)
	y.c.Output = y.path(y.c.Output)
	s.end()
}

func (y *yamlConfig) dataset(s *section) {
	y.c.Splits = Splits[source.Fields]{}
	splits := s.sub("splits")
	for _, name := range splits.names() {
		y.checkName(splits, name)
		y.c.Splits[name] = y.source(splits.sub(name))
	}
	if len(splits.names()) == 0 {
		y.d.fail(splits.at(s), "dataset.splits: no split is declared")
	}
	m := &y.mapping
	pair, group := s.sub("pair"), s.sub("group")
	y.pairs = group.node == nil
	switch {
	case pair.node != nil && group.node != nil:
		y.d.fail(group.node, "dataset: pair and group exclude each other")
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
		switch {
		case slices.Contains(m.Keep, name):
			y.d.fail(s.vals["keep"], "dataset.keep: %q is named twice", name)
		case ok && !slices.Contains(keepTypes, typ):
			y.d.fail(s.vals["keep"], "dataset.keep: type %q of %q is none of %s", typ, name, strings.Join(keepTypes, ", "))
		case ok:
			if y.c.KeepTypes == nil {
				y.c.KeepTypes = map[string]string{}
			}
			y.c.KeepTypes[name] = typ
		}
		m.Keep = append(m.Keep, name)
	}
	var onError string
	if s.text("on_error", &onError); onError != "" {
		s.oneOf("on_error", onError, string(source.Fail), string(source.Skip), string(source.Quarantine))
	}
	y.c.OnError = source.OnError(onError)
	y.c.Quarantine = defaultQuarantine
	s.text("quarantine", &y.c.Quarantine)
	y.c.Quarantine = y.path(y.c.Quarantine)
	s.end()
	for name, src := range y.c.Splits {
		y.c.Splits[name] = source.Project(src, m.columns()...)
	}
	y.c.Sample, y.c.leastJSON = m.sample, m.leastJSON()
	spec, err := json.Marshal(m)
	if err != nil {
		y.d.fail(s.node, "dataset: %w", err)
	}
	y.c.Version = "mapping v1 " + string(spec)
}

// kind is that of the declared samples.
func (y *yamlConfig) kind() loss.Kind {
	if y.pairs {
		return loss.Pairs
	}
	return loss.Groups
}

// split reads the name of a split.
func (y *yamlConfig) split(s *section, dst *string) {
	if s.text("split", dst); *dst != "" {
		s.oneOf("split", *dst, slices.Sorted(maps.Keys(y.c.Splits))...)
	}
}

// sample reads how metrics are estimated.
func (y *yamlConfig) sample(s *section) {
	m := &y.c.EvalSample
	s.integer("size", &m.Size)
	s.integer("repeats", &m.Repeats)
	s.unsigned("seed", &m.Seed)
	if s.end(); s.node == nil {
		return
	}
	if err := m.Validate(); err != nil {
		y.d.fail(s.node, "eval.%w", err)
	} else if m.Size == 0 {
		y.d.fail(s.node, "eval.sample: size is missing")
	}
}

// checkName holds the name of a split or an encoder to what may be in names
// of folders and columns.
func (y *yamlConfig) checkName(s *section, name string) {
	if !nameRule.MatchString(name) {
		y.d.fail(s.keys[name], "%s: want a name of small letters, digits and _, a letter first", s.name(name))
	}
}

// object reads an object's declaration: a column, or fields by name.
func (y *yamlConfig) object(s *section, key string) map[string]string {
	n := s.get(key)
	if n == nil || n.Kind == yaml.ScalarNode && n.Value == "" {
		y.d.fail(cmp.Or(n, s.node), "%s: name the column, or the columns of the fields", s.name(key))
		return nil
	}
	if n.Kind == yaml.ScalarNode {
		return map[string]string{encode.DefaultField: n.Value}
	}
	fields := map[string]string{}
	sub := s.sub(key)
	for _, name := range sub.names() {
		var column string
		if sub.text(name, &column); column == "" {
			y.d.fail(sub.vals[name], "%s: name the column", sub.name(name))
		}
		fields[name] = column
	}
	if len(fields) == 0 {
		y.d.fail(n, "%s: name the column, or the columns of the fields", s.name(key))
	}
	return fields
}

func (y *yamlConfig) encoders(s *section) {
	y.c.Encoders = Encoders{}
	for _, name := range s.names() {
		y.checkName(s, name)
		for _, column := range y.mapping.Keep {
			if cachesink.ReservedColumn(column, []string{name}) {
				y.d.fail(s.keys[name], "dataset.keep: %q is the name of a column that every split with this encoder has", column)
			}
		}
		y.c.Encoders[name] = y.encoder(s.sub(name), s)
	}
	if len(s.names()) == 0 {
		y.d.fail(s.node, "encoders: no encoder is declared")
	}
}

// readable reports why an encoder cannot read the declared objects.
func (y *yamlConfig) readable(r encode.Reads) error {
	if err := r.Validate(); err != nil {
		return err
	}
	for _, fields := range []map[string]string{y.mapping.A, y.mapping.B} {
		if len(fields) == 0 {
			continue // not declared, or reported
		}
		o := encode.Record(nil)
		for name := range fields {
			o = o.With(name, encode.TextValue("any"))
		}
		if _, err := r.Input(o); err != nil {
			return fmt.Errorf("it reads %s: %w", r, err)
		}
	}
	return nil
}

func (y *yamlConfig) cache(s *section) {
	c := y.c.Cache
	cacheType := func(s *section, key string) cachesink.CacheType {
		var text string
		s.text(key, &text)
		t, err := cachesink.ParseCacheType(text)
		if err != nil {
			y.d.fail(s.vals[key], "%s: %w", s.name(key), err)
		}
		if text == "" {
			return "" // the default, which Go code spells like this too
		}
		return t
	}
	c.CacheType = cacheType(s, "cache_type")
	encoders := slices.Sorted(maps.Keys(y.c.Encoders))
	m := s.sub("mapping")
	for _, name := range m.names() {
		if c.Mapping == nil {
			c.Mapping = Mapping{}
		}
		c.Mapping[name] = cacheType(m, name)
	}
	m.known(encoders)
	s.integer("batch_size", &c.BatchSize)
	s.integer("num_workers", &c.NumWorkers)
	s.integer("shard_objects", &c.ShardObjects)
	s.integer("record_batch_rows", &c.RecordBatchRows)
	y.dtypes(s, encoders)
	var compression string
	if s.text("compression", &compression); compression != "" {
		s.oneOf("compression", compression, string(cachesink.Uncompressed), string(cachesink.LZ4), string(cachesink.Zstd))
	}
	c.Compression = cachesink.Compression(compression)
	var access string
	if s.text("access", &access); access != "" {
		s.oneOf("access", access, string(cachesink.AccessMapped), string(cachesink.AccessCopy))
	}
	c.Access = cachesink.Access(access)
	s.text("save_dir", &c.SaveDir)
	if cachesink.Scheme(c.SaveDir) == "" {
		c.SaveDir = y.path(c.SaveDir)
	}
	if err := cachesink.CheckPlace(c.SaveDir); err != nil {
		y.d.fail(s.vals["save_dir"], "cache.save_dir: %w", err)
	}
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
			sub.known(encoders)
			c.KeyExtractors = Keys(keys)
		}
	}
	s.end()
}

// dtypes reads one storage dtype for all encoders, or a mapping by name.
func (y *yamlConfig) dtypes(s *section, encoders []string) {
	one := func(s *section, key string) cachesink.DType {
		var d string
		if s.text(key, &d); d != "" {
			s.oneOf(key, d, string(cachesink.Float32), string(cachesink.Float16), string(cachesink.Int8))
		}
		return cachesink.DType(d)
	}
	n := s.get("dtype")
	if n == nil || n.Kind == yaml.ScalarNode {
		y.c.Cache.DType = one(s, "dtype")
		return
	}
	sub := s.sub("dtype")
	for _, name := range sub.names() {
		if y.c.Cache.DTypes == nil {
			y.c.Cache.DTypes = map[string]cachesink.DType{}
		}
		y.c.Cache.DTypes[name] = one(sub, name)
	}
	sub.known(encoders)
}

// sampled reports the columns that a sampler reads and no split has.
func (y *yamlConfig) sampled(n *yaml.Node, smp sampler.Config) {
	columns := []string{cachesink.ColumnLabel}
	if y.pairs {
		columns = []string{cachesink.ColumnScore, cachesink.ColumnSubgroup}
	}
	columns = append(columns, y.mapping.Keep...)
	for _, name := range smp.Columns() {
		if !slices.Contains(columns, name) {
			y.d.fail(n, "train.sampler: no split has the column %q, there is %s, and what dataset.keep adds%s",
				name, strings.Join(columns, ", "), hint(name, columns))
		}
	}
}

func (y *yamlConfig) train(s *section) {
	t := &y.c.Train
	s.integer("epochs", &t.Epochs)
	s.integer("batch_size", &t.BatchSize)
	shuffle := true
	s.boolean("shuffle", &shuffle)
	t.Sequential = !shuffle
	s.boolean("drop_last", &t.DropLast)
	y.split(s, &y.c.TrainSplit)
	if n := s.get("sampler"); n != nil {
		if smp, ok := typed(y.d, n, "train.sampler", sampler.Parse); ok {
			y.sampled(n, smp)
			y.c.Sampler = smp
		}
	}
	if n := s.get("optimizer"); n != nil {
		t.Optimizer, _ = typed(y.d, n, "train.optimizer", train.ParseOptimizer)
	}
	if n := s.get("schedule"); n != nil {
		t.Schedule, _ = typed(y.d, n, "train.schedule", train.ParseSchedule)
	}
	s.number("clip_norm", &t.ClipNorm)
	if s.has("validation") {
		v := s.sub("validation")
		t.Validation = &train.Validation{}
		v.integer("every_epochs", &t.Validation.EveryEpochs)
		v.boolean("loss", &t.Validation.Loss)
		v.boolean("metrics", &t.Validation.Metrics)
		v.end()
	}
	if s.has("early_stopping") {
		e := s.sub("early_stopping")
		stop, restore := &train.EarlyStopping{}, true
		e.text("monitor", &stop.Monitor)
		e.integer("patience", &stop.Patience)
		e.number("min_delta", &stop.MinDelta)
		if e.text("mode", &stop.Mode); stop.Mode != "" {
			e.oneOf("mode", stop.Mode, "min", "max")
		}
		e.boolean("restore_best", &restore)
		stop.KeepLast = !restore
		t.EarlyStopping = stop
		e.end()
	}
	if s.has("checkpoints") {
		c := s.sub("checkpoints")
		resume := true
		t.Checkpoints = &train.Checkpoints{}
		c.integer("every_epochs", &t.Checkpoints.EveryEpochs)
		c.integer("every_steps", &t.Checkpoints.EverySteps)
		c.boolean("resume", &resume)
		t.Checkpoints.Fresh = !resume
		c.end()
	}
	l := s.sub("log")
	board := true
	l.integer("every_steps", &t.Log.EverySteps)
	l.boolean("tensorboard", &board)
	t.Log.NoTensorBoard = !board
	l.end()
	s.end()
}
