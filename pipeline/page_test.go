package pipeline_test

import (
	"encoding/json"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/permafrost-ml/permafrost/encode"
	"github.com/permafrost-ml/permafrost/pipeline"
	"github.com/permafrost-ml/permafrost/pipeline/loss"
	"github.com/permafrost-ml/permafrost/pipeline/report"
	"github.com/permafrost-ml/permafrost/pipeline/train"
	"github.com/permafrost-ml/permafrost/source"
)

// runPage runs a pipeline and returns its result and what its page holds.
func runPage(t *testing.T, cfg pipeline.Config[row]) (*pipeline.Result, report.Data) {
	t.Helper()
	cfg.Output = filepath.Join(t.TempDir(), "out")
	res, err := open(t, cfg).Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return res, pageOf(t, res.Output)
}

func pageOf(t *testing.T, out *pipeline.OutputReport) (d report.Data) {
	t.Helper()
	_, rest, _ := strings.Cut(string(read(t, out.Page)), `id="data">`)
	text, _, _ := strings.Cut(rest, "</script>")
	if err := json.Unmarshal([]byte(text), &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// TestPageHasTheRunsNumbers: what the page and the result have in common is
// equal.
func TestPageHasTheRunsNumbers(t *testing.T) {
	dir := t.TempDir()
	for _, again := range []bool{false, true} {
		cfg := config(t, dir)
		cfg.Train.Epochs = 5
		res, d := runPage(t, cfg)
		f, e := res.Fill, d.Eval
		if len(d.Epochs) != 5 || d.Epochs[0].Loss != res.Train.FirstLoss || d.Epochs[4].Loss != res.Train.FinalLoss || d.Epochs[4].Epoch != 4 {
			t.Errorf("epochs %+v, want %+v", d.Epochs, res.Train)
		}
		want := report.Times{
			FillSeconds: f.Seconds, Rows: 80, Objects: f.Objects, Encoded: f.Encoded, Reused: f.Reused,
			FirstEpochSeconds: d.Epochs[0].Seconds, EpochSeconds: res.Train.MedianEpochSeconds, TrainSeconds: d.Times.TrainSeconds,
			SamplesPerSecond: res.Train.SamplesPerSecond, EncodedPerSecond: f.EncodedPerSecond, EpochObjects: 120,
		}
		if d.Times != want {
			t.Errorf("times %+v, want %+v", d.Times, want)
		}
		if again != (f.EncodedPerSecond == 0) || again != (d.Times.UncachedEpochSeconds() == 0) {
			t.Errorf("%d objects are encoded at %v a second", f.Encoded, f.EncodedPerSecond)
		}
		if e.Objects != 40 || !reflect.DeepEqual(e.Baseline, res.Eval.Baseline) || !reflect.DeepEqual(e.Tuned, res.Eval.Tuned) {
			t.Errorf("metrics %+v, want %+v", e, res.Eval)
		}
		if len(d.Encoders) != 1 || d.Encoders[0].Fingerprint != res.Cache.Fingerprints["enc"] || d.Encoders[0].Fields["salt"] != "a" || d.Cache.Bytes != res.Cache.Bytes {
			t.Errorf("encoders %+v and cache %+v", d.Encoders, d.Cache)
		}
		if d.Train.In != 6 || d.Train.Split != "train" || d.Train.Head.Type != "skip_connection" || d.Train.BatchSize != 16 {
			t.Errorf("training %+v", d.Train)
		}
	}
}

// TestPageHasTheLogsEpochs: those of metrics.jsonl, with what was measured
// after them and the best one.
func TestPageHasTheLogsEpochs(t *testing.T) {
	cfg := config(t, "")
	cfg.Train.Epochs = 7
	cfg.Train.Validation = &train.Validation{EveryEpochs: 2, Loss: true, Metrics: true}
	cfg.Train.EarlyStopping = &train.EarlyStopping{Monitor: train.ValLoss, Patience: 7}
	res, d := runPage(t, cfg)
	var logged []report.Epoch
	for line := range strings.Lines(string(read(t, res.Output.Metrics))) {
		var r train.Record
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatal(err)
		}
		if r.Event == "epoch" {
			logged = append(logged, report.Epoch{
				Epoch: r.Epoch, Loss: r.Loss, LR: r.LR, Seconds: r.EpochSeconds, Validation: r.Validation, Best: r.Best,
			})
		}
	}
	if !reflect.DeepEqual(d.Epochs, logged) || len(logged) != 7 || len(logged[1].Validation) != 3 || logged[2].Validation != nil {
		t.Errorf("the page has the epochs\n%+v, want\n%+v", d.Epochs, logged)
	}
}

// TestPagesOfASweep: each run has its own neighbors after the training, beside
// the same ones before.
func TestPagesOfASweep(t *testing.T) {
	cfg := config(t, "")
	cfg.Output = filepath.Join(t.TempDir(), "out")
	other := cfg
	other.Train.Optimizer = train.Adam{LR: 0.5}
	res, err := open(t, cfg).Sweep(t.Context(), "", pipeline.Variant[row]{Config: cfg}, pipeline.Variant[row]{Config: other})
	if err != nil {
		t.Fatal(err)
	}
	one, two := pageOf(t, res.Runs[0].Output), pageOf(t, res.Runs[1].Output)
	for i, e := range one.Examples {
		if f := two.Examples[i]; e.Text != f.Text || !reflect.DeepEqual(e.Before, f.Before) || reflect.DeepEqual(e.After, f.After) || len(e.After) != 5 || len(f.After) != 5 {
			t.Errorf("examples %+v and %+v", e, f)
		}
	}
	if !reflect.DeepEqual(one.Eval.Baseline, two.Eval.Baseline) || !reflect.DeepEqual(two.Eval.Tuned, res.Runs[1].Tuned) || reflect.DeepEqual(one.Eval.Tuned, two.Eval.Tuned) {
		t.Errorf("metrics %+v and %+v", one.Eval, two.Eval)
	}
}

// TestExamples: objects are shown by the kept text that they were made of,
// else by their keys, else by their place and what is kept of the row; texts
// are shortened. Of each the nearest neighbors are shown, and which match.
func TestExamples(t *testing.T) {
	val := []row{
		{Q: "q0 <script>", A: "a0", C: "red", S: 1},
		{Q: "q1 \n\t two  lines", A: "a1", C: "blue", S: 1},
		{Q: "q2 " + strings.Repeat("é", 200), A: "a2", C: "red", S: 1},
	}
	long := "q2 " + strings.Repeat("é", 156) + "…"
	key := func(name string) pipeline.KeyExtractors {
		k, err := encode.ParseKey(name)
		if err != nil {
			t.Fatal(err)
		}
		return pipeline.NamedKey(k)
	}
	for name, c := range map[string]struct {
		change func(cfg *pipeline.Config[row])
		want   []string
	}{
		"kept texts": {
			func(cfg *pipeline.Config[row]) {
				cfg.Sample = func(r row) pipeline.Sample { return pairOf(r).With("question", r.Q).With("answer", r.A) }
			},
			[]string{"q0 <script>", "a0", "q1 two lines", "a1", long, "a2"},
		},
		"a template and one kept text": {
			func(cfg *pipeline.Config[row]) {
				cfg.Encoders["enc"] = encode.Reading(newModel("a"), encode.Reads{Template: "<{text}>"})
				cfg.Sample = func(r row) pipeline.Sample {
					return pipeline.Pair(encode.Text(r.Q), encode.Text(r.A)).With("question", r.Q).With("color", r.C)
				}
			},
			[]string{"q0 <script>", "row 0, side b · color: red", "q1 two lines", "row 1, side b · color: blue", long, "row 2, side b · color: red"},
		},
		"fields": {
			func(cfg *pipeline.Config[row]) {
				cfg.Encoders["enc"] = encode.Reading(newModel("a"), encode.Reads{Fields: []string{"q", "c"}})
				cfg.Sample = func(r row) pipeline.Sample {
					o := encode.Record(map[string]encode.Value{"q": encode.TextValue(r.Q), "c": encode.TextValue(r.C)})
					return pipeline.Group(o, r.C).With("c", r.C).With("q", r.Q).With("n", r.N)
				}
				cfg.Loss = loss.Softmax{}
			},
			[]string{"q0 <script> red · red", "q1 two lines blue · blue", "q2 " + strings.Repeat("é", 156) + "…"},
		},
		"keys": {
			func(cfg *pipeline.Config[row]) { cfg.Cache.KeyExtractors = key("prefix:text:2") },
			[]string{"q0", "a0", "q1", "a1", "q2", "a2"},
		},
		"nothing": {
			func(*pipeline.Config[row]) {},
			[]string{
				"row 0, side a · n: 0", "row 0, side b · n: 0", "row 1, side a · n: 0", "row 1, side b · n: 0",
				"row 2, side a · n: 0", "row 2, side b · n: 0",
			},
		},
	} {
		cfg := config(t, "")
		cfg.Splits["val"] = source.Slice(val)
		cfg.Splits["train"] = source.Slice(val[:2])
		c.change(&cfg)
		_, d := runPage(t, cfg)
		shown := map[string]bool{}
		for _, e := range d.Examples {
			shown[e.Text] = true
			for _, hits := range [][]report.Hit{e.Before, e.After} {
				matches := 0
				for i, h := range hits {
					shown[h.Text] = true
					if h.Relevant {
						matches++
					}
					if h.Text == e.Text || i > 0 && h.Similarity > hits[i-1].Similarity {
						t.Errorf("%s: the neighbors of %q are %+v", name, e.Text, hits)
					}
				}
				if matches != 1 || len(hits) != len(c.want)-1 {
					t.Errorf("%s: %q has %d matches among %d", name, e.Text, matches, len(hits))
				}
			}
		}
		for _, text := range c.want {
			if !shown[text] {
				t.Errorf("%s: %q is not among %v", name, text, shown)
			}
		}
		if len(shown) != len(c.want) {
			t.Errorf("%s: %d texts are shown, want %d", name, len(shown), len(c.want))
		}
	}
}

// TestExamplesFollowTheSeed: another seed shows other objects, the same one
// the same.
func TestExamplesFollowTheSeed(t *testing.T) {
	of := func(seed uint64) (texts []string) {
		cfg := config(t, "")
		cfg.Seed = seed
		_, d := runPage(t, cfg)
		for _, e := range d.Examples {
			texts = append(texts, e.Text)
		}
		return texts
	}
	one := of(1)
	if len(one) != 6 || !reflect.DeepEqual(one, of(1)) || reflect.DeepEqual(one, of(2)) {
		t.Errorf("seed 1 shows %q and %q, seed 2 %q", one, of(1), of(2))
	}
}

// TestPageWithoutSplit: there are no metrics to show without a split for
// them.
func TestPageWithoutSplit(t *testing.T) {
	cfg := config(t, "")
	delete(cfg.Splits, "val")
	if _, d := runPage(t, cfg); d.Eval != nil || d.Examples != nil || len(d.Epochs) != 2 {
		t.Errorf("the page shows %+v", d)
	}
}
