package pipeline_test

import (
	"context"
	"errors"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/permafrost-ml/permafrost/encode"
	"github.com/permafrost-ml/permafrost/pipeline"
	"github.com/permafrost-ml/permafrost/source"
)

// sealed is a source whose rows must not be read.
type sealed[R any] struct{ source.Source[R] }

func (sealed[R]) Rows(context.Context) iter.Seq2[source.Row[R], error] {
	panic("the dataset was opened")
}

// seal makes a config that must neither read rows nor open encoders.
func seal[R any](cfg pipeline.Config[R]) pipeline.Config[R] {
	cfg.Splits = maps.Clone(cfg.Splits)
	for name, src := range cfg.Splits {
		cfg.Splits[name] = sealed[R]{src}
	}
	return sealEncoders(cfg)
}

func sealEncoders[R any](cfg pipeline.Config[R]) pipeline.Config[R] {
	cfg.Encoders = maps.Clone(cfg.Encoders)
	for name, m := range cfg.Encoders {
		cfg.Encoders[name] = encode.Reading(sealedModel{m}, encode.ReadsOf(m))
	}
	return cfg
}

// sealedModel is a model that must not be opened.
type sealedModel struct{ encode.Model }

func (sealedModel) Open(context.Context, int) (encode.Encoder, error) {
	panic("the encoder was opened")
}

// TestSecondRunDoesNothing: what the newest manifest covers needs no
// encoder, and no dataset if its samples have a version.
func TestSecondRunDoesNothing(t *testing.T) {
	cfg := config(t, t.TempDir())
	first := fill(t, cfg)
	if first.Encoded != 160 || first.Objects != 160 || first.Rows != 80 {
		t.Fatalf("the first fill: %+v", first)
	}
	want := everything(t, cfg)
	again := fill(t, seal(cfg))
	if again.Encoded != 0 || again.Reused != 160 || again.Rows != 80 {
		t.Errorf("the second fill: %+v", again)
	}
	sameLines(t, "the second run", everything(t, seal(cfg)), want)

	cfg.NoEncode = true
	if r := fill(t, seal(cfg)); r.Encoded != 0 {
		t.Errorf("with NoEncode: %+v", r)
	}
}

// TestSecondRunOfYAML: the version of a YAML file's samples is known.
func TestSecondRunOfYAML(t *testing.T) {
	dir := t.TempDir()
	jsonl(t, filepath.Join(dir, "train.jsonl"), rows(30, ""))
	file := write(t, filepath.Join(dir, "c.yaml"), `
version: 1
dataset: {splits: {train: {jsonl: train.jsonl}}, pair: {a: q, b: a}, keep: [n]}
encoders: {enc: {type: static}}
cache: {save_dir: cache, key_extractors: "prefix:text:8"}
`)
	load := func() pipeline.Config[source.Fields] {
		cfg, err := pipeline.LoadConfig(file)
		if err != nil {
			t.Fatal(err)
		}
		cfg.Allocator = checked(t)
		return cfg
	}
	if r := fill(t, load()); r.Encoded != 60 {
		t.Fatalf("the first fill: %+v", r)
	}
	if r := fill(t, seal(load())); r.Encoded != 0 || r.Rows != 30 {
		t.Errorf("the second fill: %+v", r)
	}
}

// TestGoWithoutVersion: nobody says whether Sample has changed, so the rows
// are read; the encoder is not opened for that.
func TestGoWithoutVersion(t *testing.T) {
	cfg := config(t, t.TempDir())
	cfg.Version = ""
	cfg.IgnoreSpace = true // or a nearly full disk has the rows counted first
	fill(t, cfg)
	if r := fill(t, sealEncoders(cfg)); r.Encoded != 0 || r.Reused != 160 {
		t.Errorf("the second fill: %+v", r)
	}
	reads := 0
	cfg.Splits["train"] = source.Seq("counted", func(yield func(row, error) bool) {
		reads++
		for _, r := range rows(60, "") {
			if !yield(r, nil) {
				return
			}
		}
	})
	fill(t, sealEncoders(cfg))
	if reads != 1 {
		t.Errorf("the rows were read %d times", reads)
	}
}

