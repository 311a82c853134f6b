package pipeline_test

import (
	"maps"
	"path/filepath"
	"slices"
	"testing"

	"github.com/permafrost-ml/permafrost/cachesink"
	"github.com/permafrost-ml/permafrost/encode"
	"github.com/permafrost-ml/permafrost/pipeline"
	"github.com/permafrost-ml/permafrost/source"
)

// keyKinds are the key extractors of every kind, each free of conflicts on
// the tests' rows.
func keyKinds(t testing.TB) map[string]pipeline.KeyExtractors {
	out := map[string]pipeline.KeyExtractors{
		"absent": {},
		"func":   pipeline.Key(func(o encode.Object) string { return o.Text()[:6] }),
		"map":    pipeline.Keys(map[string]encode.Key{"enc": encode.KeyFunc(func(o encode.Object) string { return "k" + o.Text() })}),
	}
	for _, spec := range []string{"content", "index", "field:text", "fields:text,topic", "prefix:text:10"} {
		k, err := encode.ParseKey(spec)
		if err != nil {
			t.Fatal(err)
		}
		out[spec] = pipeline.NamedKey(k)
	}
	return out
}

// world is all that a fill depends on.
type world struct {
	rows    map[string][]row
	cfg     pipeline.Config[row]
	model   *model
	reads   encode.Reads
	folders string // where the dataset's files lie

	otherKey encode.Key // than that of cfg
}

func newWorld(t testing.TB, save string, keys pipeline.KeyExtractors) *world {
	w := &world{
		rows:  map[string][]row{"train": rows(24, ""), "val": rows(8, "v")},
		cfg:   config(t, save),
		model: newModel("a"), folders: t.TempDir(),
	}
	w.cfg.Sample = func(r row) pipeline.Sample {
		topic := encode.TextValue(r.C)
		return pipeline.Pair(encode.Text(r.Q).With("topic", topic), encode.Text(r.A).With("topic", topic)).With("n", r.N)
	}
	w.cfg.Cache.KeyExtractors = keys
	var err error
	if w.otherKey, err = encode.ParseKey("prefix:text:9"); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) config(t testing.TB) pipeline.Config[row] {
	cfg := w.cfg
	cfg.Splits = pipeline.Splits[row]{}
	for name, rs := range w.rows {
		cfg.Splits[name] = source.JSONL[row](jsonl(t, filepath.Join(w.folders, name+".jsonl"), rs))
	}
	cfg.Encoders = pipeline.Encoders{"enc": encode.Reading(w.model, w.reads)}
	return cfg
}

// grouped makes groups of the pairs.
func grouped(w *world) {
	w.cfg.Sample = func(r row) pipeline.Sample {
		return pipeline.Group(encode.Text(r.Q).With("topic", encode.TextValue(r.C)), r.C).With("n", r.N)
	}
}

