package static

import (
	"context"
	"fmt"
	"sync"

	"github.com/permafrost-ml/permafrost/encode"
	"github.com/permafrost-ml/permafrost/internal/wordpiece"
)

// Dim is the number of float32 values of an embedding.
const Dim = 256

// outputVersion is bumped when the code below gives other bits for the same
// artefact; the golden vectors of the tests notice.
const outputVersion = 1

// Default returns the embedded model. It reads the text of its input; several
// values are joined by a space. Its encoders share one table: 7.6 MB of the
// program itself and about 1 MB for the tokenizer, made at the first Open.
// An encoder allocates nothing in the steady state.
func Default() encode.Model { return model{} }

// shared is the embedded table, taken apart once per process.
var shared = sync.OnceValues(func() (*table, error) { return parse(artefact) })

// fingerprint is the digest of the embedded artefact, computed once per process.
var fingerprint = sync.OnceValue(func() string { return digest(artefact) })

type model struct{}

// Spec implements [encode.Model].
func (model) Spec(context.Context) (encode.Spec, error) {
	return encode.Spec{
		Engine:        "static",
		OutputVersion: outputVersion,
		Dim:           Dim,
		Fields: []encode.Field{
			{Name: "max_tokens", Value: "none"},
			{Name: "normalization", Value: "l2"},
			{Name: "pooling", Value: "weighted_mean"},
			{Name: "tokenizer", Value: wordpiece.Version},
			{Name: "weights", Value: "sha256:" + fingerprint()},
		},
		BatchInvariant: true,
	}, nil
}

// Open implements [encode.Model].
func (model) Open(context.Context, int) (encode.Encoder, error) {
	t, err := shared()
	if err != nil {
		return nil, fmt.Errorf("open the embedded static model: %w", err)
	}
	return &encoder{table: t}, nil
}

// encoder is one worker's view of the table with its own scratch memory.
type encoder struct {
	table *table
	ids   []int32
	sum   sum
}

// maxKeptIDs is how many ids of scratch memory outlive a call.
const maxKeptIDs = 1 << 20

// Dim implements [encode.Encoder].
func (e *encoder) Dim() int { return Dim }

// Encode implements [encode.Encoder].
func (e *encoder) Encode(ctx context.Context, batch []encode.Input, dst []float32) error {
	if len(dst) != len(batch)*Dim {
		return fmt.Errorf("encode %d texts: room for %d values, want %d", len(batch), len(dst), len(batch)*Dim)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	for i, in := range batch {
		if err := ctx.Err(); err != nil {
			return err
		}
		e.ids = e.table.tokens.Append(e.ids[:0], in.Text())
		e.table.embed(&e.sum, e.ids, (*[Dim]float32)(dst[i*Dim:]))
	}
	if cap(e.ids) > maxKeptIDs {
		e.ids = nil
	}
	return nil
}

// Close implements [encode.Encoder].
func (e *encoder) Close() error {
	e.ids = nil
	return nil
}
