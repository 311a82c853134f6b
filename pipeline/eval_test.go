package pipeline_test

import (
	"errors"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/permafrost-ml/permafrost/cachesink"
	"github.com/permafrost-ml/permafrost/encode"
	"github.com/permafrost-ml/permafrost/encode/static"
	"github.com/permafrost-ml/permafrost/pipeline"
	"github.com/permafrost-ml/permafrost/pipeline/loss"
	"github.com/permafrost-ml/permafrost/pipeline/metric"
	"github.com/permafrost-ml/permafrost/pipeline/train"
	"github.com/permafrost-ml/permafrost/source"
)

// evalCache measures an output from the cache in dir alone.
func evalCache(t *testing.T, dir, output, split string) (*pipeline.EvalResult, error) {
	t.Helper()
	c, err := cachesink.Open(t.Context(), cachesink.Dir(dir), checked(t))
	if err != nil {
		t.Fatal(err)
	}
	return pipeline.EvalCache(t.Context(), c, output, split)
}

// TestEval: a trained output measured again, by its pipeline and from the
// cache alone, has the metrics of its run; encoders are not opened for it.
func TestEval(t *testing.T) {
	for _, kind := range []loss.Kind{loss.Pairs, loss.Groups} {
		dir := t.TempDir()
		one, two := newModel("1"), newModel("2")
		cfg := config(t, dir)
		cfg.Encoders = pipeline.Encoders{"one": one, "two": two}
		cfg.Splits["test"] = source.Slice(rows(15, "t"))
		cfg.Metrics = []metric.Config{metric.MAP{}, metric.RPrecision{Variant: metric.VariantQuaterion}, metric.Recall{K: 2}}
		if kind == loss.Groups {
			cfg.Sample, cfg.Loss = groupOf, loss.Softmax{}
		}
		want := map[string]*pipeline.EvalReport{}
		for _, split := range []string{"test", "val"} {
			cfg := cfg
			cfg.EvalSplit, cfg.Output = split, filepath.Join(t.TempDir(), "out")
			cfg.EvalSample = metric.Sample{Size: 9, Repeats: 2}
			if split == "val" {
				cfg.EvalSample = metric.Sample{}
			}
			res, err := open(t, cfg).Run(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			want[split] = res.Eval
			opened := one.opens.Load() + two.opens.Load()
			other := cfg
			other.Splits = pipeline.Splits[row]{split: cfg.Splits[split]}
			other.TrainSplit = split
			for what, eval := range map[string]func() (*pipeline.EvalResult, error){
				"config": func() (*pipeline.EvalResult, error) { return open(t, other).Eval(t.Context(), cfg.Output, split) },
				"cache":  func() (*pipeline.EvalResult, error) { return evalCache(t, dir, cfg.Output, "") },
			} {
				got, err := eval()
				if err != nil {
					t.Fatalf("%v, %s: %v", kind, what, err)
				}
				if !reflect.DeepEqual(got.Eval, want[split]) {
					t.Errorf("%v, %s, %s: got %+v, want %+v", kind, split, what, got.Eval, want[split])
				}
			}
			if n := one.opens.Load() + two.opens.Load(); n != opened {
				t.Errorf("%v: %d encoders were opened", kind, n-opened)
			}
			if got, err := evalCache(t, dir, cfg.Output, "train"); err != nil || got.Eval.Split != "train" || reflect.DeepEqual(got.Eval.Tuned, res.Eval.Tuned) {
				t.Errorf("%v: on the split train: %+v, %v", kind, got, err)
			}
		}
		if (want["test"].Sample == nil) || (want["val"].Sample != nil) || want["test"].TunedDeviation["map"] == 0 {
			t.Errorf("samples: %+v and %+v", want["test"], want["val"])
		}
	}
}

// TestEvalOfTrainedEncoders: encoders that were trained with the head give
// what they gave in their run, also from the stored texts of a cache alone.
func TestEvalOfTrainedEncoders(t *testing.T) {
	dir := t.TempDir()
	cfg := trainedConfig(t, dir)
	cfg.Train.Epochs, cfg.Output = 3, filepath.Join(t.TempDir(), "out")
	res, err := open(t, cfg).Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if reflect.DeepEqual(res.Eval.Baseline, res.Eval.Tuned) {
		t.Errorf("the training changed nothing: %+v", res.Eval)
	}
	for what, eval := range map[string]func() (*pipeline.EvalResult, error){
		"config": func() (*pipeline.EvalResult, error) { return open(t, cfg).Eval(t.Context(), cfg.Output, "val") },
		"cache":  func() (*pipeline.EvalResult, error) { return evalCache(t, dir, cfg.Output, "val") },
	} {
		if got, err := eval(); err != nil || !reflect.DeepEqual(got.Eval, res.Eval) {
			t.Errorf("%s: got %+v, %v, want %+v", what, got, err, res.Eval)
		}
	}
	page := pageOf(t, res.Output)
	if e := page.Encoders; len(e) != 3 || e[0].Trained != nil || e[1].Trained.Type != "ngram_bag" || e[2].Trained.Type != "projection" || page.Train.In != 6+16+3 {
		t.Errorf("the page shows %+v of %d values", e, page.Train.In)
	}
}

// TestEvalTakesWhatFits: of the splits of one name, the newest that the
// training's encoders encoded, whatever other encoders it has.
func TestEvalTakesWhatFits(t *testing.T) {
	dir, out := t.TempDir(), filepath.Join(t.TempDir(), "out")
	of := func(change func(c *pipeline.Config[row])) *pipeline.Pipeline[row] {
		cfg := config(t, dir)
		change(&cfg)
		return open(t, cfg)
	}
	if _, err := of(func(c *pipeline.Config[row]) { c.Output = out }).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what   string
		change func(c *pipeline.Config[row])
	}{
		{"more rows and encoders", func(c *pipeline.Config[row]) {
			c.Encoders["another"] = static.Default()
			c.Splits["val"] = source.Slice(rows(25, "w"))
		}},
		{"another encoder", func(c *pipeline.Config[row]) { c.Encoders = pipeline.Encoders{"enc": newModel("b")} }},
		{"not cached", func(c *pipeline.Config[row]) { c.Cache.CacheType = cachesink.None }},
	} {
		if _, err := of(c.change).Fill(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got, err := evalCache(t, dir, out, ""); err != nil || got.Eval.Objects != 50 || len(got.Cache.Fingerprints) != 1 {
			t.Errorf("%s: got %+v, %v", c.what, got, err)
		}
	}
	for name, split := range map[string]string{"another name": "other", "nothing": ""} {
		wrong := filepath.Join(t.TempDir(), "wrong")
		cfg := config(t, "")
		cfg.Encoders, cfg.Output = pipeline.Encoders{"enc": newModel("c")}, wrong
		delete(cfg.Splits, "val")
		if _, err := open(t, cfg).Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := evalCache(t, dir, wrong, split); !errors.Is(err, cachesink.ErrMissing) {
			t.Errorf("%s: %v, want ErrMissing", name, err)
		}
		if _, err := evalCache(t, dir, wrong, "val"); !errors.Is(err, pipeline.ErrEncoder) {
			t.Errorf("the split of other encoders: %v, want ErrEncoder", err)
		}
	}
	never := newModel("d")
	never.onOpen = func(int) error { return errors.New("opened") }
	if _, err := of(func(c *pipeline.Config[row]) { c.Encoders = pipeline.Encoders{"enc": never} }).Eval(t.Context(), out, ""); !errors.Is(err, pipeline.ErrEncoder) {
		t.Errorf("an encoder of another fingerprint: %v, want ErrEncoder", err)
	}
	if _, err := of(func(*pipeline.Config[row]) {}).Eval(t.Context(), out, "other"); !errors.Is(err, pipeline.ErrConfig) {
		t.Errorf("a split that is not declared: %v, want ErrConfig", err)
	}
}

// TestSpearman over scored pairs; samples without different scores are
// refused before the training.
func TestSpearman(t *testing.T) {
	cfg := config(t, "")
	cfg.Sample = func(r row) pipeline.Sample {
		s := pipeline.Pair(encode.Text(r.Q), encode.Text(r.A))
		if r.Q[4] == 'v' {
			s.Score = float32(r.N % 4)
		}
		return s
	}
	cfg.Metrics = []metric.Config{metric.Spearman{}, metric.RetrievalPrecision{}}
	res, err := open(t, cfg).Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if v, ok := res.Eval.Baseline["spearman"]; !ok || v == 0 || v < -1 || v > 1 {
		t.Errorf("the baseline is %+v", res.Eval.Baseline)
	}
	cfg.Sample = pairOf
	cfg.Train.Callbacks.OnStep = func(train.Step) error { return errors.New("trained") }
	if _, err := open(t, cfg).Run(t.Context()); err == nil || !strings.Contains(err.Error(), "pairs of different scores") {
		t.Errorf("pairs of one score: %v", err)
	}
}
