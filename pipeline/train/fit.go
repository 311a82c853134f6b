package train

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"gorgonia.org/tensor"

	"github.com/permafrost-ml/permafrost/pipeline/head"
	"github.com/permafrost-ml/permafrost/pipeline/loss"
	"github.com/permafrost-ml/permafrost/pipeline/train/nn"
)

// Result is what [Fit] made.
type Result struct {
	// Head is the trained head.
	Head head.Head
	// Encoders are the trained encoders before it, nil without [Options].Parts.
	Encoders *Encoders
	// Loss is the loss with its own trained parameters, if any.
	Loss loss.Loss
	// Epochs are the finished epochs, in order, also those of before a resume.
	Epochs []Epoch
	// Best is the epoch whose monitored value is the best, nil where nothing
	// was monitored. With [EarlyStopping] its weights are in Head and Loss,
	// unless KeepLast is set.
	Best *Best
	// Stopped says that early stopping or a callback ended the training.
	Stopped bool
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

// The streams of random numbers that a seed stands for.
const (
	headStream = iota + 1
	lossStream
	encoderStream
)

// Fit trains a new head of that configuration on data. It returns ctx's
// cause within a step of ctx's end; weights trained so far are then lost,
// but for [Checkpoints]. The result depends on data, configurations and
// options alone, not on where a training was interrupted.
func Fit(ctx context.Context, data Data, hc head.Config, lc loss.Config, opts Options) (res *Result, err error) {
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	opts = opts.WithDefaults()
	if opts.Checkpoints != nil && opts.Dir == "" {
		return nil, errors.New("checkpoints need a folder")
	}
	if opts.Validation != nil && opts.Validation.Measure == nil {
		return nil, errors.New("a validation needs a function that measures")
	}
	if lc.Kind() != data.Kind() {
		return nil, &KindError{Loss: lc.Type(), Need: lc.Kind(), Have: data.Kind()}
	}
	f := &fit{opts: opts, data: data, steps: sync.OnceValue(func() int64 { return data.Batches(opts.Epochs) })}
	f.random[0], f.random[1] = rand.NewPCG(opts.Seed, headStream), rand.NewPCG(opts.Seed, lossStream)
	dim := data.Dim()
	if len(opts.Parts) > 0 {
		if f.encoders, err = NewEncoders(opts.Parts, rand.New(rand.NewPCG(opts.Seed, encoderStream))); err != nil {
			return nil, err
		}
		f.encodersA, f.encodersB = f.encoders.newPass(), f.encoders.newPass()
		f.name("encoders.", f.encoders.Parameters())
		dim = f.encoders.Dim()
	}
	if f.head, err = hc.New(dim, rand.New(f.random[0])); err != nil {
		return nil, fmt.Errorf("head %s: %w", hc.Type(), err)
	}
	if f.loss, err = lc.New(f.head.Out(), data.Classes(), rand.New(f.random[1])); err != nil {
		return nil, fmt.Errorf("loss %s: %w", lc.Type(), err)
	}
	f.name("head.", f.head.Parameters())
	f.name("loss.", f.loss.Parameters())
	if len(f.params) == 0 {
		return nil, ErrNothingToTrain
	}
	if f.optimizer, err = opts.Optimizer.New(f.params); err != nil {
		return nil, fmt.Errorf("optimizer %s: %w", opts.Optimizer.Type(), err)
	}
	f.passA, f.passB = f.head.NewPass(), f.head.NewPass()
	f.judge = judge{stop: opts.EarlyStopping, params: f.params}
	if opts.Checkpoints != nil {
		if err := f.openCheckpoints(ctx, f.identity(hc, lc)); err != nil {
			return nil, err
		}
	}
	if opts.Dir != "" {
		if f.log, err = openLog(opts.Dir, opts.Log, f.at); err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, f.log.close()) }()
	}
	if err := f.run(ctx); err != nil {
		return nil, err
	}
	if s := opts.EarlyStopping; s != nil && !s.KeepLast {
		f.judge.restore()
	}
	return &Result{Encoders: f.encoders, Head: f.head, Loss: f.loss, Epochs: f.epochs, Best: f.judge.best, Stopped: f.at.Stopped}, nil
}

// fit is a training that goes on. Between steps it is what a checkpoint
// holds.
type fit struct {
	opts         Options
	data         Data
	encoders     *Encoders // nil: none is trained
	encodersA    *encodersPass
	encodersB    *encodersPass
	head         head.Head
	loss         loss.Loss
	optimizer    Stepper
	names        []string // of params, unique
	params       []nn.Param
	random       [2]*rand.PCG // of the head and the loss
	passA, passB head.Pass
	embedded     Batch
	lossOfStep   float64
	steps        func() int64 // of all epochs

	at     position
	epochs []Epoch
	judge  judge

	checkpoints *checkpoints // nil: none
	saved       string       // the last checkpoint that there is
	log         *logbook     // nil: none
}

