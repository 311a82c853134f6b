package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/permafrost-ml/permafrost/internal/store"
	"github.com/permafrost-ml/permafrost/pipeline/train"
)

// Variant is one training of a sweep.
type Variant[Row any] struct {
	// Set says in what it differs, for the report: values by their places in
	// the config.
	Set map[string]string
	// Config is that of the pipeline but for Head, Loss, Train, Sampler and
	// Seed; what else it has does not count.
	Config Config[Row]
}

// SweepResult is what a sweep did. Its JSON form is sweep.json and what
// `pipeline run --sweep --json` prints; fields are added to it, never changed.
type SweepResult struct {
	SchemaVersion int         `json:"schema_version"`
	Fill          *FillReport `json:"fill"`
	Cache         CacheReport `json:"cache"`
	// Eval is the baseline of all runs.
	Eval *EvalReport `json:"eval,omitempty"`
	// Metric decides which run is the best: a metric of the split to evaluate,
	// or "loss", the training's last, of which less is better. Best is the
	// number of that run from 0, -1 where all diverged.
	Metric string     `json:"metric"`
	Best   int        `json:"best"`
	Runs   []SweepRun `json:"runs"`
}

// SweepRun is one training of a sweep.
type SweepRun struct {
	Name    string             `json:"name"` // also that of its folder
	Set     map[string]string  `json:"set"`
	Seconds float64            `json:"seconds"`
	Train   *TrainReport       `json:"train,omitempty"`
	Tuned   map[string]float64 `json:"tuned,omitempty"`
	Output  *OutputReport      `json:"output,omitempty"`
	Error   string             `json:"error,omitempty"` // of a training that diverged
}

// value is what the run is judged by.
func (r *SweepRun) value(metric string) (float64, bool) {
	if r.Error != "" {
		return 0, false
	}
	if metric == train.TrainLoss {
		return -r.Train.FinalLoss, true
	}
	v, ok := r.Tuned[metric]
	return v, ok
}

// sweepReport is the file of a sweep's output folder.
const sweepReport = "sweep.json"

// Sweep trains variants on one fill of the cache, one after the other, and
// judges them by a metric: by default the first one that is declared, or the
// loss without a split to evaluate. Each writes an output folder of its own
// into Output, and the table of all goes to sweep.json there, anew after each.
// A training that diverges is reported and ends nothing.
func (p *Pipeline[Row]) Sweep(ctx context.Context, metric string, variants ...Variant[Row]) (*SweepResult, error) {
	if len(variants) == 0 {
		return nil, configErr("a sweep of nothing")
	}
	res := &SweepResult{SchemaVersion: 1, Metric: metric, Best: -1}
	if err := p.judgedBy(res); err != nil {
		return nil, err
	}
	base := p.cfg
	defer func() { p.cfg, p.sampled = base, nil }()
	configs := make([]Config[Row], len(variants))
	var errs []error
	for i, v := range variants {
		name := fmt.Sprintf("run-%0*d", len(fmt.Sprint(len(variants))), i+1)
		res.Runs = append(res.Runs, SweepRun{Name: name, Set: v.Set})
		c := base
		c.Head, c.Loss, c.Train, c.Seed = v.Config.Head, v.Config.Loss, v.Config.Train, v.Config.Seed
		c.Sampler = v.Config.Sampler
		if base.Output != "" {
			c.Output = filepath.Join(base.Output, name)
		}
		c, err := c.withDefaults()
		if err == nil {
			p.cfg = c
			err = p.tryTraining(ctx)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s %s: %w", name, setText(v.Set), err))
		}
		configs[i] = c
	}
	p.cfg = base
	if err := errors.Join(append(errs, checkSweep(base.Output))...); err != nil {
		return nil, err
	}
	var err error
	if res.Fill, err = p.Fill(ctx); err != nil {
		return nil, err
	}
	res.Cache = p.CacheReport(res.Fill)
	eval, err := p.baseline(ctx)
	if err != nil {
		return nil, err
	}
	if eval != nil {
		res.Eval = &eval.report
	}
	for i := range configs {
		p.cfg, p.sampled = configs[i], nil // batches are the run's own
		if err := p.sweepRun(ctx, res, &res.Runs[i], eval); err != nil {
			return nil, fmt.Errorf("%s %s: %w", res.Runs[i].Name, setText(res.Runs[i].Set), err)
		}
		res.judge()
		if err := res.write(base.Output, i+1); err != nil {
			return nil, err
		}
	}
	p.progress(Progress{Phase: "done"})
	return res, dropRuns(base.Output, res.Runs)
}

