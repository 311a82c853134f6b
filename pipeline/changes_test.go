package pipeline_test

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/permafrost-ml/permafrost/pipeline"
	"github.com/permafrost-ml/permafrost/source"
)

// changesYAML is the pipeline of TestMutations and TestNeutralChanges, with a
// model directory of its own and every kind of column.
const changesYAML = `version: 1
dataset:
  splits: {train: {jsonl: train.jsonl}, val: {jsonl: val.jsonl}}
  pair: {a: {text: q, topic: c}, b: {text: a, topic: c}, score: s, subgroup: c}
  keep: ['n:int64']
encoders:
  enc: {type: bert, model: m, input: text}
  words: {type: static, template: "query: {text}"}
cache:
  save_dir: cache
  batch_size: 4
  key_extractors: content
`

// grouped turns the pairs of changesYAML into groups.
var groupedYAML = strings.NewReplacer(
	"pair: {a: {text: q, topic: c}, b: {text: a, topic: c}, score: s, subgroup: c}", "group: {object: {text: q, topic: c}, label: c}")

// place is a folder with a config, its dataset and its model.
type place struct {
	t    *testing.T
	dir  string
	yaml string
}

const (
	trainRows, valRows = 10, 4
	objects            = 2 * (trainRows + valRows) // of each encoder
)

// newPlace makes a place. Every text has its own first words.
func newPlace(t *testing.T) *place {
	p := &place{t: t, dir: t.TempDir(), yaml: changesYAML}
	if err := os.CopyFS(filepath.Join(p.dir, "m"), os.DirFS(tinyBERT)); err != nil {
		t.Fatal(err)
	}
	jsonl(t, p.path("train.jsonl"), rows(trainRows, ""))
	jsonl(t, p.path("val.jsonl"), rows(valRows, "v"))
	return p
}

func (p *place) path(name string) string { return filepath.Join(p.dir, name) }

// config reads the config, for another cache folder if one is named.
func (p *place) config(save string) pipeline.Config[source.Fields] {
	p.t.Helper()
	cfg, err := pipeline.ParseConfig(p.path("c.yaml"), []byte(p.yaml))
	if err != nil {
		p.t.Fatal(err)
	}
	cfg.Allocator = checked(p.t)
	if save != "" {
		cfg.Cache.SaveDir = p.path(save)
	}
	return cfg
}

// replace edits a file, or the config for "".
func (p *place) replace(name, old, text string) {
	p.t.Helper()
	have := p.yaml
	if name != "" {
		have = string(read(p.t, p.path(name)))
	}
	if !strings.Contains(have, old) {
		p.t.Fatalf("no %q in %q:\n%.2000s", old, name, have)
	}
	have = strings.Replace(have, old, text, 1)
	if name == "" {
		p.yaml = have
		return
	}
	write(p.t, p.path(name), have)
}

// do is what a change consists of.
type do = func(p *place)

// yaml edits the config, edit a file.
func yaml(old, text string) do       { return func(p *place) { p.replace("", old, text) } }
func edit(name, old, text string) do { return func(p *place) { p.replace(name, old, text) } }
func cacheOption(line string) do     { return yaml("  batch_size: 4\n", "  batch_size: 4\n  "+line+"\n") }
func modelOption(option string) do   { return yaml("model: m,", "model: m, "+option+",") }
func key(spec string) do             { return yaml("key_extractors: content", "key_extractors: "+spec) }

func move(from, to string) do { return func(p *place) { p.must(os.Rename(p.path(from), p.path(to))) } }

func link(from, to string) do { return func(p *place) { p.must(os.Symlink(p.path(from), p.path(to))) } }

func copied(from, to string) do {
	return func(p *place) { p.must(os.CopyFS(p.path(to), os.DirFS(p.path(from)))) }
}

func touch(name string, at time.Time) do {
	return func(p *place) { p.must(os.Chtimes(p.path(name), at, at)) }
}

func all(changes ...do) do {
	return func(p *place) {
		for _, c := range changes {
			c(p)
		}
	}
}

