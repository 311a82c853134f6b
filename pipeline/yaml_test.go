package pipeline_test

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/permafrost-ml/permafrost/pipeline"
	"github.com/permafrost-ml/permafrost/pipeline/head"
)

const smallYAML = `version: 1
dataset:
  splits: {train: {jsonl: train.jsonl}}
  pair: {a: q, b: a}
encoders: {enc: {type: static}}
`

// TestYAMLProblems: each is reported with its place, and a suggestion where
// something is near.
func TestYAMLProblems(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{smallYAML + "trian: {}\n", `c.yaml:6:1: unknown key "trian"; did you mean "train"?`},
		{smallYAML + "cache:\n  save_dri: x\n", `c.yaml:7:3: unknown key "cache.save_dri"; did you mean "save_dir"?`},
		{smallYAML + "zzz: 1\n", `c.yaml:6:1: unknown key "zzz"`},
		{smallYAML + "seed: 1\nseed: 2\n", `c.yaml:7:1: seed is given twice`},
		{smallYAML + "seed: x\n", `c.yaml:6:7: seed: want a whole number from 0, not "x"`},
		{smallYAML + "seed: -1\n", `c.yaml:6:7: seed: want a whole number from 0, not "-1"`},
		{smallYAML + "seed: [1]\n", `c.yaml:6:7: seed: want a single value`},
		{smallYAML + "train: {epochs: 1.5}\n", `c.yaml:6:17: train.epochs: want a whole number, not "1.5"`},
		{smallYAML + "train: {shuffle: yes}\n", `c.yaml:6:18: train.shuffle: want true or false, not "yes"`},
		{smallYAML + "train: 3\n", `c.yaml:6:8: train: want a mapping`},
		{smallYAML + "train: {split: trian}\n", `c.yaml:6:16: train.split: "trian" is none of train; did you mean "train"?`},
		{smallYAML + "eval: {split: val}\n", `c.yaml:6:15: eval.split: "val" is none of train`},
		{smallYAML + "head: {type: skip}\n", `c.yaml:6:14: head: unknown head type "skip" (known: empty, gated, layer_norm, sequential, skip_connection,`},
		{smallYAML + "head: {}\n", `c.yaml:6:7: head: no type is given`},
		{smallYAML + "head: {type: skip_connection, drop_out: 1}\n", `c.yaml:6:31: unknown key "head.drop_out"; did you mean "dropout"?`},
		{smallYAML + "head: {type: skip_connection, dropout: high}\n", `c.yaml:6:40: head.dropout: want a number, not a string`},
		{smallYAML + "loss: {type: softmax}\n", `c.yaml:6:7: loss: softmax takes groups, which dataset does not declare; use multiple_negatives_ranking`},
		{smallYAML + "metrics: {type: reciprocal_rank}\n", `c.yaml:6:10: metrics: want a list`},
		{smallYAML + "metrics: [{type: retrieval_precision, kk: 1}]\n", `c.yaml:6:39: unknown key "metrics.0.kk"; did you mean "k"?`},
		{smallYAML + "train: {optimizer: {type: adam, lr: fast}}\n", `c.yaml:6:37: train.optimizer.lr: want a number, not a string`},
		{smallYAML + "cache: {cache_type: disk}\n", `c.yaml:6:21: cache.cache_type: cache type "disk" is none of auto, cpu, gpu, none`},
		{smallYAML + "cache: {mapping: {encc: cpu}}\n", `c.yaml:6:19: cache.mapping.encc: no such encoder, there is enc; did you mean "enc"?`},
		{smallYAML + "cache: {mapping: {enc: disk}}\n", `c.yaml:6:24: cache.mapping.enc: cache type "disk"`},
		{smallYAML + "cache: {dtype: float61}\n", `c.yaml:6:16: cache.dtype: "float61" is none of float32, float16, int8; did you mean "float32"?`},
		{smallYAML + "cache: {dtype: {enc: half}}\n", `c.yaml:6:22: cache.dtype.enc: "half" is none of float32, float16, int8`},
		{smallYAML + "cache: {dtype: {encc: int8}}\n", `c.yaml:6:17: cache.dtype.encc: no such encoder, there is enc`},
		{smallYAML + "cache: {dtype: [int8]}\n", `c.yaml:6:16: cache.dtype: want a mapping`},
		{smallYAML + "cache: {save_dir: s3://b/x}\n", `c.yaml:6:19: cache.save_dir: no storage in this program for the scheme s3:// of s3://b/x: the program pipeline-s3 has it`},
		{smallYAML + "cache: {compression: gzip}\n", `c.yaml:6:22: cache.compression: "gzip" is none of none, lz4, zstd`},
		{smallYAML + "cache: {key_extractors: {other: index}}\n", `c.yaml:6:26: cache.key_extractors.other: no such encoder`},
		{smallYAML + "cache: {key_extractors: nme}\n", `c.yaml:6:25: cache.key_extractors: key extractor "nme"`},
		{smallYAML + "cache: {key_extractors: [index]}\n", `c.yaml:6:25: cache.key_extractors: want a mapping`},
		{smallYAML + "output: ${NO_SUCH_VAR}\n", `c.yaml:6:9: environment variable "NO_SUCH_VAR" is not set; ${NO_SUCH_VAR:-default} gives a default`},
		{smallYAML + "output: ${NO_SUCH_VAR\n", `c.yaml:6:9: "${NO_SUCH_VAR" has ${ without }`},
		{smallYAML + "output: &a out\n", `c.yaml:6:9: anchors and aliases are not supported`},
		{smallYAML + "output: [" + strings.Repeat("[", 30) + strings.Repeat("]", 31) + "\n", `nested over 20 levels`},
		{smallYAML + "---\nversion: 1\n", `c.yaml:6: a second document begins`},
		{smallYAML + "output: 'out\n", `c.yaml:6: `},
		{"\xff", "not UTF-8"},
		{"[1]", "c.yaml:1:1: want a mapping at the top"},
		{"", "version: want 1, the version of this config format"},
		{strings.Replace(smallYAML, "version: 1", "version: 2", 1), "c.yaml:1:10: version: want 1"},
		{strings.Replace(smallYAML, "{a: q, b: a}", "{a: q}", 1), "c.yaml:4:9: dataset.pair.b: name the column"},
		{strings.Replace(smallYAML, "{a: q, b: a}", "{a: q, b: {}}", 1), "c.yaml:4:19: dataset.pair.b: name the column"},
		{strings.Replace(smallYAML, "{a: q, b: a}", "{a: q, b: {text: }}", 1), "dataset.pair.b.text: name the column"},
		{strings.Replace(smallYAML, "pair: {a: q, b: a}", "group: {object: q}", 1), "c.yaml:4:10: dataset.group.label: name the column of the label"},
		{strings.Replace(smallYAML, "  pair:", "  group: {object: q, label: c}\n  pair:", 1), "c.yaml:4:10: dataset: pair and group exclude each other"},
		{strings.Replace(smallYAML, "  pair: {a: q, b: a}\n", "", 1), "dataset: declare pair: {a, b} or group: {object, label}"},
		{strings.Replace(smallYAML, "jsonl:", "json:", 1), `c.yaml:3:20: unknown key "dataset.splits.train.json"; did you mean "jsonl"?`},
		{strings.Replace(smallYAML, "jsonl: train.jsonl", "jsonl: a, csv: b", 1), `c.yaml:3:19: dataset.splits.train: declare one of jsonl, csv, parquet, arrow, images, godoc`},
		{strings.Replace(smallYAML, "jsonl: train.jsonl", "godoc: std, part: tran", 1), `c.yaml:3:38: dataset.splits.train.part: "tran" is none of train, val; did you mean "train"?`},
		{strings.Replace(smallYAML, "jsonl: train.jsonl", "godoc: std, val_percent: 101", 1), `dataset.splits.train.val_percent: want 0 to 100`},
		{strings.Replace(smallYAML, "{a: q, b: a}", "{a: '', b: a}", 1), "c.yaml:4:13: dataset.pair.a: name the column"},
		{strings.Replace(smallYAML, "{train:", "{Train:", 1), `c.yaml:3:12: dataset.splits.Train: want a name of small letters`},
		{strings.Replace(smallYAML, "{enc:", "{1enc:", 1), `c.yaml:5:12: encoders.1enc: want a name of small letters`},
		{strings.Replace(smallYAML, "static", "sttic", 1), `c.yaml:5:24: encoders.enc.type: unknown type "sttic", there is static`},
		{strings.Replace(smallYAML, "static", "static, fields: [text], prompt: 'q: '", 1), `c.yaml:5:17: encoders.enc: a prompt goes before one text`},
		{strings.Replace(smallYAML, "static", "static, input: body, prompt: 'q: '", 1), `c.yaml:5:17: encoders.enc: it reads template "q: {body}": field is missing`},
		{strings.Replace(smallYAML, "static", "bert", 1), `c.yaml:5:17: encoders.enc: model: name the model's directory`},
		{strings.Replace(smallYAML, "static", "bert, model: m, max_length: long", 1), `c.yaml:5:52: encoders.enc.max_length: want a value of type int, not a string`},
		{strings.Replace(smallYAML, "static", "bert, model: m, pooling: men", 1), `c.yaml:5:17: encoders.enc: pooling: "men" is none of mean, cls, max`},
		{strings.Replace(smallYAML, "static", "bert, model: m, poling: max", 1), `unknown key "encoders.enc.poling"; did you mean "pooling"?`},
		{strings.Replace(smallYAML, "static", "static, input: body", 1), `c.yaml:5:17: encoders.enc: it reads field "body": field is missing: "body" (the object has ["text"])`},
		{strings.Replace(smallYAML, "static", `static, template: "{text"`, 1), `encoders.enc: template "{text": unmatched or empty {`},
		{strings.Replace(smallYAML, "static", `static, input: text, template: "{text}"`, 1), `encoders.enc: field, fields and template exclude each other`},
		{strings.Replace(smallYAML, "pair: ", "keep: [n, n]\n  pair: ", 1), `c.yaml:4:9: dataset.keep: "n" is named twice`},
		{strings.Replace(smallYAML, "pair: ", "keep: [\"n:int\"]\n  pair: ", 1), `type "int" of "n" is none of int64, float64, bool, text, bytes`},
		{strings.Replace(smallYAML, "pair: ", "keep: [enc_a_key]\n  pair: ", 1), `dataset.keep: "enc_a_key" is the name of a column`},
		{strings.Replace(smallYAML, "pair: ", "on_error: ignore\n  pair: ", 1), `c.yaml:4:13: dataset.on_error: "ignore" is none of fail, skip, quarantine`},
	} {
		_, err := pipeline.ParseConfig("c.yaml", []byte(c.text))
		if !errors.Is(err, pipeline.ErrConfig) {
			t.Errorf("%q gives %v", c.text, err)
			continue
		}
		if !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q gives\n%v, want\n%s", c.text, err, c.want)
		}
	}
}

