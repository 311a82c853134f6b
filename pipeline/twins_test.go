package pipeline_test

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/permafrost-ml/permafrost/cachesink"
	"github.com/permafrost-ml/permafrost/encode"
	"github.com/permafrost-ml/permafrost/encode/bert"
	"github.com/permafrost-ml/permafrost/encode/static"
	"github.com/permafrost-ml/permafrost/pipeline"
	"github.com/permafrost-ml/permafrost/pipeline/head"
	"github.com/permafrost-ml/permafrost/pipeline/loss"
	"github.com/permafrost-ml/permafrost/pipeline/metric"
	"github.com/permafrost-ml/permafrost/pipeline/sampler"
	"github.com/permafrost-ml/permafrost/pipeline/train"
	"github.com/permafrost-ml/permafrost/pipeline/train/trainable"
	"github.com/permafrost-ml/permafrost/source"
)

// twin is one pipeline in YAML and in Go. Its text replaces lines of
// twinYAML, by their first word; an empty one leaves the option out.
type twin struct {
	name string
	yaml map[string]string
	code func(c *pipeline.Config[row])
}

// twinYAML sets every option that twins leave out one by one.
const twinYAML = `
version: 1
seed: 7
dataset:
  splits: {train: {jsonl: train.jsonl}, val: {jsonl: val.jsonl}}
  pair: {a: q, b: a, score: s, subgroup: c}
  keep: [n]
  on_error: skip
encoders:
  enc: {type: static, input: text}
cache:
  cache_type: cpu
  mapping: {enc: auto}
  batch_size: 16
  num_workers: 2
  save_dir: cache
  shard_objects: 20
  dtype: float16
  compression: lz4
  record_batch_rows: 7
  access: copy
  key_extractors: field:text
head: {type: skip_connection, dropout: 0.1, skip_dropout: 0.2, n_layers: 2}
loss: {type: multiple_negatives_ranking, scale: 10, symmetric: true}
train: {epochs: 2, batch_size: 16, shuffle: false, split: train, optimizer: {type: adam, lr: 0.01, beta1: 0.8}}
metrics: [{type: retrieval_precision, k: 2}]
eval: {split: train}
output: out
`

func twinConfig(dir string) pipeline.Config[row] {
	text, err := encode.ParseKey("field:text")
	if err != nil {
		panic(err)
	}
	return pipeline.Config[row]{
		Seed: 7,
		Splits: pipeline.Splits[row]{
			"train": source.JSONL[row](filepath.Join(dir, "train.jsonl")),
			"val":   source.JSONL[row](filepath.Join(dir, "val.jsonl")),
		},
		Sample: func(r row) pipeline.Sample {
			s := pipeline.Pair(encode.Text(r.Q), encode.Text(r.A)).With("n", r.N)
			s.Score, s.Subgroup = float32(r.S), r.C
			return s
		},
		Version:  "1",
		OnError:  source.Skip,
		Encoders: pipeline.Encoders{"enc": encode.Reading(static.Default(), encode.Reads{Field: "text"})},
		Cache: &pipeline.CacheConfig{
			CacheType: cachesink.CPU, Mapping: pipeline.Mapping{"enc": cachesink.Auto},
			BatchSize: 16, NumWorkers: 2, SaveDir: filepath.Join(dir, "cache"), ShardObjects: 20,
			DType: cachesink.Float16, Compression: cachesink.LZ4, RecordBatchRows: 7, Access: cachesink.AccessCopy,
			KeyExtractors: pipeline.NamedKey(text),
		},
		Head: head.SkipConnection{Dropout: 0.1, SkipDropout: 0.2, Layers: 2},
		Loss: loss.MultipleNegativesRanking{Scale: 10, Symmetric: true},
		Train: train.Options{
			Epochs: 2, BatchSize: 16, Sequential: true, Optimizer: train.Adam{LR: 0.01, Beta1: 0.8},
		},
		TrainSplit: "train",
		Metrics:    []metric.Config{metric.RetrievalPrecision{K: 2}},
		EvalSplit:  "train",
		Output:     filepath.Join(dir, "out"),
	}
}

