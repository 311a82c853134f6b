package pipeline_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v15/arrow/array"

	"github.com/permafrost-ml/permafrost/cachesink"
	"github.com/permafrost-ml/permafrost/encode"
	"github.com/permafrost-ml/permafrost/pipeline"
	"github.com/permafrost-ml/permafrost/pipeline/loss"
	"github.com/permafrost-ml/permafrost/pipeline/sampler"
	"github.com/permafrost-ml/permafrost/pipeline/train"
	"github.com/permafrost-ml/permafrost/source"
)

// repeated are rows whose questions and answers come several times.
func repeated(n int) []row {
	out := rows(n, "")
	for i := range out {
		out[i].Q = out[i*i%n].Q
		out[i].A = out[i*7%n].A
	}
	return out
}

// batch is what the tests look at of a batch.
type batch struct {
	rows   []int64
	splits []string // of mixed batches
}

// batchesFrom are an epoch's batches of a rank.
func batchesFrom[R any](t testing.TB, p *pipeline.Pipeline[R], epoch int, o pipeline.EpochOptions) (out []batch) {
	t.Helper()
	for b, err := range p.EpochFrom(t.Context(), "train", epoch, o) {
		if err != nil {
			t.Fatal(err)
		}
		one := batch{rows: slices.Clone(column[*array.Int64](t, b, "row").Int64Values())}
		if b.Record().Schema().HasField("split") {
			for i := range b.Rows() {
				one.splits = append(one.splits, strings.Clone(column[*array.String](t, b, "split").Value(i)))
			}
		}
		out = append(out, one)
	}
	return out
}

func sameBatch(a, b batch) bool {
	return slices.Equal(a.rows, b.rows) && slices.Equal(a.splits, b.splits)
}

// TestSampledEpochs: whatever the sampler is, an epoch can be left at any
// batch and gone on with by other ranks of another pipeline; other epochs, and
// other seeds, have other batches.
func TestSampledEpochs(t *testing.T) {
	for name, s := range map[string]sampler.Config{
		"balanced": sampler.GroupBalanced{Groups: 3, Samples: 2},
		"weighted": sampler.Weighted{InverseFrequency: "label"},
		"by n":     sampler.Weighted{Column: "n"},
		"mixed":    sampler.Mixed{Weights: map[string]float64{"train": 1, "val": 1}},
		"subset":   sampler.Subset{Column: "label", Values: sampler.Values{"billing", "travel"}, Of: sampler.GroupBalanced{Groups: 2, Samples: 3}},
		"distinct": sampler.NoDuplicates{},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config(t, t.TempDir())
			cfg.Splits["train"] = source.Slice(repeated(60))
			cfg.Sample, cfg.Loss, cfg.Train.BatchSize, cfg.Sampler = groupOf, nil, 8, s
			p := open(t, cfg)
			whole := batchesFrom(t, p, 1, pipeline.EpochOptions{Workers: -1})
			again := open(t, cfg)
			for _, world := range []int{1, 2, 4, 3} {
				for done := range len(whole) + 1 {
					got := make([]batch, len(whole))
					copy(got, whole[:done])
					for rank := range world {
						for k, b := range batchesFrom(t, again, 1, pipeline.EpochOptions{Rank: rank, World: world, Done: int64(done), Workers: 2}) {
							got[done+rank+k*world] = b
						}
					}
					if !slices.EqualFunc(got, whole, sameBatch) {
						t.Fatalf("%d ranks from batch %d: %v, want %v", world, done, got, whole)
					}
				}
			}
			if slices.EqualFunc(whole, batchesFrom(t, p, 2, pipeline.EpochOptions{}), sameBatch) {
				t.Error("another epoch has the same batches")
			}
			cfg.Seed = 99
			if slices.EqualFunc(whole, batchesFrom(t, open(t, cfg), 1, pipeline.EpochOptions{}), sameBatch) {
				t.Error("another seed has the same batches")
			}
			val := 0 // other splits are not sampled
			for b, err := range p.Epoch(t.Context(), "val", 0) {
				if err != nil {
					t.Fatal(err)
				}
				val += b.Rows()
			}
			if val != 20 {
				t.Errorf("%d of the 20 rows of another split", val)
			}
		})
	}
}

