package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/permafrost-ml/permafrost/encode"
	"github.com/permafrost-ml/permafrost/internal/store"
	"github.com/permafrost-ml/permafrost/pipeline/head"
	"github.com/permafrost-ml/permafrost/pipeline/metric"
	"github.com/permafrost-ml/permafrost/pipeline/report"
	"github.com/permafrost-ml/permafrost/pipeline/train"
)

// Files of an output folder.
const (
	outputConfig = "config.json"
	outputHead   = "head.safetensors"
	outputReport = "report.json"
	outputPage   = "report.html"
	// outputCheckpoints is a folder.
	outputCheckpoints = "checkpoints"
	// outputMark is the value by which a folder is known to be ours.
	outputMark = "permafrost.output"
)

// outputDoc is the config.json of an output folder: all that is needed to
// embed new objects.
type outputDoc struct {
	Kind          string          `json:"kind"` // outputMark
	SchemaVersion int             `json:"schema_version"`
	Encoders      []outputEncoder `json:"encoders"` // in the order of their names
	Head          outputModule    `json:"head"`
	Loss          outputModule    `json:"loss"`
	Labels        []string        `json:"labels,omitempty"` // by class number
	Seed          uint64          `json:"seed"`
	Eval          outputEval      `json:"eval"`
}

// outputEval is how the training was measured, for other splits to be
// measured like that.
type outputEval struct {
	Cache   string         `json:"cache,omitempty"` // its place, absolute; none in memory
	Split   string         `json:"split,omitempty"`
	Metrics []outputModule `json:"metrics"`
	Sample  metric.Sample  `json:"sample"`
}

type outputEncoder struct {
	Name        string       `json:"name"`
	Type        string       `json:"type"`
	Dim         int          `json:"dim"`
	Fingerprint string       `json:"fingerprint"`
	BatchSize   int          `json:"batch_size"` // part of the fingerprint of some
	Reads       encode.Reads `json:"reads"`
	// Options make the encoder again; paths in them are absolute.
	Options json.RawMessage `json:"options,omitempty"`
	// Trained is the encoder that was trained on it; its weights are in a file
	// of their own.
	Trained *outputModule `json:"trained,omitempty"`
}

type outputModule struct {
	Type   string         `json:"type"`
	Params map[string]any `json:"params"`
	In     int            `json:"in,omitempty"`
	Out    int            `json:"out,omitempty"`
}

// parsed is the head, metric or trained encoder that m declares.
func parsed[C options](m outputModule, parse func(typ string, params json.RawMessage) (C, error)) (c C, err error) {
	params, err := json.Marshal(m.Params)
	if err != nil {
		return c, err
	}
	return parse(m.Type, params)
}

// checkOutput reports whether a run may replace the output folder.
func checkOutput(dir string) error {
	if dir == "" {
		return nil
	}
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(entries) == 0 {
		return nil
	}
	if err != nil {
		return fmt.Errorf("output %s: %w", dir, err)
	}
	if _, err := readOutput(dir); err != nil {
		return fmt.Errorf("output %s: %w; name another folder or empty it", dir, ErrNotOurs)
	}
	for _, e := range entries {
		switch e.Name() {
		case outputConfig, outputHead, outputReport, outputPage, train.MetricsFile, train.TensorBoardDir, outputCheckpoints, outputTrained:
		default: // replacing the folder would lose it
			return fmt.Errorf("output %s: %w: it also holds %s; name another folder or move that", dir, ErrNotOurs, e.Name())
		}
	}
	return nil
}

func readOutput(dir string) (*outputDoc, error) {
	b, err := os.ReadFile(filepath.Join(dir, outputConfig))
	if err != nil {
		return nil, err
	}
	var doc outputDoc
	if err := json.Unmarshal(b, &doc); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, outputConfig), err)
	}
	if doc.Kind != outputMark || doc.SchemaVersion != 1 {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, outputConfig), ErrNotOurs)
	}
	return &doc, nil
}