func twins(t testing.TB) []twin {
	t.Helper()
	sample := func(change func(r row, s *pipeline.Sample)) func(c *pipeline.Config[row]) {
		return func(c *pipeline.Config[row]) {
			before := c.Sample
			c.Sample = func(r row) pipeline.Sample {
				s := before(r)
				change(r, &s)
				return s
			}
		}
	}
	reads := func(r encode.Reads) func(c *pipeline.Config[row]) {
		return func(c *pipeline.Config[row]) {
			c.Encoders = pipeline.Encoders{"enc": encode.Reading(static.Default(), r)}
		}
	}
	tinyBERT, err := filepath.Abs("../encode/bert/testdata/bert")
	if err != nil {
		t.Fatal(err)
	}
	return []twin{
		{"everything", nil, func(*pipeline.Config[row]) {}},
		{"no seed", map[string]string{"seed": ""}, func(c *pipeline.Config[row]) { c.Seed = 0 }},
		{
			"no score",
			map[string]string{"  pair": "{a: q, b: a, subgroup: c}"},
			sample(func(_ row, s *pipeline.Sample) { s.Score = 1 }),
		},
		{
			"no subgroup",
			map[string]string{"  pair": "{a: q, b: a, score: s}"},
			sample(func(_ row, s *pipeline.Sample) { s.Subgroup = 0 }),
		},
		{
			"groups",
			map[string]string{"  pair": "", "  keep": "[n]\n  group: {object: q, label: c}", "loss": "{type: softmax, temperature: 0.1}"},
			func(c *pipeline.Config[row]) { c.Sample, c.Loss = groupOf, loss.Softmax{Temperature: 0.1} },
		},
		{
			"integer labels",
			map[string]string{"  pair": "", "  keep": "[n]\n  group: {object: q, label: n}", "loss": "{type: softmax}"},
			func(c *pipeline.Config[row]) {
				c.Sample = func(r row) pipeline.Sample { return pipeline.Group(encode.Text(r.Q), r.N).With("n", r.N) }
				c.Loss = loss.Softmax{}
			},
		},
		{"no keep", map[string]string{"  keep": ""}, sample(func(_ row, s *pipeline.Sample) { s.Keep = nil })},
		{
			"a declared type",
			map[string]string{"  keep": `["n:float64"]`},
			func(c *pipeline.Config[row]) { c.KeepTypes = map[string]string{"n": "float64"} },
		},
		{"no on_error", map[string]string{"  on_error": ""}, func(c *pipeline.Config[row]) { c.OnError = "" }},
		{"no input", map[string]string{"  enc": "{type: static}"}, reads(encode.Reads{})},
		{"fields", map[string]string{"  enc": "{type: static, fields: [text]}"}, reads(encode.Reads{Fields: []string{"text"}})},
		{
			"a template",
			map[string]string{"  enc": `{type: static, template: "query: {text}"}`},
			reads(encode.Reads{Template: "query: {text}"}),
		},
		{
			"a prompt",
			map[string]string{"  enc": `{type: static, prompt: "{q} is: "}`},
			reads(encode.Reads{Template: "{{q}} is: {text}"}),
		},
		{
			"a prompt before a template",
			map[string]string{"  enc": `{type: static, prompt: "query: ", template: "<{text}>"}`},
			reads(encode.Reads{Template: "query: <{text}>"}),
		},
		{
			"a model directory",
			map[string]string{"  enc": "{type: bert, model: " + tinyBERT + ", max_length: 16, pooling: cls, normalize: false, truncate_dim: 8, device: cpu, precision: float32}"},
			func(c *pipeline.Config[row]) {
				no := false
				c.Encoders = pipeline.Encoders{"enc": bert.Options{
					Dir: tinyBERT, MaxLength: 16, Pooling: "cls", Normalize: &no, TruncateDim: 8, Device: "cpu", Precision: "float32",
				}.Model()}
			},
		},
		{
			"two encoders",
			map[string]string{"  enc": "{type: static}\n  abc: {type: static, input: text}", "  mapping": "{abc: none}"},
			func(c *pipeline.Config[row]) {
				c.Encoders = pipeline.Encoders{"enc": static.Default(), "abc": static.Default()}
				c.Cache.Mapping = pipeline.Mapping{"abc": cachesink.None}
			},
		},
		{
			"trained encoders",
			map[string]string{"  enc": `{type: static}
  grams: {type: ngram_bag, dim: 8, buckets: 300, min_n: 2, max_n: 4, mode: sum, template: "{text}!"}
  linear: {type: projection, dim: 5, encoder: {type: static, input: text}}`},
			func(c *pipeline.Config[row]) {
				bag := trainable.NgramBag{Dim: 8, Buckets: 300, MinN: 2, MaxN: 4, Mode: "sum"}
				c.Encoders = pipeline.Encoders{
					"enc":    static.Default(),
					"grams":  encode.Reading(pipeline.Trainable(bag, nil), encode.Reads{Template: "{text}!"}),
					"linear": pipeline.Trainable(trainable.Projection{Dim: 5}, encode.Reading(static.Default(), encode.Reads{Field: "text"})),
				}
			},
		},
		{"no cache_type", map[string]string{"  cache_type": ""}, func(c *pipeline.Config[row]) { c.Cache.CacheType = "" }},
		{"none", map[string]string{"  mapping": "{enc: none}"}, func(c *pipeline.Config[row]) { c.Cache.Mapping["enc"] = cachesink.None }},
		{"no mapping", map[string]string{"  mapping": ""}, func(c *pipeline.Config[row]) { c.Cache.Mapping = nil }},
		{"no batch_size", map[string]string{"  batch_size": ""}, func(c *pipeline.Config[row]) { c.Cache.BatchSize = 0 }},
		{"no num_workers", map[string]string{"  num_workers": ""}, func(c *pipeline.Config[row]) { c.Cache.NumWorkers = 0 }},
		{"no save_dir", map[string]string{"  save_dir": ""}, func(c *pipeline.Config[row]) { c.Cache.SaveDir = "" }},
		{"no shard_objects", map[string]string{"  shard_objects": ""}, func(c *pipeline.Config[row]) { c.Cache.ShardObjects = 0 }},
		{"no dtype", map[string]string{"  dtype": ""}, func(c *pipeline.Config[row]) { c.Cache.DType = "" }},
		{
			"a map of dtypes",
			map[string]string{"  dtype": "{enc: int8}"},
			func(c *pipeline.Config[row]) {
				c.Cache.DType, c.Cache.DTypes = "", map[string]cachesink.DType{"enc": cachesink.Int8}
			},
		},
		{"no compression", map[string]string{"  compression": ""}, func(c *pipeline.Config[row]) { c.Cache.Compression = "" }},
		{"zstd", map[string]string{"  compression": "zstd"}, func(c *pipeline.Config[row]) { c.Cache.Compression = cachesink.Zstd }},
		{"no record_batch_rows", map[string]string{"  record_batch_rows": ""}, func(c *pipeline.Config[row]) { c.Cache.RecordBatchRows = 0 }},
		{"no access", map[string]string{"  access": ""}, func(c *pipeline.Config[row]) { c.Cache.Access = "" }},
		{
			"no key_extractors",
			map[string]string{"  key_extractors": ""},
			func(c *pipeline.Config[row]) { c.Cache.KeyExtractors = pipeline.KeyExtractors{} },
		},
		{
			"a map of key_extractors",
			map[string]string{"  key_extractors": "{enc: index}"},
			func(c *pipeline.Config[row]) {
				k, _ := encode.ParseKey("index")
				c.Cache.KeyExtractors = pipeline.Keys(map[string]encode.Key{"enc": k})
			},
		},
		{
			"an empty cache",
			map[string]string{
				"  cache_type": "", "  mapping": "", "  batch_size": "", "  num_workers": "", "  save_dir": "",
				"  shard_objects": "", "  key_extractors": "", "  dtype": "", "  compression": "", "  record_batch_rows": "", "  access": "",
			},
			func(c *pipeline.Config[row]) { c.Cache = &pipeline.CacheConfig{} },
		},
		{
			"no cache",
			map[string]string{
				"cache": "", "  cache_type": "", "  mapping": "", "  batch_size": "", "  num_workers": "", "  save_dir": "",
				"  shard_objects": "", "  key_extractors": "", "  dtype": "", "  compression": "", "  record_batch_rows": "", "  access": "",
			},
			func(c *pipeline.Config[row]) { c.Cache = nil },
		},
		{"no dropout", map[string]string{"head": "{type: skip_connection, n_layers: 2}"}, func(c *pipeline.Config[row]) {
			c.Head = head.SkipConnection{Layers: 2}
		}},
		{"a plain head", map[string]string{"head": "{type: skip_connection}"}, func(c *pipeline.Config[row]) { c.Head = head.SkipConnection{} }},
		{"a plain loss", map[string]string{"loss": "{type: multiple_negatives_ranking}"}, func(c *pipeline.Config[row]) {
			c.Loss = loss.MultipleNegativesRanking{}
		}},
		{"shuffled", map[string]string{"train": "{epochs: 2, batch_size: 16}"}, func(c *pipeline.Config[row]) {
			c.Train = train.Options{Epochs: 2, BatchSize: 16}
		}},
		{"full batches", map[string]string{"train": "{epochs: 2, batch_size: 16, drop_last: true}"}, func(c *pipeline.Config[row]) {
			c.Train = train.Options{Epochs: 2, BatchSize: 16, DropLast: true}
		}},
		{
			"a sampler",
			map[string]string{"train": "{epochs: 2, sampler: {type: group_balanced, groups: 3, samples: 2, column: subgroup}}"},
			func(c *pipeline.Config[row]) {
				c.Train, c.Sampler = train.Options{Epochs: 2}, sampler.GroupBalanced{Groups: 3, Samples: 2, Column: "subgroup"}
			},
		},
		{
			"samplers",
			map[string]string{"train": "{epochs: 2, batch_size: 4, sampler: {type: no_duplicates, of: {type: subset, column: n, values: [1, 3, 5, 8, 9, 4, 2], fraction: 0.9, of: {type: mixed, weights: {train: 3, val: 1}}}}}"},
			func(c *pipeline.Config[row]) {
				c.Train = train.Options{Epochs: 2, BatchSize: 4}
				c.Sampler = sampler.NoDuplicates{Of: sampler.Subset{
					Column: "n", Values: sampler.Values{"1", "3", "5", "8", "9", "4", "2"}, Fraction: 0.9,
					Of: sampler.Mixed{Weights: map[string]float64{"train": 3, "val": 1}},
				}}
			},
		},
		{
			"a weighted sampler",
			map[string]string{"train": "{epochs: 2, batch_size: 16, sampler: {type: weighted, column: n}}"},
			func(c *pipeline.Config[row]) {
				c.Train, c.Sampler = train.Options{Epochs: 2, BatchSize: 16}, sampler.Weighted{Column: "n"}
			},
		},
		{"a plain training", map[string]string{"train": ""}, func(c *pipeline.Config[row]) { c.Train = train.Options{} }},
		{
			"a whole training",
			map[string]string{"train": `{epochs: 3, batch_size: 16, optimizer: {type: adamw, lr: 0.01, weight_decay: 0}, clip_norm: 1.5,
  schedule: {type: cosine, warmup_fraction: 0.25}, validation: {every_epochs: 2, loss: true, metrics: true},
  early_stopping: {monitor: "retrieval_precision@2", patience: 4, min_delta: 0.01, mode: max, restore_best: false},
  checkpoints: {every_epochs: 2, every_steps: 3, resume: false}, log: {every_steps: 1, tensorboard: false}}`},
			func(c *pipeline.Config[row]) {
				decay := 0.0
				c.Train = train.Options{
					Epochs: 3, BatchSize: 16, Optimizer: train.AdamW{LR: 0.01, WeightDecay: &decay}, ClipNorm: 1.5,
					Schedule:      train.Cosine{Warmup: train.Warmup{Fraction: 0.25}},
					Validation:    &train.Validation{EveryEpochs: 2, Loss: true, Metrics: true},
					EarlyStopping: &train.EarlyStopping{Monitor: "retrieval_precision@2", Patience: 4, MinDelta: 0.01, Mode: "max", KeepLast: true},
					Checkpoints:   &train.Checkpoints{EveryEpochs: 2, EverySteps: 3, Fresh: true},
					Log:           train.Log{EverySteps: 1, NoTensorBoard: true},
				}
			},
		},
		{"momentum", map[string]string{"train": "{optimizer: {type: sgd, lr: 0.01, momentum: 0.9, nesterov: true}, schedule: {type: linear}, early_stopping: {}}"}, func(c *pipeline.Config[row]) {
			c.Train = train.Options{
				Optimizer: train.SGD{LR: 0.01, Momentum: 0.9, Nesterov: true}, Schedule: train.Linear{}, EarlyStopping: &train.EarlyStopping{},
			}
		}},
		{"no metrics", map[string]string{"metrics": ""}, func(c *pipeline.Config[row]) { c.Metrics = nil }},
		{
			"all metrics",
			map[string]string{
				"metrics": "[{type: map}, {type: ndcg, k: 3}, {type: r_precision, variant: quaterion}, {type: recall}, {type: reciprocal_rank, variant: quaterion}]",
			},
			func(c *pipeline.Config[row]) {
				c.Metrics = []metric.Config{
					metric.MAP{},
					metric.NDCG{K: 3},
					metric.RPrecision{Variant: metric.VariantQuaterion},
					metric.Recall{},
					metric.ReciprocalRank{Variant: metric.VariantQuaterion},
				}
			},
		},
		{
			"samples",
			map[string]string{"eval": "{split: train, sample: {size: 9, repeats: 3, seed: 5}}"},
			func(c *pipeline.Config[row]) { c.EvalSample = metric.Sample{Size: 9, Repeats: 3, Seed: 5} },
		},
		{"no eval", map[string]string{"eval": ""}, func(c *pipeline.Config[row]) { c.EvalSplit = "" }},
	}
}

