package onnx

import (
	"context"
	"fmt"

	"github.com/permafrost-ml/permafrost/encode"
	"github.com/permafrost-ml/permafrost/internal/kernels"
)

// session is an opened graph, used by one goroutine at a time.
type session interface {
	// run computes the output that out has room for.
	run(inputs []tensor, out tensor) error
	// shape runs and returns the output's shape.
	shape(inputs []tensor) ([]int64, error)
	// watch makes runs end early, with an error, when ctx ends; stop must be
	// called after them.
	watch(ctx context.Context) (stop func())
	close() error
}

// encoder implements [encode.Encoder] over a session of its own.
type encoder struct {
	*setup
	session session

	inputs  []tensor
	slabs   []slab // of the inputs
	out     slab
	wide    []float32 // of a float16 output
	picture picture
	whole   []float32 // an embedding before it is truncated
	ids     []int32   // of the texts of a batch, one after the other
	ends    []int
	packing packing
	shape   []int64 // of the output
}

func newEncoder(s *setup, run session) *encoder {
	return &encoder{setup: s, session: run, inputs: make([]tensor, len(s.inputs)), slabs: make([]slab, len(s.inputs))}
}

// Dim implements [encode.Encoder].
func (e *encoder) Dim() int { return e.dim }

// Encode implements [encode.Encoder].
func (e *encoder) Encode(ctx context.Context, batch []encode.Input, dst []float32) error {
	return e.encode(ctx, inputBatch{e, batch}, dst)
}

// EncodePrepared implements [encode.PreparedEncoder].
func (e *encoder) EncodePrepared(ctx context.Context, batch [][]byte, dst []float32) error {
	return e.encode(ctx, preparedBatch{e, batch}, dst)
}

func (e *encoder) encode(ctx context.Context, batch batch, dst []float32) error {
	if n := batch.len(); len(dst) != n*e.dim {
		return fmt.Errorf("encode %d inputs: room for %d values, want %d", n, len(dst), n*e.dim)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	stop := e.session.watch(ctx)
	defer stop()
	var err error
	if e.images != nil {
		err = e.encodeImages(ctx, batch, dst)
	} else {
		err = e.encodeTexts(ctx, batch, dst)
	}
	if ctx.Err() != nil {
		return ctx.Err() // and not what a run that was ended says
	}
	return err
}

// Close implements [encode.Encoder].
func (e *encoder) Close() error {
	e.slabs, e.out, e.wide, e.picture, e.ids = nil, slab{}, nil, picture{}, nil
	return e.session.close()
}

// rows is how many rows a run has for n inputs: as many as the graph wants,
// if it says.
func (s *setup) rows(n int) int {
	if fixed := s.inputs[0].dims[0]; fixed > 0 {
		return int(fixed)
	}
	return n
}

// input makes room for input i of a run.
func (e *encoder) input(i int, shape ...int64) []byte {
	t := &e.inputs[i]
	t.elem, t.shape = e.setup.inputs[i].elem, append(t.shape[:0], shape...)
	t.data = e.slabs[i].room(count(shape) * t.elem.size())
	return t.data
}

// compute runs the graph on the inputs and returns the values of its output,
// and how many of them a row has.
func (e *encoder) compute(rows, length int) (values []float32, row int, err error) {
	shape := append(e.shape[:0], e.output.dims...)
	shape[0] = int64(rows)
	if len(shape) == 3 && e.images == nil {
		shape[1] = int64(length)
	}
	e.shape = shape
	n := count(shape)
	out := tensor{e.output.elem, shape, e.out.room(n * e.output.elem.size())}
	if err := e.session.run(e.inputs, out); err != nil {
		return nil, 0, err
	}
	if e.output.elem == float32s {
		return view[float32](out.data), n / rows, nil
	}
	if cap(e.wide) < n {
		e.wide = make([]float32, n)
	}
	kernels.FromFloat16(e.wide[:n], view[uint16](out.data))
	return e.wide[:n], n / rows, nil
}
