package train

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/permafrost-ml/permafrost/pipeline/head"
	"github.com/permafrost-ml/permafrost/pipeline/loss"
)

// Options say how to train. The zero Options are valid.
type Options struct {
	// Epochs is the number of passes over the data. Default: 10.
	Epochs int
	// BatchSize is the number of samples of a step. It is for the owner of
	// the data: Fit takes batches as they come. Default: 256.
	BatchSize int
	// Sequential takes samples in the split's order instead of a new,
	// shuffled one for each epoch. It is for the owner of the data, too.
	// Default: false (shuffled).
	Sequential bool
	// DropLast leaves out a last batch of an epoch that is smaller than the
	// others. It is for the owner of the data, too. Default: false.
	DropLast bool
	// Seed decides the first weights and dropout. Default: 0.
	Seed uint64
	// Optimizer changes the weights. Default: Adam{}.
	Optimizer Optimizer
	// Schedule changes the learning rate from step to step.
	// Default: Constant{}.
	Schedule Schedule
	// ClipNorm bounds the Euclidean length of all gradients together: longer
	// ones are scaled down to it, as PyTorch's clip_grad_norm_ does.
	// Default: 0, unbounded.
	ClipNorm float64
	// Parts are the encoders of the data, where some are trained with the head:
	// it is behind all of them. A pipeline has its own. Default: none, the head
	// takes the embeddings as they are.
	Parts []Part
	// Validation measures another split between epochs. Default: nil, never.
	Validation *Validation
	// EarlyStopping ends the training where a value gets no better.
	// Default: nil, all epochs are trained.
	EarlyStopping *EarlyStopping
	// Checkpoints are written to Dir, and training goes on from them.
	// Default: nil, none.
	Checkpoints *Checkpoints
	// Log says what is logged to Dir.
	Log Log
	// Dir is the folder of checkpoints and logs. A pipeline chooses it.
	// Default: "", nothing is written.
	Dir string
	// Identity says what the data are: a checkpoint of a training on others is
	// not gone on from. A pipeline chooses it. Default: "".
	Identity string
	// Callbacks are told how training goes on. Default: none.
	Callbacks Callbacks
}

// Validation measures the head on another split after epochs. Its cost is
// that of one pass over the split through the head, with the loss of its
// batches, and for metrics an exact search of all its objects among each
// other.
type Validation struct {
	// EveryEpochs measures after each epoch whose number, from 1, it divides,
	// and after the last one. Default: 1.
	EveryEpochs int
	// Loss and Metrics say what the owner of the data measures: the mean loss
	// over the split's batches, under the name "val_loss", and the metrics
	// under theirs. Where neither is set: the loss.
	Loss, Metrics bool
	// Measure returns values by their names, of the head and the loss as they
	// are; it must not change the loss. Values that are not finite are left
	// out. A pipeline has its own; others need one. Default: nil.
	Measure func(ctx context.Context, s Snapshot) (map[string]float64, error)
}

// Snapshot is what is trained, as it is after an epoch.
type Snapshot struct {
	Encoders *FrozenEncoders // nil where none is trained
	Head     head.Frozen
	Loss     loss.Loss // the one that goes on being trained
}

// Names of values that can be monitored beside those of metrics.
const (
	// TrainLoss is the mean loss of an epoch of training.
	TrainLoss = "loss"
	// ValLoss is the loss of the validation.
	ValLoss = "val_loss"
)

// EarlyStopping ends a training whose monitored value has not become better
// for some validations in a row.
type EarlyStopping struct {
	// Monitor is the name of the value: "val_loss", that of a metric, or
	// "loss" for the training's own. Default: "val_loss".
	Monitor string `json:"monitor"`
	// Patience is the number of validations without an improvement after which
	// the training ends, at least 1. Default: 5.
	Patience int `json:"patience"`
	// MinDelta is by how much more than that a value must be better to be an
	// improvement. Default: 0.
	MinDelta float64 `json:"min_delta"`
	// Mode is "min" where smaller values are better, or "max".
	// Default: min for losses, max for all others.
	Mode string `json:"mode"`
	// KeepLast keeps the last weights instead of taking back those of the best
	// epoch. Default: false.
	KeepLast bool `json:"keep_last"`
}

// Checkpoints are what a training goes on from after it was interrupted: with
// the same data and options the weights are the same, bit for bit. Both files
// are replaced in one step, so they are always whole:
//
//   - last.safetensors holds everything at one step: weights ("head.*",
//     "loss.*"), the optimizer's moments ("optimizer.*"), the best weights
//     ("best.*") and, in its metadata, the position, random numbers and
//     what early stopping knows;
//   - best.safetensors holds the weights of the best epoch ("head.*",
//     "loss.*"), where there is a validation: by what EarlyStopping monitors,
//     else by the validation's loss, else by its first value by name.
type Checkpoints struct {
	// EveryEpochs writes them after each epoch whose number, from 1, it
	// divides; they are also written at the end, and when the context ends.
	// Default: 1.
	EveryEpochs int
	// EverySteps also writes the last one after each step whose number since
	// the beginning of the training it divides. Default: 0, not within epochs.
	EverySteps int
	// Fresh begins anew also where there is a checkpoint to go on from.
	// Default: false.
	Fresh bool
}

