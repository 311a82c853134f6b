package pipeline

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"sync"

	"github.com/permafrost-ml/permafrost/encode"
	"github.com/permafrost-ml/permafrost/pipeline/head"
	"github.com/permafrost-ml/permafrost/pipeline/train"
	"github.com/permafrost-ml/permafrost/pipeline/train/nn"
)

// Model embeds new objects with the encoders and the trained head of an
// output folder. It is safe for concurrent use.
type Model struct {
	encoders []modelEncoder
	trained  *train.FrozenEncoders // nil: none was trained
	head     head.Frozen
	dim      int // of all frozen encoders together
	labels   []string

	mu     sync.Mutex
	free   [][]encode.Encoder // sets of opened encoders
	closed bool
}

type modelEncoder struct {
	name  string
	model encode.Model // nil: its texts are read by a trained encoder
	reads encode.Reads
	dim   int
	batch int // the batch size of the training where it matters, else 0
}

// ErrEncoder is returned by Load for an encoder that cannot be made from the
// output folder alone, or that is not the one the head was trained on.
var ErrEncoder = errors.New("encoder does not fit the output")

// Load opens an output folder. The encoders of this project are made from
// what the folder says; a model of a user's own is taken from own, by name.
// An encoder whose fingerprint is not that of the training is refused.
func Load(dir string, own ...Encoders) (*Model, error) {
	m, err := load(dir, own)
	if err != nil {
		return nil, fmt.Errorf("load %s: %w", dir, err)
	}
	return m, nil
}

func load(dir string, own []Encoders) (*Model, error) {
	doc, err := readOutput(dir)
	if err != nil {
		return nil, err
	}
	m := &Model{labels: doc.Labels}
	parts, err := doc.parts()
	if err != nil {
		return nil, err
	}
	for i, oe := range doc.Encoders {
		if partOfTexts(parts[i]) {
			m.encoders = append(m.encoders, modelEncoder{name: oe.Name, reads: oe.Reads})
			continue
		}
		e := modelEncoder{name: oe.Name, reads: oe.Reads, dim: oe.Dim}
		if e.model, err = oe.model(own); err != nil {
			return nil, err
		}
		spec, err := sameEncoder(context.Background(), e.model, oe)
		if err != nil {
			return nil, fmt.Errorf("encoder %q: %w", oe.Name, err)
		}
		if !spec.BatchInvariant {
			e.batch = oe.BatchSize
		}
		m.dim += oe.Dim
		m.encoders = append(m.encoders, e)
	}
	trained, h, err := doc.loadWeights(dir)
	if err != nil {
		return nil, err
	}
	m.trained, m.head = trained, h.Freeze()
	return m, nil
}

// sameEncoder returns the spec of a model, if it is the one of the training.
func sameEncoder(ctx context.Context, m encode.Model, oe outputEncoder) (spec encode.Spec, err error) {
	if spec, err = m.Spec(ctx); err != nil {
		return spec, err
	}
	got, _, err := spec.Declaration(oe.BatchSize)
	if err != nil {
		return spec, err
	}
	if got != oe.Fingerprint || spec.Dim != oe.Dim {
		return spec, fmt.Errorf("%w: its fingerprint is %.12s, the head was trained on %.12s", ErrEncoder, got, oe.Fingerprint)
	}
	return spec, nil
}

// joined is the number of values of all encoders together, before the head.
func (m *Model) joined() int {
	if m.trained != nil {
		return m.trained.Dim()
	}
	return m.dim
}

// Dim returns the number of values of an embedding.
func (m *Model) Dim() int { return m.head.Out() }

// Labels returns the labels of the classes that the head was trained on, by
// class number; none where it was trained on pairs.
func (m *Model) Labels() []string { return append([]string(nil), m.labels...) }

// encodeRows is the number of objects that are encoded at once.
const encodeRows = 256

// Encode embeds objects, with the fields that the encoders read: one slice
// of Dim values for each. An object's embedding does not depend on the
// others where the encoders are batch-invariant; the others get batches of
// the size that they had in the training.
func (m *Model) Encode(ctx context.Context, objects []encode.Object) ([][]float32, error) {
	set, err := m.take(ctx)
	if err != nil {
		return nil, err
	}
	defer m.give(set)
	out := make([][]float32, 0, len(objects))
	for at := 0; at < len(objects); at += encodeRows {
		part := objects[at:min(at+encodeRows, len(objects))]
		vecs, err := m.encode(ctx, set, part, at)
		if err != nil {
			return nil, fmt.Errorf("encode: %w", err)
		}
		for i := range part {
			out = append(out, vecs[i*m.Dim():(i+1)*m.Dim():(i+1)*m.Dim()])
		}
	}
	return out, nil
}

