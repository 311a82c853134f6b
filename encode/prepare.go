package encode

import (
	"context"
	"fmt"

	"github.com/apache/arrow/go/v15/arrow"

	"github.com/permafrost-ml/permafrost/stage"
)

// Preparing is a Model whose encoders work in two steps, of which the first
// needs no encoder: texts become tokens, files become pixels. [Stage] runs
// that step on goroutines of its own, ahead of the encoders.
type Preparing interface {
	Model
	// OpenPreparer opens what one goroutine prepares inputs with.
	OpenPreparer(ctx context.Context, worker int) (Preparer, error)
}

// Preparer does the first step of a [Preparing] model's work. It need not be
// safe for concurrent use.
type Preparer interface {
	// Prepare appends the prepared form of an input to dst. size is what
	// inputs of one batch should have alike: tokens, say.
	Prepare(dst []byte, in Input) (out []byte, size int, err error)
	// Close frees what the preparer holds. It is called once.
	Close() error
}

// PreparedEncoder is the Encoder of a [Preparing] model.
type PreparedEncoder interface {
	Encoder
	// EncodePrepared is Encode for inputs in their prepared form, which are
	// only valid during the call. It gives the same bits.
	EncodePrepared(ctx context.Context, batch [][]byte, dst []float32) error
}

// prepareStage parses and, for a [Preparing] model, prepares the inputs of
// object batches.
func prepareStage(g *stage.Group, in stage.Stream[arrow.Record], name string, m Model, workers int) stage.Stream[*inputBatch] {
	p, ok := m.(Preparing)
	if !ok {
		return stage.Map(g, in, "objects of "+name, 1, func(_ context.Context, rec arrow.Record) (*inputBatch, error) {
			return newInputBatch(rec)
		})
	}
	return stage.OrderedWorkers(g, in, "prepare "+name, workers, p.OpenPreparer,
		func(ctx context.Context, p Preparer, rec arrow.Record) (*inputBatch, error) {
			b, err := newInputBatch(rec)
			if err != nil {
				return nil, err
			}
			done := false
			defer func() {
				if !done { // it failed or panicked
					b.Release()
				}
			}()
			if err := b.prepare(ctx, p); err != nil {
				return nil, err
			}
			done = true
			return b, nil
		}, Preparer.Close)
}

// prepare fills in the prepared forms of a batch's inputs.
func (b *inputBatch) prepare(ctx context.Context, p Preparer) error {
	var all []byte
	ends := make([]int, len(b.inputs))
	for i, in := range b.inputs {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		out, size, err := p.Prepare(all, in)
		if err != nil {
			return fmt.Errorf("prepare %q: %w", cut(in.Text()), err)
		}
		all, ends[i], b.sizes[i] = out, len(out), size
	}
	b.prepared = make([][]byte, len(ends))
	begin := 0
	for i, end := range ends {
		b.prepared[i] = all[begin:end:end]
		begin = end
	}
	return nil
}
