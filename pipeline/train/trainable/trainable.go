package trainable

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"

	"github.com/permafrost-ml/permafrost/internal/strictjson"
	"github.com/permafrost-ml/permafrost/pipeline/train/nn"
)

// Config declares a trainable encoder. Its zero value is valid, and every
// option's zero value is its default.
type Config interface {
	// Type is the encoder's name in configuration files.
	Type() string
	// Params are the options with defaults filled in, under their names in
	// configuration files; [Parse] takes them back.
	Params() map[string]any
	// ReadsTexts says that the encoder reads texts, not embeddings.
	ReadsTexts() bool
	// New returns an encoder for embeddings of in values; in is 0 where it
	// reads texts. Its first weights are drawn from rng.
	New(in int, rng *rand.Rand) (Encoder, error)
}

// Input is what an encoder reads of n objects. It is borrowed.
type Input struct {
	Texts []string // n texts, nil for embeddings
	Rows  nn.Mat   // [n, in], empty for texts
}

// Encoder is a model of embeddings. It is not safe for concurrent use; what
// Freeze returns is.
type Encoder interface {
	// Dim is the number of values of an output.
	Dim() int
	// Parameters are the trained tensors, always the same ones in the same
	// order.
	Parameters() []nn.Param
	// NewPass returns a pass for training. Passes of one encoder share its
	// parameters and gradients and nothing else.
	NewPass() Pass
	// Freeze returns the encoder for inference with a copy of the weights as
	// they are now.
	Freeze() Frozen
}

// Pass is one use of an encoder within a training step: a Forward and then at
// most one Backward.
type Pass interface {
	// Forward returns the outputs, [n, Dim]. They belong to the pass until its
	// next Forward. The input must not change until Backward has returned.
	Forward(in Input) (nn.Mat, error)
	// Backward takes the loss's gradient dy of the last output and adds that
	// of the parameters to their Grad. dy is borrowed.
	Backward(dy nn.Mat) error
}

// Frozen is an encoder for inference. It never changes and is safe for
// concurrent use.
type Frozen interface {
	Dim() int
	// Apply writes the outputs to dst, [n, Dim]. Row i has the same bits
	// whatever the other rows are.
	Apply(dst nn.Mat, in Input) error
}

// ErrType is returned by [Parse] for an unknown type.
var ErrType = errors.New("unknown type of trainable encoder")

// Parse returns the encoder declared by a type and the JSON object of its
// options, as [Config.Params] prints them; empty params are all defaults. An
// unknown option is an error.
func Parse(typ string, params json.RawMessage) (c Config, err error) {
	switch typ {
	case NgramBag{}.Type():
		c, err = strictjson.Decode[NgramBag](params)
	case Projection{}.Type():
		c, err = strictjson.Decode[Projection](params)
	default:
		return nil, fmt.Errorf("%w %q (known: ngram_bag, projection)", ErrType, typ)
	}
	if err != nil {
		return nil, fmt.Errorf("encoder %s: %w", typ, err)
	}
	return c, nil
}
