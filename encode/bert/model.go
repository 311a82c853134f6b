package bert

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/permafrost-ml/permafrost/encode"
	"github.com/permafrost-ml/permafrost/internal/kernels"
)

// outputVersion is bumped when the code of this package gives other bits for
// the same files; the golden vectors of the tests notice.
const outputVersion = 1

// model implements [encode.Configured].
type model struct{ options Options }

// Options implements [encode.Configured].
func (m *model) Options() any { return m.options.absolute() }

// Spec implements [encode.Model]. It reads the directory's small files, and
// hashes those of the weights once in a process.
func (m *model) Spec(ctx context.Context) (encode.Spec, error) {
	spec, err := m.spec(ctx)
	if err != nil {
		return encode.Spec{}, fmt.Errorf("model %s: %w", m.options.Dir, err)
	}
	return spec, nil
}

func (m *model) spec(ctx context.Context) (encode.Spec, error) {
	d, s, err := m.read()
	if err != nil {
		return encode.Spec{}, err
	}
	a := d.arch
	fields := []encode.Field{
		{Name: "architecture", Value: a.family.modelType},
		{Name: "layers", Value: strconv.Itoa(a.layers)},
		{Name: "hidden_size", Value: strconv.Itoa(a.hidden)},
		{Name: "heads", Value: strconv.Itoa(a.heads)},
		{Name: "intermediate_size", Value: strconv.Itoa(a.intermediate)},
		{Name: "hidden_act", Value: string(a.act)},
		{Name: "layer_norm_eps", Value: strconv.FormatFloat(a.eps, 'g', -1, 64)},
		{Name: "max_length", Value: strconv.Itoa(s.maxLength)},
		{Name: "pooling", Value: strings.Join(s.pooling, "+")},
		{Name: "normalization", Value: "model"},
		{Name: "truncate_dim", Value: "none"},
		{Name: "compute_dtype", Value: d.precision},
		{Name: "provider", Value: "native " + kernels.Profile()},
	}
	set := func(name, value string) {
		i := slices.IndexFunc(fields, func(f encode.Field) bool { return f.Name == name })
		fields[i].Value = value
	}
	steps := []string{}
	for _, step := range d.steps {
		switch {
		case step.dense != nil:
			steps = append(steps, fmt.Sprintf("dense %dx%d %s", step.dense.in, step.dense.out, step.dense.act))
		case s.normalize == nil || *s.normalize:
			steps = append(steps, "l2")
		}
	}
	if s.normalize != nil && *s.normalize {
		set("normalization", "l2")
	} else if s.normalize != nil {
		set("normalization", "none")
	}
	if m.options.TruncateDim > 0 {
		set("truncate_dim", strconv.Itoa(s.dim))
	}
	fields = append(fields, encode.Field{Name: "steps", Value: strings.Join(steps, ", ")})
	if d.prompt != "" {
		fields = append(fields, encode.Field{Name: "default_prompt", Value: d.prompt})
	}
	hashes, err := d.hashes(ctx)
	if err != nil {
		return encode.Spec{}, err
	}
	return encode.Spec{
		Engine:         "bert",
		OutputVersion:  outputVersion,
		Dim:            s.dim,
		Fields:         append(fields, hashes...),
		BatchInvariant: true,
	}, nil
}

// read reads the directory and applies the options to what it says.
func (m *model) read() (*directory, settings, error) {
	o := m.options
	if err := o.Validate(); err != nil {
		return nil, settings{}, err
	}
	d, err := readDirectory(filepath.Clean(o.Dir))
	if err != nil {
		return nil, settings{}, err
	}
	d.precision = cmp.Or(o.Precision, precisionFloat32)
	s := settings{maxLength: d.maxLength, pooling: d.pooling, normalize: o.Normalize}
	if o.MaxLength > 0 {
		if o.MaxLength > d.arch.maxTokens() {
			return nil, settings{}, fmt.Errorf("max_length: %d, the model has positions for %d tokens", o.MaxLength, d.arch.maxTokens())
		}
		s.maxLength = o.MaxLength
	}
	if o.Pooling != "" {
		if len(d.pooling) > 1 {
			return nil, settings{}, fmt.Errorf("pooling: the model's own, %s, is of another size", strings.Join(d.pooling, "+"))
		}
		s.pooling = []string{o.Pooling}
	}
	s.dim = d.arch.hidden * len(s.pooling)
	s.width = s.dim
	for _, step := range d.steps {
		if step.dense != nil {
			s.dim = step.dense.out
			s.width = max(s.width, s.dim)
		}
	}
	if o.TruncateDim > s.dim {
		return nil, settings{}, fmt.Errorf("truncate_dim: %d, an embedding has %d values", o.TruncateDim, s.dim)
	}
	if o.TruncateDim > 0 {
		s.dim = o.TruncateDim
	}
	return d, s, nil
}

// Open implements [encode.Model].
func (m *model) Open(ctx context.Context, _ int) (encode.Encoder, error) {
	enc, err := m.open(ctx)
	if err != nil {
		return nil, fmt.Errorf("model %s: %w", m.options.Dir, err)
	}
	return enc, nil
}

func (m *model) open(ctx context.Context) (*encoder, error) {
	d, s, err := m.read()
	if err != nil {
		return nil, err
	}
	net, release, err := shared.open(ctx, d)
	if err != nil {
		return nil, err
	}
	e := &encoder{settings: s, net: net, release: release}
	e.vec = [2][]float32{make([]float32, s.width), make([]float32, s.width)}
	return e, nil
}
