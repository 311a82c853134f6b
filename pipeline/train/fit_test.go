package train_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/permafrost-ml/permafrost/pipeline/head"
	"github.com/permafrost-ml/permafrost/pipeline/loss"
	"github.com/permafrost-ml/permafrost/pipeline/metric"
	"github.com/permafrost-ml/permafrost/pipeline/train"
)

// recipes are the two of text: pairs and groups.
func recipes() []struct {
	name string
	data *memory
	head head.Config
	loss loss.Config
} {
	return []struct {
		name string
		data *memory
		head head.Config
		loss loss.Config
	}{
		{"pairs", toyPairs(300, 24, 128), head.SkipConnection{}, loss.MultipleNegativesRanking{Symmetric: true}},
		{"groups", toyGroups(300, 24, 6, 128), head.SkipConnection{Dropout: 0.1, Layers: 2}, loss.Softmax{Temperature: 1}},
	}
}

func weights(t *testing.T, h head.Head) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := head.Save(&b, h); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestFitLearns(t *testing.T) {
	for _, r := range recipes() {
		var steps, epochs int
		res, err := train.Fit(t.Context(), r.data, r.head, r.loss, train.Options{
			Epochs: 30, Optimizer: train.Adam{LR: 3e-2},
			Callbacks: train.Callbacks{
				OnStep: func(s train.Step) error {
					if want := []int{128, 128, 44}[s.Step]; s.Rows != want || s.Epoch != epochs {
						t.Errorf("%s: step %+v has %d rows, want %d", r.name, s, s.Rows, want)
					}
					steps++
					return nil
				},
				OnEpoch: func(train.Epoch) error { epochs++; return nil },
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		if steps != 90 || epochs != 30 || len(res.Epochs) != 30 {
			t.Errorf("%s: %d steps and %d epochs were told, %d came back", r.name, steps, epochs, len(res.Epochs))
		}
		if !(res.FinalLoss() < 0.7*res.FirstLoss()) {
			t.Errorf("%s: the loss went from %v to %v", r.name, res.FirstLoss(), res.FinalLoss())
		}
		empty, err := head.Empty{}.New(r.data.dim, nil)
		if err != nil {
			t.Fatal(err)
		}
		before, err := train.Evaluate(t.Context(), r.data, empty.Freeze(), metric.RetrievalPrecision{})
		if err != nil {
			t.Fatal(err)
		}
		after, err := train.Evaluate(t.Context(), r.data, res.Head.Freeze(), metric.RetrievalPrecision{})
		if err != nil {
			t.Fatal(err)
		}
		const name = "retrieval_precision@1"
		if !(after.Values[name] > before.Values[name]+0.1) {
			t.Errorf("%s: %s went from %v to %v", r.name, name, before.Values[name], after.Values[name])
		}
	}
}

func TestFitIsDeterministic(t *testing.T) {
	for _, r := range recipes() {
		fit := func(threads int, seed uint64) []byte {
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(threads))
			res, err := train.Fit(t.Context(), r.data, r.head, r.loss, train.Options{Epochs: 3, Seed: seed})
			if err != nil {
				t.Fatal(err)
			}
			out := weights(t, res.Head)
			for _, p := range res.Loss.Parameters() {
				out = fmt.Appendf(out, "%x", p.Values())
			}
			return out
		}
		want := fit(1, 7)
		for _, threads := range []int{1, 2, 5} {
			if !bytes.Equal(fit(threads, 7), want) {
				t.Errorf("%s: the weights differ with GOMAXPROCS %d", r.name, threads)
			}
		}
		if bytes.Equal(fit(1, 8), want) {
			t.Errorf("%s: the seed changes nothing", r.name)
		}
	}
}

// TestDefaultsAreZero: options left out and options at their defaults train
// the same weights.
func TestDefaultsAreZero(t *testing.T) {
	data := toyPairs(40, 6, 16)
	var want []byte
	for i, c := range []struct {
		head head.Config
		loss loss.Config
		opts train.Options
	}{
		{head.SkipConnection{}, loss.MultipleNegativesRanking{}, train.Options{}},
		{
			head.SkipConnection{Layers: 1},
			loss.MultipleNegativesRanking{Scale: 20},
			train.Options{Epochs: 10, BatchSize: 256, Optimizer: train.Adam{LR: 0.001, Beta1: 0.9, Beta2: 0.999, Eps: 1e-8}},
		},
	} {
		res, err := train.Fit(t.Context(), data, c.head, c.loss, c.opts)
		if err != nil {
			t.Fatal(err)
		}
		if got := weights(t, res.Head); i == 0 {
			want = got
		} else if !bytes.Equal(got, want) {
			t.Error("explicit defaults train other weights")
		}
	}
}

func TestKindMismatch(t *testing.T) {
	_, err := train.Fit(t.Context(), toyPairs(4, 2, 2), head.SkipConnection{}, loss.Softmax{}, train.Options{})
	var kind *train.KindError
	if !errors.As(err, &kind) || err.Error() != "loss softmax takes groups and the data are pairs: use "+strings.Join(loss.Types(loss.Pairs), " or ") {
		t.Errorf("pairs: got %v", err)
	}
	_, err = train.Fit(t.Context(), toyGroups(4, 2, 2, 2), head.SkipConnection{}, loss.MultipleNegativesRanking{}, train.Options{})
	if err == nil || !strings.HasSuffix(err.Error(), "takes pairs and the data are groups: use "+strings.Join(loss.Types(loss.Groups), " or ")) {
		t.Errorf("groups: got %v", err)
	}
}

func TestFitRefuses(t *testing.T) {
	pairs := toyPairs(4, 2, 2)
	mnr := loss.MultipleNegativesRanking{}
	for name, c := range map[string]struct {
		data *memory
		head head.Config
		loss loss.Config
		opts train.Options
		want string
	}{
		"nothing to train": {pairs, head.Empty{}, mnr, train.Options{}, train.ErrNothingToTrain.Error()},
		"no data":          {&memory{dim: 2, batch: 2}, head.SkipConnection{}, mnr, train.Options{}, "epoch 0: the data yields no batch"},
		"head":             {pairs, head.SkipConnection{Dropout: 2}, mnr, train.Options{}, "head skip_connection: dropout is 2"},
		"loss":             {pairs, head.SkipConnection{}, loss.MultipleNegativesRanking{Scale: -1}, train.Options{}, "loss multiple_negatives_ranking: scale"},
		"optimizer":        {pairs, head.SkipConnection{}, mnr, train.Options{Optimizer: train.Adam{LR: -1}}, "optimizer adam: lr is -1"},
		"epochs":           {pairs, head.SkipConnection{}, mnr, train.Options{Epochs: -1}, "epochs is -1"},
		"batch size":       {pairs, head.SkipConnection{}, mnr, train.Options{BatchSize: -1}, "batch_size is -1"},
	} {
		if _, err := train.Fit(t.Context(), c.data, c.head, c.loss, c.opts); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}

func TestFitStopsAtNaN(t *testing.T) {
	mnr, softmax := loss.MultipleNegativesRanking{}, loss.Softmax{}
	for name, c := range map[string]struct {
		spoil  func(m *memory)
		groups bool
		opts   train.Options
		want   string
	}{
		"the data":  {func(m *memory) { m.a[4*40], m.b[4*3] = float32(math.NaN()), float32(math.Inf(1)) }, false, train.Options{}, "epoch 0, step 0: NaN or infinity in the data, rows 40"},
		"an output": {func(m *memory) { m.a[4*9] = math.MaxFloat32; m.a[4*9+1] = math.MaxFloat32 }, true, train.Options{}, "epoch 0, step 0: NaN or infinity in the head's output, rows 9; a lower"},
		"a loss":    {func(m *memory) { m.a[4*9] = 1e38 }, true, train.Options{Optimizer: train.SGD{LR: 1e-9}}, "epoch 0, step 0: the loss is"},
		"a weight":  {func(*memory) {}, true, train.Options{Epochs: 1, Optimizer: train.Adam{LR: 1e39}}, `epoch 0, step 0: parameter "fc.0.weight" is -Inf at value 0; a lower`},
	} {
		data, lc := toyPairs(64, 4, 64), loss.Config(mnr)
		if c.groups {
			data, lc = toyGroups(16, 4, 2, 16), softmax
		}
		c.spoil(data)
		_, err := train.Fit(t.Context(), data, head.SkipConnection{}, lc, c.opts)
		var diverged *train.DivergedError
		if !errors.As(err, &diverged) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %s", name, err, c.want)
		}
	}
	_, err := train.Fit(t.Context(), toyPairs(4, 2, 2), head.SkipConnection{}, steep{}, train.Options{})
	if err == nil || !strings.Contains(err.Error(), "epoch 0, step 0: NaN or infinity in the gradient, rows") {
		t.Errorf("a gradient: got %v", err)
	}
}

// steep declares a loss whose gradient is infinite.
type steep struct{ loss.MultipleNegativesRanking }

func (c steep) New(dim, classes int, rng *rand.Rand) (loss.Loss, error) {
	l, err := c.MultipleNegativesRanking.New(dim, classes, rng)
	return cliff{l}, err
}

type cliff struct{ loss.Loss }

func (c cliff) Compute(b *loss.Batch, grad bool) (loss.Result, error) {
	res, err := c.Loss.Compute(b, grad)
	res.DA.Float32s()[0] = float32(math.Inf(1))
	return res, err
}

func TestFitEndsWithContext(t *testing.T) {
	cause := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	steps := 0
	_, err := train.Fit(ctx, toyPairs(64, 4, 16), head.SkipConnection{}, loss.MultipleNegativesRanking{}, train.Options{
		Callbacks: train.Callbacks{OnStep: func(train.Step) error {
			if steps++; steps == 6 {
				cancel(cause)
			}
			return nil
		}},
	})
	if err != cause || steps != 6 {
		t.Errorf("got %v after %d steps", err, steps)
	}
}

func TestFitPassesErrorsOn(t *testing.T) {
	boom := errors.New("boom")
	mnr := loss.MultipleNegativesRanking{}
	for name, opts := range map[string]train.Options{
		"after epoch 1, step 2: boom": {Callbacks: train.Callbacks{OnStep: func(s train.Step) error {
			if s.Epoch == 1 && s.Step == 2 {
				return boom
			}
			return nil
		}}},
		"after epoch 1: boom": {Callbacks: train.Callbacks{OnEpoch: func(e train.Epoch) error {
			if e.Epoch == 1 {
				return boom
			}
			return nil
		}}},
	} {
		if _, err := train.Fit(t.Context(), toyPairs(64, 4, 16), head.SkipConnection{}, mnr, opts); !errors.Is(err, boom) || err.Error() != name {
			t.Errorf("got %v, want %s", err, name)
		}
	}
	data := failing{toyPairs(64, 4, 16), boom}
	if _, err := train.Fit(t.Context(), data, head.SkipConnection{}, mnr, train.Options{}); !errors.Is(err, boom) || err.Error() != "epoch 0, step 2: boom" {
		t.Errorf("from the data: got %v", err)
	}
}

// failing is data whose third batch is an error.
type failing struct {
	*memory
	err error
}

func (f failing) Epoch(ctx context.Context, epoch int, done int64) iter.Seq2[*train.Batch, error] {
	return func(yield func(*train.Batch, error) bool) {
		n := 0
		for b, err := range f.memory.Epoch(ctx, epoch, done) {
			if n++; n == 3 {
				yield(nil, f.err)
				return
			}
			if !yield(b, err) {
				return
			}
		}
	}
}

// counted notes for how many epochs batches were counted.
type counted struct {
	*memory
	epochs []int
}

func (c *counted) Batches(epochs int) int64 {
	c.epochs = append(c.epochs, epochs)
	return c.memory.Batches(epochs)
}

// TestStepsAreCountedOnDemand: a sampler may take long to say how many batches
// all epochs have, and a rate that is constant does not depend on it.
func TestStepsAreCountedOnDemand(t *testing.T) {
	for _, c := range []struct {
		schedule train.Schedule
		want     []int
	}{
		{train.Constant{}, nil},
		{train.Constant{Warmup: train.Warmup{Steps: 3}}, nil},
		{train.Constant{Warmup: train.Warmup{Fraction: 0.1}}, []int{4}},
		{train.Cosine{}, []int{4}},
	} {
		data := &counted{memory: toyPairs(40, 4, 8)}
		opts := train.Options{Epochs: 4, Schedule: c.schedule}
		if _, err := train.Fit(t.Context(), data, head.SkipConnection{}, loss.MultipleNegativesRanking{}, opts); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(data.epochs, c.want) {
			t.Errorf("%+v: batches of %v epochs were counted, want %v", c.schedule, data.epochs, c.want)
		}
	}
}