// TestFillsKeepEachOther: pipelines of other datasets, encoders and configs
// live in one directory.
func TestFillsKeepEachOther(t *testing.T) {
	dir := t.TempDir()
	a := config(t, dir)
	b := config(t, dir)
	b.Splits = pipeline.Splits[row]{"train": source.Slice(rows(40, "b")), "test": source.Slice(rows(10, "t"))}
	b.Sample = groupOf
	b.Encoders = pipeline.Encoders{"enc": newModel("b"), "other": newModel("c")}
	b.Cache.BatchSize, b.Cache.ShardObjects = 5, 7
	b.Cache.KeyExtractors = pipeline.Key(func(o encode.Object) string { return o.Text()[:6] })
	wantA := everything(t, a)
	wantB := everything(t, b)
	for i := range 2 {
		sameLines(t, "a", everything(t, seal(a)), wantA)
		sameLines(t, "b", everything(t, seal(b)), wantB)
		if r := fill(t, seal(a)); r.Encoded != 0 {
			t.Errorf("fill %d of a encodes %d", i, r.Encoded)
		}
		if r := fill(t, seal(b)); r.Encoded != 0 {
			t.Errorf("fill %d of b encodes %d", i, r.Encoded)
		}
	}
}

// TestTwoProcesses fill one directory at once, with the same encoder and
// with others: neither loses what the other has.
func TestTwoProcesses(t *testing.T) {
	for i, salt := range []string{"a", "a", "b"} {
		dir := t.TempDir()
		jobs := []job{{Dir: dir, Seed: "x", Salt: "a", Workers: 1}, {Dir: dir, Seed: "y", Salt: salt, Workers: 2}}
		if i == 1 {
			jobs[1].Seed = "x" // the same fill twice
		}
		var waits []func() *pipeline.FillReport
		for range 2 {
			for _, j := range jobs {
				waits = append(waits, j.start(t))
			}
		}
		for _, wait := range waits {
			if r := wait(); r == nil || r.Encoded+r.Reused != 160 {
				t.Fatalf("round %d: %+v", i, r)
			}
		}
		for _, j := range jobs {
			cfg := j.config(t)
			if r := fill(t, seal(cfg)); r.Encoded != 0 {
				t.Errorf("round %d: a later fill encodes %d", i, r.Encoded)
			}
			fresh := j
			fresh.Dir = ""
			sameLines(t, "after two processes", everything(t, seal(cfg)), everything(t, fresh.config(t)))
		}
	}
}

// changing is a source that another one replaces while it is read.
type changing struct {
	before, after source.Source[row]
	read          *bool
}

func (c changing) now() source.Source[row] {
	if *c.read {
		return c.after
	}
	return c.before
}
func (c changing) Name() string                                 { return "changing" }
func (c changing) Identity(ctx context.Context) (string, error) { return c.now().Identity(ctx) }
func (c changing) Rows(ctx context.Context) iter.Seq2[source.Row[row], error] {
	*c.read = true
	return c.after.Rows(ctx)
}

// TestDatasetChangesWhileRead: rows must not be noted under an identity that
// was another content's.
func TestDatasetChangesWhileRead(t *testing.T) {
	cfg := config(t, t.TempDir())
	before, after := source.Slice(rows(10, "old")), source.Slice(rows(10, "new"))
	cfg.Splits = pipeline.Splits[row]{"train": changing{before, after, new(bool)}}
	fill(t, cfg)
	cfg.Splits["train"] = before // the old content comes back
	cfg.Train.Sequential = true
	fresh := config(t, "")
	fresh.Splits = cfg.Splits
	sameLines(t, "the old content", everything(t, cfg), everything(t, fresh))
}

// TestFillAgain: a pipeline that is filled again sees what has come since.
func TestFillAgain(t *testing.T) {
	file := jsonl(t, filepath.Join(t.TempDir(), "train.jsonl"), rows(20, ""))
	cfg := config(t, t.TempDir())
	cfg.Splits = pipeline.Splits[row]{"train": source.JSONL[row](file)}
	cfg.Train.Sequential = true
	p := open(t, cfg)
	if got := contents(t, p, "train"); len(got) != 20 {
		t.Fatalf("%d rows", len(got))
	}
	jsonl(t, file, rows(50, "new"))
	if r, err := p.Fill(t.Context()); err != nil || r.Encoded != 100 {
		t.Fatalf("the second fill: %+v, %v", r, err)
	}
	fresh := cfg
	fresh.Cache = &pipeline.CacheConfig{}
	sameLines(t, "after the second fill", contents(t, p, "train"), everything(t, fresh))
}

