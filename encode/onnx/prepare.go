package onnx

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/permafrost-ml/permafrost/encode"
	"github.com/permafrost-ml/permafrost/internal/kernels"
)

// OpenPreparer implements [encode.Preparing]: texts become the ids of their
// tokens, 4 bytes each, little endian; pictures become the values that the
// graph takes, as they lie in this machine's memory. It needs no library and
// opens no session.
func (m *model) OpenPreparer(ctx context.Context, _ int) (encode.Preparer, error) {
	s, err := m.described(ctx)
	if err != nil {
		return nil, fmt.Errorf("onnx model %s: %w", m.options.Path, err)
	}
	return &preparer{setup: s}, nil
}

// described returns what the files say; the output's shape may still be open.
func (m *model) described(ctx context.Context) (*setup, error) {
	if err := errors.Join(m.invalid, ctx.Err()); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.look(ctx)
}

// preparer tokenizes, or decodes pictures.
type preparer struct {
	*setup
	ids     []int32
	picture picture
}

// Prepare implements [encode.Preparer]; size is the number of tokens, 1 for a
// picture.
func (p *preparer) Prepare(dst []byte, in encode.Input) ([]byte, int, error) {
	if p.images != nil {
		from := len(dst)
		dst = slices.Grow(dst, p.pictureBytes())[:from+p.pictureBytes()]
		if err := p.picture.set(p.setup, dst[from:], in); err != nil {
			return dst[:from], 0, err
		}
		return dst, 1, nil
	}
	p.ids = p.tokens.Append(p.ids[:0], in.Text(), p.maxLength)
	for _, id := range p.ids {
		dst = binary.LittleEndian.AppendUint32(dst, uint32(id))
	}
	return dst, len(p.ids), nil
}

// Close implements [encode.Preparer].
func (p *preparer) Close() error { return nil }

// picture is scratch memory for one.
type picture struct {
	values []float32
	halves []uint16
}

// set writes the values of a picture's file, of the graph's type, to dst,
// which need not be aligned.
func (p *picture) set(s *setup, dst []byte, in encode.Input) error {
	if len(in) != 1 || in[0].Kind() != encode.BytesKind {
		return errors.New("an image model reads one field, the bytes of a picture's file")
	}
	height, width := s.images.Size()
	n := 3 * height * width
	if p.values == nil {
		p.values = make([]float32, n)
	}
	if err := s.images.Prepare(p.values, in[0].Bytes()); err != nil {
		return err
	}
	if s.inputs[0].elem == float32s {
		copy(dst, raw(p.values))
		return nil
	}
	if p.halves == nil {
		p.halves = make([]uint16, n)
	}
	kernels.ToFloat16(p.halves, p.values)
	copy(dst, raw(p.halves))
	return nil
}

// pictureBytes is the size of a prepared picture.
func (s *setup) pictureBytes() int {
	height, width := s.images.Size()
	return 3 * height * width * s.inputs[0].elem.size()
}

// batch is the inputs of a call, in either form.
type batch interface {
	len() int
	// appendText appends the ids of text i.
	appendText(ids []int32, i int) ([]int32, error)
	// setPicture writes the values of picture i to dst.
	setPicture(dst []byte, i int) error
}

// inputBatch has inputs as they come.
type inputBatch struct {
	e      *encoder
	inputs []encode.Input
}

func (b inputBatch) len() int { return len(b.inputs) }

func (b inputBatch) appendText(ids []int32, i int) ([]int32, error) {
	return b.e.tokens.Append(ids, b.inputs[i].Text(), b.e.maxLength), nil
}

func (b inputBatch) setPicture(dst []byte, i int) error {
	return b.e.picture.set(b.e.setup, dst, b.inputs[i])
}

// preparedBatch has what a preparer made of inputs.
type preparedBatch struct {
	e      *encoder
	inputs [][]byte
}

func (b preparedBatch) len() int { return len(b.inputs) }

func (b preparedBatch) appendText(ids []int32, i int) ([]int32, error) {
	p := b.inputs[i]
	if len(p)%4 != 0 || len(p) < 8 || len(p)/4 > b.e.maxLength {
		return ids, fmt.Errorf("input %d: %d bytes are no prepared text", i, len(p))
	}
	for ; len(p) > 0; p = p[4:] {
		id := binary.LittleEndian.Uint32(p)
		if last := b.e.tokens.Last(); id > uint32(last) {
			return ids, fmt.Errorf("input %d: a prepared text with the token %d, the last is %d", i, id, last)
		}
		ids = append(ids, int32(id))
	}
	return ids, nil
}

func (b preparedBatch) setPicture(dst []byte, i int) error {
	if len(b.inputs[i]) != len(dst) {
		return fmt.Errorf("input %d: %d bytes are no prepared picture, want %d", i, len(b.inputs[i]), len(dst))
	}
	copy(dst, b.inputs[i])
	return nil
}
