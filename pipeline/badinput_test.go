package pipeline_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/permafrost-ml/permafrost/cachesink"
	"github.com/permafrost-ml/permafrost/encode"
	"github.com/permafrost-ml/permafrost/pipeline"
	"github.com/permafrost-ml/permafrost/pipeline/head"
	"github.com/permafrost-ml/permafrost/pipeline/loss"
	"github.com/permafrost-ml/permafrost/pipeline/train"
	"github.com/permafrost-ml/permafrost/source"
)

// badYAML is a config over a file with that text.
func badYAML(t testing.TB, text, more string) pipeline.Config[source.Fields] {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "train.jsonl"), text)
	cfg, err := pipeline.ParseConfig(filepath.Join(dir, "c.yaml"), []byte(`
version: 1
dataset: {splits: {train: {jsonl: train.jsonl}}, group: {object: q, label: c}`+more+`}
encoders: {enc: {type: static}}
cache: {save_dir: cache}
`))
	if err != nil {
		t.Fatal(err)
	}
	cfg.Allocator = checked(t)
	return cfg
}

const goodRow = `{"q":"good","c":"x","n":1}` + "\n"

// TestBadRows: the error names file and line; or the rows are left out, and
// counted again by a run that does not read them.
func TestBadRows(t *testing.T) {
	for name, c := range map[string]struct{ row, want string }{
		"a missing column": {`{"c":"x","n":1}`, `column "q" (the row has ["c" "n"])`},
		"a null":           {`{"q":null,"c":"x"}`, `column "q" is null`},
		"a missing label":  {`{"q":"x","n":1}`, `column "c"`},
		"a real label":     {`{"q":"x","c":1.5,"n":1}`, `the label is 1.5, it must be a text or an integer`},
		"a malformed line": {`{"q":"x",`, `JSON`},
		"not an object":    {`[1]`, `train.jsonl:2: `},
	} {
		text := goodRow + c.row + "\n" + strings.ReplaceAll(goodRow, "good", "better")
		err := fillErr(t, badYAML(t, text, ""))
		if err == nil || !strings.Contains(err.Error(), "train.jsonl:2: ") || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %s", name, err, c.want)
		}
		cfg := badYAML(t, text, ", on_error: skip")
		if r := fill(t, cfg); r.Rows != 2 || r.Quarantined != 1 || r.Quarantine != "" {
			t.Errorf("%s, skip: %+v", name, r)
		}
		if r := fill(t, seal(cfg)); r.Rows != 2 || r.Quarantined != 1 {
			t.Errorf("%s, skip again: %+v", name, r)
		}
		cfg.OnError = source.Fail
		if err := fillErr(t, cfg); err == nil {
			t.Errorf("%s: what was left out before is not an error now", name)
		}
		cfg = badYAML(t, text, ", on_error: quarantine")
		r := fill(t, cfg)
		if r.Rows != 2 || r.Quarantined != 1 || r.Quarantine != cfg.Quarantine {
			t.Errorf("%s, quarantine: %+v", name, r)
		}
		bad := string(read(t, cfg.Quarantine))
		if !strings.Contains(bad, `"line":2`) || strings.Count(bad, "\n") != 1 {
			t.Errorf("%s: the quarantine holds %s", name, bad)
		}
		if r := fill(t, seal(cfg)); r.Quarantined != 1 || r.Quarantine != cfg.Quarantine {
			t.Errorf("%s, quarantine again: %+v", name, r)
		}
		remove(t, cfg.Quarantine)
		cfg.NoEncode = true // the rows are read twice: to see, and to store
		if r := fill(t, sealEncoders(cfg)); r.Quarantined != 1 || string(read(t, cfg.Quarantine)) != bad {
			t.Errorf("%s: the quarantine does not come back: %+v", name, r)
		}
	}
}

// TestQuarantineKeepsOtherSplits: bad rows of a split that is stored are not
// lost when another split has some.
func TestQuarantineKeepsOtherSplits(t *testing.T) {
	dir := t.TempDir()
	cfg := config(t, t.TempDir())
	cfg.OnError, cfg.Quarantine = source.Quarantine, filepath.Join(dir, "bad.jsonl")
	save := func(val string) {
		cfg.Splits = pipeline.Splits[row]{
			"train": source.JSONL[row](write(t, filepath.Join(dir, "train.jsonl"), goodRow+"bad train\n")),
			"val":   source.JSONL[row](write(t, filepath.Join(dir, "val.jsonl"), val)),
		}
	}
	save(goodRow)
	fill(t, cfg)
	save(goodRow + "bad val\n")
	if r := fill(t, cfg); r.Quarantined != 2 {
		t.Errorf("%+v", r)
	}
	if b := string(read(t, cfg.Quarantine)); !strings.Contains(b, "bad train") || !strings.Contains(b, "bad val") {
		t.Errorf("the quarantine holds %s", b)
	}
}

