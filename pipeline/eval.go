package pipeline

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"math/rand/v2"
	"path"
	"slices"
	"strings"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/permafrost-ml/permafrost/cachesink"
	"github.com/permafrost-ml/permafrost/pipeline/head"
	"github.com/permafrost-ml/permafrost/pipeline/metric"
	"github.com/permafrost-ml/permafrost/pipeline/train"
	"github.com/permafrost-ml/permafrost/source"
)

// EvalReport holds metrics of a split: of the embeddings as the encoders
// give them, and after the trained head.
type EvalReport struct {
	Split    string             `json:"split"`
	Objects  int                `json:"objects"`
	Queries  int                `json:"queries"` // of a sample, where one is drawn
	Baseline map[string]float64 `json:"baseline"`
	Tuned    map[string]float64 `json:"tuned"`
	// Sample says how the metrics were estimated. They are then means, with
	// standard deviations over the samples.
	Sample            *metric.Sample     `json:"sample,omitempty"`
	BaselineDeviation map[string]float64 `json:"baseline_deviation,omitempty"`
	TunedDeviation    map[string]float64 `json:"tuned_deviation,omitempty"`
}

// evaluation measures a split before and after training.
type evaluation struct {
	data     *data
	metrics  []metric.Config
	sample   metric.Sample
	report   EvalReport
	examples *examples // nil where none are shown
}

// evaluation prepares the measuring of a split.
func (p *Pipeline[Row]) evaluation(ctx context.Context, split string) (*evaluation, error) {
	p.progress(Progress{Phase: "eval"})
	d, err := p.newData(ctx, split)
	if err != nil {
		return nil, err
	}
	return &evaluation{data: d, metrics: p.cfg.Metrics, sample: p.cfg.EvalSample, report: EvalReport{Split: split}}, nil
}

// baseline measures the split Eval as the encoders give it; nil without one.
func (p *Pipeline[Row]) baseline(ctx context.Context) (*evaluation, error) {
	if p.cfg.EvalSplit == "" {
		return nil, nil
	}
	e, err := p.evaluation(ctx, p.cfg.EvalSplit)
	if err == nil && p.cfg.Output != "" {
		err = p.showExamples(ctx, e)
	}
	if err != nil {
		return nil, err
	}
	return e, e.baseline(ctx)
}

// again is the evaluation with its baseline, for another training.
func (e *evaluation) again() *evaluation {
	to := *e
	to.examples = e.examples.again()
	return &to
}

// baseline measures the embeddings as they are.
func (e *evaluation) baseline(ctx context.Context) error {
	raw, err := head.Empty{}.New(e.data.dim, rand.New(rand.NewPCG(0, 0)))
	if err != nil {
		return err
	}
	r, err := e.measure(ctx, nil, raw.Freeze(), (*examples).before)
	if err != nil {
		return err
	}
	e.report.Objects, e.report.Queries = r.Objects, r.Queries
	e.report.Baseline, e.report.BaselineDeviation = r.Values, r.Deviations
	if e.sample.Size > 0 {
		e.report.Sample = &e.sample
	}
	return nil
}

// tuned measures them after trained encoders, if there are some, and a head.
func (e *evaluation) tuned(ctx context.Context, encoders *train.FrozenEncoders, h head.Frozen) error {
	r, err := e.measure(ctx, encoders, h, (*examples).after)
	if err != nil {
		return err
	}
	e.report.Tuned, e.report.TunedDeviation = r.Values, r.Deviations
	return nil
}

// measure measures behind trained encoders, if there are some, and a head. It
// has examples found if there are some to be shown by show, which may be nil.
func (e *evaluation) measure(ctx context.Context, encoders *train.FrozenEncoders, h head.Frozen,
	show func(*examples, context.Context, *train.Objects) error,
) (*metric.Report, error) {
	o, err := train.Embed(ctx, train.Encoded(e.data, encoders), h)
	var r *metric.Report
	if err == nil {
		r, err = metric.EvaluateSample(ctx, o.Embeddings, o.Relevance, e.sample, e.metrics...)
	}
	if err == nil && e.examples != nil && show != nil {
		err = show(e.examples, ctx, o)
	}
	if err != nil {
		return nil, fmt.Errorf("evaluate split %q: %w", e.report.Split, err)
	}
	return r, nil
}

// EvalResult is what an evaluation of a trained output found. Its JSON form
// is what `pipeline eval --json` prints; fields are added to it, never
// changed.
type EvalResult struct {
	SchemaVersion int         `json:"schema_version"`
	Output        string      `json:"output"`
	Fill          *FillReport `json:"fill,omitempty"` // none of a cache alone
	Cache         CacheReport `json:"cache"`
	Eval          *EvalReport `json:"eval"`
}

// Eval measures the trained head of an output folder on a split of this
// pipeline, as Run measures its own: with the config's metrics, beside the
// embeddings as they are. It fills the cache first. The split is that of Eval
// in the config if none is named. Encoders other than those that the head was
// trained on are refused with [ErrEncoder] before anything is encoded.
func (p *Pipeline[Row]) Eval(ctx context.Context, output, split string) (*EvalResult, error) {
	doc, err := readOutput(output)
	if err != nil {
		return nil, err
	}
	encoders, err := p.encoders(ctx)
	if err != nil {
		return nil, err
	}
	if split = cmp.Or(split, p.cfg.EvalSplit); !slices.Contains(p.splits, split) {
		return nil, configErr("no split %q is declared to evaluate, there are %q", split, p.splits)
	}
	same := slices.EqualFunc(encoders, doc.Encoders, func(e encoder, oe outputEncoder) bool {
		return e.name == oe.Name && e.use.Fingerprint == oe.Fingerprint
	})
	if !same {
		return nil, fmt.Errorf("%w: the config has %s, the head of %s was trained on %s", ErrEncoder, describe(encoders), output, doc.describe())
	}
	res := &EvalResult{SchemaVersion: 1, Output: output}
	if res.Fill, err = p.Fill(ctx); err != nil {
		return nil, err
	}
	res.Cache = p.CacheReport(res.Fill)
	e, err := p.evaluation(ctx, split)
	if err != nil {
		return nil, err
	}
	res.Eval = &e.report
	return res, e.both(ctx, doc, output)
}

