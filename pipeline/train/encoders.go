package train

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"slices"

	"gorgonia.org/tensor"

	"github.com/permafrost-ml/permafrost/pipeline/train/nn"
	"github.com/permafrost-ml/permafrost/pipeline/train/trainable"
)

// Part is one encoder of the data. Their outputs stand side by side before
// the head, in the order of the parts.
type Part struct {
	// Name is unique among the parts.
	Name string
	// Dim is the number of values of a batch's embeddings that are its, next
	// to those of the parts before; 0 for an encoder that reads texts, of which
	// a batch has one list each.
	Dim int
	// Encoder is trained on them. Default: nil, they are taken as they are.
	Encoder trainable.Config
}

// Encoders are the encoders that are trained with a head, and the frozen ones
// between them. They are not safe for concurrent use; what Freeze returns is.
type Encoders struct {
	parts []Part
	made  []trainable.Encoder // nil where the part is frozen
	in    int                 // values of the data
	out   int
}

// NewEncoders makes the encoders of parts, with first weights drawn from rng
// in their order.
func NewEncoders(parts []Part, rng *rand.Rand) (*Encoders, error) {
	e := &Encoders{parts: slices.Clone(parts)}
	for _, p := range parts {
		e.in += p.Dim
		if p.Encoder == nil {
			e.made, e.out = append(e.made, nil), e.out+p.Dim
			continue
		}
		if p.Encoder.ReadsTexts() != (p.Dim == 0) {
			return nil, fmt.Errorf("encoder %q of the type %s has %d values to read", p.Name, p.Encoder.Type(), p.Dim)
		}
		made, err := p.Encoder.New(p.Dim, rng)
		if err != nil {
			return nil, fmt.Errorf("encoder %q: %s: %w", p.Name, p.Encoder.Type(), err)
		}
		e.made, e.out = append(e.made, made), e.out+made.Dim()
	}
	return e, nil
}

// Dim is the number of values of all outputs together.
func (e *Encoders) Dim() int { return e.out }

// Parameters are those of all trained encoders; a name is the encoder's, a
// point and the parameter's.
func (e *Encoders) Parameters() []nn.Param {
	var out []nn.Param
	for i, made := range e.made {
		if made == nil {
			continue
		}
		for _, p := range made.Parameters() {
			p.Name = e.parts[i].Name + "." + p.Name
			out = append(out, p)
		}
	}
	return out
}

// Save writes the weights of all trained encoders as a safetensors file.
func (e *Encoders) Save(w io.Writer) error { return nn.SaveWeights(w, e.Parameters()) }

// LoadEncoders makes the encoders of parts with the weights that Save wrote.
// Weights that are missing, not of these encoders, of another shape or not
// finite are errors.
func LoadEncoders(r io.Reader, parts []Part) (*Encoders, error) {
	e, err := NewEncoders(parts, rand.New(rand.NewPCG(0, 0)))
	if err != nil {
		return nil, err
	}
	if err := nn.LoadWeights(r, "a set of trained encoders", fmt.Sprintf("for %d values", e.in), e.Parameters()); err != nil {
		return nil, err
	}
	return e, nil
}

// encodersPass is one use of encoders within a step.
type encodersPass struct {
	e      *Encoders
	passes []trainable.Pass
	cut    []nn.Buffer // what a part reads, and later the gradient of its output
	joined nn.Buffer
}

func (e *Encoders) newPass() *encodersPass {
	p := &encodersPass{e: e, passes: make([]trainable.Pass, len(e.parts)), cut: make([]nn.Buffer, 2*len(e.parts))}
	for i, made := range e.made {
		if made != nil {
			p.passes[i] = made.NewPass()
		}
	}
	return p
}

var errTexts = errors.New("a batch has no texts for an encoder that reads them")

// each calls fn for every part: with its input, which cut may copy, and the
// column of its output.
func (e *Encoders) each(x nn.Mat, texts [][]string, cut func(i, from, dim int) nn.Mat, fn func(i, column int, in trainable.Input) error) error {
	from, column, text := 0, 0, 0
	for i, p := range e.parts {
		var in trainable.Input
		if p.Dim == 0 {
			if text >= len(texts) || len(texts[text]) != x.Rows {
				return fmt.Errorf("encoder %q: %w", p.Name, errTexts)
			}
			in.Texts = texts[text]
			text++
		} else {
			in.Rows = cut(i, from, p.Dim)
		}
		if err := fn(i, column, in); err != nil {
			return fmt.Errorf("encoder %q: %w", p.Name, err)
		}
		from += p.Dim
		if e.made[i] == nil {
			column += p.Dim
		} else {
			column += e.made[i].Dim()
		}
	}
	return nil
}

// columns copies some columns of m to dst.
func columns(dst, m nn.Mat, from int) nn.Mat {
	for r := range m.Rows {
		copy(dst.Row(r), m.Row(r)[from:])
	}
	return dst
}

// place copies m to columns of dst.
func place(dst, m nn.Mat, at int) {
	for r := range m.Rows {
		copy(dst.Row(r)[at:], m.Row(r))
	}
}

