package onnx

import (
	"context"
	"errors"
	"fmt"

	"github.com/permafrost-ml/permafrost/encode"
)

// imageInput is how pictures become the graph's input.
type imageInput struct{}

func (s *setup) readImages() error {
	return fmt.Errorf("inputs %s: not those of a text model", list(s.graph.inputs))
}

func (e *encoder) encodeImages(ctx context.Context, batch []encode.Input, dst []float32) error {
	return errors.ErrUnsupported
}

func (e *encoder) setImages(pictures [][]byte) {}