// encode embeds some objects, of which the first has that number.
func (m *Model) encode(ctx context.Context, set []encode.Encoder, objects []encode.Object, first int) ([]float32, error) {
	n := len(objects)
	x := make([]float32, n*m.dim)
	off := 0
	var texts [][]string // of trained encoders
	for i, e := range m.encoders {
		inputs := make([]encode.Input, n)
		for k, o := range objects {
			in, err := e.reads.Input(o)
			if err != nil {
				return nil, fmt.Errorf("object %d: encoder %q: %w", first+k, e.name, err)
			}
			inputs[k] = in
		}
		if e.model == nil {
			read := make([]string, n)
			for k, in := range inputs {
				read[k] = in.Text()
			}
			texts = append(texts, read)
			continue
		}
		vecs := make([]float32, n*e.dim)
		size := cmp.Or(e.batch, n)
		for at := 0; at < n; at += size {
			end := min(at+size, n)
			if err := set[i].Encode(ctx, inputs[at:end], vecs[at*e.dim:end*e.dim]); err != nil {
				return nil, fmt.Errorf("objects %d to %d: encoder %q: %w", first+at, first+end-1, e.name, err)
			}
		}
		for k := range n {
			copy(x[k*m.dim+off:], vecs[k*e.dim:(k+1)*e.dim])
		}
		off += e.dim
	}
	in := nn.Mat{Rows: n, Cols: m.dim, Data: x}
	if m.trained != nil {
		joined := nn.Mat{Rows: n, Cols: m.joined(), Data: make([]float32, n*m.joined())}
		if err := m.trained.Apply(joined, in, texts); err != nil {
			return nil, err
		}
		in = joined
	}
	y := make([]float32, n*m.Dim())
	err := head.Apply(m.head,
		nn.Wrap(nn.Mat{Rows: n, Cols: m.Dim(), Data: y}),
		nn.Wrap(in), m.choices(objects))
	if err != nil {
		return nil, fmt.Errorf("head: %w", err)
	}
	for i, v := range y {
		if f := float64(v); math.IsNaN(f) || math.IsInf(f, 0) {
			return nil, fmt.Errorf("object %d: %w", first+i/m.Dim(), encode.ErrNotFinite)
		}
	}
	return y, nil
}

// choices are those of objects of the one switch encoder, if there is one.
func (m *Model) choices(objects []encode.Object) (choices []string) {
	for _, e := range m.encoders {
		if e.reads.By == "" {
			continue
		}
		if choices != nil {
			return nil
		}
		for _, o := range objects {
			choices = append(choices, e.reads.Choice(o))
		}
	}
	return choices
}

var errModelClosed = errors.New("the model is closed")

// take returns a set of opened encoders that nobody else uses.
func (m *Model) take(ctx context.Context) ([]encode.Encoder, error) {
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return nil, errModelClosed
	}
	if n := len(m.free); n > 0 {
		set := m.free[n-1]
		m.free = m.free[:n-1]
		m.mu.Unlock()
		return set, nil
	}
	m.mu.Unlock()
	var set []encode.Encoder
	for _, e := range m.encoders {
		if e.model == nil {
			set = append(set, nil)
			continue
		}
		enc, err := e.model.Open(ctx, 0)
		if err == nil && enc.Dim() != e.dim {
			err = errors.Join(fmt.Errorf("%w: %d, not %d", encode.ErrDim, enc.Dim(), e.dim), enc.Close())
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("open encoder %q: %w", e.name, err), closeSet(set))
		}
		set = append(set, enc)
	}
	return set, nil
}

func (m *Model) give(set []encode.Encoder) {
	m.mu.Lock()
	if !m.closed {
		m.free = append(m.free, set)
		set = nil
	}
	m.mu.Unlock()
	_ = closeSet(set) // only after Close, whose caller is gone
}

func closeSet(set []encode.Encoder) (err error) {
	for _, e := range set {
		if e != nil {
			err = errors.Join(err, e.Close())
		}
	}
	return err
}

// Close closes the opened encoders; those in use when their Encode ends.
func (m *Model) Close() error {
	m.mu.Lock()
	free := m.free
	m.free, m.closed = nil, true
	m.mu.Unlock()
	var err error
	for _, set := range free {
		err = errors.Join(err, closeSet(set))
	}
	return err
}