// position is how far a training has come.
type position struct {
	Epoch   int     `json:"epoch"`   // that goes on
	Done    int64   `json:"done"`    // its batches
	Rows    int64   `json:"rows"`    // of those
	LossSum float64 `json:"loss"`    // over those
	LR      float64 `json:"lr"`      // of the last step
	Norm    float64 `json:"norm"`    // of the last step's gradient
	Lasted  float64 `json:"lasted"`  // seconds of this epoch
	Steps   int64   `json:"steps"`   // of all epochs
	Seconds float64 `json:"seconds"` // of all epochs and validations
	Stopped bool    `json:"stopped"`
}

func (f *fit) name(prefix string, params []nn.Param) {
	for _, p := range params {
		f.names = append(f.names, prefix+p.Name)
	}
	f.params = append(f.params, params...)
}

// run trains all epochs that are left.
func (f *fit) run(ctx context.Context) error {
	for f.at.Epoch < f.opts.Epochs && !f.at.Stopped {
		err := f.epoch(ctx)
		if err != nil && ctx.Err() != nil && f.checkpoints != nil {
			// The state is that between two steps: nothing is lost.
			err = errors.Join(err, f.save(context.WithoutCancel(ctx), lastCheckpoint))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// epoch trains what is left of an epoch, and measures after it.
func (f *fit) epoch(ctx context.Context) error {
	n := f.at.Epoch
	stop, err := f.batches(ctx)
	if err != nil {
		return err
	}
	e := Epoch{
		Epoch: n, Steps: int(f.at.Done), Rows: f.at.Rows, Loss: f.at.LossSum / float64(f.at.Rows), LR: f.at.LR,
		Duration: time.Duration(f.at.Lasted * float64(time.Second)),
	}
	if err := nn.CheckFinite(f.params); err != nil {
		return &DivergedError{Epoch: n, Step: e.Steps - 1, Loss: e.Loss, What: whatWeight, Err: err, Checkpoint: f.saved}
	}
	began := time.Now()
	if err := f.validate(ctx, &e, stop); err != nil {
		return err
	}
	f.at.Seconds += time.Since(began).Seconds()
	worse, err := f.judge.see(&e)
	if err != nil {
		return fmt.Errorf("after epoch %d: %w", n, err)
	}
	f.epochs = append(f.epochs, e)
	f.at = position{Epoch: n + 1, LR: f.at.LR, Norm: f.at.Norm, Steps: f.at.Steps, Seconds: f.at.Seconds, Stopped: worse || stop}
	if f.log != nil {
		if err := f.log.epoch(e, f.at, time.Since(began).Seconds()); err != nil {
			return err
		}
	}
	if on := f.opts.Callbacks.OnEpoch; on != nil {
		if err := on(e); errors.Is(err, ErrStop) {
			f.at.Stopped = true
		} else if err != nil {
			return fmt.Errorf("after epoch %d: %w", n, err)
		}
	}
	if c := f.checkpoints; c != nil && ((n+1)%c.EveryEpochs == 0 || f.over()) {
		if err := f.saveBest(ctx); err != nil {
			return err
		}
		return f.save(ctx, lastCheckpoint)
	}
	return nil
}

// over reports whether no epoch is left.
func (f *fit) over() bool { return f.at.Epoch >= f.opts.Epochs || f.at.Stopped }

// batches makes the steps that are left of an epoch. It reports whether a
// callback ends the training.
func (f *fit) batches(ctx context.Context) (stop bool, err error) {
	n := f.at.Epoch
	lasted, seconds, start := f.at.Lasted, f.at.Seconds, time.Now()
	tick := func() {
		s := time.Since(start).Seconds()
		f.at.Lasted, f.at.Seconds = lasted+s, seconds+s
	}
	for b, err := range f.data.Epoch(ctx, n, f.at.Done) {
		if cause := ended(ctx, err); cause != nil {
			tick()
			return stop, cause
		}
		if err == nil {
			err = f.advance(b)
		}
		if diverged := (*DivergedError)(nil); errors.As(err, &diverged) {
			return stop, err
		}
		if err != nil {
			return stop, fmt.Errorf("epoch %d, step %d: %w", n, f.at.Done, err)
		}
		if every := f.opts.Log.EverySteps; every > 0 && f.at.Steps%int64(every) == 0 && f.log != nil {
			tick()
			if err := f.log.step(f.at, f.lossOfStep); err != nil {
				return stop, err
			}
		}
		if on := f.opts.Callbacks.OnStep; on != nil {
			s := Step{Epoch: n, Step: int(f.at.Done) - 1, Rows: b.Rows(), Loss: f.lossOfStep, LR: f.at.LR, GradNorm: f.at.Norm}
			if err := on(s); errors.Is(err, ErrStop) {
				stop = true
			} else if err != nil {
				return stop, fmt.Errorf("after epoch %d, step %d: %w", n, s.Step, err)
			}
		}
		if c := f.checkpoints; c != nil && c.EverySteps > 0 && f.at.Steps%int64(c.EverySteps) == 0 {
			tick()
			if err := f.save(ctx, lastCheckpoint); err != nil {
				return stop, err
			}
		}
	}
	tick()
	if cause := ended(ctx, nil); cause != nil {
		return stop, cause
	}
	if f.at.Done == 0 {
		return stop, fmt.Errorf("epoch %d: %w", n, ErrNoData)
	}
	return stop, nil
}

// advance makes one step, if all of it is finite.
func (f *fit) advance(b *Batch) error {
	if f.at.Epoch == 0 && notFinite(b) != nil { // later epochs have the same data
		return f.diverged(whatData, math.NaN(), b)
	}
	value, err := f.gradients(b)
	if err != nil {
		return err
	}
	if !finite(value) {
		return f.diverged(whatLoss, value, b)
	}
	norm := nn.GradNorm(f.params)
	if !finite(norm) {
		return f.diverged(whatGradient, value, b)
	}
	nn.ClipGrads(f.params, norm, f.opts.ClipNorm)
	f.at.LR = f.opts.Optimizer.Rate() * f.opts.Schedule.Factor(f.at.Steps, f.steps)
	f.optimizer.Step(f.at.LR)
	rows := b.Rows()
	f.at.Done++
	f.at.Steps++
	f.at.Rows += int64(rows)
	f.at.LossSum += value * float64(rows)
	f.at.Norm, f.lossOfStep = norm, value
	return nil
}

// validate measures after an epoch where that is due.
func (f *fit) validate(ctx context.Context, e *Epoch, last bool) error {
	v := f.opts.Validation
	if v == nil || (e.Epoch+1)%v.EveryEpochs != 0 && e.Epoch+1 < f.opts.Epochs && !last {
		return nil
	}
	now := Snapshot{Head: f.head.Freeze(), Loss: f.loss}
	if f.encoders != nil {
		now.Encoders = f.encoders.Freeze()
	}
	values, err := v.Measure(ctx, now)
	if cause := ended(ctx, err); cause != nil {
		return cause
	}
	if err != nil {
		return fmt.Errorf("validate after epoch %d: %w", e.Epoch, err)
	}
	if value, ok := values[ValLoss]; ok && !finite(value) {
		return &DivergedError{Epoch: e.Epoch, Step: e.Steps - 1, Loss: value, What: whatValLoss, Checkpoint: f.saved}
	}
	e.Validation = map[string]float64{}
	for name, value := range values {
		if finite(value) {
			e.Validation[name] = value
		}
	}
	return nil
}

// ended returns ctx's cause if ctx has ended and err, what the data gave, is
// nothing else than that.
func ended(ctx context.Context, err error) error {
	if ctx.Err() == nil || err != nil && !errors.Is(err, ctx.Err()) {
		return nil
	}
	return context.Cause(ctx)
}

// gradients computes the loss of a batch and its gradients.
func (f *fit) gradients(b *Batch) (float64, error) {
	nn.ZeroGrads(f.params)
	var err error
	f.embedded = *b
	if f.embedded.A, err = f.forward(f.passA, f.encodersA, b.A, b.ATexts, b.AChoices); err != nil {
		return 0, err
	}
	if b.B != nil {
		if f.embedded.B, err = f.forward(f.passB, f.encodersB, b.B, b.BTexts, b.BChoices); err != nil {
			return 0, err
		}
	}
	res, err := f.loss.Compute(&f.embedded, true)
	if err != nil {
		return 0, fmt.Errorf("loss: %w", err)
	}
	if err := f.backward(f.passA, f.encodersA, res.DA); err != nil {
		return 0, err
	}
	if res.DB != nil {
		if err := f.backward(f.passB, f.encodersB, res.DB); err != nil {
			return 0, err
		}
	}
	return res.Value, nil
}

// forward passes one side through the encoders that are trained and the head.
func (f *fit) forward(p head.Pass, e *encodersPass, x *tensor.Dense, texts [][]string, choices []string) (*tensor.Dense, error) {
	if e != nil {
		var err error
		if x, err = e.forward(x, texts); err != nil {
			return nil, err
		}
	}
	y, err := head.Forward(p, x, choices)
	if err != nil {
		return nil, fmt.Errorf("head: %w", err)
	}
	return y, nil
}

// backward passes the gradient of one side's output back.
func (f *fit) backward(p head.Pass, e *encodersPass, dy *tensor.Dense) error {
	dx, err := p.Backward(dy, e != nil)
	if err != nil {
		return fmt.Errorf("head: %w", err)
	}
	if e != nil {
		return e.backward(dx)
	}
	return nil
}