// TestYAMLAllAtOnce: every problem is reported, in the order of the file.
func TestYAMLAllAtOnce(t *testing.T) {
	_, err := pipeline.ParseConfig("c.yaml", []byte(`version: 2
seed: x
dataset: {splits: {train: {jsnl: t}}, pair: {a: q}, kep: []}
encoders: {enc: {type: nothing}}
cache: {batch_size: many, mapping: {ecn: cpu}}
head: {type: skip_connection, dropout: x, layers: 3}
out: ${NO_SUCH_VAR}
`))
	if err == nil {
		t.Fatal("no error")
	}
	var places []string
	for line := range strings.Lines(err.Error()) {
		places = append(places, regexp.MustCompile(`c\.yaml:\d+:\d+`).FindString(line))
	}
	want := "c.yaml:1:10 c.yaml:2:7 c.yaml:3:27 c.yaml:3:28 c.yaml:3:45 c.yaml:3:53 c.yaml:4:24 c.yaml:5:21 c.yaml:5:37 " +
		"c.yaml:6:31 c.yaml:6:40 c.yaml:6:43 c.yaml:7:1 c.yaml:7:6"
	if got := strings.Join(places, " "); got != strings.Replace(want, "c.yaml:6:31 ", "", 1) {
		t.Errorf("problems at\n%s, want\n%s\n%v", got, want, err)
	}
}