// onFile passes a file's bytes through a function.
func onFile(name string, fn func([]byte) []byte) do {
	return func(p *place) { write(p.t, p.path(name), string(fn(read(p.t, p.path(name))))) }
}

// onLines passes a file's lines through a function.
func onLines(name string, fn func([]string) []string) do {
	return onFile(name, func(b []byte) []byte {
		lines := fn(strings.Split(strings.TrimSuffix(string(b), "\n"), "\n"))
		return []byte(strings.Join(lines, "\n") + "\n")
	})
}

func (p *place) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

// flipWeight changes the last bit of one number of a tensor.
func flipWeight(tensor string) do {
	return onFile("m/model.safetensors", func(b []byte) []byte {
		n := binary.LittleEndian.Uint64(b)
		var header map[string]struct {
			At []int `json:"data_offsets"`
		}
		if err := json.Unmarshal(b[8:8+n], &header); err != nil || len(header[tensor].At) == 0 {
			panic("no tensor " + tensor)
		}
		b[8+int(n)+header[tensor].At[0]+1] ^= 0x80
		return b
	})
}

const switched = `  enc: {type: switch, by: topic, options: {billing: {type: bert, model: m}, other: {type: bert, model: m, pooling: cls}}}
`

// withSwitch routes by a field that each side names.
var withSwitch = all(
	yaml("  enc: {type: bert, model: m, input: text}\n", strings.Replace(switched, "by: topic", "by: kind", 1)),
	yaml("a: {text: q, topic: c}, b: {text: a, topic: c}", "a: {text: q, topic: c, kind: k}, b: {text: a, topic: c, kind: k}"),
	onLines("train.jsonl", kinds), onLines("val.jsonl", kinds),
)

// kinds gives each row the field that a switch goes by.
func kinds(lines []string) []string {
	for i := range lines {
		lines[i] = strings.Replace(lines[i], "{", `{"k":"`+[]string{"billing", "other"}[i%2]+`",`, 1)
	}
	return lines
}