// TestTwins: the same pipeline in Go and in YAML gives the same plan, bytes,
// weights and metrics, also where an option is left out in both.
func TestTwins(t *testing.T) {
	for _, tw := range twins(t) {
		t.Run(tw.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			jsonl(t, filepath.Join(dir, "train.jsonl"), rows(30, ""))
			jsonl(t, filepath.Join(dir, "val.jsonl"), rows(10, "v"))
			fromYAML, err := pipeline.ParseConfig(filepath.Join(dir, "c.yaml"), []byte(twinText(t, tw)))
			if err != nil {
				t.Fatalf("%s: %v", tw.name, err)
			}
			fromGo := twinConfig(dir)
			tw.code(&fromGo)
			a, b := runTwin(t, fromYAML, dir), runTwin(t, fromGo, dir)
			sameFiles(t, tw.name, b.files, a.files)
			if !bytes.Equal(a.weights, b.weights) || len(a.weights) < 1000 {
				t.Errorf("%s: other weights", tw.name)
			}
			for _, p := range []*pipeline.Plan{a.plan, b.plan} {
				for _, s := range p.Splits {
					delete(s.Facts, "samples") // a mapping's version is its text, a function's the user's
				}
			}
			for what, pair := range map[string][2]any{"plan": {a.plan, b.plan}, "evaluation": {a.eval, b.eval}} {
				x, _ := json.Marshal(pair[0])
				y, _ := json.Marshal(pair[1])
				if !bytes.Equal(x, y) {
					t.Errorf("%s: the %s is\n%s, want\n%s", tw.name, what, y, x)
				}
			}
		})
	}
}