func TestYAMLVariables(t *testing.T) {
	t.Setenv("SET_VAR", "12")
	t.Setenv("EMPTY_VAR", "")
	for text, want := range map[string]string{
		"${SET_VAR}":                  "12",
		"a${SET_VAR}b${SET_VAR:-x}c":  "a12b12c",
		"${EMPTY_VAR:-def}":           "def",
		"${NO_SUCH_VAR:-}x":           "x",
		"${NO_SUCH_VAR:-a/b:-c}":      "a/b:-c",
		"$${SET_VAR} $SET_VAR $$":     "${SET_VAR} $SET_VAR $$",
		"'${NO_SUCH_VAR:-'quoted'}y'": "", // not YAML
	} {
		c, err := pipeline.ParseConfig("/d/c.yaml", []byte(smallYAML+"output: "+text+"\n"))
		if want == "" {
			if err == nil {
				t.Errorf("%s is taken", text)
			}
			continue
		}
		if err != nil || c.Output != filepath.Join("/d", want) {
			t.Errorf("%s gives %q, %v", text, c.Output, err)
		}
	}
	c, err := pipeline.ParseConfig("c.yaml", []byte(smallYAML+"seed: ${SET_VAR}\ntrain: {epochs: \"${SET_VAR}\"}\nhead: {type: skip_connection, n_layers: \"${SET_VAR}\"}\n"))
	if err == nil || !strings.Contains(err.Error(), "head.n_layers: want a whole number, not a string") {
		t.Errorf("a quoted number is %v", err)
	}
	if c.Seed != 12 || c.Train.Epochs != 12 {
		t.Errorf("seed %d, epochs %d", c.Seed, c.Train.Epochs)
	}
}