// Log says what is logged of a training: lines of [Record] in metrics.jsonl,
// and the same numbers as event files of TensorBoard.
type Log struct {
	// EverySteps also logs each step whose number since the beginning of the
	// training it divides. Default: 0, epochs only.
	EverySteps int
	// NoTensorBoard leaves the event files out. Default: false.
	NoTensorBoard bool
}

// Callbacks are functions that Fit calls between steps, on its own
// goroutine; nil ones are not called. An error ends the training and comes
// back wrapped, but for [ErrStop].
type Callbacks struct {
	// OnResume is called before the first step where a checkpoint was found.
	OnResume func(Resume) error
	// OnStep is called after each step.
	OnStep func(Step) error
	// OnEpoch is called after each epoch and its validation.
	OnEpoch func(Epoch) error
	// OnCheckpoint is called after a checkpoint was written.
	OnCheckpoint func(Checkpoint) error
}

// ErrStop ends a training like the last of its epochs: after the epoch that
// goes on, where OnStep returns it, or at once, where OnEpoch does.
var ErrStop = errors.New("stop training")

// Resume describes a checkpoint that was found.
type Resume struct {
	Path  string
	Epoch int   // that it is in, from 0
	Step  int64 // steps done since the beginning of the training
	// Differs says why it is not gone on from: in what it is of another
	// training. Empty where it is.
	Differs []string
}

// Checkpoint describes a checkpoint that was written.
type Checkpoint struct {
	Path  string
	Epoch int   // that it is in, from 0
	Step  int64 // steps done since the beginning of the training
}

// Step describes a finished step.
type Step struct {
	Epoch    int     // from 0
	Step     int     // within the epoch, from 0
	Rows     int     // samples of the batch
	Loss     float64 // before the step
	LR       float64 // the learning rate
	GradNorm float64 // the gradients' length, before clipping
}

// Epoch describes a finished epoch.
type Epoch struct {
	Epoch    int           // from 0
	Steps    int           // of this epoch
	Rows     int64         // samples of this epoch
	Loss     float64       // mean over samples, each before its step
	LR       float64       // the learning rate of the last step
	Duration time.Duration // of this epoch, with the reading of its batches
	// Validation holds the values after this epoch by name; nil where nothing
	// was measured.
	Validation map[string]float64
	// Best says that the monitored value is the best so far.
	Best bool
}

// WithDefaults returns o with every zero option replaced by its default.
func (o Options) WithDefaults() Options {
	if o.Epochs == 0 {
		o.Epochs = 10
	}
	if o.BatchSize == 0 {
		o.BatchSize = 256
	}
	if o.Optimizer == nil {
		o.Optimizer = Adam{}
	}
	if o.Schedule == nil {
		o.Schedule = Constant{}
	}
	if o.Validation != nil {
		v := *o.Validation
		v.EveryEpochs = max(v.EveryEpochs, 1)
		v.Loss = v.Loss || !v.Metrics
		o.Validation = &v
	}
	if o.EarlyStopping != nil {
		s := *o.EarlyStopping
		if s.Monitor == "" {
			s.Monitor = ValLoss
		}
		if s.Patience == 0 {
			s.Patience = 5
		}
		if s.Mode == "" {
			s.Mode = modeOf(s.Monitor)
		}
		o.EarlyStopping = &s
	}
	if o.Checkpoints != nil {
		c := *o.Checkpoints
		c.EveryEpochs = max(c.EveryEpochs, 1)
		o.Checkpoints = &c
	}
	return o
}

// Validate reports options out of range, all at once.
func (o Options) Validate() error {
	var errs []error
	count := func(name string, n int) {
		if n < 0 {
			errs = append(errs, fmt.Errorf("%s is %d", name, n))
		}
	}
	count("epochs", o.Epochs)
	count("batch_size", o.BatchSize)
	if o.Schedule != nil {
		if err := o.Schedule.Validate(); err != nil {
			errs = append(errs, fmt.Errorf("schedule %s: %w", o.Schedule.Type(), err))
		}
	}
	if !(o.ClipNorm >= 0) || math.IsInf(o.ClipNorm, 0) {
		errs = append(errs, fmt.Errorf("clip_norm is %v", o.ClipNorm))
	}
	if v := o.Validation; v != nil {
		count("validation.every_epochs", v.EveryEpochs)
	}
	if s := o.EarlyStopping; s != nil {
		count("early_stopping.patience", s.Patience)
		if !(s.MinDelta >= 0) || math.IsInf(s.MinDelta, 0) {
			errs = append(errs, fmt.Errorf("early_stopping.min_delta is %v", s.MinDelta))
		}
		if s.Mode != "" && s.Mode != modeMin && s.Mode != modeMax {
			errs = append(errs, fmt.Errorf("early_stopping.mode is %q, not min or max", s.Mode))
		}
	}
	if c := o.Checkpoints; c != nil {
		count("checkpoints.every_epochs", c.EveryEpochs)
		count("checkpoints.every_steps", c.EverySteps)
	}
	count("log.every_steps", o.Log.EverySteps)
	return errors.Join(errs...)
}
