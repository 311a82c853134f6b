package train

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/permafrost-ml/permafrost/internal/tfevents"
)

// Names of the logs in [Options].Dir.
const (
	// MetricsFile holds a [Record] a line.
	MetricsFile = "metrics.jsonl"
	// TensorBoardDir holds the event files.
	TensorBoardDir = "tensorboard"
)

// Record is a line of metrics.jsonl. Fields are added to it, never changed.
type Record struct {
	// Event is "step" or "epoch".
	Event string `json:"event"`
	// Epoch counts from 0.
	Epoch int `json:"epoch"`
	// Step is the number of steps done since the beginning of the training.
	Step int64 `json:"step"`
	// Loss is that of the step, before it, or the mean over the epoch.
	Loss float64 `json:"loss"`
	// LR is the learning rate of the step, for an epoch of its last one;
	// GradNorm the length of its gradients before clipping.
	LR       float64 `json:"lr"`
	GradNorm float64 `json:"grad_norm"`
	// Seconds are those of the training so far, without interruptions.
	Seconds float64 `json:"seconds"`
	// EpochSeconds are those of the epoch's steps, ValidationSeconds those of
	// the validation; of an epoch only.
	EpochSeconds      float64 `json:"epoch_seconds,omitempty"`
	ValidationSeconds float64 `json:"validation_seconds,omitempty"`
	// Validation are the values measured after the epoch: "val_loss" and
	// metrics by name.
	Validation map[string]float64 `json:"validation,omitempty"`
	// Best says that the epoch is the best so far.
	Best bool `json:"best,omitempty"`
}

// logbook writes the logs of a training.
type logbook struct {
	lines  *os.File
	file   *os.File // of events
	events *tfevents.Writer
}

// openLog opens the logs of a training that begins, or goes on from a
// position: what was logged behind it is dropped.
func openLog(dir string, o Log, at position) (_ *logbook, err error) {
	l := &logbook{}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("open the log in %s: %w", dir, err), l.close())
		}
	}()
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, MetricsFile)
	var kept []byte
	if at.Steps > 0 {
		if kept, err = before(path, at); err != nil {
			return nil, err
		}
	}
	if l.lines, err = os.Create(path); err != nil {
		return nil, err
	}
	if _, err := l.lines.Write(kept); err != nil {
		return nil, err
	}
	if o.NoTensorBoard {
		return l, nil
	}
	return l, l.openEvents(filepath.Join(dir, TensorBoardDir), at)
}

// before returns the lines of a log up to a position.
func before(path string, at position) ([]byte, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var kept []byte
	for line := range bytes.Lines(text) {
		var r Record
		if json.Unmarshal(line, &r) != nil {
			break // cut by the end of the process
		}
		if r.Event == "epoch" && r.Epoch < at.Epoch || r.Event == "step" && r.Step <= at.Steps {
			kept = append(kept, line...)
		}
	}
	return kept, err
}

// openEvents begins an event file; a training that goes on adds one.
func (l *logbook) openEvents(dir string, at position) error {
	if at.Steps == 0 {
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	old, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	name := fmt.Sprintf("events.out.tfevents.%06d.permafrost", len(old)) // TensorBoard takes them by name
	if l.file, err = os.Create(filepath.Join(dir, name)); err != nil {
		return err
	}
	if l.events, err = tfevents.New(l.file, time.Now); err == nil && at.Steps > 0 {
		err = l.events.Restart(at.Steps + 1)
	}
	return err
}

// step logs the last step.
func (l *logbook) step(at position, loss float64) error {
	r := Record{Event: "step", Epoch: at.Epoch, Step: at.Steps, Loss: loss, LR: at.LR, GradNorm: at.Norm, Seconds: at.Seconds}
	return l.write(r, tfevents.Scalar{Tag: "train/loss", Value: loss},
		tfevents.Scalar{Tag: "train/lr", Value: at.LR}, tfevents.Scalar{Tag: "train/grad_norm", Value: at.Norm})
}

// epoch logs a finished epoch; at is the position behind it.
func (l *logbook) epoch(e Epoch, at position, validation float64) error {
	r := Record{
		Event: "epoch", Epoch: e.Epoch, Step: at.Steps, Loss: e.Loss, LR: at.LR, GradNorm: at.Norm, Seconds: at.Seconds,
		EpochSeconds: e.Duration.Seconds(), Validation: e.Validation, Best: e.Best,
	}
	scalars := []tfevents.Scalar{{Tag: "epoch/loss", Value: e.Loss}, {Tag: "epoch/lr", Value: at.LR}, {Tag: "epoch/seconds", Value: r.EpochSeconds}}
	if e.Validation != nil {
		r.ValidationSeconds = validation
		for _, name := range slices.Sorted(maps.Keys(e.Validation)) {
			scalars = append(scalars, tfevents.Scalar{Tag: "validation/" + name, Value: e.Validation[name]})
		}
	}
	return l.write(r, scalars...)
}

func (l *logbook) write(r Record, scalars ...tfevents.Scalar) error {
	line, err := json.Marshal(r)
	if err == nil {
		_, err = l.lines.Write(append(line, '\n'))
	}
	if err == nil && l.events != nil {
		err = l.events.Scalars(r.Step, scalars...)
	}
	if err != nil {
		return fmt.Errorf("log step %d: %w", r.Step, err)
	}
	return nil
}

// close ends the logs.
func (l *logbook) close() (err error) {
	for _, f := range []*os.File{l.lines, l.file} {
		if f != nil {
			err = errors.Join(err, f.Close())
		}
	}
	return err
}
