package encode

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Switch returns the model of several encoders of one dimension, of which each
// object's field by chooses one: its text is the name of an option. An option
// reads what [Reading] declared for it, else the field "text". The choice is a
// part of the object's input and so of its id; [Samples] stores it as a
// column. An object whose field names no option is a sample that cannot be
// taken.
//
// The fingerprint has the names of all options and all that they declare; the
// switch is batch-invariant if they all are. An encoder opens the encoder of
// an option when the first object is of it.
func Switch(by string, options map[string]Model) Model {
	m := &switchModel{by: by, names: slices.Sorted(maps.Keys(options))}
	reads := Reads{By: by, Options: map[string]Reads{}}
	prepares := false
	for _, name := range m.names {
		m.options = append(m.options, Unwrap(options[name]))
		m.reads = append(m.reads, ReadsOf(options[name]))
		reads.Options[name] = ReadsOf(options[name])
		_, ok := Unwrap(options[name]).(Preparing)
		prepares = prepares || ok
	}
	if prepares {
		return Reading(preparingSwitch{m}, reads)
	}
	return Reading(m, reads)
}

// SwitchEngine is the engine of the models that [Switch] makes.
const SwitchEngine = "switch"

type switchModel struct {
	by      string
	names   []string // of the options, sorted
	options []Model
	reads   []Reads
}

// find returns the number of an option.
func (m *switchModel) find(name string) (int, error) {
	i, ok := slices.BinarySearch(m.names, name)
	if !ok {
		return 0, unknownOption(name, m.names)
	}
	return i, nil
}

func unknownOption(name string, names []string) error {
	return fmt.Errorf("%q is none of the options %s", cut(name), strings.Join(names, ", "))
}

// Spec implements [Model].
func (m *switchModel) Spec(ctx context.Context) (Spec, error) {
	s := Spec{Engine: SwitchEngine, BatchInvariant: true}
	if len(m.options) == 0 {
		return s, errors.New("a switch without options")
	}
	var dims []string
	same := true
	for i, option := range m.options {
		if option == nil {
			return s, fmt.Errorf("option %q has no model", m.names[i])
		}
		spec, err := option.Spec(ctx)
		if err != nil {
			return s, fmt.Errorf("option %q: %w", m.names[i], err)
		}
		if !spec.BatchInvariant {
			s.BatchInvariant = false
			spec.BatchInvariant = true // the switch's own batch size stands for it
		}
		fields, err := spec.Declared(0)
		if err != nil {
			return s, fmt.Errorf("option %q: %w", m.names[i], err)
		}
		for _, f := range fields {
			s.Fields = append(s.Fields, Field{fmt.Sprintf("option %q %s", m.names[i], f.Name), f.Value})
		}
		dims = append(dims, fmt.Sprintf("%s has %d", m.names[i], spec.Dim))
		same = same && (i == 0 || spec.Dim == s.Dim)
		s.Dim = spec.Dim
	}
	if !same {
		return s, fmt.Errorf("the options of a switch must have one dimension: %s", strings.Join(dims, ", "))
	}
	return s, nil
}

// Options implements [Configured]: each option's are its engine's, with its
// type and what it reads.
func (m *switchModel) Options() any {
	options := map[string]any{}
	for i, option := range m.options {
		o := map[string]any{}
		if c, ok := option.(Configured); ok {
			// Through JSON, because an engine's options may be any struct.
			if text, err := json.Marshal(c.Options()); err == nil {
				_ = json.Unmarshal(text, &o) // then the engine misses them
			}
		}
		// A run asked for the spec before; an error leaves no type, which is
		// what opening the output then reports.
		if spec, err := option.Spec(context.Background()); err == nil {
			o["type"] = spec.Engine
		}
		r := m.reads[i]
		if r.Field != "" {
			o["input"] = r.Field
		}
		if len(r.Fields) > 0 {
			o["fields"] = r.Fields
		}
		if r.Template != "" {
			o["template"] = r.Template
		}
		options[m.names[i]] = o
	}
	return map[string]any{"by": m.by, "options": options}
}