// TestMutations: what changes the output is noticed, whatever it is. What is
// served is not what was served before, and is what a fresh cache serves.
func TestMutations(t *testing.T) {
	type mutation struct {
		name    string
		before  do // of the first fill too
		change  do
		encoded int64
	}
	const text = "0005 how does printing work for case 5"
	var table []mutation
	add := func(name string, before, change do, encoded int64) {
		table = append(table, mutation{name, before, change, encoded})
	}
	// The model's folder.
	for name, change := range map[string]do{
		"a bit of the word embeddings":       flipWeight("embeddings.word_embeddings.weight"),
		"a bit of the position embeddings":   flipWeight("embeddings.position_embeddings.weight"),
		"a bit of a norm's bias":             flipWeight("embeddings.LayerNorm.bias"),
		"two tokens change places":           all(edit("m/tokenizer.json", `"0":`, `"~0":`), edit("m/tokenizer.json", `"5":`, `"0":`), edit("m/tokenizer.json", `"~0":`, `"5":`)),
		"the tokenizer's length":             all(edit("m/tokenizer_config.json", `"model_max_length": 32`, `"model_max_length": 9`)),
		"the pooling of the model":           edit("m/1_Pooling/config.json", `"mean"`, `"cls"`),
		"the activation":                     edit("m/config.json", `"gelu"`, `"relu"`),
		"the epsilon of the norms":           edit("m/config.json", `1e-12`, `1e-2`),
		"the heads":                          edit("m/config.json", `"num_attention_heads": 3`, `"num_attention_heads": 2`),
		"the model's default prompt":         all(edit("m/config_sentence_transformers.json", `"default_prompt_name": null`, `"default_prompt_name": "query"`), edit("m/config_sentence_transformers.json", `"query": ""`, `"query": "ask: "`)),
		"the maximum length of the sentence": edit("m/sentence_bert_config.json", `{`, `{"max_seq_length": 8,`),
	} {
		add(name, nil, change, objects)
	}
	add("the tokenizer folds no case", edit("train.jsonl", "how does printing", "A B C"), edit("m/tokenizer_config.json", `"do_lower_case": true`, `"do_lower_case": false`), objects)
	// The encoder's options.
	for name, option := range map[string]string{
		"pooling":        "pooling: max",
		"maximum length": "max_length: 8",
		"normalization":  "normalize: false",
		"dimension kept": "truncate_dim: 8",
		"precision":      "precision: int8",
	} {
		add("option "+name, nil, modelOption(option), objects)
	}
	add("the engine", nil, yaml("enc: {type: bert, model: m, input: text}", "enc: {type: static, input: text}"), objects)
	add("the model", nil, all(copied("m", "other"), yaml("model: m,", "model: other,"), edit("other/1_Pooling/config.json", `"mean"`, `"max"`)), objects)
	// What the encoders read.
	add("a template", nil, yaml(`"query: {text}"`, `"passage: {text}"`), objects)
	add("the field that is read", nil, yaml("input: text", "input: topic"), int64(len(topics)))
	add("no template any more", nil, yaml(`template: "query: {text}"`, `input: text`), objects)
	add("a field more in a template", nil, yaml(`"query: {text}"`, `"{topic}: {text}"`), objects)
	add("a switch's route of one row", withSwitch, edit("train.jsonl", `"k":"billing"`, `"k":"other"`), 2)
	add("what a switch's option is", withSwitch, yaml("pooling: cls", "pooling: max"), objects)
	// Rows, under every kind of key.
	for _, k := range []string{"content", "index", "field:text", `"fields:text,topic"`, "prefix:text:10", "{enc: index}"} {
		add("a text under key "+k, key(k), edit("train.jsonl", text, text+"!"), 2)
	}
	add("a text's first letter", nil, edit("train.jsonl", text, "x"+text), 2)
	add("a letter's case, for one of the encoders", nil, edit("train.jsonl", text, strings.ToUpper(text)), 2)
	add("the second side", nil, edit("val.jsonl", "a000v answer", "a000v reply"), 2)
	add("the sides", nil, yaml("a: {text: q, topic: c}, b: {text: a, topic: c}", "a: {text: a, topic: c}, b: {text: q, topic: c}"), 0)
	add("a side's field", nil, yaml("b: {text: a,", "b: {text: q,"), 0)
	add("two texts change places", nil, onLines("train.jsonl", func(l []string) []string {
		l[0], l[1] = strings.Replace(l[0], "0000 ", "~", 1), strings.Replace(l[1], "0001 ", "0000 ", 1)
		l[0] = strings.Replace(l[0], "~", "0001 ", 1)
		return l
	}), 4)
	add("a field's name", nil, edit("train.jsonl", `"n":5`, `"m":5`), 0)
	add("a score", nil, edit("train.jsonl", `"s":1`, `"s":0`), 0)
	add("a subgroup", nil, edit("train.jsonl", `"c":"privacy"`, `"c":"another"`), 0)
	add("a label", func(p *place) { p.yaml = groupedYAML.Replace(p.yaml) }, edit("train.jsonl", `"c":"privacy"`, `"c":"another"`), 0)
	add("a kept value", nil, edit("train.jsonl", `"n":5`, `"n":55`), 0)
	add("a kept column more", nil, yaml("keep: ['n:int64']", "keep: ['n:int64', c]"), 0)
	add("a kept column's type", nil, yaml("n:int64", "n:float64"), 0)
	add("pairs become groups", nil, func(p *place) { p.yaml = groupedYAML.Replace(p.yaml) }, 0)
	add("a row more", nil, onLines("train.jsonl", func(l []string) []string {
		return append(l, strings.ReplaceAll(l[0], "000", "777"))
	}), 4)
	add("a row less", nil, onLines("train.jsonl", func(l []string) []string { return l[1:] }), 0)
	add("a row twice", nil, onLines("train.jsonl", func(l []string) []string { return append(l, l[0]) }), 0)
	add("the rows' order", nil, onLines("train.jsonl", func(l []string) []string { slices.Reverse(l); return l }), 0)
	add("a split's file", nil, yaml("val: {jsonl: val.jsonl}", "val: {jsonl: train.jsonl}"), 0)
	add("a bad row that is left out", yaml("keep: ['n:int64']", "keep: ['n:int64']\n  on_error: skip"), onLines("train.jsonl", func(l []string) []string { l[3] = "{"; return l }), 0)
	// How it is kept.
	add("the key", nil, key("index"), 0)
	add("the key of one encoder", nil, key("{words: field:text}"), 0)
	add("the dtype, converted", nil, cacheOption("dtype: int8"), 0)
	add("the dtype, not converted", cacheOption("dtype: int8"), yaml("dtype: int8", "dtype: float16"), 2*objects)
	add("the dtype of one encoder", cacheOption("dtype: {enc: float16}"), yaml("enc: float16", "enc: int8"), objects)
	add("an encoder more", nil, yaml("encoders:\n", "encoders:\n  more: {type: static, input: topic}\n"), int64(len(topics)))
	if len(table) < 40 {
		t.Errorf("%d mutations, want 40", len(table))
	}
	t.Logf("%d mutations", len(table))
	for _, m := range table {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			if m.before != nil {
				m.before(p)
			}
			fill(t, p.config(""))
			before := everything(t, p.config(""))
			m.change(p)
			if r := fill(t, p.config("")); r.Encoded != m.encoded {
				t.Errorf("encoded %d, want %d", r.Encoded, m.encoded)
			}
			got := everything(t, seal(p.config("")))
			if slices.Equal(got, before) {
				t.Error("what is served is what was served before")
			}
			sameLines(t, m.name, got, everything(t, p.config("fresh")))
		})
	}
}