// TestNoDuplicates: no text is in a batch twice, whether the encoders are
// cached or not, and however many there are.
func TestNoDuplicates(t *testing.T) {
	data := repeated(60)
	for name, change := range map[string]func(cfg *pipeline.Config[row]){
		"cached":  func(*pipeline.Config[row]) {},
		"in loop": func(cfg *pipeline.Config[row]) { cfg.Cache.CacheType = cachesink.None },
		"both": func(cfg *pipeline.Config[row]) {
			cfg.Encoders["loop"] = newModel("b")
			cfg.Cache.Mapping = pipeline.Mapping{"loop": cachesink.None}
		},
		"two": func(cfg *pipeline.Config[row]) { cfg.Encoders["other"] = newModel("b") },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config(t, "")
			cfg.Splits["train"] = source.Slice(data)
			cfg.Train.BatchSize, cfg.Sampler = 8, sampler.NoDuplicates{}
			change(&cfg)
			seen := map[int64]bool{}
			for _, b := range batchesFrom(t, open(t, cfg), 0, pipeline.EpochOptions{}) {
				texts := map[string]bool{}
				for _, r := range b.rows {
					if seen[r] {
						t.Errorf("row %d comes twice", r)
					}
					seen[r] = true
					for _, text := range []string{data[r].Q, data[r].A} {
						if texts[text] {
							t.Errorf("a batch has %q twice", text)
						}
						texts[text] = true
					}
				}
			}
			if len(seen) != len(data) {
				t.Errorf("%d of %d rows", len(seen), len(data))
			}
		})
	}
	// Of two encoders that read different fields, both must read the same.
	cfg := config(t, "")
	cfg.Splits["train"] = source.Slice(rows(60, ""))
	cfg.Encoders["topic"] = encode.Reading(newModel("t"), encode.Reads{Field: "topic"})
	cfg.Sample = func(r row) pipeline.Sample {
		return pipeline.Group(encode.Text(r.Q).With("topic", encode.TextValue(r.C)), r.C)
	}
	cfg.Loss, cfg.Sampler, cfg.Train.BatchSize = nil, sampler.NoDuplicates{}, 20
	if got := batchesFrom(t, open(t, cfg), 0, pipeline.EpochOptions{}); len(got) != 3 {
		t.Errorf("%d batches, want 3: all objects differ", len(got))
	}
}

// seeing is a loss that shows the batches of training.
type seeing struct {
	loss.Config
	see func(b *loss.Batch)
}

func (s seeing) New(dim, classes int, rng *rand.Rand) (loss.Loss, error) {
	l, err := s.Config.New(dim, classes, rng)
	return seeingLoss{l, s.see}, err
}

type seeingLoss struct {
	loss.Loss
	see func(b *loss.Batch)
}

func (s seeingLoss) Compute(b *loss.Batch, grad bool) (loss.Result, error) {
	if grad {
		s.see(b)
	}
	return s.Loss.Compute(b, grad)
}