func TestYAMLSettings(t *testing.T) {
	parse := func(sets ...string) (pipeline.Config[map[string]any], error) {
		c, err := pipeline.ParseConfig("c.yaml", []byte(smallYAML+"cache: {batch_size: 3}\nmetrics: [{type: retrieval_precision}]\n"), sets...)
		return pipeline.Config[map[string]any]{Cache: c.Cache, Seed: c.Seed, Train: c.Train, Head: c.Head, Metrics: c.Metrics}, err
	}
	c, err := parse("cache.batch_size=7", "seed=5", "train.epochs=9", "train.shuffle=false", "cache.save_dir=x",
		"head={type: skip_connection, n_layers: 3}", "metrics.0.k=4")
	if err != nil {
		t.Fatal(err)
	}
	if c.Cache.BatchSize != 7 || c.Seed != 5 || c.Train.Epochs != 9 || !c.Train.Sequential || c.Cache.SaveDir != "x" ||
		c.Head != (head.SkipConnection{Layers: 3}) || c.Metrics[0].Name() != "retrieval_precision@4" {
		t.Errorf("%+v %+v", c, c.Cache)
	}
	if c, err := parse("cache="); err != nil || c.Cache == nil || c.Cache.BatchSize != 0 {
		t.Errorf("an empty setting gives %+v, %v", c.Cache, err)
	}
	for set, want := range map[string]string{
		"cache":               `--set cache: want path=value`,
		"=1":                  `--set =1: want path=value`,
		"trian.epochs=1":      `--set trian.epochs=1: unknown key "trian"; did you mean "train"?`,
		"train.epoch=1":       `--set train.epoch=1: unknown key "train.epoch"; did you mean "epochs"?`,
		"train.epochs=many":   `--set train.epochs=many: train.epochs: want a whole number, not "many"`,
		"metrics.3.k=1":       `--set metrics.3.k=1: "3" is no item of a list of 1`,
		"version.x=1":         `--set version.x=1: "x" is inside a plain value`,
		"output=&a x":         `--set output=&a x: anchors and aliases are not supported`,
		"output=[":            `--set output=[: `,
		"cache.mapping.x=cpu": `--set cache.mapping.x=cpu: cache.mapping.x: no such encoder`,
	} {
		if _, err := parse(set); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s gives %v, want %s", set, err, want)
		}
	}
}