// reordered are a JSON line's fields in another order.
func reordered(line string) string {
	var r struct {
		S int64  `json:"s"`
		N int64  `json:"n"`
		C string `json:"c"`
		A string `json:"a"`
		Q string `json:"q"`
	}
	if err := json.Unmarshal([]byte(line), &r); err != nil {
		panic(err)
	}
	b, _ := json.Marshal(r)
	return string(b)
}

// asCSV are the lines as a table of comma-separated values.
func asCSV(b []byte) []byte {
	out := bytes.NewBufferString("n,q,a,c,s\n")
	for line := range strings.Lines(string(b)) {
		var r row
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			panic(err)
		}
		n, _ := json.Marshal(r.N)
		s, _ := json.Marshal(r.S)
		out.WriteString(strings.Join([]string{string(n), r.Q, r.A, r.C, string(s)}, ",") + "\n")
	}
	return out.Bytes()
}

func gzipped(b []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, _ = w.Write(b) // a buffer takes all
	_ = w.Close()
	return out.Bytes()
}

func zstded(b []byte) []byte {
	w, err := zstd.NewWriter(nil)
	if err != nil {
		panic(err)
	}
	defer w.Close()
	return w.EncodeAll(b, nil)
}

func eachLine(fn func(string) string) func([]string) []string {
	return func(l []string) []string {
		for i := range l {
			l[i] = fn(l[i])
		}
		return l
	}
}

