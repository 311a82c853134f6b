package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"

	"github.com/permafrost-ml/permafrost/cachesink"
	"github.com/permafrost-ml/permafrost/internal/store"
	"github.com/permafrost-ml/permafrost/pipeline/sampler"
	"github.com/permafrost-ml/permafrost/pipeline/train"
)

// fit trains the head. It returns at which step the training went on from a
// checkpoint, 0 where it began.
func (p *Pipeline[Row]) fit(ctx context.Context, d *data, eval *evaluation) (_ *train.Result, resumed int64, err error) {
	opts := p.cfg.Train
	if opts.Dir = p.trainingDir(); opts.Dir != "" {
		if opts.Identity, err = p.identity(ctx, d, eval); err != nil {
			return nil, 0, err
		}
	}
	dims := map[string]int{}
	for i, name := range d.names {
		dims[name] = d.dims[i]
	}
	opts.Parts = p.parts(dims)
	if v := opts.Validation; v != nil && v.Measure == nil {
		with := *v
		with.Measure = p.measure(*v, d, eval)
		opts.Validation = &with
	}
	on := opts.Callbacks
	opts.Callbacks.OnEpoch = func(e train.Epoch) error {
		p.progress(Progress{Phase: "train", Epoch: e.Epoch + 1, Epochs: opts.Epochs, Loss: e.Loss})
		if on.OnEpoch != nil {
			return on.OnEpoch(e)
		}
		return nil
	}
	opts.Callbacks.OnResume = func(r train.Resume) error {
		if r.Differs != nil {
			p.cfg.Logger.Warn("the checkpoint is of another training: this one begins anew", "checkpoint", r.Path, "differs", strings.Join(r.Differs, "; "))
		} else {
			resumed = r.Step
			p.cfg.Logger.Info("training goes on", "checkpoint", r.Path, "epoch", r.Epoch, "step", r.Step)
		}
		if on.OnResume != nil {
			return on.OnResume(r)
		}
		return nil
	}
	p.progress(Progress{Phase: "train", Epochs: opts.Epochs})
	res, err := train.Fit(ctx, d, p.cfg.Head, p.cfg.Loss, opts)
	if err != nil {
		return nil, 0, fmt.Errorf("train on split %q: %w%s", p.cfg.TrainSplit, err, p.rowNames(ctx, err))
	}
	return res, resumed, nil
}

// trainingSuffix makes the name of an output that of the folder of its training.
const trainingSuffix = ".training"

// trainingDir is the folder of an unfinished training, beside the output;
// empty without one.
func (p *Pipeline[Row]) trainingDir() string {
	if p.cfg.Output == "" {
		return ""
	}
	return filepath.Clean(p.cfg.Output) + trainingSuffix
}

// identity says which embeddings come in which batches, and what measures
// them.
func (p *Pipeline[Row]) identity(ctx context.Context, d *data, eval *evaluation) (string, error) {
	encoders, err := p.encoders(ctx)
	if err != nil {
		return "", err
	}
	id := struct {
		Split, Eval          string
		Batch                int
		Sequential, DropLast bool
		Sampler              any
		Encoders             []string
	}{
		Split: d.of.fingerprint(), Batch: d.of.opts.BatchSize, Sequential: d.of.opts.Sequential,
		DropLast: d.of.opts.DropLast, Sampler: sampler.Declared(p.cfg.Sampler),
	}
	if eval != nil {
		id.Eval = eval.data.of.fingerprint()
	}
	for _, e := range encoders {
		text := e.name + " " + e.use.Fingerprint
		if e.use.Cached {
			text += " " + string(e.use.DType)
		}
		id.Encoders = append(id.Encoders, text)
	}
	b, err := json.Marshal(id)
	return string(b), err
}

// measure returns what is measured after epochs.
func (p *Pipeline[Row]) measure(v train.Validation, d *data, eval *evaluation) func(context.Context, train.Snapshot) (map[string]float64, error) {
	var forLoss *data
	return func(ctx context.Context, s train.Snapshot) (map[string]float64, error) {
		values := map[string]float64{}
		if v.Metrics {
			rep, err := eval.measure(ctx, s.Encoders, s.Head, nil)
			if err != nil {
				return nil, err
			}
			values = rep.Values
		}
		if !v.Loss {
			return values, nil
		}
		if forLoss == nil {
			forLoss = eval.data.numbered(d.classes, len(s.Loss.Parameters()) > 0)
		}
		value, err := train.MeanLoss(ctx, train.Encoded(forLoss, s.Encoders), s.Head, s.Loss)
		if errors.Is(err, train.ErrNoData) {
			err = fmt.Errorf("no label is one of the split %q: monitor a metric instead of the loss", p.cfg.TrainSplit)
		}
		if err != nil {
			return nil, fmt.Errorf("split %q: %w", p.cfg.EvalSplit, err)
		}
		values[train.ValLoss] = value
		return values, nil
	}
}

