package pipeline

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/permafrost-ml/permafrost/encode"
	"github.com/permafrost-ml/permafrost/pipeline/head"
)

// Trained is the trained head of an output folder, with what the folder says
// of the encoders below it. Nothing of them is opened.
type Trained struct {
	// Type is the head's type.
	Type string
	Head head.Head
	// Encoders are in the order of their names: the head's input is their
	// embeddings side by side.
	Encoders []TrainedEncoder
}

// TrainedEncoder is an encoder that a head was trained on.
type TrainedEncoder struct {
	Name string
	Type string // of the engine, such as "bert"
	Dim  int
	said outputEncoder
}

// LoadHead reads the trained head of an output folder; [ErrEncoder] where an
// encoder was trained with it.
func LoadHead(dir string) (*Trained, error) {
	t, err := loadTrained(dir)
	if err != nil {
		return nil, fmt.Errorf("load %s: %w", dir, err)
	}
	return t, nil
}

func loadTrained(dir string) (*Trained, error) {
	doc, err := readOutput(dir)
	if err != nil {
		return nil, err
	}
	t := &Trained{Type: doc.Head.Type}
	dim := 0
	for _, e := range doc.Encoders {
		if e.Trained != nil {
			return nil, fmt.Errorf("%w: %q was trained with the head, which is nothing without it", ErrEncoder, e.Name)
		}
		dim += e.Dim
		t.Encoders = append(t.Encoders, TrainedEncoder{Name: e.Name, Type: e.Type, Dim: e.Dim, said: e})
	}
	t.Head, err = doc.loadHead(dir, dim)
	return t, err
}

// loadHead reads the trained head of an output folder, for inputs of dim
// values.
func (doc *outputDoc) loadHead(dir string, dim int) (head.Head, error) {
	hc, err := parsed(doc.Head, head.Parse)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(filepath.Join(dir, outputHead))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	h, err := head.Load(f, hc, dim)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", outputHead, err)
	}
	return h, nil
}

// Model makes the encoder's model from what the folder says, as it was
// trained on; [ErrEncoder] where there is no such model any more.
func (e TrainedEncoder) Model(ctx context.Context) (encode.Model, error) {
	m, err := e.said.model(nil)
	if err != nil {
		return nil, err
	}
	return m, e.Check(ctx, m)
}

// Options are those that make the encoder's model again, as its engine
// declares them: a bert.Options, say.
func (e TrainedEncoder) Options() (any, error) {
	m, err := e.said.model(nil)
	if err != nil {
		return nil, err
	}
	c, ok := m.(encode.Configured)
	if !ok {
		return nil, fmt.Errorf("%w: %q has no options", ErrEncoder, e.Name)
	}
	return c.Options(), nil
}

// Check reports whether a model gives the embeddings that the head was
// trained on: [ErrEncoder] where its fingerprint is another.
func (e TrainedEncoder) Check(ctx context.Context, m encode.Model) error {
	if _, err := sameEncoder(ctx, m, e.said); err != nil {
		return fmt.Errorf("encoder %q: %w", e.Name, err)
	}
	return nil
}

// model makes the model from what the output says, unless it is one of own.
func (oe outputEncoder) model(own []Encoders) (encode.Model, error) {
	for _, set := range own {
		if m, ok := set[oe.Name]; ok {
			frozen, _ := frozenOf(m)
			return encode.Unwrap(frozen), nil
		}
	}
	kind, err := findEngine(oe.Type)
	if err != nil {
		return nil, fmt.Errorf("%w: %q is of the type %q: give its model to Load", ErrEncoder, oe.Name, oe.Type)
	}
	options := oe.Options
	if options == nil {
		options = json.RawMessage("{}")
	}
	m, err := kind.model(options, files{})
	if err != nil {
		return nil, fmt.Errorf("encoder %q: %w", oe.Name, err)
	}
	return encode.Unwrap(m), nil
}
