package train_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/permafrost-ml/permafrost/pipeline/head"
	"github.com/permafrost-ml/permafrost/pipeline/loss"
	"github.com/permafrost-ml/permafrost/pipeline/train"
)

// TestEarlyStopping: a value that has not improved for Patience validations
// ends the training, and the weights of the best epoch come back.
func TestEarlyStopping(t *testing.T) {
	nan := math.NaN()
	for _, c := range []struct {
		name       string
		stop       train.EarlyStopping
		every      int
		values     []float64 // after each epoch
		best, last int       // epochs
		stopped    bool
	}{
		{"falling", train.EarlyStopping{Patience: 2}, 1, []float64{5, 4, 3, 2, 1, 0}, 5, 5, false},
		{"up again", train.EarlyStopping{Patience: 2}, 1, []float64{5, 4, 4.5, 4.2, 3, 2}, 1, 3, true},
		{"once up", train.EarlyStopping{Patience: 2}, 1, []float64{5, 4, 4.5, 3, 3, 3}, 3, 5, true},
		{"hardly better", train.EarlyStopping{Patience: 2, MinDelta: 0.5}, 1, []float64{5, 4.6, 4.5, 4, 3, 2}, 0, 2, true},
		{"a metric", train.EarlyStopping{Monitor: "recall", Patience: 1}, 1, []float64{1, 2, 2, 9, 9, 9}, 1, 2, true},
		{"a metric to fall", train.EarlyStopping{Monitor: "distance", Mode: "min", Patience: 1}, 1, []float64{2, 1, 1, 0, 0, 0}, 1, 2, true},
		{"every second", train.EarlyStopping{Patience: 1}, 2, []float64{nan, 4, nan, 5, 3, 2}, 1, 3, true},
		{"not a number", train.EarlyStopping{Monitor: "recall", Patience: 1}, 1, []float64{1, 2, 3, 4, 5, 6}, 5, 5, false},
		{"kept", train.EarlyStopping{Patience: 1, KeepLast: true}, 1, []float64{5, 6, 1, 1, 1, 1}, 0, 1, true},
	} {
		data := toyPairs(40, 6, 16)
		var epochs [][]byte // the weights after each
		measured := 0
		var h head.Head
		opts := train.Options{
			Epochs: len(c.values), EarlyStopping: &c.stop,
			Validation: &train.Validation{EveryEpochs: c.every, Measure: func(context.Context, train.Snapshot) (map[string]float64, error) {
				measured++
				name := c.stop.Monitor
				if name == "" {
					name = train.ValLoss
				}
				return map[string]float64{name: c.values[measured*c.every-1], "other": nan}, nil
			}},
			Callbacks: train.Callbacks{OnEpoch: func(e train.Epoch) error {
				epochs = append(epochs, weights(t, h))
				if _, ok := e.Validation["other"]; ok {
					t.Errorf("%s: a value that is not a number is there", c.name)
				}
				return nil
			}},
		}
		res, err := train.Fit(t.Context(), data, seen{head.SkipConnection{}, &h}, loss.MultipleNegativesRanking{}, opts)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if len(res.Epochs) != c.last+1 || res.Stopped != c.stopped || res.Best.Epoch != c.best || res.Best.Value != c.values[c.best] {
			t.Errorf("%s: %d epochs, stopped %v, best %+v", c.name, len(res.Epochs), res.Stopped, res.Best)
		}
		want := epochs[c.best]
		if c.stop.KeepLast {
			want = epochs[c.last]
		}
		if !bytes.Equal(weights(t, res.Head), want) {
			t.Errorf("%s: the weights are not those of epoch %d", c.name, c.best)
		}
	}
}

// seen notes the head that is made.
type seen struct {
	head.SkipConnection
	made *head.Head
}

func (s seen) New(in int, rng *rand.Rand) (head.Head, error) {
	h, err := s.SkipConnection.New(in, rng)
	*s.made = h
	return h, err
}

// TestMonitored: the training's own loss needs no validation; a name that
// nothing measures is an error, as is a loss that is not finite.
func TestMonitored(t *testing.T) {
	fit := func(monitor string, value float64) (*train.Result, error) {
		return train.Fit(t.Context(), toyPairs(40, 6, 16), head.SkipConnection{}, loss.MultipleNegativesRanking{}, train.Options{
			Epochs: 3, EarlyStopping: &train.EarlyStopping{Monitor: monitor},
			Validation: &train.Validation{Measure: func(context.Context, train.Snapshot) (map[string]float64, error) {
				return map[string]float64{train.ValLoss: value}, nil
			}},
		})
	}
	if res, err := fit(train.TrainLoss, 1); err != nil || res.Best.Epoch != 2 || res.Best.Value != res.FinalLoss() {
		t.Errorf("the training's loss: %+v, %v", res, err)
	}
	if _, err := fit("recall", 1); err == nil || !strings.Contains(err.Error(), `monitors "recall"; what is measured is loss, val_loss`) {
		t.Errorf("an unknown name: %v", err)
	}
	var diverged *train.DivergedError
	if _, err := fit("", math.Inf(1)); !errors.As(err, &diverged) || !strings.Contains(err.Error(), "epoch 0, step 2: NaN or infinity in the validation's loss") {
		t.Errorf("an infinite loss: %v", err)
	}
}

// TestCallbacksStop: ErrStop ends a training after the epoch that goes on, or
// at once between epochs, and that is no error.
func TestCallbacksStop(t *testing.T) {
	for name, on := range map[string]train.Callbacks{
		"within": {OnStep: func(s train.Step) error {
			if s.Epoch == 1 && s.Step == 0 {
				return fmt.Errorf("enough: %w", train.ErrStop)
			}
			return nil
		}},
		"between": {OnEpoch: func(e train.Epoch) error {
			if e.Epoch == 1 {
				return train.ErrStop
			}
			return nil
		}},
	} {
		res, err := train.Fit(t.Context(), toyPairs(40, 6, 16), head.SkipConnection{}, loss.MultipleNegativesRanking{}, train.Options{Callbacks: on})
		if err != nil || len(res.Epochs) != 2 || res.Epochs[1].Steps != 3 || !res.Stopped {
			t.Errorf("%s: %+v, %v", name, res, err)
		}
	}
}

// TestMeanLoss is the mean of the batches' losses by their sizes.
func TestMeanLoss(t *testing.T) {
	data := toyPairs(40, 6, 16)
	mnr, err := loss.MultipleNegativesRanking{}.New(6, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	empty, err := head.Empty{}.New(6, nil)
	if err != nil {
		t.Fatal(err)
	}
	var want float64
	for b, err := range data.Scan(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		res, err := mnr.Compute(b, false)
		if err != nil {
			t.Fatal(err)
		}
		want += res.Value * float64(b.Rows()) / 40
	}
	if got, err := train.MeanLoss(t.Context(), data, empty.Freeze(), mnr); err != nil || math.Abs(got-want) > 1e-12 {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
	if _, err := train.MeanLoss(t.Context(), &memory{dim: 6, batch: 2}, empty.Freeze(), mnr); !errors.Is(err, train.ErrNoData) {
		t.Errorf("no data: %v", err)
	}
}