// TestNeutralChanges: what does not change the output encodes nothing, and
// what is served stays the same.
func TestNeutralChanges(t *testing.T) {
	table := map[string]do{
		"nothing":                 func(*place) {},
		"the dataset's times":     all(touch("train.jsonl", time.Now().Add(time.Hour)), touch("val.jsonl", time.Unix(1e9, 0))),
		"a file has another name": all(move("train.jsonl", "rows.jsonl"), yaml("jsonl: train.jsonl", "jsonl: rows.jsonl")),
		"a file is copied":        all(func(p *place) { write(p.t, p.path("d/copy"), string(read(p.t, p.path("train.jsonl")))) }, yaml("jsonl: train.jsonl", "jsonl: d/copy")),
		"a file is linked":        all(link("train.jsonl", "link"), yaml("jsonl: train.jsonl", "jsonl: link")),
		"a path is absolute":      func(p *place) { p.replace("", "jsonl: train.jsonl", "jsonl: "+p.path("train.jsonl")) },
		"a path is a pattern":     yaml("jsonl: train.jsonl", "jsonl: 't*n.jsonl'"),
		"a file is replaced by its copy": func(p *place) {
			write(p.t, p.path("new"), string(read(p.t, p.path("train.jsonl"))))
			move("new", "train.jsonl")(p)
		},
		"blank lines":               onLines("train.jsonl", eachLine(func(l string) string { return l + "\n\n" })),
		"line ends of Windows":      onLines("train.jsonl", eachLine(func(l string) string { return l + "\r" })),
		"a byte order mark":         onFile("train.jsonl", func(b []byte) []byte { return append([]byte("\ufeff"), b...) }),
		"no last line end":          onFile("train.jsonl", bytes.TrimSpace),
		"spaces in JSON":            onLines("train.jsonl", eachLine(func(l string) string { return strings.ReplaceAll(l, `":`, "\" : ") })),
		"escapes in JSON":           onLines("train.jsonl", eachLine(func(l string) string { return strings.ReplaceAll(l, "how", `\u0068ow`) })),
		"the order of fields":       onLines("train.jsonl", eachLine(reordered)),
		"a field that nobody reads": onLines("train.jsonl", eachLine(func(l string) string { return strings.Replace(l, "{", `{"unread":[1],`, 1) })),
		"compressed with gzip":      all(onFile("train.jsonl", gzipped), move("train.jsonl", "train.jsonl.gz"), yaml("train.jsonl", "train.jsonl.gz")),
		"compressed with zstd":      onFile("train.jsonl", zstded),
		"a file cut in two": func(p *place) {
			lines := strings.SplitAfter(string(read(p.t, p.path("train.jsonl"))), "\n")
			write(p.t, p.path("1.jsonl"), strings.Join(lines[:4], ""))
			write(p.t, p.path("2.jsonl"), strings.Join(lines[4:], ""))
			p.replace("", "jsonl: train.jsonl", "jsonl: [1.jsonl, 2.jsonl]")
		},
		"comments in the config":         yaml("version: 1\n", "# a comment\nversion: 1 # another\n"),
		"the order of the config's keys": yaml("  batch_size: 4\n  key_extractors: content\n", "  key_extractors: content\n  batch_size: 4\n"),
		"the order of the encoders": all(yaml("  enc: {type: bert, model: m, input: text}\n", ""),
			yaml("cache:\n", "  enc: {type: bert, model: m, input: text}\ncache:\n")),
		"another style of YAML":         yaml("enc: {type: bert, model: m, input: text}", "enc:\n    type: bert\n    'model': \"m\"\n    input: text"),
		"defaults that are spelled out": all(modelOption("precision: float32, device: auto"), cacheOption("dtype: float32\n  compression: none")),
		"the workers":                   cacheOption("num_workers: 7"),
		"the batch size":                yaml("batch_size: 4", "batch_size: 13"),
		"the shard size":                cacheOption("shard_objects: 3"),
		"the compression":               cacheOption("compression: zstd"),
		"the rows of a record batch":    cacheOption("record_batch_rows: 5"),
		"the access":                    cacheOption("access: copy"),
		"the cache type":                cacheOption("cache_type: cpu"),
		"the mapping":                   cacheOption("mapping: {enc: cpu}"),
		"the key by its other name":     key(`""`),
		"the seed":                      yaml("version: 1\n", "version: 1\nseed: 9\n"),
		"the training":                  yaml("version: 1\n", "version: 1\ntrain: {epochs: 9, batch_size: 2}\n"),
		"the output":                    yaml("version: 1\n", "version: 1\noutput: elsewhere\n"),
		"the metrics":                   yaml("version: 1\n", "version: 1\nmetrics: [{type: retrieval_precision, k: 3}]\n"),
		"the model is moved":            all(move("m", "moved"), yaml("model: m,", "model: moved,")),
		"the model is copied":           all(copied("m", "copy"), yaml("model: m,", "model: copy,")),
		"the model is linked":           all(link("m", "link"), yaml("model: m,", "model: link,")),
		"the model's times":             touch("m/model.safetensors", time.Unix(1e9, 0)),
		"the model has a file more":     func(p *place) { write(p.t, p.path("m/README.md"), "# A model") },
		"the cache is moved":            all(move("cache", "moved"), yaml("save_dir: cache", "save_dir: moved")),
		"the cache is copied":           all(copied("cache", "copy"), yaml("save_dir: cache", "save_dir: copy")),
		"the cache is linked":           all(link("cache", "link"), yaml("save_dir: cache", "save_dir: link")),
		"the cache's hints are lost": func(p *place) {
			remove(p.t, p.path("cache/sources"), p.path("cache/MANIFEST.json"), p.path("cache/tmp"))
		},
		"everything is moved": func(p *place) {
			to := p.dir + "-moved"
			p.must(os.Rename(p.dir, to))
			p.t.Cleanup(func() { os.RemoveAll(to) })
			p.dir = to
		},
	}
	if len(table) < 25 {
		t.Errorf("%d neutral changes, want 25", len(table))
	}
	t.Logf("%d neutral changes", len(table))
	for name, change := range table {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			fill(t, p.config(""))
			before := everything(t, p.config(""))
			change(p)
			if r := fill(t, sealEncoders(p.config(""))); r.Encoded != 0 {
				t.Errorf("encoded %d", r.Encoded)
			}
			got := everything(t, seal(p.config("")))
			sameLines(t, "what is served", got, before)
			sameLines(t, "a fresh cache", got, everything(t, p.config("fresh")))
		})
	}
}

