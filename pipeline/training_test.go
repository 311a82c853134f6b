package pipeline_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/permafrost-ml/permafrost/pipeline"
	"github.com/permafrost-ml/permafrost/pipeline/loss"
	"github.com/permafrost-ml/permafrost/pipeline/sampler"
	"github.com/permafrost-ml/permafrost/pipeline/train"
	"github.com/permafrost-ml/permafrost/source"
)

// records are the lines of the log in an output folder.
func records(t testing.TB, path string) (out []train.Record) {
	t.Helper()
	for line := range bytes.Lines(read(t, path)) {
		var r train.Record
		if err := json.Unmarshal(line, &r); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		out = append(out, r)
	}
	return out
}

// absent are the names of which something lies there.
func absent(t testing.TB, paths ...string) {
	t.Helper()
	for _, p := range paths {
		if _, err := os.Lstat(p); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is there (%v)", p, err)
		}
	}
}

// TestTrainingIsLogged: the output has a line an epoch with what was measured
// after it, the event files and the checkpoints, and nothing stays beside it.
func TestTrainingIsLogged(t *testing.T) {
	cfg := config(t, t.TempDir())
	cfg.Output = filepath.Join(t.TempDir(), "o[ut]")
	cfg.Train.Epochs = 4
	cfg.Train.Validation = &train.Validation{Loss: true, Metrics: true, EveryEpochs: 2}
	cfg.Train.Checkpoints = &train.Checkpoints{}
	res, err := open(t, cfg).Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	lines := records(t, res.Output.Metrics)
	if len(lines) != 4 {
		t.Fatalf("%d lines", len(lines))
	}
	for i, r := range lines {
		if r.Event != "epoch" || r.Epoch != i || r.Step != int64(4*(i+1)) || (r.Validation != nil) != (i%2 == 1) {
			t.Errorf("line %d is %+v", i, r)
		}
	}
	last := maps.Clone(lines[3].Validation)
	if !(last[train.ValLoss] > 0) {
		t.Errorf("the loss of the validation is %v", last)
	}
	delete(last, train.ValLoss)
	if !maps.Equal(last, res.Eval.Tuned) {
		t.Errorf("measured after the last epoch: %v, and at the end %v", last, res.Eval.Tuned)
	}
	if res.Train.Best == nil || res.Train.Best.Monitor != train.ValLoss {
		t.Errorf("the best is %+v", res.Train.Best)
	}
	for _, name := range []string{"tensorboard/events.out.tfevents.000000.permafrost", "checkpoints/last.safetensors", "checkpoints/best.safetensors"} {
		if info, err := os.Stat(filepath.Join(cfg.Output, name)); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	absent(t, cfg.Output+".training")

	// A second run replaces all of it.
	cfg.Train.Checkpoints, cfg.Train.Log.NoTensorBoard = nil, true
	if res, err = open(t, cfg).Run(t.Context()); err != nil || res.Output.TensorBoard != "" || res.Output.Checkpoints != "" {
		t.Fatalf("%+v, %v", res, err)
	}
	absent(t, filepath.Join(cfg.Output, "tensorboard"), filepath.Join(cfg.Output, "checkpoints"), cfg.Output+".training")
}

// TestRunGoesOn: a run that ended in its training goes on from the
// checkpoint, to the same weights.
func TestRunGoesOn(t *testing.T) {
	for _, s := range []sampler.Config{nil, sampler.NoDuplicates{}, sampler.Mixed{Weights: map[string]float64{"train": 2, "val": 1}}} {
		runGoesOn(t, s)
	}
}

func runGoesOn(t *testing.T, s sampler.Config) {
	t.Helper()
	cfg := config(t, t.TempDir())
	cfg.Train.Epochs, cfg.Sampler = 3, s
	want := weights(t, cfg)
	cfg.Output = filepath.Join(t.TempDir(), "out")
	cfg.Train.Checkpoints = &train.Checkpoints{EverySteps: 3}
	broken, steps := cfg, 0
	broken.Train.Callbacks.OnStep = func(train.Step) error {
		if steps++; steps == 8 {
			return errors.New("boom")
		}
		return nil
	}
	if _, err := open(t, broken).Run(t.Context()); err == nil || !strings.Contains(err.Error(), "after epoch 1, step ") {
		t.Fatal(err)
	}
	// Other data, and other batches of the same, are other trainings.
	other := cfg
	other.Train.BatchSize = 15
	other.Output = cfg.Output + "2"
	if err := os.CopyFS(other.Output+".training", os.DirFS(cfg.Output+".training")); err != nil {
		t.Fatal(err)
	}
	if res, err := open(t, other).Run(t.Context()); err != nil || res.Train.ResumedStep != 0 {
		t.Errorf("other batches: %+v, %v", res.Train, err)
	}
	res, err := open(t, cfg).Run(t.Context())
	if err != nil || res.Train.ResumedStep != 6 || res.Train.Epochs != 3 {
		t.Fatalf("%+v, %v", res.Train, err)
	}
	if !bytes.Equal(read(t, filepath.Join(cfg.Output, "head.safetensors")), want) {
		t.Error("other weights than without an interruption")
	}
	if lines := records(t, res.Output.Metrics); len(lines) != 3 {
		t.Errorf("the log is %+v", lines)
	}
}

// TestDivergedNamesItsRows: by their numbers in the split and their keys.
func TestDivergedNamesItsRows(t *testing.T) {
	cfg := config(t, t.TempDir())
	cfg.Sample, cfg.Loss = groupOf, loss.Softmax{}
	cfg.Train.Epochs, cfg.Train.Optimizer = 50, train.SGD{LR: 1e15}
	_, err := open(t, cfg).Run(t.Context())
	var diverged *train.DivergedError
	if !errors.As(err, &diverged) || len(diverged.Rows) == 0 {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("; keys of rows: %d (\"", diverged.Rows[0]); !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want %s", err, want)
	}
}

// TestValidationLossByLabel: the labels of the validation have the numbers of
// the training's; the loss of a classifier leaves others out.
func TestValidationLossByLabel(t *testing.T) {
	run := func(val []row, l loss.Config) (float64, error) {
		cfg := config(t, "")
		cfg.Sample, cfg.Loss = groupOf, l
		cfg.Splits["val"] = source.Slice(val)
		cfg.Train.Epochs, cfg.Train.EarlyStopping = 2, &train.EarlyStopping{}
		res, err := open(t, cfg).Run(t.Context())
		if err != nil {
			return 0, err
		}
		return res.Train.Best.Value, nil
	}
	known := rows(21, "v")[7:] // "billing" and others, in other orders than in the training split
	want, err := run(known, loss.Softmax{})
	if err != nil {
		t.Fatal(err)
	}
	more := rows(3, "w")
	for i := range more {
		more[i].C = "aaa unheard of" // sorts before all others
	}
	if got, err := run(append(known[:len(known):len(known)], more...), loss.Softmax{}); err != nil || got != want {
		t.Errorf("with unknown labels: %v, %v, want %v", got, err, want)
	}
	if _, err := run(more, loss.Softmax{}); err == nil || !strings.Contains(err.Error(), `no label is one of the split "train": monitor a metric`) {
		t.Errorf("with unknown labels only: %v", err)
	}
}

func TestTrainingRefuses(t *testing.T) {
	for want, change := range map[string]func(*pipeline.Config[row]){
		`early stopping monitors "accuracy", which is none of loss, val_loss, reciprocal_rank, retrieval_precision@1`: func(c *pipeline.Config[row]) {
			c.Train.EarlyStopping = &train.EarlyStopping{Monitor: "accuracy"}
		},
		"there is no split to measure": func(c *pipeline.Config[row]) {
			delete(c.Splits, "val")
			c.Train.Validation = &train.Validation{}
		},
		"name an output":               func(c *pipeline.Config[row]) { c.Train.Checkpoints = &train.Checkpoints{} },
		"early_stopping.mode is \"x\"": func(c *pipeline.Config[row]) { c.Train.EarlyStopping = &train.EarlyStopping{Mode: "x"} },
		"clip_norm is -1":              func(c *pipeline.Config[row]) { c.Train.ClipNorm = -1 },
		"schedule linear: warmup_steps is -1": func(c *pipeline.Config[row]) {
			c.Train.Schedule = train.Linear{Warmup: train.Warmup{Steps: -1}}
		},
	} {
		cfg := config(t, "")
		change(&cfg)
		if _, err := pipeline.New(cfg); !errors.Is(err, pipeline.ErrConfig) || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}
