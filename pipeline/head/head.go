package head

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"

	"gorgonia.org/tensor"

	"github.com/permafrost-ml/permafrost/internal/strictjson"
	"github.com/permafrost-ml/permafrost/pipeline/train/nn"
)

// Param is one trained tensor with its gradient.
type Param = nn.Param

// Config declares a head. Every option's zero value is its default, and the
// zero value of a Config is valid but for options that say they are needed.
type Config interface {
	// Type is the head's name in configuration files.
	Type() string
	// Params are the options with defaults filled in, under their names in
	// configuration files; [Parse] takes them back.
	Params() map[string]any
	// New returns a head for inputs of in values, in > 0. Its first weights
	// and later its dropout are drawn from rng, which it keeps; they depend
	// on rng's state alone.
	New(in int, rng *rand.Rand) (Head, error)
}

// Head is a model over rows of embeddings. It is not safe for concurrent
// use; what Freeze returns is.
type Head interface {
	// In and Out are the number of values of a row before and after.
	In() int
	Out() int
	// Parameters are the trained tensors, always the same ones in the same
	// order; none for a head without any.
	Parameters() []Param
	// NewPass returns a pass for training. Passes of one head share its
	// parameters, gradients and random numbers and nothing else.
	NewPass() Pass
	// Freeze returns the head for inference with a copy of the weights as
	// they are now.
	Freeze() Frozen
}

// Pass is one use of a head within a training step: a Forward and then at
// most one Backward. It keeps its memory for the next step.
type Pass interface {
	// Forward returns the head's output for x of [n, In], as [n, Out]. The
	// output belongs to the pass and is valid until its next Forward. x is
	// borrowed, and must not change, until Backward has returned.
	Forward(x *tensor.Dense) (*tensor.Dense, error)
	// Backward takes the loss's gradient dy of the last output, [n, Out],
	// and adds that of the parameters to their Grad. With wantInput it also
	// returns the gradient of x, [n, In], valid until the next Backward;
	// else nil. dy is borrowed until Backward returns, and not changed.
	Backward(dy *tensor.Dense, wantInput bool) (*tensor.Dense, error)
}

// Frozen is a head for inference. It never changes and is safe for
// concurrent use.
type Frozen interface {
	In() int
	Out() int
	// Apply writes the output for x of [n, In] to dst of [n, Out], which
	// must not share memory with x. Row i of dst has the same bits whatever
	// the other rows are.
	Apply(dst, x *tensor.Dense) error
}

// ErrType is returned by [Parse] for an unknown type.
var ErrType = errors.New("unknown head type")

// parsers read the options of the heads of this package, by type.
func parsers() map[string]func(params json.RawMessage) (Config, error) {
	return map[string]func(json.RawMessage) (Config, error){
		Empty{}.Type():             decode[Empty],
		Gated{}.Type():             decode[Gated],
		LayerNorm{}.Type():         decode[LayerNorm],
		Sequential{}.Type():        parseSequential,
		SkipConnection{}.Type():    decode[SkipConnection],
		SoftmaxEmbeddings{}.Type(): decode[SoftmaxEmbeddings],
		StackedProjection{}.Type(): decode[StackedProjection],
		Switch{}.Type():            parseSwitch,
		Widening{}.Type():          decode[Widening],
	}
}

func decode[C Config](params json.RawMessage) (Config, error) { return strictjson.Decode[C](params) }

// Types are the types that [Parse] knows, sorted.
func Types() []string { return slices.Sorted(maps.Keys(parsers())) }

// Parse returns the head declared by a type and the JSON object of its
// options, as [Config.Params] prints them; empty params are all defaults. An
// unknown option is an error.
func Parse(typ string, params json.RawMessage) (Config, error) {
	parse, ok := parsers()[typ]
	if !ok {
		return nil, fmt.Errorf("%w %q (known: %s)", ErrType, typ, strings.Join(Types(), ", "))
	}
	c, err := parse(params)
	if err != nil {
		return nil, fmt.Errorf("head %s: %w", typ, err)
	}
	return c, nil
}

func checkIn(in int) error {
	if in <= 0 {
		return fmt.Errorf("a head needs inputs of at least one value, not %d", in)
	}
	return nil
}
