package loss

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"gorgonia.org/tensor"

	"github.com/permafrost-ml/permafrost/internal/strictjson"
	"github.com/permafrost-ml/permafrost/pipeline/train/nn"
)

// Param is one trained tensor with its gradient.
type Param = nn.Param

// Kind is the kind of samples that a loss or a dataset is for.
type Kind int

// The kinds of samples.
const (
	Pairs  Kind = iota // (a, b, score, subgroup)
	Groups             // (object, label)
)

// String is "pairs" or "groups".
func (k Kind) String() string {
	if k == Groups {
		return "groups"
	}
	return "pairs"
}

// Config declares a loss. Its zero value is valid (but for [Sum], which needs
// losses), and every option's zero value is its default.
type Config interface {
	// Type is the loss's name in configuration files.
	Type() string
	// Kind is the kind of samples that the loss takes.
	Kind() Kind
	// Params are the options with defaults filled in, under their names in
	// configuration files; [Parse] takes them back.
	Params() map[string]any
	// New returns the loss for embeddings of dim values, dim > 0, and, for
	// a loss over groups, that number of classes. Parameters of its own are
	// drawn from rng.
	New(dim, classes int, rng *rand.Rand) (Loss, error)
}

// Batch is a batch of samples with their embeddings. Everything is borrowed
// for the length of a call.
type Batch struct {
	// A are the embeddings of groups' objects or of pairs' first sides, B
	// those of pairs' second sides (nil for groups): [n, dim], n > 0.
	A, B *tensor.Dense
	// Labels are a group sample's class, from 0 to less than the number of
	// classes; n of them for groups, else nil.
	Labels []int32
	// Scores are a pair's score: above 0 for similar objects. nil stands
	// for 1 everywhere.
	Scores []float32
	// Subgroups are a pair's subgroup: objects of different subgroups are
	// never similar. nil stands for one subgroup.
	Subgroups []int32
	// AIDs and BIDs number the objects of A and B: equal numbers are equal
	// objects, on either side. nil stands for objects that all differ.
	AIDs, BIDs []int64
	// AChoices and BChoices are what the objects of A and B chose of a switch
	// encoder, for heads that route rows by it. nil stands for no choices.
	AChoices, BChoices []string
	// ATexts and BTexts are the objects of A and B as trained encoders read
	// them: n texts for each such encoder. Losses do not look at them.
	ATexts, BTexts [][]string
	// Index numbers the samples' rows in their split, for messages. nil stands
	// for numbers that are not known.
	Index []int64
}

// Rows is the number of samples, 0 for a batch without embeddings.
func (b *Batch) Rows() int {
	if b.A == nil {
		return 0
	}
	return b.A.Shape()[0]
}

// Result is the loss of a batch.
type Result struct {
	// Value is the loss, for most the mean over the batch's samples: see the
	// configs.
	Value float64
	// DA and DB are Value's gradients by A and B, of their shapes; DB is nil
	// for groups, both where no gradient was asked for. They belong to the
	// loss and are valid until its next call.
	DA, DB *tensor.Dense
}

// Loss computes losses. It keeps memory between calls and is not safe for
// concurrent use.
type Loss interface {
	// Parameters are the loss's own trained tensors, always the same ones;
	// none for most.
	Parameters() []Param
	// Compute returns the loss of a batch and, with grad, its gradients,
	// adding those of the loss's own parameters to their Grad. The value
	// may be NaN or infinite; a batch that does not fit the loss is an error.
	Compute(b *Batch, grad bool) (Result, error)
}

// ErrType is returned by [Parse] for an unknown type.
var ErrType = errors.New("unknown loss type")

// entry is a loss that [Parse] knows.
type entry struct {
	config Config // the zero one
	parse  func(params json.RawMessage) (Config, error)
	nests  bool // it is of the kind of the losses in it
}

// entries are the losses of this package.
func entries() []entry {
	return []entry{
		entryOf[ArcFace](), entryOf[Center](), entryOf[Circle](), entryOf[Contrastive](), entryOf[CosFace](),
		entryOf[CoSENT](), entryOf[FastAP](), entryOf[InfoNCE](), nesting(entryOf[Matryoshka]()),
		entryOf[MultipleNegativesRanking](), entryOf[OnlineContrastive](), entryOf[Softmax](),
		nesting(entryOf[Sum]()), entryOf[Triplet](),
	}
}

func entryOf[C Config]() entry {
	var zero C
	return entry{config: zero, parse: func(params json.RawMessage) (Config, error) {
		return strictjson.Decode[C](params)
	}}
}

func nesting(e entry) entry {
	e.nests = true
	return e
}

// Types are the types that [Parse] knows for samples of the given kinds (of
// any without arguments), sorted.
func Types(kinds ...Kind) []string {
	var names []string
	for _, e := range entries() {
		if len(kinds) == 0 || e.nests || slices.Contains(kinds, e.config.Kind()) {
			names = append(names, e.config.Type())
		}
	}
	slices.Sort(names)
	return names
}

// Parse returns the loss declared by a type and the JSON object of its
// options, as [Config.Params] prints them; empty params are all defaults. An
// unknown option is an error.
func Parse(typ string, params json.RawMessage) (Config, error) {
	for _, e := range entries() {
		if e.config.Type() != typ {
			continue
		}
		c, err := e.parse(params)
		if err != nil {
			return nil, fmt.Errorf("loss %s: %w", typ, err)
		}
		return c, nil
	}
	return nil, fmt.Errorf("%w %q (known: %s)", ErrType, typ, strings.Join(Types(), ", "))
}

// lengths checks that every column that is there has a value for each row.
func (b *Batch) lengths(rows int) error {
	for _, c := range []struct {
		name string
		n    int
		none bool
	}{
		{"labels", len(b.Labels), b.Labels == nil},
		{"scores", len(b.Scores), b.Scores == nil},
		{"subgroups", len(b.Subgroups), b.Subgroups == nil},
		{"ids of the first side", len(b.AIDs), b.AIDs == nil},
		{"ids of the second side", len(b.BIDs), b.BIDs == nil},
		{"choices of the first side", len(b.AChoices), b.AChoices == nil},
		{"choices of the second side", len(b.BChoices), b.BChoices == nil},
	} {
		if !c.none && c.n != rows {
			return fmt.Errorf("a batch of %d rows has %d %s", rows, c.n, c.name)
		}
	}
	return nil
}