// TestFormatsAreNeutral: the same rows in files of another format.
func TestFormatsAreNeutral(t *testing.T) {
	p := newPlace(t)
	p.replace("", "  keep: ['n:int64']\n", "") // CSV has texts only
	fill(t, p.config(""))
	before := everything(t, p.config(""))
	all(onFile("train.jsonl", asCSV), yaml("jsonl: train.jsonl", "csv: train.jsonl"))(p)
	if r := fill(t, sealEncoders(p.config(""))); r.Encoded != 0 {
		t.Errorf("rows as CSV: encoded %d", r.Encoded)
	}
	sameLines(t, "rows as CSV", everything(t, seal(p.config(""))), before)

	columns, err := filepath.Abs("../source/testdata/columns")
	if err != nil {
		t.Fatal(err)
	}
	p = newPlace(t)
	p.yaml = `version: 1
dataset: {splits: {train: {jsonl: ` + columns + `/rows.jsonl}}, group: {object: text, label: label}, keep: [id, flag], on_error: skip}
encoders: {enc: {type: bert, model: m}}
cache: {save_dir: cache}
`
	fill(t, p.config(""))
	before = everything(t, p.config(""))
	was := "jsonl: " + columns + "/rows.jsonl"
	for _, name := range []string{"v1-zstd.parquet", "v2-pages.parquet", "polars-snappy.parquet", "file-lz4.arrow", "stream-none.arrow", "feather.feather"} {
		format := "arrow: "
		if strings.HasSuffix(name, ".parquet") {
			format = "parquet: "
		}
		now := format + filepath.Join(columns, name)
		p.replace("", was, now)
		was = now
		if r := fill(t, sealEncoders(p.config(""))); r.Encoded != 0 {
			t.Errorf("rows as %s: encoded %d", name, r.Encoded)
		}
		sameLines(t, name, everything(t, seal(p.config(""))), before)
	}
}

// TestCoresAreNeutral: GOMAXPROCS, which is the default of the workers.
func TestCoresAreNeutral(t *testing.T) {
	p := newPlace(t)
	fill(t, p.config(""))
	before := everything(t, p.config(""))
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(7))
	fill(t, seal(p.config("")))
	sameLines(t, "with 7 cores", everything(t, p.config("fresh")), before)
}
