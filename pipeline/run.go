package pipeline

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"

	"github.com/permafrost-ml/permafrost/cachesink"
	"github.com/permafrost-ml/permafrost/encode"
	"github.com/permafrost-ml/permafrost/pipeline/head"
	"github.com/permafrost-ml/permafrost/pipeline/sampler"
	"github.com/permafrost-ml/permafrost/pipeline/train"
	"github.com/permafrost-ml/permafrost/pipeline/train/nn"
)

// Result is what a run did. Its JSON form is what `pipeline run --json`
// prints; fields are added to it, never changed.
type Result struct {
	SchemaVersion int           `json:"schema_version"`
	Fill          *FillReport   `json:"fill"`
	Cache         CacheReport   `json:"cache"`
	Train         *TrainReport  `json:"train,omitempty"`
	Eval          *EvalReport   `json:"eval,omitempty"`
	Output        *OutputReport `json:"output,omitempty"`
}

// CacheReport describes the cache after a run.
type CacheReport struct {
	Dir          string            `json:"dir"`
	Bytes        int64             `json:"bytes"`
	Generation   int64             `json:"generation"`
	Fingerprints map[string]string `json:"fingerprints"` // by encoder
}

// TrainReport describes a training.
type TrainReport struct {
	Split string `json:"split"`
	Rows  int64  `json:"rows"` // of the splits
	// Sampler is the declared one, its type and its options; nil without.
	Sampler map[string]any `json:"sampler,omitempty"`

	Epochs             int     `json:"epochs"`
	FirstEpochSeconds  float64 `json:"first_epoch_seconds"`
	MedianEpochSeconds float64 `json:"median_epoch_seconds"`
	SamplesPerSecond   float64 `json:"samples_per_second"` // at the median epoch
	FirstLoss          float64 `json:"first_loss"`
	FinalLoss          float64 `json:"final_loss"`
	// Best is the best epoch, where a value is monitored; Stopped says that
	// the training ended before its last epoch, ResumedStep at which step it
	// went on from a checkpoint.
	Best        *train.Best `json:"best,omitempty"`
	Stopped     bool        `json:"stopped,omitempty"`
	ResumedStep int64       `json:"resumed_step,omitempty"`
}

// OutputReport names the files of the output folder.
type OutputReport struct {
	Head   string `json:"head"`
	Report string `json:"report"` // JSON
	Page   string `json:"page"`   // HTML
	// Metrics is the log of the training, TensorBoard the folder of the same
	// as event files, Checkpoints that of the checkpoints; empty where there
	// are none.
	Metrics     string `json:"metrics"`
	TensorBoard string `json:"tensorboard,omitempty"`
	Checkpoints string `json:"checkpoints,omitempty"`
}

// ErrNothingToTrain is returned by Run for a config without a loss.
var ErrNothingToTrain = errors.New("the config declares no loss, so there is nothing to train")

// Run fills the cache, measures the embeddings, trains the head, measures it
// and writes the output folder.
func (p *Pipeline[Row]) Run(ctx context.Context) (*Result, error) {
	err := p.tryTraining(ctx) // and the output folder, before hours of work
	if err = errors.Join(err, checkOutput(p.cfg.Output)); err != nil {
		return nil, err
	}
	res := &Result{SchemaVersion: 1}
	if res.Fill, err = p.Fill(ctx); err != nil {
		return nil, err
	}
	res.Cache = p.CacheReport(res.Fill)
	eval, err := p.baseline(ctx)
	if err != nil {
		return nil, err
	}
	if err := p.train(ctx, res, eval); err != nil {
		return nil, err
	}
	p.progress(Progress{Phase: "done"})
	return res, nil
}

