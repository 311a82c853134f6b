package onnx

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/permafrost-ml/permafrost/encode"
	"github.com/permafrost-ml/permafrost/internal/imageprep"
	"github.com/permafrost-ml/permafrost/internal/tokenizer"
)

// setup is a model as its files and options make it: what an encoder needs
// beside a session. What preparers use of it is immutable, and all of it once
// it is finished.
type setup struct {
	files
	graph  graph
	inputs []value // in the order in which a run gives them
	output value

	tokens    *tokenizer.Tokenizer // nil for images
	maxLength int
	images    *imageprep.Recipe // nil for texts

	pooling string
	steps   normalize
	dim     int // of an embedding
	fields  []encode.Field

	finished bool
}

// normalize says when an embedding gets length 1: with all its values, before
// they are truncated, or as the last step.
type normalize struct{ whole, last bool }

// read reads the files and decides all but what depends on the output's shape.
func (o Options) read(ctx context.Context) (*setup, error) {
	s := &setup{}
	if err := s.files.locate(o.Path); err != nil {
		return nil, err
	}
	var err error
	if s.graph, err = s.files.readGraph(); err != nil {
		return nil, err
	}
	if s.output, err = o.chooseOutput(s.graph.outputs); err != nil {
		return nil, err
	}
	if find(s.graph.inputs, "input_ids") != nil {
		err = s.readText(o)
	} else {
		err = s.readImages(o)
	}
	if err != nil {
		return nil, err
	}
	weights, err := s.files.digest(ctx, s.graph.files)
	if err != nil {
		return nil, err
	}
	s.fields = append(s.fields,
		encode.Field{Name: "output", Value: s.output.name},
		encode.Field{Name: "weights", Value: "sha256:" + weights})
	return s, nil
}

// outputNames are the outputs taken by themselves, the best first.
var outputNames = []string{"sentence_embedding", "image_embeds", "text_embeds", "embedding", "last_hidden_state"}

func (o Options) chooseOutput(outputs []value) (value, error) {
	if len(outputs) == 0 {
		return value{}, errors.New("the graph has no output")
	}
	v := find(outputs, o.Output)
	if o.Output != "" && v == nil {
		return value{}, fmt.Errorf("the graph has no output %q, only %s", o.Output, list(outputs))
	}
	for _, name := range outputNames {
		if v == nil {
			v = find(outputs, name)
		}
	}
	v = cmp.Or(v, &outputs[0])
	if !v.elem.float() {
		return value{}, fmt.Errorf("output %v: only float32 and float16 can be taken", v)
	}
	return *v, nil
}

// open reports whether a size of the output is not known that a run's room
// depends on.
func (v *value) open() bool {
	switch len(v.dims) {
	case 2:
		return v.dims[1] < 0
	case 3: // [batch, tokens, dim]; the tokens are the sequence, or a picture's
		return v.dims[2] < 0
	case 4:
		return v.dims[1] < 0 || v.dims[2] < 0 || v.dims[3] < 0
	}
	return true
}

// readText decides how texts become the graph's inputs.
func (s *setup) readText(o Options) error {
	for _, name := range []string{"input_ids", "attention_mask", "token_type_ids"} {
		if v := find(s.graph.inputs, name); v != nil {
			if (v.elem != int64s && v.elem != int32s) || len(v.dims) != 2 {
				return fmt.Errorf("input %v: want int64 or int32 [batch, sequence]", v)
			}
			s.inputs = append(s.inputs, *v)
		}
	}
	if len(s.inputs) != len(s.graph.inputs) {
		return fmt.Errorf("inputs %s: only input_ids, attention_mask and token_type_ids are known", list(s.graph.inputs))
	}
	var err error
	if s.tokens, err = tokenizer.Find(s.files.dir); err != nil {
		return err
	}
	limits, err := s.files.limits()
	if err != nil {
		return err
	}
	if limits.vocabulary > 0 && int(s.tokens.Last()) >= limits.vocabulary {
		return fmt.Errorf("the tokenizer has the id %d, the model %d tokens", s.tokens.Last(), limits.vocabulary)
	}
	if limits.lower && !s.tokens.Lowers() {
		return errors.New("do_lower_case before a tokenizer that keeps case is not supported")
	}
	s.maxLength = cmp.Or(o.MaxLength, limits.length)
	most := cmp.Or(limits.positions, s.maxLength)
	if fixed := s.inputs[0].dims[1]; fixed >= 0 {
		most = int(fixed)
	}
	if o.MaxLength > most {
		return fmt.Errorf("max_length: %d is above the %d tokens that the model takes", o.MaxLength, most)
	}
	if s.maxLength = min(s.maxLength, most); s.maxLength < 3 {
		return fmt.Errorf("the model takes %d tokens, too few for a text", s.maxLength)
	}
	s.fields = append(s.fields,
		encode.Field{Name: "max_tokens", Value: fmt.Sprint(s.maxLength)},
		encode.Field{Name: "tokenizer", Value: "sha256:" + s.tokens.Digest()})
	return nil
}

// modelDim is the number of values that the model has for an embedding.
func (s *setup) modelDim() int {
	if len(s.output.dims) == 4 {
		return int(s.output.dims[1])
	}
	return int(s.output.dims[len(s.output.dims)-1])
}

// finish decides pooling, normalization and dimension, which hang on the
// shape of the output.
func (s *setup) finish(o Options) error {
	rank := len(s.output.dims)
	if rank < 2 || rank > 4 || rank == 4 && s.images == nil {
		return fmt.Errorf("output %v: no embeddings can be made of that shape", &s.output)
	}
	dim := s.modelDim()
	if dim < 1 {
		return fmt.Errorf("output %v: no dimension", &s.output)
	}
	said, err := s.files.modules()
	if err != nil {
		return err
	}
	s.pooling = o.Pooling
	if rank == 2 {
		s.pooling = cmp.Or(s.pooling, "none")
		if s.pooling != "none" {
			return fmt.Errorf("pooling: %s, but output %v is pooled already", s.pooling, &s.output)
		}
	} else {
		if s.pooling == "" {
			if said.unknown != "" {
				return fmt.Errorf("the directory's module %s is not applied here: export the model with it, or set pooling", said.unknown)
			}
			s.pooling, s.steps.whole = said.pooling, said.normalize
		}
		known := []string{"mean", "max", "cls"}[:min(3, 6-rank)]
		if !slices.Contains(known, s.pooling) {
			return fmt.Errorf("pooling: output %v needs one of %q, not %q", &s.output, known, s.pooling)
		}
	}
	if o.Normalize != nil {
		s.steps = normalize{last: *o.Normalize}
	}
	s.dim = cmp.Or(o.TruncateDim, dim)
	if s.dim > dim {
		return fmt.Errorf("truncate_dim: %d is more than the %d values that the model gives", s.dim, dim)
	}
	norm := "none"
	switch {
	case s.steps.last || s.steps.whole && s.dim == dim:
		s.steps, norm = normalize{last: true}, "l2"
	case s.steps.whole:
		norm = "l2 of all values"
	}
	s.fields = append(s.fields,
		encode.Field{Name: "pooling", Value: s.pooling},
		encode.Field{Name: "normalization", Value: norm},
		encode.Field{Name: "model_dim", Value: fmt.Sprint(dim)})
	s.finished = true
	return nil
}