// rowNames names the rows of a training that diverged by their keys.
func (p *Pipeline[Row]) rowNames(ctx context.Context, err error) string {
	e := (*train.DivergedError)(nil)
	if !errors.As(err, &e) || !e.Numbered {
		return ""
	}
	const shown = 8
	rows := e.Rows[:min(len(e.Rows), shown)]
	rec, columns, err := p.keys(ctx, rows)
	if err != nil {
		return fmt.Sprintf("; their keys cannot be read: %v", err)
	}
	defer rec.Release()
	var names []string
	for i, row := range rows {
		var keys []string
		for _, c := range columns {
			keys = append(keys, key(columnOf(rec, c), i))
		}
		names = append(names, fmt.Sprintf("%d (%s)", row, strings.Join(keys, ", ")))
	}
	return "; keys of rows: " + strings.Join(names, ", ")
}

// keys returns the keys of rows that are trained on, and the columns where
// they are; the caller owns the record batch.
func (p *Pipeline[Row]) keys(ctx context.Context, rows []int64) (rec arrow.Record, columns []string, err error) {
	of, err := p.epochs(ctx, p.cfg.TrainSplit)
	if err != nil {
		return nil, nil, err
	}
	for _, side := range of.split().Kind.Sides() {
		columns = append(columns, cachesink.EncoderColumn(p.names[0], side, cachesink.RoleKey))
	}
	if of, err = of.selected(columns...); err != nil {
		return nil, nil, err
	}
	rec, err = of.table().Gather(ctx, rows)
	return rec, columns, err
}

func key(column arrow.Array, row int) string {
	if a, ok := column.(*array.String); ok && row < a.Len() {
		return fmt.Sprintf("%q", a.Value(row))
	}
	return "none"
}

// keepTraining copies what a finished training has left into the output
// folder that is being made, and says so in the report.
func (p *Pipeline[Row]) keepTraining(to string, report *OutputReport) error {
	from, out := p.trainingDir(), p.cfg.Output
	report.Metrics = filepath.Join(out, train.MetricsFile)
	if err := copyFile(filepath.Join(from, train.MetricsFile), filepath.Join(to, train.MetricsFile)); err != nil {
		return err
	}
	if !p.cfg.Train.Log.NoTensorBoard {
		report.TensorBoard = filepath.Join(out, train.TensorBoardDir)
		if err := copyFiles(filepath.Join(from, train.TensorBoardDir), filepath.Join(to, train.TensorBoardDir), ""); err != nil {
			return err
		}
	}
	if p.cfg.Train.Checkpoints != nil {
		report.Checkpoints = filepath.Join(out, outputCheckpoints)
		return copyFiles(from, filepath.Join(to, outputCheckpoints), ".safetensors")
	}
	return nil
}

// dropTraining removes what a finished training has left, and nothing else
// that may lie there.
func (p *Pipeline[Row]) dropTraining() error {
	dir := p.trainingDir()
	var err error
	for _, name := range train.Files() {
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, name)))
	}
	if entries, e := os.ReadDir(dir); e == nil && len(entries) == 0 {
		err = errors.Join(err, os.Remove(dir))
	}
	return err
}

// copyFiles copies the files of a folder whose names end like that.
func copyFiles(from, to, suffix string) error {
	entries, err := os.ReadDir(from)
	if err == nil {
		err = os.MkdirAll(to, 0o755)
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), suffix) {
			continue
		}
		if err := copyFile(filepath.Join(from, e.Name()), filepath.Join(to, e.Name())); err != nil {
			return err
		}
	}
	return store.SyncDir(to)
}

// copyFile copies a file and syncs the copy.
func copyFile(from, to string) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return writeFile(to, func(f *os.File) error {
		_, err := f.Write(b)
		return err
	})
}