// TestYAMLPaths are relative to the file, wherever the process runs.
func TestYAMLPaths(t *testing.T) {
	dir := t.TempDir()
	jsonl(t, filepath.Join(dir, "data", "train.jsonl"), rows(12, ""))
	file := write(t, filepath.Join(dir, "conf", "c.yaml"), `
version: 1
dataset: {splits: {train: {jsonl: ../data/train.jsonl}}, pair: {a: q, b: a}, on_error: quarantine, quarantine: bad.jsonl}
encoders: {enc: {type: static}}
cache: {save_dir: cache}
output: ../out
loss: {type: multiple_negatives_ranking}
head: {type: skip_connection}
train: {epochs: 1}
`)
	t.Chdir(t.TempDir())
	cfg, err := pipeline.LoadConfig(file)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := open(t, cfg).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"conf/cache/manifests", "out/head.safetensors"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
	if cfg.Quarantine != filepath.Join(dir, "conf", "bad.jsonl") {
		t.Errorf("the quarantine is %s", cfg.Quarantine)
	}
	if _, err := pipeline.LoadConfig(filepath.Join(dir, "none.yaml")); !errors.Is(err, pipeline.ErrConfig) || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file gives %v", err)
	}
}

// TestConfigProblems: what Go code gets wrong is found before anything runs,
// all at once.
func TestConfigProblems(t *testing.T) {
	_, err := pipeline.New(pipeline.Config[row]{
		Splits:     pipeline.Splits[row]{"Train": nil},
		Encoders:   pipeline.Encoders{"x y": nil},
		KeepTypes:  map[string]string{"n": "int"},
		Limit:      -1,
		OnError:    "ignore",
		TrainSplit: "zoo", EvalSplit: "zoo", Loss: config(t, "").Loss,
		Output: "a/b",
		Cache: &pipeline.CacheConfig{
			CacheType: "disk", Mapping: pipeline.Mapping{"z": "cpu"}, BatchSize: -1, SaveDir: "a",
		},
	})
	if !errors.Is(err, pipeline.ErrConfig) {
		t.Fatalf("got %v", err)
	}
	for _, want := range []string{
		`split name "Train"`, `split "Train" has no source`, "no function makes samples", `encoder name "x y"`, `encoder "x y" has no model`,
		`kept column "n": type "int"`, "limit -1", `on_error "ignore"`, `cache type "disk"`, `mapping names the encoder "z"`, "batch_size -1",
		`the split to train on, "zoo"`, `the split to evaluate, "zoo"`, "must not lie in each other",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in %v", want, err)
		}
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add(smallYAML, "a.b=c")
	f.Add(twinYAML, "cache.mapping.enc=none")
	f.Add("version: 1\n? [a]\n: b\n<<: {a: b}\n", "metrics.0=")
	f.Add("dataset: {splits: [1], pair: {a: {b: {c: d}}}}\nmetrics: [x, {type: {}}]\n", "x=!!binary a")
	f.Add("cache: null\nhead: ~\nencoders: {a: null, b: []}\n", "=")
	f.Fuzz(func(t *testing.T, text, set string) {
		c, err := pipeline.ParseConfig("c.yaml", []byte(text), set)
		if err != nil {
			if !errors.Is(err, pipeline.ErrConfig) {
				t.Errorf("%q gives %v", text, err)
			}
			return
		}
		_, _ = pipeline.New(c)
	})
}