// TestBadEncoders: what an encoder does wrong ends the fill with an error
// that names it, and nothing of it is stored.
func TestBadEncoders(t *testing.T) {
	boom := errors.New("boom")
	for name, c := range map[string]struct {
		change func(m *model)
		is     error
		want   string
	}{
		"wrong dimension": {func(m *model) { m.realDim = 7 }, encode.ErrDim, "7, not 6"},
		"NaN": {func(m *model) {
			m.onBatch = func(_ context.Context, _ []encode.Input, dst []float32) error {
				dst[3] = float32(math.NaN())
				return nil
			}
		}, encode.ErrNotFinite, "value 3"},
		"an error": {func(m *model) {
			m.onBatch = func(context.Context, []encode.Input, []float32) error { return boom }
		}, boom, "objects: boom"},
		"a panic": {func(m *model) {
			m.onBatch = func(context.Context, []encode.Input, []float32) error { panic(boom) }
		}, boom, "panic: boom"},
		"no model": {func(m *model) { m.onOpen = func(int) error { return fs.ErrNotExist } }, fs.ErrNotExist, "open"},
	} {
		for _, cacheType := range []cachesink.CacheType{cachesink.CPU, cachesink.None} {
			cfg := config(t, t.TempDir())
			m := newModel("a")
			c.change(m)
			cfg.Encoders = pipeline.Encoders{"enc": m}
			cfg.Cache.CacheType = cacheType
			p := open(t, cfg)
			var err error
			for _, e := range p.Epoch(t.Context(), "train", 0) {
				err = e
			}
			if !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "enc") {
				t.Errorf("%s, %s: got %v", name, cacheType, err)
			}
			if cacheType == cachesink.None {
				continue
			}
			good := newModel("a")
			cfg.Encoders = pipeline.Encoders{"enc": good}
			if r := fill(t, cfg); r.Encoded != 160 {
				t.Errorf("%s: the next fill encodes %d", name, r.Encoded)
			}
		}
	}
	cfg := config(t, "")
	cfg.Encoders = pipeline.Encoders{"enc": nameless{newModel("a")}}
	if err := fillErr(t, cfg); !errors.Is(err, encode.ErrNoFingerprint) || !strings.Contains(err.Error(), `encoder "enc"`) {
		t.Errorf("no fingerprint gives %v", err)
	}
}

type nameless struct{ *model }

func (nameless) Spec(context.Context) (encode.Spec, error) {
	return encode.Spec{Engine: "test", Dim: 6}, nil
}