// twinText is twinYAML with a twin's lines.
func twinText(t testing.TB, tw twin) string {
	var out []string
	found := 0
	for line := range strings.Lines(twinYAML) {
		key, _, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
		value, ok := tw.yaml[key]
		if !ok {
			out = append(out, line)
			continue
		}
		found++
		if value != "" {
			out = append(out, key+": "+value+"\n")
		}
	}
	if found != len(tw.yaml) {
		t.Fatalf("%s: %d of %d lines were found", tw.name, found, len(tw.yaml))
	}
	return strings.Join(out, "")
}

type twinResult struct {
	plan    *pipeline.Plan
	files   map[string]string
	weights []byte
	eval    *pipeline.EvalReport
}

// runTwin runs a config in its folder and cleans up after it.
func runTwin[R any](t testing.TB, cfg pipeline.Config[R], dir string) twinResult {
	t.Helper()
	cfg.Allocator = checked(t)
	cfg.Logger = config(nil, "").Logger
	p := open(t, cfg)
	plan, err := p.Plan(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	plan.Free = 0 // other programs write, too
	res, err := p.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	out := twinResult{plan: plan, eval: res.Eval, files: snapshot(t, dir, "cache/manifests", "cache/splits", "cache/encoders", "cache/inputs")}
	out.weights = read(t, filepath.Join(dir, "out", "head.safetensors"))
	remove(t, filepath.Join(dir, "cache"), filepath.Join(dir, "out"))
	return out
}
