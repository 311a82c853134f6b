package train

import (
	"fmt"
	"time"
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
	// Callbacks are told how training goes on. Default: none.
	Callbacks Callbacks
}

// Callbacks are functions that Fit calls between steps, on its own
// goroutine; nil ones are not called. An error ends the training and comes
// back wrapped.
type Callbacks struct {
	// OnStep is called after each step.
	OnStep func(Step) error
	// OnEpoch is called after each epoch.
	OnEpoch func(Epoch) error
}

// Step describes a finished step.
type Step struct {
	Epoch int     // from 0
	Step  int     // within the epoch, from 0
	Rows  int     // samples of the batch
	Loss  float64 // before the step
}

// Epoch describes a finished epoch.
type Epoch struct {
	Epoch    int           // from 0
	Steps    int           // of this epoch
	Rows     int64         // samples of this epoch
	Loss     float64       // mean over samples, each before its step
	Duration time.Duration // of this epoch, with the reading of its batches
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
	return o
}

// Validate reports options out of range.
func (o Options) Validate() error {
	if o.Epochs < 0 {
		return fmt.Errorf("epochs is %d", o.Epochs)
	}
	if o.BatchSize < 0 {
		return fmt.Errorf("batch_size is %d", o.BatchSize)
	}
	return nil
}