// TestBadSamples: what the user's functions do wrong is an error too.
func TestBadSamples(t *testing.T) {
	for want, change := range map[string]func(cfg *pipeline.Config[row]){
		"slice:8: make a sample: panic: index 7": func(cfg *pipeline.Config[row]) {
			cfg.Sample = func(r row) pipeline.Sample {
				if r.N == 7 {
					panic("index 7")
				}
				return pairOf(r)
			}
		},
		"slice:8: a reason": func(cfg *pipeline.Config[row]) {
			cfg.Sample = func(r row) pipeline.Sample {
				if r.N == 7 {
					return pipeline.Bad(errors.New("a reason"))
				}
				return pairOf(r)
			}
		},
		"panic: key": func(cfg *pipeline.Config[row]) {
			cfg.Cache.KeyExtractors = pipeline.Key(func(encode.Object) string { panic("key") })
		},
		"both pairs and groups": func(cfg *pipeline.Config[row]) {
			cfg.Sample = func(r row) pipeline.Sample {
				if r.N == 7 {
					return groupOf(r)
				}
				return pairOf(r)
			}
		},
		`kept column "enc_a_key" has the name`: func(cfg *pipeline.Config[row]) {
			cfg.Sample = func(r row) pipeline.Sample { return pairOf(r).With("enc_a_key", 1) }
		},
		`slice:2: kept column "row" has the name`: func(cfg *pipeline.Config[row]) {
			cfg.OnError = source.Skip
			cfg.Sample = func(r row) pipeline.Sample {
				if r.N == 0 {
					return pipeline.Bad(errors.New("left out"))
				}
				return pairOf(r).With("row", 1)
			}
		},
		`kept column "enc_b" has the name`: func(cfg *pipeline.Config[row]) {
			cfg.Sample = func(r row) pipeline.Sample { return pairOf(r).With("enc_b", 1) }
		},
		`split "train" of slice has no rows`: func(cfg *pipeline.Config[row]) { cfg.Splits["train"] = source.Slice[row](nil) },
	} {
		cfg := config(t, t.TempDir())
		change(&cfg)
		if err := fillErr(t, cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

// TestBadDirectories: nothing is lost in them, and the error says which.
func TestBadDirectories(t *testing.T) {
	foreign := t.TempDir()
	write(t, filepath.Join(foreign, "thesis.tex"), "years of work")
	write(t, filepath.Join(foreign, "manifests", "0000000001.json"), "{}")
	before := snapshot(t, foreign, ".")
	if err := fillErr(t, config(t, foreign)); !errors.Is(err, cachesink.ErrForeign) && !errors.Is(err, cachesink.ErrCorrupt) {
		t.Errorf("a foreign folder gives %v", err)
	}
	sameFiles(t, "foreign", snapshot(t, foreign, "."), before)

	file := write(t, filepath.Join(t.TempDir(), "file"), "text")
	if err := fillErr(t, config(t, filepath.Join(file, "cache"))); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("a folder under a file gives %v", err)
	}
	if os.Getuid() != 0 && runtime.GOOS != "windows" {
		dir := t.TempDir()
		if err := os.Chmod(dir, 0o555); err != nil {
			t.Fatal(err)
		}
		if err := fillErr(t, config(t, filepath.Join(dir, "cache"))); !errors.Is(err, fs.ErrPermission) {
			t.Errorf("an unwritable folder gives %v", err)
		}
	}
}

// TestDamagedCache: whatever file is damaged, wherever: an error, or the
// contents as they were, never others.
func TestDamagedCache(t *testing.T) {
	dir := t.TempDir()
	cfg := config(t, dir)
	want := everything(t, cfg)
	cfg.Train.Sequential = true
	files := snapshot(t, dir, cached...)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		path := filepath.Join(dir, name)
		whole := read(t, path)
		damages := map[string][]byte{"cut": whole[:len(whole)/2], "empty": {}}
		for _, at := range []int{0, len(whole) / 3, len(whole) / 2, max(len(whole)-9, 0)} {
			flipped := slices.Clone(whole)
			flipped[at] ^= 0x10
			damages[fmt.Sprintf("a bit of byte %d", at)] = flipped
		}
		for damage, b := range damages {
			if err := os.WriteFile(path, b, 0o644); err != nil {
				t.Fatal(err)
			}
			got, err := tryEverything(t, seal(cfg))
			if err == nil {
				sameLines(t, name, got, want)
			} else if !errors.Is(err, cachesink.ErrCorrupt) && !errors.Is(err, cachesink.ErrForeign) {
				t.Errorf("%s, %s: %v", name, damage, err)
			}
			if err == nil && strings.HasSuffix(name, ".arrow") {
				t.Errorf("%s, %s: was not noticed", name, damage)
			}
		}
		if err := os.WriteFile(path, whole, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	sameLines(t, "as it was", everything(t, seal(cfg)), want)
}

func tryEverything(t testing.TB, cfg pipeline.Config[row]) (out []string, err error) {
	p := open(t, cfg)
	defer p.Close()
	for _, split := range []string{"train", "val"} {
		for b, err := range p.Epoch(t.Context(), split, 0) {
			if err != nil {
				return nil, err
			}
			for i := range b.Rows() {
				var line []string
				for c, f := range b.Record().Schema().Fields() {
					if !strings.HasSuffix(f.Name, "_pos") {
						line = append(line, fmt.Sprintf("%s=%s (%v)", f.Name, b.Record().Column(c).ValueStr(i), f.Type))
					}
				}
				out = append(out, strings.Join(line, " "))
			}
		}
	}
	return out, nil
}

// TestOutputFolder is replaced if it is ours, and left alone otherwise.
func TestOutputFolder(t *testing.T) {
	dir := t.TempDir()
	cfg := config(t, "")
	run := func(out string) error {
		cfg.Output = out
		_, err := open(t, cfg).Run(t.Context())
		return err
	}
	out := filepath.Join(dir, "new", "out")
	for range 2 {
		if err := run(out); err != nil {
			t.Fatal(err)
		}
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(out, link); err != nil {
		t.Skip(err)
	}
	cfg.Seed = 1
	was := read(t, filepath.Join(out, "head.safetensors"))
	if err := run(link); err != nil {
		t.Fatal(err)
	}
	if string(read(t, filepath.Join(out, "head.safetensors"))) == string(was) {
		t.Error("the folder behind the link was not replaced")
	}
	if entries, err := os.ReadDir(filepath.Dir(out)); err != nil || len(entries) != 1 {
		t.Errorf("beside the output: %v, %v", entries, err)
	}

	theirs := filepath.Join(dir, "theirs")
	write(t, filepath.Join(theirs, "config.json"), `{"kind":"theirs"}`)
	mixed := filepath.Join(dir, "mixed")
	if err := run(mixed); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(mixed, "notes.txt"), "mine")
	file := write(t, filepath.Join(dir, "file"), "text")
	for path, want := range map[string]error{theirs: pipeline.ErrNotOurs, mixed: pipeline.ErrNotOurs, file: nil} {
		before := snapshot(t, dir, ".")
		m := newModel("a")
		cfg.Encoders = pipeline.Encoders{"enc": m}
		if err := run(path); err == nil || want != nil && !errors.Is(err, want) {
			t.Errorf("%s gives %v", path, err)
		}
		if m.objects.Load() > 0 {
			t.Errorf("%s: the run began before it was refused", path)
		}
		sameFiles(t, path, snapshot(t, dir, "."), before)
	}
}

// TestBadTraining is found before the fill.
func TestBadTraining(t *testing.T) {
	for want, change := range map[string]func(cfg *pipeline.Config[row]){
		"dropout":                     func(cfg *pipeline.Config[row]) { cfg.Head = head.SkipConnection{Dropout: 2} },
		"temperature":                 func(cfg *pipeline.Config[row]) { cfg.Loss = loss.Softmax{Temperature: -1} },
		"optimizer adam: lr is -1":    func(cfg *pipeline.Config[row]) { cfg.Train.Optimizer = train.Adam{LR: -1} },
		"nothing to train":            func(cfg *pipeline.Config[row]) { cfg.Head = nil },
		"declares no loss":            func(cfg *pipeline.Config[row]) { cfg.Loss = nil },
		`train on, "zoo", is not dec`: func(cfg *pipeline.Config[row]) { cfg.TrainSplit = "zoo" },
	} {
		cfg := config(t, "")
		m := newModel("a")
		cfg.Encoders = pipeline.Encoders{"enc": m}
		change(&cfg)
		p, err := pipeline.New(cfg)
		if err == nil {
			_, err = p.Run(t.Context())
		}
		if !errors.Is(err, pipeline.ErrConfig) || !strings.Contains(err.Error(), want) || m.opens.Load() > 0 {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	cfg := config(t, "")
	cfg.Loss = loss.Softmax{}
	_, err := open(t, cfg).Run(t.Context())
	if e := (*train.KindError)(nil); !errors.As(err, &e) {
		t.Errorf("a loss of another kind gives %v", err)
	}
}

// TestCancel ends a run soon, wherever it is, and leaves nothing behind.
func TestCancel(t *testing.T) {
	stop := errors.New("stop")
	for _, cacheType := range []cachesink.CacheType{cachesink.CPU, cachesink.None} {
		for _, after := range []int64{1, 3, 12, 30} {
			before := goleak.IgnoreCurrent()
			ctx, cancel := context.WithCancelCause(t.Context())
			cfg := config(t, t.TempDir())
			cfg.Cache.CacheType = cacheType
			cfg.Train.Epochs = 1000
			m := newModel("a")
			m.onBatch = func(ctx context.Context, _ []encode.Input, _ []float32) error {
				if m.objects.Load() >= after {
					cancel(stop)
				}
				return ctx.Err()
			}
			cfg.Encoders = pipeline.Encoders{"enc": m}
			p := open(t, cfg)
			start := time.Now()
			if _, err := p.Run(ctx); !errors.Is(err, stop) {
				t.Errorf("%s, after %d: %v", cacheType, after, err)
			}
			if d := time.Since(start); d > 5*time.Second {
				t.Errorf("%s, after %d: it took %v", cacheType, after, d)
			}
			if err := p.Close(); err != nil {
				t.Error(err)
			}
			goleak.VerifyNone(t, before)
			if cacheType == cachesink.CPU {
				cfg.Encoders = pipeline.Encoders{"enc": newModel("a")}
				fill(t, cfg) // the cache stays usable
			}
		}
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(stop)
	if _, err := open(t, config(t, "")).Run(ctx); !errors.Is(err, stop) {
		t.Errorf("a context that has ended gives %v", err)
	}
}