// TestSampledTraining: training takes the sampler's batches, with the labels
// of the rows in them, also those of several splits; the evaluation does not.
func TestSampledTraining(t *testing.T) {
	cfg := config(t, "")
	cfg.Sample, cfg.Train = groupOf, train.Options{Epochs: 2, BatchSize: 16}
	cfg.Splits["extra"] = source.Slice(rows(40, "x"))
	cfg.Sampler = sampler.Mixed{Weights: map[string]float64{"train": 1, "extra": 3}}
	var steps [][]int32
	cfg.Loss = seeing{loss.Softmax{}, func(b *loss.Batch) { steps = append(steps, slices.Clone(b.Labels)) }}
	p := open(t, cfg)
	res, err := p.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if res.Eval.Objects != 20 || res.Train.Sampler["type"] != "mixed" {
		t.Errorf("%d objects are evaluated; the sampler is %v", res.Eval.Objects, res.Train.Sampler)
	}
	var want [][]int32
	counts := map[string]int{}
	for epoch := range 2 {
		for _, b := range batchesFrom(t, p, epoch, pipeline.EpochOptions{}) {
			var labels []int32
			for i, r := range b.rows {
				counts[b.splits[i]]++
				labels = append(labels, classOf(topics[int(r)%len(topics)]))
			}
			want = append(want, labels)
		}
	}
	if !slices.EqualFunc(steps, want, slices.Equal) {
		t.Errorf("labels of the steps are %v, want %v", steps, want)
	}
	if fmt.Sprint(counts) != "map[extra:150 train:50]" {
		t.Errorf("rows are %v", counts)
	}

	cfg.Sampler, steps = sampler.GroupBalanced{Groups: 4, Samples: 3}, nil
	res, err = open(t, cfg).Run(t.Context())
	if err != nil || len(steps) != 10 || res.Train.Rows != 60 {
		t.Fatalf("%d steps, %v", len(steps), err)
	}
	for _, labels := range steps {
		if len(labels) != 12 || len(slices.Compact(slices.Clone(labels))) != 4 {
			t.Errorf("a step has the labels %v", labels)
		}
	}

	cfg.Sampler, cfg.Train.DropLast, steps = nil, true, nil
	if _, err := open(t, cfg).Run(t.Context()); err != nil || len(steps) != 6 {
		t.Errorf("%d full batches, %v", len(steps), err)
	}
	whole := 0
	for _, b := range batchesFrom(t, open(t, cfg), 0, pipeline.EpochOptions{}) {
		whole += len(b.rows)
	}
	if whole != 48 {
		t.Errorf("an epoch of full batches has %d rows", whole)
	}
}

// classOf is the number of a topic among all.
func classOf(topic string) int32 {
	sorted := slices.Sorted(slices.Values(topics))
	return int32(slices.Index(sorted, topic))
}

func TestSamplerProblems(t *testing.T) {
	for want, s := range map[string]sampler.Config{
		`sampler mixed: it takes samples of the split "vall", which is not declared`:                        sampler.Mixed{Weights: map[string]float64{"train": 1, "vall": 1}},
		`sampler subset: it takes samples of val, and not of the split to train on, "train"`:                sampler.Subset{Fraction: 0.5, Of: sampler.Mixed{Weights: map[string]float64{"val": 1}}},
		`sampler no_duplicates: of group_balanced: it has samples of few groups`:                            sampler.NoDuplicates{Of: sampler.GroupBalanced{}},
		`sampler weighted: name a column of weights, or one for the inverse_frequency of its values`:        sampler.Weighted{},
		`sampler group_balanced: groups is -1 and samples is 0`:                                             sampler.GroupBalanced{Groups: -1},
		`sampler no_duplicates: of weighted: name a column of weights, or one for the inverse_frequency of`: sampler.NoDuplicates{Of: sampler.Weighted{}},
	} {
		cfg := config(t, "")
		cfg.Sampler = s
		if _, err := pipeline.New(cfg); !errors.Is(err, pipeline.ErrConfig) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	cfg := config(t, "")
	cfg.Sampler, cfg.TrainSplit, cfg.Loss = sampler.NoDuplicates{}, "other", nil
	if _, err := pipeline.New(cfg); !errors.Is(err, pipeline.ErrConfig) || !strings.Contains(err.Error(), `"other", is not declared`) {
		t.Error(err)
	}
	cfg = config(t, "")
	cfg.Sampler = sampler.Weighted{InverseFrequency: "lable"}
	p := open(t, cfg)
	if _, err := p.Run(t.Context()); err == nil || !strings.Contains(err.Error(), `sampler weighted: not in the cache: split "train" has no column "lable" (it has row, score`) {
		t.Error(err)
	}
	for _, err := range p.Epoch(t.Context(), "train", 0) {
		if err == nil || !strings.Contains(err.Error(), `no column "lable"`) {
			t.Error(err)
		}
	}
	cfg = config(t, "")
	cfg.Sampler = sampler.Subset{Column: "n", Values: sampler.Values{"x"}, Of: sampler.Mixed{Weights: map[string]float64{"train": 1, "val": 1}}}
	if _, err := open(t, cfg).Run(t.Context()); err == nil || !strings.Contains(err.Error(), `column "n" is of integers, and "x" is none`) {
		t.Error(err)
	}
}
