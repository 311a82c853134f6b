package onnx

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/permafrost-ml/permafrost/encode"
)

// Options are what decides an encoder. The zero value of each is its default.
type Options struct {
	// Path is the model: an .onnx file, or a directory that has model.onnx or
	// onnx/model.onnx. The tokenizer's files, preprocessor_config.json and
	// modules.json lie in that directory, or beside the file, or above its
	// folder if that is called onnx. It must be given.
	Path string `json:"model"`
	// Library is the shared library of ONNX Runtime, or the folder it lies in.
	// Default: that of the variable PERMAFROST_ONNXRUNTIME, else the first in
	// the usual library folders and the site-packages of python3.
	Library string `json:"library,omitempty"`
	// Output is the name of the graph's output to take. Default: the first
	// there is of sentence_embedding, image_embeds, text_embeds, embedding,
	// last_hidden_state; else the graph's first output.
	Output string `json:"output,omitempty"`
	// MaxLength is how many tokens of a text the model sees, with the two
	// around it; the rest is left out. Default: what sentence_bert_config.json,
	// else tokenizer_config.json and config.json say, else 512.
	MaxLength int `json:"max_length,omitempty"`
	// Pooling makes one vector of an output that has one a token: mean, cls
	// or max; none where the output is one already. An output of shape
	// [batch, channels, height, width] is pooled over the last two by mean or
	// max. Default: what modules.json and 1_Pooling/config.json say; none for
	// an output [batch, dim].
	Pooling string `json:"pooling,omitempty"`
	// Normalize scales embeddings to length 1 as the last step; false leaves
	// out the Normalize step of modules.json. Default: that step where the
	// engine pools, else none.
	Normalize *bool `json:"normalize,omitempty"`
	// TruncateDim keeps the first values of an embedding, for models trained
	// so (Matryoshka). As in sentence-transformers it follows the model's
	// steps, so that the result has length 1 only with Normalize. Default:
	// all.
	TruncateDim int `json:"truncate_dim,omitempty"`
	// Threads is the number of threads within one run of the graph; workers
	// come on top of it. Default: 1.
	Threads int `json:"threads,omitempty"`
	// Device is where the graph runs: cpu, gpu (CUDA, of a library that has
	// it) or auto. Default: auto, which is cpu.
	Device string `json:"device,omitempty"`
}

// Model returns the model of a file or directory with the default options.
func Model(path string) encode.Model { return Options{Path: path}.Model() }

// Model returns the model of the options. Nothing is read before Spec or
// Open, which report what is wrong with them.
func (o Options) Model() encode.Model {
	m := &model{options: o}
	m.invalid = o.Validate()
	for _, path := range []*string{&m.options.Path, &m.options.Library} {
		if *path == "" {
			continue
		}
		abs, err := filepath.Abs(*path)
		m.invalid = errors.Join(m.invalid, err)
		*path = abs
	}
	return m
}

// Validate reports all options that can never be right.
func (o Options) Validate() error {
	var problems []error
	if o.Path == "" {
		problems = append(problems, errors.New("model: no file or directory is given"))
	}
	oneOf := func(name, value string, known ...string) {
		if !slices.Contains(append(known, ""), value) {
			problems = append(problems, fmt.Errorf("%s: unknown value %q, there is %s", name, value, strings.Join(known, ", ")))
		}
	}
	oneOf("pooling", o.Pooling, "mean", "cls", "max", "none")
	oneOf("device", o.Device, "auto", "cpu", "gpu")
	for _, n := range []struct {
		name         string
		value, least int
	}{{"max_length", o.MaxLength, 3}, {"truncate_dim", o.TruncateDim, 1}, {"threads", o.Threads, 1}} {
		if n.value != 0 && n.value < n.least {
			problems = append(problems, fmt.Errorf("%s: %d is less than %d", n.name, n.value, n.least))
		}
	}
	return errors.Join(problems...)
}

// outputVersion is bumped when the code here gives other bits for the same
// model and library: tokens, layout of runs, pooling, images.
const outputVersion = 2

// model implements [encode.Configured].
type model struct {
	options Options
	invalid error

	mu    sync.Mutex
	setup *setup // as of the last look at the files
}

// Options implements [encode.Configured].
func (m *model) Options() any { return m.options }

// Spec implements [encode.Model]. It loads the library, whose version is one
// of the fields.
func (m *model) Spec(ctx context.Context) (encode.Spec, error) {
	s, rt, err := m.ready(ctx)
	if err != nil {
		return encode.Spec{}, fmt.Errorf("onnx model %s: %w", m.options.Path, err)
	}
	provider := "onnx-cpu"
	if m.options.gpu() {
		provider = "onnx-cuda"
	}
	return encode.Spec{
		Engine:        "onnx",
		OutputVersion: outputVersion,
		Dim:           s.dim,
		Fields: append(slices.Clone(s.fields),
			encode.Field{Name: "onnxruntime", Value: rt.version},
			encode.Field{Name: "provider", Value: provider},
			encode.Field{Name: "threads", Value: fmt.Sprint(m.options.threads())}),
	}, nil
}

// Open implements [encode.Model].
func (m *model) Open(ctx context.Context, _ int) (encode.Encoder, error) {
	s, rt, err := m.ready(ctx)
	if err != nil {
		return nil, fmt.Errorf("onnx model %s: %w", m.options.Path, err)
	}
	run, err := rt.open(s, m.options)
	if err != nil {
		return nil, fmt.Errorf("onnx model %s: %w", m.options.Path, err)
	}
	return newEncoder(s, run), nil
}

// ready returns what the files say, read again if one has changed, and the
// loaded library.
func (m *model) ready(ctx context.Context) (*setup, *library, error) {
	if m.invalid != nil {
		return nil, nil, m.invalid
	}
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	rt, err := load(m.options.Library)
	if err != nil {
		return nil, nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	s, err := m.look(ctx)
	if err != nil || s.finished {
		return s, rt, err
	}
	if s.output.open() {
		if err := s.probe(rt, m.options); err != nil {
			return nil, nil, fmt.Errorf("learn the shape of output %s by a run: %w", s.output.name, err)
		}
	}
	if err := s.finish(m.options); err != nil {
		return nil, nil, err
	}
	return s, rt, nil
}

// look returns what the files say, read again if one has changed. m.mu is
// held.
func (m *model) look(ctx context.Context) (*setup, error) {
	if m.setup != nil && m.setup.current() {
		return m.setup, nil
	}
	s, err := m.options.read(ctx)
	if err != nil {
		return nil, err
	}
	m.setup = s
	return s, nil
}

func (o Options) threads() int { return max(1, o.Threads) }

func (o Options) gpu() bool { return o.Device == "gpu" }