// TestStale: a changed pipeline is never answered from the old cache, and
// one in which only neutral things changed encodes nothing. What is served
// is what a fresh cache serves.
func TestStale(t *testing.T) {
	cases := []struct {
		name    string
		before  func(w *world) // of the first fill too
		change  func(w *world)
		encoded int64 // of 64 objects
	}{
		{"a text", nil, func(w *world) { w.rows["train"][5].Q = "5new question" }, 1},
		{"the end of a text", nil, func(w *world) { w.rows["train"][5].Q += "!" }, 1},
		{"the other side's text", nil, func(w *world) { w.rows["val"][0].A = "another answer" }, 1},
		{"texts change places", nil, func(w *world) {
			rs := w.rows["train"]
			rs[1].Q, rs[2].Q = rs[2].Q, rs[1].Q
		}, 0},
		{"a row more", nil, func(w *world) { w.rows["train"] = rows(25, "") }, 2},
		{"a row less", nil, func(w *world) { w.rows["train"] = rows(23, "") }, 0},
		{"rows in another order", nil, func(w *world) { slices.Reverse(w.rows["train"]) }, 0},
		{"a row in another split", nil, func(w *world) {
			w.rows["val"] = append(w.rows["val"], w.rows["train"][3])
			w.rows["train"] = slices.Delete(w.rows["train"], 3, 4)
		}, 0},
		{"splits change places", nil, func(w *world) {
			w.rows["train"], w.rows["val"] = w.rows["val"], w.rows["train"]
		}, 0},
		{"a split less", nil, func(w *world) { delete(w.rows, "val") }, 0},
		{"a split more", nil, func(w *world) { w.rows["zoo"] = rows(3, "z") }, 6},
		{"a kept value", nil, func(w *world) { w.rows["train"][7].N = -1 }, 0},
		{"a label", grouped, func(w *world) { w.rows["train"][7].C = "another" }, 0},
		{"a kept column more", nil, func(w *world) {
			sample := w.cfg.Sample
			w.cfg.Sample = func(r row) pipeline.Sample { return sample(r).With("c", r.C) }
			w.cfg.Version = "2"
		}, 0},
		{"the type of a kept column", nil, func(w *world) { w.cfg.KeepTypes = map[string]string{"n": "float64"} }, 0},
		{"a score", nil, func(w *world) {
			sample := w.cfg.Sample
			w.cfg.Sample = func(r row) pipeline.Sample {
				s := sample(r)
				s.Score = float32(r.N)
				return s
			}
			w.cfg.Version = "2"
		}, 0},
		{"pairs become groups", nil, func(w *world) { grouped(w); w.cfg.Version = "2" }, 0},
		{"an encoder's field", nil, func(w *world) { w.model.salt = "b" }, 64},
		{"the output version", nil, func(w *world) { w.model.version = 1 }, 64},
		{"the dimension", nil, func(w *world) { w.model.dim = 7 }, 64},
		{"the field that is read", nil, func(w *world) { w.reads.Field = "topic" }, int64(len(topics))},
		{"the fields that are read", nil, func(w *world) { w.reads.Fields = []string{"text", "topic"} }, 64},
		{"a template", nil, func(w *world) { w.reads.Template = "query: {text}" }, 64},
		{"another template", func(w *world) { w.reads.Template = "query: {text}" }, func(w *world) { w.reads.Template = "passage: {text}" }, 64},
		{"a template of the same text", nil, func(w *world) { w.reads.Template = "{text}" }, 0},
		{
			"the batch size of a variant encoder",
			func(w *world) { w.model.variant = true },
			func(w *world) { w.cfg.Cache.BatchSize = 4 },
			64,
		},
		{"the key extractor", nil, func(w *world) {
			w.cfg.Cache.KeyExtractors = pipeline.NamedKey(w.otherKey)
		}, 0},
		{"the cache is switched off", nil, func(w *world) { w.cfg.Cache.CacheType = cachesink.None }, 0},
		{"the limit", nil, func(w *world) { w.cfg.Limit = 3 }, 0},

		{"the batch size", nil, func(w *world) { w.cfg.Cache.BatchSize = 4 }, 0},
		{"the worker count", nil, func(w *world) { w.cfg.Cache.NumWorkers = 8 }, 0},
		{"the worker count of a variant encoder", func(w *world) { w.model.variant = true }, func(w *world) { w.cfg.Cache.NumWorkers = 8 }, 0},
		{"the shard size", nil, func(w *world) { w.cfg.Cache.ShardObjects = 5 }, 0},
		{"the files' folder", nil, func(w *world) { w.folders = filepath.Join(w.folders, "moved") }, 0},
		{"the training", nil, func(w *world) { w.cfg.Train.Epochs, w.cfg.Seed = 9, 9 }, 0},
		{"the cache type", nil, func(w *world) { w.cfg.Cache.CacheType = cachesink.CPU }, 0},
		{"nothing", nil, func(*world) {}, 0},
	}
	for keys, extractor := range keyKinds(t) {
		t.Run(keys, func(t *testing.T) {
			t.Parallel()
			for i, c := range cases {
				if i > 6 && keys != "absent" && (keys != "func" || testing.Short()) {
					break // what follows has little to do with keys
				}
				w := newWorld(t, t.TempDir(), extractor)
				if c.before != nil {
					c.before(w)
				}
				fill(t, w.config(t))
				c.change(w)
				cfg := w.config(t)
				if r := fill(t, cfg); r.Encoded != c.encoded {
					t.Errorf("%s: encoded %d, want %d", c.name, r.Encoded, c.encoded)
				}
				fresh := cfg
				fresh.Cache = &pipeline.CacheConfig{
					CacheType: cfg.Cache.CacheType, BatchSize: cfg.Cache.BatchSize, KeyExtractors: cfg.Cache.KeyExtractors,
				}
				sameLines(t, c.name, everything(t, cfg), everything(t, fresh))
			}
		})
	}
}

// TestNeutralChangesReadNothing: with a version, what does not change the
// rows does not even have them read.
func TestNeutralChangesReadNothing(t *testing.T) {
	w := newWorld(t, t.TempDir(), pipeline.KeyExtractors{})
	fill(t, w.config(t))
	for name, change := range map[string]func(w *world){
		"the batch size":   func(w *world) { w.cfg.Cache.BatchSize = 4 },
		"the worker count": func(w *world) { w.cfg.Cache.NumWorkers = 8 },
		"the shard size":   func(w *world) { w.cfg.Cache.ShardObjects = 5 },
		"the folder":       func(w *world) { w.folders = t.TempDir() },
		"the training":     func(w *world) { w.cfg.Train.Epochs, w.cfg.Seed = 9, 9 },
		"one split only":   func(w *world) { delete(w.rows, "val") },
	} {
		other := *w
		cache := *w.cfg.Cache
		other.cfg.Cache, other.rows = &cache, maps.Clone(w.rows)
		change(&other)
		if r := fill(t, seal(other.config(t))); r.Encoded != 0 {
			t.Errorf("%s: encoded %d", name, r.Encoded)
		}
	}
}