// Open implements [Model].
func (m *switchModel) Open(ctx context.Context, worker int) (Encoder, error) {
	spec, err := m.Spec(ctx)
	if err != nil {
		return nil, err
	}
	return &switchEncoder{model: m, worker: worker, dim: spec.Dim, opened: make([]Encoder, len(m.options))}, nil
}

// switchEncoder has the encoders of the options that were met so far.
type switchEncoder struct {
	model  *switchModel
	worker int
	dim    int
	opened []Encoder
	// What one batch needs, kept for the next.
	rows     [][]int // of each option
	inputs   []Input
	prepared [][]byte
	vecs     []float32
}

// Dim implements [Encoder].
func (e *switchEncoder) Dim() int { return e.dim }

// Encode implements [Encoder].
func (e *switchEncoder) Encode(ctx context.Context, batch []Input, dst []float32) error {
	option := func(i int) (int, error) {
		if len(batch[i]) == 0 {
			return 0, errors.New("an input without an option")
		}
		return e.model.find(batch[i][0].Text())
	}
	return e.each(ctx, len(batch), dst, option, func(enc Encoder, _ int, rows []int, dst []float32) error {
		e.inputs = e.inputs[:0]
		for _, i := range rows {
			e.inputs = append(e.inputs, batch[i][1:])
		}
		return enc.Encode(ctx, e.inputs, dst)
	})
}

