package onnx

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/permafrost-ml/permafrost/encode"
	"github.com/permafrost-ml/permafrost/internal/imageprep"
)

// imageBytes bounds the prepared pictures of a run, and so its memory.
const imageBytes = 32 << 20

// readImages decides how pictures become the graph's one input.
func (s *setup) readImages(o Options) error {
	if len(s.graph.inputs) != 1 || len(s.graph.inputs[0].dims) != 4 || !s.graph.inputs[0].elem.float() {
		return fmt.Errorf("inputs %s: neither those of a text model (input_ids) nor one float input [batch, 3, height, width]", list(s.graph.inputs))
	}
	var raw json.RawMessage
	ok, err := s.files.config("preprocessor_config.json", &raw)
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("a graph of images needs preprocessor_config.json, which is not in %s", s.files.dir)
	}
	if s.images, err = imageprep.Parse(raw); err != nil {
		return fmt.Errorf("preprocessor_config.json: %w", err)
	}
	if o.MaxLength != 0 {
		return errors.New("max_length: pictures have no tokens")
	}
	in := s.graph.inputs[0]
	height, width := s.images.Size()
	for i, size := range []int{3, height, width} {
		if in.dims[i+1] >= 0 && in.dims[i+1] != int64(size) {
			return fmt.Errorf("input %v: preprocessor_config.json gives [3, %d, %d]", &in, height, width)
		}
	}
	s.inputs = []value{in}
	s.fields = append(s.fields, encode.Field{Name: "preprocess", Value: s.images.String()})
	return nil
}

func (e *encoder) encodeImages(ctx context.Context, batch batch, dst []float32) error {
	height, width := e.images.Size()
	n, most := batch.len(), e.rows(min(runRows, max(1, imageBytes/(4*3*height*width))))
	for from := 0; from < n; from += most {
		to := min(n, from+most)
		if err := e.runImages(ctx, batch, from, to, dst[from*e.dim:to*e.dim]); err != nil {
			return err
		}
	}
	return nil
}

// runImages encodes the pictures of a part of the batch in one run.
func (e *encoder) runImages(ctx context.Context, batch batch, from, to int, dst []float32) error {
	data, size := e.setImages(to-from), e.pictureBytes()
	for i := from; i < to; i++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		at := (i - from) * size
		if err := batch.setPicture(data[at:at+size], i); err != nil {
			return err
		}
	}
	clear(data[(to-from)*size:])
	values, row, err := e.compute(e.rows(to-from), 0)
	if err != nil {
		return fmt.Errorf("run of %d pictures: %w", to-from, err)
	}
	for i := range to - from {
		e.pool(dst[i*e.dim:(i+1)*e.dim], values[i*row:(i+1)*row], 0)
	}
	return nil
}

// setImages makes room for n pictures (one at least) as the input of a run.
func (e *encoder) setImages(n int) []byte {
	height, width := e.images.Size()
	return e.input(0, int64(e.rows(max(1, n))), 3, int64(height), int64(width))
}
