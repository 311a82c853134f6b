package pipeline_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/permafrost-ml/permafrost/cachesink"
	"github.com/permafrost-ml/permafrost/encode"
	"github.com/permafrost-ml/permafrost/pipeline"
	"github.com/permafrost-ml/permafrost/pipeline/loss"
	"github.com/permafrost-ml/permafrost/pipeline/metric"
	"github.com/permafrost-ml/permafrost/pipeline/train"
	"github.com/permafrost-ml/permafrost/pipeline/train/trainable"
	"github.com/permafrost-ml/permafrost/source"
)

// trainedConfig has a frozen encoder, one trained on its embeddings and one on
// texts, of which the last one knows what belongs together.
func trainedConfig(t testing.TB, dir string) pipeline.Config[row] {
	cfg := config(t, dir)
	cfg.Encoders = pipeline.Encoders{
		"enc":    newModel("a"),
		"grams":  pipeline.Trainable(trainable.NgramBag{Dim: 16, Buckets: 2000}, nil),
		"linear": pipeline.Trainable(trainable.Projection{Dim: 3}, newModel("b")),
	}
	cfg.Train.Epochs, cfg.Train.Optimizer = 40, train.Adam{LR: 5e-2}
	cfg.Sample = func(r row) pipeline.Sample {
		word := strings.Repeat(fmt.Sprint("n", r.N), 5)
		return pipeline.Pair(encode.Text(word+" q"), encode.Text(word+" a"))
	}
	return cfg
}

// TestTrainedEncoders: they are trained beside frozen ones from what the fill
// stored, validated as they are, saved and loaded.
func TestTrainedEncoders(t *testing.T) {
	cfg := trainedConfig(t, t.TempDir())
	cfg.Output = filepath.Join(t.TempDir(), "out")
	cfg.EvalSplit = "train"
	cfg.Train.Validation = &train.Validation{Loss: true, Metrics: true, EveryEpochs: 40}
	cfg.Metrics = []metric.Config{metric.RetrievalPrecision{}}
	p := open(t, cfg)
	plan, err := p.Plan(t.Context())
	if err != nil || plan.Encoders["grams"].CacheType != cachesink.None || plan.ToEncode != 2*2*60 {
		t.Fatalf("%+v, %v", plan.Encoders, err)
	}
	res, err := p.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	const name = "retrieval_precision@1"
	if before, after := res.Eval.Baseline[name], res.Eval.Tuned[name]; after < before+0.3 {
		t.Errorf("%s went from %v to %v", name, before, after)
	}
	lines := records(t, res.Output.Metrics)
	if v := lines[len(lines)-1].Validation; v[name] != res.Eval.Tuned[name] || !(v[train.ValLoss] < lines[0].Loss) {
		t.Errorf("the last validation is %v, the first loss %v", v, lines[0].Loss)
	}

	// The output embeds new objects with all of them, each alone as in a batch.
	m, err := pipeline.Load(cfg.Output, pipeline.Encoders{"enc": newModel("a"), "linear": newModel("b")})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if m.Dim() != 6+16+3 {
		t.Errorf("embeddings have %d values", m.Dim())
	}
	var objects []encode.Object
	for _, r := range rows(60, "") {
		s := cfg.Sample(r)
		objects = append(objects, s.A, s.B)
	}
	all, err := m.Encode(t.Context(), objects)
	if err != nil {
		t.Fatal(err)
	}
	one, err := m.Encode(t.Context(), objects[7:8])
	if err != nil || !slices.Equal(one[0], all[7]) {
		t.Errorf("an object's embedding differs alone: %v", err)
	}
	found := 0
	for i := range objects {
		best, at := math.Inf(-1), -1
		for j := range objects {
			if c := cosine(all[i], all[j]); j != i && c > best {
				best, at = c, j
			}
		}
		if at == i^1 {
			found++
		}
	}
	if got := float64(found) / float64(len(objects)); math.Abs(got-res.Eval.Tuned[name]) > 1e-9 {
		t.Errorf("the loaded model finds %v, the run %v", got, res.Eval.Tuned[name])
	}

	// A second run opens no dataset and no encoder.
	cfg.Splits = pipeline.Splits[row]{}
	for name, src := range config(t, "").Splits {
		cfg.Splits[name] = unread{src}
	}
	cfg.Encoders["enc"], cfg.Encoders["linear"] = closedModel("a"), pipeline.Trainable(trainable.Projection{Dim: 3}, closedModel("b"))
	again, err := open(t, cfg).Run(t.Context())
	if err != nil || again.Eval.Tuned[name] != res.Eval.Tuned[name] {
		t.Errorf("again: %v", err)
	}
}

func cosine(a, b []float32) float64 {
	var ab, aa, bb float64
	for i := range a {
		ab, aa, bb = ab+float64(a[i])*float64(b[i]), aa+float64(a[i])*float64(a[i]), bb+float64(b[i])*float64(b[i])
	}
	return ab / math.Sqrt(aa*bb)
}

// closedModel is one that must not be opened.
func closedModel(salt string) *model {
	m := newModel(salt)
	m.onOpen = func(int) error { return errors.New("it is opened") }
	return m
}

// unread is a source whose rows must not be read.
type unread struct{ source.Source[row] }

func (unread) Rows(context.Context) iter.Seq2[source.Row[row], error] {
	return func(yield func(source.Row[row], error) bool) { yield(source.Row[row]{}, errors.New("it is read")) }
}

// TestTrainedByLabel: groups, with labels in the validation that the training
// has not.
func TestTrainedByLabel(t *testing.T) {
	cfg := trainedConfig(t, "")
	cfg.Sample, cfg.Loss = groupOf, loss.Softmax{}
	val := rows(20, "v")
	val[3].C = "aaa unheard of"
	cfg.Splits["val"] = source.Slice(val)
	cfg.Train.Epochs, cfg.Train.EarlyStopping = 3, &train.EarlyStopping{Patience: 3}
	res, err := open(t, cfg).Run(t.Context())
	if err != nil || res.Train.Best == nil {
		t.Fatalf("%+v, %v", res, err)
	}
}

func TestTrainedEncodersRefuse(t *testing.T) {
	for want, change := range map[string]func(c *pipeline.Config[row]){
		"at least one must be frozen": func(c *pipeline.Config[row]) {
			c.Encoders = pipeline.Encoders{"grams": pipeline.Trainable(trainable.NgramBag{}, nil)}
		},
		"there are no embeddings of it to keep": func(c *pipeline.Config[row]) { c.Cache.Mapping = pipeline.Mapping{"grams": cachesink.CPU} },
		`encoder "grams": ngram_bag: mode is "x"`: func(c *pipeline.Config[row]) {
			c.Encoders["grams"] = pipeline.Trainable(trainable.NgramBag{Mode: "x"}, nil)
		},
	} {
		cfg := trainedConfig(t, "")
		change(&cfg)
		p, err := pipeline.New(cfg)
		if err == nil {
			_, err = p.Run(t.Context())
			err = errors.Join(err, p.Close())
		}
		if !errors.Is(err, pipeline.ErrConfig) || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}
