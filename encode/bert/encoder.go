package bert

import (
	"context"
	"fmt"

	"github.com/permafrost-ml/permafrost/encode"
)

// settings are the effective options of an encoder.
type settings struct {
	maxLength int
	pooling   []string
	normalize *bool
	dim       int // of the result
	width     int // of the widest vector behind the layers
}

// encoder is one worker's view of a network, with its own memory.
type encoder struct {
	settings
	net     *network
	release func()

	ids     []int32 // of a batch's texts, end to end
	sizes   []int   // of the texts
	ends    []int   // of those of a pass
	scratch scratch
	vec     [2][]float32
}

// Dim implements [encode.Encoder].
func (e *encoder) Dim() int { return e.dim }

// Encode implements [encode.Encoder]. It reads the text of its inputs;
// several values are joined by a space.
func (e *encoder) Encode(ctx context.Context, batch []encode.Input, dst []float32) error {
	return e.encode(ctx, len(batch), dst, func(ids []int32, i int) ([]int32, error) {
		return e.net.appendText(ids, batch[i], e.maxLength), nil
	})
}

// EncodePrepared implements [encode.PreparedEncoder].
func (e *encoder) EncodePrepared(ctx context.Context, batch [][]byte, dst []float32) error {
	return e.encode(ctx, len(batch), dst, func(ids []int32, i int) ([]int32, error) {
		return e.net.appendPrepared(ids, batch[i])
	})
}

// encode encodes n texts, of which next appends the ids.
func (e *encoder) encode(ctx context.Context, n int, dst []float32, next func(ids []int32, i int) ([]int32, error)) (err error) {
	if len(dst) != n*e.dim {
		return fmt.Errorf("encode %d texts: room for %d values, want %d", n, len(dst), n*e.dim)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	e.ids, e.sizes, e.ends = e.ids[:0], e.sizes[:0], e.ends[:0]
	for i := range n {
		from := len(e.ids)
		if e.ids, err = next(e.ids, i); err != nil {
			return fmt.Errorf("text %d: %w", i, err)
		}
		e.sizes = append(e.sizes, len(e.ids)-from)
	}
	// A pass takes texts as long as they fit, but no more than an even share:
	// a small last one would read the weights for few tokens.
	passes := (len(e.ids) + passTokens - 1) / passTokens
	done, at, tokens := 0, 0, 0
	for i, size := range e.sizes {
		tokens += size
		e.ends = append(e.ends, tokens)
		if i+1 < n && tokens+e.sizes[i+1] <= passTokens && tokens*passes < len(e.ids) {
			continue
		}
		if err := e.pass(ctx, e.ids[at:at+tokens], e.ends, dst[done*e.dim:(i+1)*e.dim]); err != nil {
			return err
		}
		done, at, tokens, e.ends = i+1, at+tokens, 0, e.ends[:0]
	}
	return nil
}

// pass encodes the texts whose ids lie end to end.
func (e *encoder) pass(ctx context.Context, ids []int32, ends []int, dst []float32) error {
	if err := e.net.forward(ctx, &e.scratch, ids, ends); err != nil {
		return err
	}
	h, start := e.net.arch.hidden, 0
	for i, end := range ends {
		e.finish(dst[i*e.dim:(i+1)*e.dim], e.scratch.x[start*h:end*h])
		start = end
	}
	return nil
}

// finish makes a text's embedding of its tokens' rows.
func (e *encoder) finish(dst, rows []float32) {
	h := e.net.arch.hidden
	a, b := e.vec[0], e.vec[1]
	x := a[:h*len(e.pooling)]
	for i, mode := range e.pooling {
		pool(mode, x[i*h:(i+1)*h], rows)
	}
	maps := e.net.dense
	for _, s := range e.net.steps {
		if s.dense == nil {
			if e.normalize == nil || *e.normalize {
				normalize(x)
			}
			continue
		}
		y := b[:s.dense.out]
		maps[0].apply(y, x, 1)
		s.dense.act.apply(y, e.scratch.spare)
		maps = maps[1:]
		a, b, x = b, a, y
	}
	copy(dst, x)
	if e.normalize != nil && *e.normalize {
		normalize(dst)
	}
}

// Close implements [encode.Encoder].
func (e *encoder) Close() error {
	e.ids, e.scratch = nil, scratch{}
	e.release()
	return nil
}