// both measures without and with the head of an output folder.
func (e *evaluation) both(ctx context.Context, doc *outputDoc, output string) error {
	encoders, h, err := doc.loadWeights(output)
	if err != nil {
		return fmt.Errorf("load %s: %w", output, err)
	}
	if err := e.baseline(ctx); err != nil {
		return err
	}
	return e.tuned(ctx, encoders, h.Freeze())
}

// OutputCache returns the place of the cache that an output folder was
// trained from, empty for one in memory.
func OutputCache(output string) (string, error) {
	doc, err := readOutput(output)
	if err != nil {
		return "", err
	}
	return doc.Eval.Cache, nil
}

// EvalCache is [Pipeline.Eval] for a split of a cache that needs neither the
// dataset nor the encoders: the newest one of that name, or of that folder,
// which the encoders of the training have. Metrics are those of the training,
// and so is the split if none is named.
func EvalCache(ctx context.Context, c *cachesink.Cache, output, split string) (*EvalResult, error) {
	doc, err := readOutput(output)
	if err != nil {
		return nil, err
	}
	s, err := doc.find(c.Manifest(), cmp.Or(split, doc.Eval.Split))
	if err != nil {
		return nil, fmt.Errorf("cache %s: %w", c.Storage(), err)
	}
	e := &evaluation{sample: doc.Eval.Sample, report: EvalReport{Split: s.Name}}
	for _, m := range doc.Eval.Metrics {
		mc, err := parsed(m, metric.Parse)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", output, err)
		}
		e.metrics = append(e.metrics, mc)
	}
	var tables cachesink.Tables
	defer tables.Release()
	r, err := c.Read(ctx, s, &tables)
	if err != nil {
		return nil, err
	}
	defer r.Release()
	parts, err := doc.parts()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", output, err)
	}
	var read []dataEncoder
	for _, p := range parts {
		read = append(read, dataEncoder{p.Name, p.Dim, partOfTexts(p)})
	}
	of := epochs{
		readers: []*cachesink.SplitReader{r}, mem: memory.DefaultAllocator,
		opts: source.ReplayOptions{BatchSize: encodeRows, Sequential: true},
	}
	d, sel, err := readData(ctx, of, read)
	if err != nil {
		return nil, err
	}
	rp, err := source.Replay(sel.table(), sel.opts)
	if err != nil {
		return nil, err
	}
	d.replay = func(ctx context.Context, _ bool, epoch int, done int64) iter.Seq2[arrow.Record, error] {
		return rp.EpochFrom(ctx, epoch, done)
	}
	e.data = d
	res := &EvalResult{SchemaVersion: 1, Output: output, Cache: cacheReport(c), Eval: &e.report}
	for _, se := range s.Encoders {
		res.Cache.Fingerprints[se.Name] = se.Fingerprint
	}
	return res, e.both(ctx, doc, output)
}

// find returns a split of a cache, with the encoders of the training alone.
func (doc *outputDoc) find(m *cachesink.Manifest, name string) (*cachesink.Split, error) {
	named := false
	var names []string
	for i := len(m.Splits) - 1; i >= 0; i-- { // later ones are newer
		s := m.Splits[i]
		names = append(names, s.Name)
		if name != s.Name && name != s.Folder && name != path.Base(s.Folder) {
			continue
		}
		named = true
		var chosen []cachesink.SplitEncoder
		for _, oe := range doc.Encoders {
			at := slices.IndexFunc(s.Encoders, func(se cachesink.SplitEncoder) bool {
				return se.Name == oe.Name && se.Fingerprint == oe.Fingerprint && (se.Folder == "") == (oe.Type == textsEngine)
			})
			if at >= 0 {
				chosen = append(chosen, s.Encoders[at])
			}
		}
		if len(chosen) == len(doc.Encoders) {
			s.Encoders = chosen
			if !slices.ContainsFunc(chosen, func(se cachesink.SplitEncoder) bool { return se.Folder == "" }) {
				s.Inputs = nil
			}
			return &s, nil
		}
	}
	slices.Sort(names)
	switch {
	case name == "":
		return nil, fmt.Errorf("%w: no split was measured by the training, name one of %q", cachesink.ErrMissing, slices.Compact(names))
	case named:
		return nil, fmt.Errorf("%w: it holds split %q not as encoded by %s", ErrEncoder, name, doc.describe())
	}
	return nil, fmt.Errorf("%w: split %q, there are %q", cachesink.ErrMissing, name, slices.Compact(names))
}

// describe names the encoders of the training.
func (doc *outputDoc) describe() string {
	var out []string
	for _, e := range doc.Encoders {
		out = append(out, describeEncoder(e.Name, e.Fingerprint))
	}
	return strings.Join(out, ", ")
}

func describe(encoders []encoder) string {
	var out []string
	for _, e := range encoders {
		out = append(out, describeEncoder(e.name, e.use.Fingerprint))
	}
	return strings.Join(out, ", ")
}

func describeEncoder(name, fingerprint string) string {
	return fmt.Sprintf("%s (fingerprint %.12s)", name, fingerprint)
}