// forward returns the outputs side by side, valid until the next forward.
func (p *encodersPass) forward(t *tensor.Dense, texts [][]string) (*tensor.Dense, error) {
	x, err := nn.ViewCols(t, p.e.in)
	if err != nil {
		return nil, err
	}
	out := p.joined.Mat(x.Rows, p.e.out)
	cut := func(i, from, dim int) nn.Mat { return columns(p.cut[2*i].Mat(x.Rows, dim), x, from) }
	err = p.e.each(x, texts, cut, func(i, column int, in trainable.Input) error {
		if p.passes[i] == nil {
			place(out, in.Rows, column)
			return nil
		}
		y, err := p.passes[i].Forward(in)
		if err == nil {
			place(out, y, column)
		}
		return err
	})
	return p.joined.Dense(), err
}

// backward takes the gradient of the last outputs.
func (p *encodersPass) backward(t *tensor.Dense) error {
	dy, err := nn.ViewCols(t, p.e.out)
	if err != nil {
		return err
	}
	column := 0
	for i, part := range p.e.parts {
		if p.passes[i] == nil {
			column += part.Dim
			continue
		}
		dim := p.e.made[i].Dim()
		if err := p.passes[i].Backward(columns(p.cut[2*i+1].Mat(dy.Rows, dim), dy, column)); err != nil {
			return fmt.Errorf("encoder %q: %w", part.Name, err)
		}
		column += dim
	}
	return nil
}

// FrozenEncoders are encoders for inference. They never change and are safe
// for concurrent use.
type FrozenEncoders struct {
	e      Encoders // its parts and sizes
	frozen []trainable.Frozen
}

// Freeze returns the encoders with the weights as they are now.
func (e *Encoders) Freeze() *FrozenEncoders {
	f := &FrozenEncoders{e: *e}
	for _, made := range e.made {
		if made == nil {
			f.frozen = append(f.frozen, nil)
		} else {
			f.frozen = append(f.frozen, made.Freeze())
		}
	}
	return f
}

// Dim is the number of values of all outputs together.
func (f *FrozenEncoders) Dim() int { return f.e.out }

// Apply writes the outputs for the embeddings x and the texts of encoders
// that read them, in their order, to dst. Row i has the same bits whatever
// the other rows are.
func (f *FrozenEncoders) Apply(dst nn.Mat, x nn.Mat, texts [][]string) error {
	if x.Cols != f.e.in || dst.Cols != f.e.out || dst.Rows != x.Rows {
		return fmt.Errorf("encoders of %d values to %d got [%d, %d] for [%d, %d]", f.e.in, f.e.out, x.Rows, x.Cols, dst.Rows, dst.Cols)
	}
	cut := func(_, from, dim int) nn.Mat {
		return columns(nn.Mat{Rows: x.Rows, Cols: dim, Data: make([]float32, x.Rows*dim)}, x, from)
	}
	return f.e.each(x, texts, cut, func(i, column int, in trainable.Input) error {
		if f.frozen[i] == nil {
			place(dst, in.Rows, column)
			return nil
		}
		y := nn.Mat{Rows: x.Rows, Cols: f.frozen[i].Dim(), Data: make([]float32, x.Rows*f.frozen[i].Dim())}
		err := f.frozen[i].Apply(y, in)
		place(dst, y, column)
		return err
	})
}

// Encoded returns data whose embeddings are the outputs of encoders; it is for
// [Evaluate] and [MeanLoss]. Nil encoders give data itself.
func Encoded(data Data, f *FrozenEncoders) Data {
	if f == nil {
		return data
	}
	return encoded{data, f}
}

type encoded struct {
	Data
	encoders *FrozenEncoders
}

func (d encoded) Dim() int { return d.encoders.Dim() }

func (d encoded) Epoch(ctx context.Context, epoch int, done int64) iter.Seq2[*Batch, error] {
	return d.encode(d.Data.Epoch(ctx, epoch, done))
}

func (d encoded) Scan(ctx context.Context) iter.Seq2[*Batch, error] {
	return d.encode(d.Data.Scan(ctx))
}

func (d encoded) encode(batches iter.Seq2[*Batch, error]) iter.Seq2[*Batch, error] {
	return func(yield func(*Batch, error) bool) {
		var a, b nn.Buffer
		side := func(buf *nn.Buffer, t *tensor.Dense, texts [][]string) (*tensor.Dense, error) {
			if t == nil {
				return nil, nil
			}
			x, err := nn.View(t)
			if err == nil {
				err = d.encoders.Apply(buf.Mat(x.Rows, d.Dim()), x, texts)
			}
			return buf.Dense(), err
		}
		for batch, err := range batches {
			if err != nil {
				yield(nil, err)
				return
			}
			out := *batch
			if out.A, err = side(&a, batch.A, batch.ATexts); err == nil {
				out.B, err = side(&b, batch.B, batch.BTexts)
			}
			if err != nil {
				yield(nil, err)
				return
			}
			if !yield(&out, nil) {
				return
			}
		}
	}
}
