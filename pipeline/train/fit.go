package train

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/permafrost-ml/permafrost/pipeline/head"
	"github.com/permafrost-ml/permafrost/pipeline/loss"
	"github.com/permafrost-ml/permafrost/pipeline/train/nn"
)

// Result is what [Fit] made.
type Result struct {
	// Head is the trained head.
	Head head.Head
	// Loss is the loss with its own trained parameters, if any.
	Loss loss.Loss
	// Epochs are the finished epochs, in order.
	Epochs []Epoch
}

// FirstLoss is the mean loss of the first epoch, NaN without epochs.
func (r *Result) FirstLoss() float64 {
	if len(r.Epochs) == 0 {
		return math.NaN()
	}
	return r.Epochs[0].Loss
}

// FinalLoss is the mean loss of the last epoch, NaN without epochs.
func (r *Result) FinalLoss() float64 {
	if len(r.Epochs) == 0 {
		return math.NaN()
	}
	return r.Epochs[len(r.Epochs)-1].Loss
}

// ErrNothingToTrain is returned by [Fit] where neither the head nor the loss
// has parameters.
var ErrNothingToTrain = errors.New("neither the head nor the loss has parameters: nothing to train")

// ErrNoData is returned by [Fit] for an epoch without batches.
var ErrNoData = errors.New("the data yields no batch")

// KindError is returned by [Fit] for a loss that does not take the data's
// kind of samples.
type KindError struct {
	Loss string    // its type
	Need loss.Kind // the kind that the loss takes
	Have loss.Kind // the data's
}

// Error names the losses that fit.
func (e *KindError) Error() string {
	return fmt.Sprintf("loss %s takes %v and the data are %v: use %s",
		e.Loss, e.Need, e.Have, strings.Join(loss.Types(e.Have), " or "))
}

// DivergedError is returned by [Fit] where a loss or a weight is NaN or
// infinite.
type DivergedError struct {
	Epoch, Step int     // both from 0; the last step for a weight
	Loss        float64 // at that step
	Err         error   // which weight; nil for a loss
}

// Error names the epoch and the step.
func (e *DivergedError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("training diverged by epoch %d, step %d: %v; a lower learning rate may help", e.Epoch, e.Step, e.Err)
	}
	return fmt.Sprintf("training diverged at epoch %d, step %d: the loss is %v; a lower learning rate may help", e.Epoch, e.Step, e.Loss)
}

// Unwrap is what was found in the weights.
func (e *DivergedError) Unwrap() error { return e.Err }

// The streams of random numbers that a seed stands for.
const (
	headStream = iota + 1
	lossStream
)

// Fit trains a new head of that configuration on data. It returns ctx's
// cause within a step of ctx's end; weights trained so far are then lost.
func Fit(ctx context.Context, data Data, hc head.Config, lc loss.Config, opts Options) (*Result, error) {
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	opts = opts.WithDefaults()
	if lc.Kind() != data.Kind() {
		return nil, &KindError{Loss: lc.Type(), Need: lc.Kind(), Have: data.Kind()}
	}
	h, err := hc.New(data.Dim(), rand.New(rand.NewPCG(opts.Seed, headStream)))
	if err != nil {
		return nil, fmt.Errorf("head %s: %w", hc.Type(), err)
	}
	l, err := lc.New(h.Out(), data.Classes(), rand.New(rand.NewPCG(opts.Seed, lossStream)))
	if err != nil {
		return nil, fmt.Errorf("loss %s: %w", lc.Type(), err)
	}
	params := slices.Concat(h.Parameters(), l.Parameters())
	if len(params) == 0 {
		return nil, ErrNothingToTrain
	}
	optimizer, err := opts.Optimizer.New(params)
	if err != nil {
		return nil, fmt.Errorf("optimizer %s: %w", opts.Optimizer.Type(), err)
	}
	f := &fit{
		data: data, loss: l, optimizer: optimizer, params: params,
		passA: h.NewPass(), passB: h.NewPass(), on: opts.Callbacks,
	}
	res := &Result{Head: h, Loss: l}
	for i := range opts.Epochs {
		e, err := f.epoch(ctx, i)
		if err != nil {
			return nil, err
		}
		res.Epochs = append(res.Epochs, e)
		if err := nn.CheckFinite(params); err != nil {
			return nil, &DivergedError{Epoch: i, Step: e.Steps - 1, Loss: e.Loss, Err: err}
		}
		if f.on.OnEpoch != nil {
			if err := f.on.OnEpoch(e); err != nil {
				return nil, fmt.Errorf("after epoch %d: %w", i, err)
			}
		}
	}
	return res, nil
}

type fit struct {
	data         Data
	loss         loss.Loss
	optimizer    Stepper
	params       []nn.Param
	passA, passB head.Pass
	on           Callbacks
	embedded     Batch
}

func (f *fit) epoch(ctx context.Context, n int) (Epoch, error) {
	e := Epoch{Epoch: n}
	start := time.Now()
	var sum float64
	for b, err := range f.data.Epoch(ctx, n) {
		if cause := ended(ctx, err); cause != nil {
			return e, cause
		}
		if err != nil {
			return e, fmt.Errorf("epoch %d, step %d: %w", n, e.Steps, err)
		}
		value, err := f.step(b)
		if err != nil {
			return e, fmt.Errorf("epoch %d, step %d: %w", n, e.Steps, err)
		}
		if math.IsNaN(value) || math.IsInf(value, 0) {
			return e, &DivergedError{Epoch: n, Step: e.Steps, Loss: value}
		}
		f.optimizer.Step()
		rows := b.Rows()
		if f.on.OnStep != nil {
			if err := f.on.OnStep(Step{Epoch: n, Step: e.Steps, Rows: rows, Loss: value}); err != nil {
				return e, fmt.Errorf("after epoch %d, step %d: %w", n, e.Steps, err)
			}
		}
		e.Steps++
		e.Rows += int64(rows)
		sum += value * float64(rows)
	}
	if cause := ended(ctx, nil); cause != nil {
		return e, cause
	}
	if e.Steps == 0 {
		return e, fmt.Errorf("epoch %d: %w", n, ErrNoData)
	}
	e.Loss = sum / float64(e.Rows)
	e.Duration = time.Since(start)
	return e, nil
}

// ended returns ctx's cause if ctx has ended and err, what the data gave, is
// nothing else than that.
func ended(ctx context.Context, err error) error {
	if ctx.Err() == nil || err != nil && !errors.Is(err, ctx.Err()) {
		return nil
	}
	return context.Cause(ctx)
}

// step computes the loss of a batch and its gradients.
func (f *fit) step(b *Batch) (float64, error) {
	nn.ZeroGrads(f.params)
	var err error
	f.embedded = *b
	if f.embedded.A, err = head.Forward(f.passA, b.A, b.AChoices); err != nil {
		return 0, fmt.Errorf("head: %w", err)
	}
	if b.B != nil {
		if f.embedded.B, err = head.Forward(f.passB, b.B, b.BChoices); err != nil {
			return 0, fmt.Errorf("head: %w", err)
		}
	}
	res, err := f.loss.Compute(&f.embedded, true)
	if err != nil {
		return 0, fmt.Errorf("loss: %w", err)
	}
	if _, err := f.passA.Backward(res.DA, false); err != nil {
		return 0, fmt.Errorf("head: %w", err)
	}
	if res.DB != nil {
		if _, err := f.passB.Backward(res.DB, false); err != nil {
			return 0, fmt.Errorf("head: %w", err)
		}
	}
	return res.Value, nil
}