// judgedBy fills in and checks the metric of a sweep.
func (p *Pipeline[Row]) judgedBy(res *SweepResult) error {
	names := []string{train.TrainLoss}
	if p.cfg.EvalSplit != "" {
		for _, m := range p.cfg.Metrics {
			names = append(names, m.Name())
		}
	}
	if res.Metric == "" {
		res.Metric = names[min(1, len(names)-1)]
	}
	if !slices.Contains(names, res.Metric) {
		return configErr("a sweep by %q: it is none of %s", res.Metric, strings.Join(names, ", "))
	}
	return nil
}

// sweepRun trains the configuration that the pipeline has.
func (p *Pipeline[Row]) sweepRun(ctx context.Context, sweep *SweepResult, run *SweepRun, eval *evaluation) error {
	start := time.Now()
	one := &Result{SchemaVersion: 1, Fill: sweep.Fill, Cache: sweep.Cache}
	err := p.train(ctx, one, eval)
	run.Seconds = time.Since(start).Seconds()
	if diverged := (*train.DivergedError)(nil); errors.As(err, &diverged) {
		run.Error = err.Error()
		p.cfg.Logger.Warn("a run of the sweep diverged", "run", run.Name, "set", setText(run.Set), "err", err)
		return nil
	}
	if err != nil {
		return err
	}
	run.Train, run.Output = one.Train, one.Output
	if one.Eval != nil {
		run.Tuned = one.Eval.Tuned
	}
	p.cfg.Logger.Info("a run of the sweep is done", "run", run.Name, "set", setText(run.Set), "loss", run.Train.FinalLoss, "tuned", run.Tuned)
	return nil
}

// judge finds the best run, the first one of equals.
func (r *SweepResult) judge() {
	r.Best = -1
	var best float64
	for i := range r.Runs {
		if r.Runs[i].Train == nil {
			continue
		}
		if v, ok := r.Runs[i].value(r.Metric); ok && (r.Best < 0 || v > best) {
			r.Best, best = i, v
		}
	}
}

// write replaces sweep.json by what the runs that are done gave.
func (r *SweepResult) write(dir string, done int) error {
	if dir == "" {
		return nil
	}
	now := *r
	now.Runs = r.Runs[:done]
	text, err := json.MarshalIndent(now, "", "  ")
	if err != nil {
		return fmt.Errorf("write %s: %w", sweepReport, err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	tmp := filepath.Join(dir, "."+sweepReport)
	err = writeFile(tmp, func(f *os.File) error {
		_, err := f.Write(append(text, '\n'))
		return err
	})
	if err == nil {
		err = os.Rename(tmp, filepath.Join(dir, sweepReport))
	}
	if err == nil {
		err = store.SyncDir(dir)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", filepath.Join(dir, sweepReport), err)
	}
	return nil
}

// ofSweep reports whether a name in a sweep's folder is one that sweeps make.
func ofSweep(name string) bool {
	return name == sweepReport || name == "."+sweepReport || strings.HasPrefix(name, "run-")
}

// checkSweep reports whether a sweep may write to the folder: all that is
// there must be of an earlier one.
func checkSweep(dir string) error {
	if dir == "" {
		return nil
	}
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("output %s: %w", dir, err)
	}
	for _, e := range entries {
		if !ofSweep(e.Name()) {
			return fmt.Errorf("output %s: %w of a sweep: it holds %s; name another folder or empty it", dir, ErrNotOurs, e.Name())
		}
		if e.IsDir() && !strings.HasSuffix(e.Name(), trainingSuffix) {
			if err := checkOutput(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// dropRuns removes what an earlier, larger sweep has left.
func dropRuns(dir string, runs []SweepRun) error {
	if dir == "" {
		return nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := strings.TrimSuffix(e.Name(), trainingSuffix)
		known := slices.ContainsFunc(runs, func(r SweepRun) bool { return r.Name == name && r.Error == "" })
		if e.IsDir() && !known && name == e.Name() && checkOutput(filepath.Join(dir, name)) == nil {
			err = errors.Join(err, os.RemoveAll(filepath.Join(dir, name)))
		}
	}
	return err
}

// setText is what a variant sets, in one line.
func setText(set map[string]string) string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(set)) {
		out = append(out, k+"="+set[k])
	}
	return strings.Join(out, " ")
}
