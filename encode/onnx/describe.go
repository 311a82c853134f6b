package onnx

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/permafrost-ml/permafrost/encode"
)

// Output is how a model's embeddings come out of its graph, for programs that
// extend the graph: the output of that name, pooled, normalized and cut as the
// fields say, in their order.
type Output struct {
	// File is the graph's file, Files are those of weights in its folder.
	File  string
	Files []string
	// Name is that of the graph's output and Shape its shape; sizes that are
	// open are -1. Symbol is the name of the size of a batch, if it has one.
	Name    string
	Shape   []int64
	Symbol  string
	Float16 bool // else float32
	// Pooling makes a row of the output of a vector for each token [batch,
	// tokens, dim], or for each place of a picture [batch, dim, height,
	// width]: "mean", "cls" or "max"; "none" where it is one already.
	Pooling string
	// Mask is the input [batch, tokens] that is 0 for tokens that do not
	// count in Pooling; none where all do.
	Mask string
	// NormalizeAll scales to length 1 before Dim values are kept, Normalize
	// after that.
	NormalizeAll, Normalize bool
	Dim                     int
}

// OutputOf describes the output of a model of this package.
func OutputOf(ctx context.Context, of encode.Model) (Output, error) {
	m, ok := encode.Unwrap(of).(*model)
	if !ok {
		return Output{}, errors.New("the encoder is none of the engine onnx")
	}
	s, _, err := m.ready(ctx)
	if err != nil {
		return Output{}, fmt.Errorf("onnx model %s: %w", m.options.Path, err)
	}
	o := Output{
		File: s.files.graphFile, Files: slices.Clone(s.graph.files), Name: s.output.name, Shape: slices.Clone(s.output.dims),
		Symbol: s.inputs[0].symbols[0], Float16: s.output.elem == float16s, Pooling: s.pooling,
		NormalizeAll: s.steps.whole, Normalize: s.steps.last, Dim: s.dim,
	}
	o.Shape[0] = s.inputs[0].dims[0] // that of an output with open sizes is learned for a batch of one
	if s.images == nil && find(s.inputs, "attention_mask") != nil {
		o.Mask = "attention_mask"
	}
	return o, nil
}