// each calls encode for the rows of every option that there are rows of, and
// puts the embeddings where they belong.
func (e *switchEncoder) each(ctx context.Context, n int, dst []float32, optionOf func(i int) (int, error), encode func(enc Encoder, option int, rows []int, dst []float32) error) error {
	if len(dst) != n*e.dim {
		return fmt.Errorf("encode %d objects: room for %d values, want %d", n, len(dst), n*e.dim)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if e.rows == nil {
		e.rows = make([][]int, len(e.opened))
	}
	for k := range e.rows {
		e.rows[k] = e.rows[k][:0]
	}
	for i := range n {
		k, err := optionOf(i)
		if err != nil {
			return err
		}
		e.rows[k] = append(e.rows[k], i)
	}
	for k, rows := range e.rows {
		if len(rows) == 0 {
			continue
		}
		enc, err := e.open(ctx, k)
		if err != nil {
			return err
		}
		vecs := dst
		if len(rows) < n {
			e.vecs = slices.Grow(e.vecs[:0], len(rows)*e.dim)[:len(rows)*e.dim]
			vecs = e.vecs
		}
		if err := encode(enc, k, rows, vecs); err != nil {
			return fmt.Errorf("option %q: %w", e.model.names[k], err)
		}
		if len(rows) < n {
			for i, row := range rows {
				copy(dst[row*e.dim:(row+1)*e.dim], vecs[i*e.dim:(i+1)*e.dim])
			}
		}
	}
	return nil
}

// open returns the encoder of an option.
func (e *switchEncoder) open(ctx context.Context, k int) (Encoder, error) {
	if e.opened[k] == nil {
		enc, err := e.model.options[k].Open(ctx, e.worker)
		if err == nil && enc.Dim() != e.dim {
			err = errors.Join(fmt.Errorf("%w: %d, not %d", ErrDim, enc.Dim(), e.dim), enc.Close())
		}
		if err != nil {
			return nil, fmt.Errorf("open option %q: %w", e.model.names[k], err)
		}
		e.opened[k] = enc
	}
	return e.opened[k], nil
}

// Close implements [Encoder].
func (e *switchEncoder) Close() error {
	var errs []error
	for k, enc := range e.opened {
		if enc != nil {
			if err := enc.Close(); err != nil {
				errs = append(errs, fmt.Errorf("close option %q: %w", e.model.names[k], err))
			}
		}
	}
	clear(e.opened)
	return errors.Join(errs...)
}

// preparingSwitch is a switch of which an option prepares its inputs. A
// prepared input is the number of its option, and the option's own form: what
// its preparer made, or the canonical input where it has none.
type preparingSwitch struct{ *switchModel }

// Open implements [Model].
func (m preparingSwitch) Open(ctx context.Context, worker int) (Encoder, error) {
	enc, err := m.switchModel.Open(ctx, worker)
	if err != nil {
		return nil, err
	}
	return preparedSwitch{enc.(*switchEncoder)}, nil
}

// OpenPreparer implements [Preparing].
func (m preparingSwitch) OpenPreparer(ctx context.Context, worker int) (Preparer, error) {
	p := &switchPreparer{model: m.switchModel, opened: make([]Preparer, len(m.options))}
	for k, option := range m.options {
		prepares, ok := option.(Preparing)
		if !ok {
			continue
		}
		var err error
		if p.opened[k], err = prepares.OpenPreparer(ctx, worker); err != nil {
			p.opened[k] = nil
			return nil, errors.Join(fmt.Errorf("option %q: %w", m.names[k], err), p.Close())
		}
	}
	return p, nil
}

type switchPreparer struct {
	model  *switchModel
	opened []Preparer // of each option, nil for those that do not prepare
}

// Sizes of prepared inputs: those of one option are together, since they are
// encoded together.
const switchSizes = 1 << 24

// Prepare implements [Preparer].
func (p *switchPreparer) Prepare(dst []byte, in Input) ([]byte, int, error) {
	if len(in) == 0 {
		return dst, 0, errors.New("an input without an option")
	}
	k, err := p.model.find(in[0].Text())
	if err != nil {
		return dst, 0, err
	}
	dst = binary.AppendUvarint(dst, uint64(k))
	before := len(dst)
	if p.opened[k] == nil {
		dst = AppendInput(dst, in[1:])
		return dst, switchSize(k, len(dst)-before), nil
	}
	dst, size, err := p.opened[k].Prepare(dst, in[1:])
	if err != nil {
		return dst, 0, fmt.Errorf("option %q: %w", p.model.names[k], err)
	}
	return dst, switchSize(k, size), nil
}

func switchSize(option, size int) int { return option*switchSizes + min(size, switchSizes-1) }

// Close implements [Preparer].
func (p *switchPreparer) Close() error {
	var errs []error
	for _, o := range p.opened {
		if o != nil {
			errs = append(errs, o.Close())
		}
	}
	return errors.Join(errs...)
}

type preparedSwitch struct{ *switchEncoder }

var errPrepared = errors.New("malformed prepared input")

// EncodePrepared implements [PreparedEncoder].
func (e preparedSwitch) EncodePrepared(ctx context.Context, batch [][]byte, dst []float32) error {
	option := func(i int) (int, error) {
		k, n := binary.Uvarint(batch[i])
		if n <= 0 || k >= uint64(len(e.opened)) {
			return 0, errPrepared
		}
		return int(k), nil
	}
	return e.each(ctx, len(batch), dst, option, func(enc Encoder, k int, rows []int, dst []float32) error {
		if _, ok := e.model.options[k].(Preparing); ok {
			p, ok := enc.(PreparedEncoder)
			if !ok {
				return errors.New("its encoder takes no prepared inputs, though its model prepares them")
			}
			e.prepared = e.prepared[:0]
			for _, i := range rows {
				e.prepared = append(e.prepared, payload(batch[i]))
			}
			return p.EncodePrepared(ctx, e.prepared, dst)
		}
		e.inputs = e.inputs[:0]
		for _, i := range rows {
			in, err := ParseInput(payload(batch[i]))
			if err != nil {
				return err
			}
			e.inputs = append(e.inputs, in)
		}
		return enc.Encode(ctx, e.inputs, dst)
	})
}

// payload is a prepared input behind the number of its option.
func payload(b []byte) []byte {
	_, n := binary.Uvarint(b)
	return b[n:]
}