// train trains the head, measures it and writes the output folder, with a
// filled cache. It completes the result; eval has the baseline, or is nil.
func (p *Pipeline[Row]) train(ctx context.Context, res *Result, eval *evaluation) error {
	trainData, err := p.trainData(ctx)
	if err != nil {
		return err
	}
	if eval != nil {
		eval = eval.again()
		res.Eval = &eval.report
	}
	trained, resumed, err := p.fit(ctx, trainData, eval)
	if err != nil {
		return err
	}
	res.Train = trainReport(p.cfg.TrainSplit, trainData.rows, trained)
	res.Train.ResumedStep = resumed
	res.Train.Sampler = sampler.Declared(p.cfg.Sampler)
	if eval != nil {
		p.progress(Progress{Phase: "eval"})
		var encoders *train.FrozenEncoders
		if trained.Encoders != nil {
			encoders = trained.Encoders.Freeze()
		}
		if err := eval.tuned(ctx, encoders, trained.Head.Freeze()); err != nil {
			return err
		}
	}
	if p.cfg.Output != "" {
		page, err := p.page(ctx, res, trained, eval)
		if err != nil {
			return err
		}
		return p.write(ctx, res, trained, trainData, page)
	}
	return nil
}

// tryTraining makes a head, a loss and an optimizer of the sizes that the
// training will have, to find options out of range.
func (p *Pipeline[Row]) tryTraining(ctx context.Context) error {
	if p.cfg.Loss == nil {
		return configErr("%w", ErrNothingToTrain)
	}
	encoders, err := p.encoders(ctx)
	if err != nil {
		return err
	}
	dim, dims := 0, map[string]int{}
	for _, e := range encoders {
		dims[e.name] = e.use.Dim
		dim += e.use.Dim
	}
	rng := rand.New(rand.NewPCG(0, 0))
	var trained []nn.Param
	if parts := p.parts(dims); parts != nil {
		front, err := train.NewEncoders(parts, rng)
		if err != nil {
			return configErr("%w", err)
		}
		dim, trained = front.Dim(), front.Parameters()
	}
	h, err := p.cfg.Head.New(dim, rng)
	if err != nil {
		return configErr("head %s: %w", p.cfg.Head.Type(), err)
	}
	if err := head.CheckChoices(p.cfg.Head, p.choices()); err != nil {
		return configErr("head %s: %w", p.cfg.Head.Type(), err)
	}
	l, err := p.cfg.Loss.New(h.Out(), 2, rng)
	if err != nil {
		return configErr("loss %s: %w", p.cfg.Loss.Type(), err)
	}
	params := slices.Concat(trained, h.Parameters(), l.Parameters())
	if len(params) == 0 {
		return configErr("head %s: %w", p.cfg.Head.Type(), train.ErrNothingToTrain)
	}
	if _, err := p.cfg.Train.Optimizer.New(params); err != nil {
		return configErr("optimizer %s: %w", p.cfg.Train.Optimizer.Type(), err)
	}
	return nil
}

// choices are all that objects can choose of the one switch encoder, if there
// is one.
func (p *Pipeline[Row]) choices() (choices []string) {
	for _, name := range p.names {
		of := encode.ReadsOf(p.cfg.Encoders[name]).Choices()
		if of != nil && choices != nil {
			return nil
		}
		choices = append(choices, of...)
	}
	return choices
}

// CacheReport describes the cache after a fill, whose report is given.
func (p *Pipeline[Row]) CacheReport(f *FillReport) CacheReport {
	r := cacheReport(p.cache)
	for name, e := range f.Encoders {
		r.Fingerprints[name] = e.Fingerprint
	}
	return r
}

func cacheReport(c *cachesink.Cache) CacheReport {
	m := c.Manifest()
	return CacheReport{Dir: c.Storage().String(), Bytes: m.Bytes(), Generation: m.Generation, Fingerprints: map[string]string{}}
}

func trainReport(split string, rows int64, r *train.Result) *TrainReport {
	t := &TrainReport{Split: split, Rows: rows, Epochs: len(r.Epochs), FirstLoss: r.FirstLoss(), FinalLoss: r.FinalLoss(), Best: r.Best, Stopped: r.Stopped}
	var secs []float64
	for _, e := range r.Epochs {
		secs = append(secs, e.Duration.Seconds())
	}
	t.FirstEpochSeconds = secs[0]
	slices.Sort(secs)
	t.MedianEpochSeconds = secs[len(secs)/2]
	if t.MedianEpochSeconds > 0 {
		t.SamplesPerSecond = float64(r.Epochs[0].Rows) / t.MedianEpochSeconds
	}
	return t
}