// TestIncremental: only what is new or changed is encoded.
func TestIncremental(t *testing.T) {
	dir, save := t.TempDir(), t.TempDir()
	file := filepath.Join(dir, "train.jsonl")
	cfg := config(t, save)
	cfg.Splits = pipeline.Splits[row]{"train": source.JSONL[row](jsonl(t, file, rows(50, "")))}
	fill(t, cfg)
	rs := rows(53, "")
	rs[7].Q = "another question"
	rs[8].C = "another label"
	rs[2], rs[3] = rs[3], rs[2]
	jsonl(t, file, rs)
	m := newModel("a")
	cfg.Encoders = pipeline.Encoders{"enc": m}
	if r := fill(t, cfg); r.Encoded != 7 || m.objects.Load() != 7 {
		t.Errorf("encoded %d, the encoder saw %d, want 7", r.Encoded, m.objects.Load())
	}
	fresh := cfg
	fresh.Cache = &pipeline.CacheConfig{}
	sameLines(t, "after an edit", everything(t, seal(cfg)), everything(t, fresh))
}

// TestLimit: a later full run takes up what the limited one has encoded.
func TestLimit(t *testing.T) {
	cfg := config(t, t.TempDir())
	cfg.Limit = 5
	if r := fill(t, cfg); r.Rows != 10 || r.Encoded != 20 {
		t.Errorf("limited: %+v", r)
	}
	fill(t, seal(cfg))
	cfg.Limit = 0
	if r := fill(t, cfg); r.Rows != 80 || r.Encoded != 140 || r.Reused != 20 {
		t.Errorf("in full: %+v", r)
	}
}

// TestNoEncode refuses what would encode, and writes nothing.
func TestNoEncode(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cache")
	cfg := sealEncoders(config(t, dir))
	cfg.NoEncode = true
	if err := fillErr(t, cfg); !errors.Is(err, pipeline.ErrWouldEncode) || !strings.Contains(err.Error(), "160 objects") {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory was made: %v", err)
	}
	// Rows may be rewritten as long as nothing is encoded.
	cfg = config(t, t.TempDir())
	fill(t, cfg)
	cfg.Sample = func(r row) pipeline.Sample { return pairOf(r).With("c", r.C) }
	cfg.Version, cfg.NoEncode = "2", true
	if r := fill(t, sealEncoders(cfg)); r.Encoded != 0 {
		t.Errorf("encoded %d", r.Encoded)
	}
}

// TestTouchedFile: time, name and place of a file do not count.
func TestTouchedFile(t *testing.T) {
	dir := t.TempDir()
	file := jsonl(t, filepath.Join(dir, "train.jsonl"), rows(20, ""))
	cfg := config(t, t.TempDir())
	cfg.Splits = pipeline.Splits[row]{"train": source.JSONL[row](file)}
	fill(t, cfg)
	if err := os.Chtimes(file, time.Now(), time.Now().Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	fill(t, seal(cfg))
	moved := filepath.Join(dir, "moved.jsonl")
	if err := os.Rename(file, moved); err != nil {
		t.Fatal(err)
	}
	cfg.Splits = pipeline.Splits[row]{"train": source.JSONL[row](moved)}
	fill(t, seal(cfg))
}

// TestAppend: of 1 % more rows exactly the new texts are encoded, once,
// wherever they are put and however often they come.
func TestAppend(t *testing.T) {
	cfg := config(t, t.TempDir())
	cfg.Sample = groupOf
	cfg.Splits = pipeline.Splits[row]{"train": source.Slice(rows(1000, ""))}
	fill(t, cfg)
	before := rows(1000, "")
	m := newModel("a")
	cfg.Encoders["enc"] = m
	fresh := rows(10, "new")
	cfg.Splits["train"] = source.Slice(slices.Concat(fresh[:3], before[:400], fresh[3:7], before[400:], fresh))
	if r := fill(t, cfg); r.Encoded != 10 || r.Reused != 1000 || m.objects.Load() != 10 {
		t.Errorf("encoded %d, reused %d, the encoder saw %d", r.Encoded, r.Reused, m.objects.Load())
	}
	other := cfg
	other.Cache = &pipeline.CacheConfig{}
	sameLines(t, "with new rows", everything(t, seal(cfg)), everything(t, other))
}