// write makes the output folder anew beside the old one and then puts it in
// the old one's place.
func (p *Pipeline[Row]) write(ctx context.Context, res *Result, trained *train.Result, d *data, page *report.Data) (err error) {
	dir := filepath.Clean(p.cfg.Output)
	if to, err := filepath.EvalSymlinks(dir); err == nil {
		dir = to // the folder is replaced, not a link to it
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("write output %s: %w", dir, err)
		}
	}()
	encoders, err := p.encoders(ctx)
	if err != nil {
		return err
	}
	h := trained.Head
	doc := outputDoc{
		Kind: outputMark, SchemaVersion: 1, Labels: d.classes, Seed: p.cfg.Seed,
		Head: outputModule{Type: p.cfg.Head.Type(), Params: p.cfg.Head.Params(), In: h.In(), Out: h.Out()},
		Loss: outputModule{Type: p.cfg.Loss.Type(), Params: p.cfg.Loss.Params()},
		Eval: outputEval{Cache: p.cfg.Cache.place(), Split: p.cfg.EvalSplit, Sample: p.cfg.EvalSample},
	}
	for _, m := range p.cfg.Metrics {
		doc.Eval.Metrics = append(doc.Eval.Metrics, outputModule{Type: m.Type(), Params: m.Params()})
	}
	for _, e := range encoders {
		options, err := modelOptions(encode.Unwrap(e.model))
		if err != nil {
			return fmt.Errorf("encoder %q: %w", e.name, err)
		}
		oe := outputEncoder{
			Name: e.name, Type: e.spec.Engine, Dim: e.spec.Dim, Fingerprint: e.use.Fingerprint,
			BatchSize: e.use.BatchSize, Reads: e.reads, Options: options,
		}
		if c := p.trained[e.name]; c != nil {
			oe.Trained = &outputModule{Type: c.Type(), Params: c.Params()}
		}
		doc.Encoders = append(doc.Encoders, oe)
	}
	res.Output = &OutputReport{
		Head: filepath.Join(p.cfg.Output, outputHead), Report: filepath.Join(p.cfg.Output, outputReport),
		Page: filepath.Join(p.cfg.Output, outputPage),
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(filepath.Dir(dir), "."+filepath.Base(dir)+"-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	if err := os.Chmod(tmp, 0o755); err != nil {
		return err
	}
	if err := writeJSON(filepath.Join(tmp, outputConfig), doc); err != nil {
		return err
	}
	if err := p.keepTraining(tmp, res.Output); err != nil {
		return err
	}
	if err := writeJSON(filepath.Join(tmp, outputReport), res); err != nil {
		return err
	}
	if err := writeFile(filepath.Join(tmp, outputPage), func(f *os.File) error { return report.Write(f, page) }); err != nil {
		return err
	}
	if err := writeFile(filepath.Join(tmp, outputHead), func(f *os.File) error { return head.Save(f, h) }); err != nil {
		return err
	}
	if e := trained.Encoders; e != nil {
		if err := writeFile(filepath.Join(tmp, outputTrained), func(f *os.File) error { return e.Save(f) }); err != nil {
			return err
		}
	}
	if err := checkOutput(dir); err != nil {
		return err // something else came in its place since the start
	}
	if err := store.SyncDir(tmp); err != nil {
		return err
	}
	if err := store.ReplaceDir(tmp, dir); err != nil {
		return err
	}
	if err := store.SyncDir(filepath.Dir(dir)); err != nil {
		return err
	}
	return p.dropTraining()
}

func writeJSON(path string, v any) error {
	return writeFile(path, func(f *os.File) error {
		enc := json.NewEncoder(f)
		enc.SetIndent("", "  ")
		return enc.Encode(v)
	})
}

// writeFile writes a new file and syncs it.
func writeFile(path string, fill func(*os.File) error) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(fill(f), f.Sync(), f.Close())
}
