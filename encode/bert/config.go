package bert

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"strings"

	"github.com/permafrost-ml/permafrost/internal/bounded"
	"github.com/permafrost-ml/permafrost/internal/tokenizer"
)

// maxConfig bounds what is read of a config.
const maxConfig = 1 << 20

// architecture is what config.json says about a transformer.
type architecture struct {
	family       family
	hidden       int
	layers       int
	heads        int
	intermediate int
	positions    int // rows of the table of positions
	types        int // rows of the table of token types, 0 for no table
	vocabulary   int
	buckets      int // of relative positions, 0 for none
	padding      int // the token that has no position of its own, -1 for none
	firstPos     int // the position of the first token
	eps          float64
	act          activation
}

// head is the number of values of an attention head.
func (a *architecture) head() int { return a.hidden / a.heads }

// maxTokens is the longest sequence that has positions.
func (a *architecture) maxTokens() int { return a.positions - a.firstPos }

// rawConfig is config.json with the names of all families. An absent number
// is nil.
type rawConfig struct {
	ModelType    string   `json:"model_type"`
	Hidden       *int     `json:"hidden_size"`
	Dim          *int     `json:"dim"`
	Layers       *int     `json:"num_hidden_layers"`
	NLayers      *int     `json:"n_layers"`
	Heads        *int     `json:"num_attention_heads"`
	NHeads       *int     `json:"n_heads"`
	Intermediate *int     `json:"intermediate_size"`
	HiddenDim    *int     `json:"hidden_dim"`
	Positions    *int     `json:"max_position_embeddings"`
	Types        *int     `json:"type_vocab_size"`
	Vocabulary   *int     `json:"vocab_size"`
	Buckets      *int     `json:"relative_attention_num_buckets"`
	Padding      *int     `json:"pad_token_id"`
	HiddenAct    *string  `json:"hidden_act"`
	Activation   *string  `json:"activation"`
	Eps          *float64 `json:"layer_norm_eps"`
	PositionType *string  `json:"position_embedding_type"`
	Decoder      bool     `json:"is_decoder"`
	Cross        bool     `json:"add_cross_attention"`
}

// maxSize bounds every number of an architecture, far above those of any
// encoder, so that their products stay numbers.
const maxSize = 1 << 24

func readArchitecture(dir string) (*architecture, error) {
	var raw rawConfig
	there, err := bounded.JSON(filepath.Join(dir, "config.json"), maxConfig, &raw)
	if err != nil {
		return nil, err
	}
	if !there {
		return nil, fmt.Errorf("there is no config.json in %s", dir)
	}
	a, err := raw.architecture()
	if err != nil {
		return nil, fmt.Errorf("config.json: %w", err)
	}
	return a, nil
}

func (raw *rawConfig) architecture() (*architecture, error) {
	fam, err := findFamily(raw.ModelType)
	if err != nil {
		return nil, err
	}
	if fam.distil {
		raw.Hidden, raw.Layers, raw.Heads, raw.Intermediate = raw.Dim, raw.NLayers, raw.NHeads, raw.HiddenDim
		raw.HiddenAct, raw.Eps = raw.Activation, nil
	}
	a := &architecture{family: fam, eps: 1e-12, padding: -1}
	var problems []error
	number := func(name string, v *int, least int, dst *int) {
		switch {
		case v == nil:
			problems = append(problems, fmt.Errorf("it gives no %s", name))
		case *v < least || *v > maxSize:
			problems = append(problems, fmt.Errorf("%s is %d, want %d to %d", name, *v, least, maxSize))
		default:
			*dst = *v
		}
	}
	number("hidden size", raw.Hidden, 1, &a.hidden)
	number("number of layers", raw.Layers, 1, &a.layers)
	number("number of heads", raw.Heads, 1, &a.heads)
	number("intermediate size", raw.Intermediate, 1, &a.intermediate)
	number("max_position_embeddings", raw.Positions, 1, &a.positions)
	number("vocab_size", raw.Vocabulary, 1, &a.vocabulary)
	if fam.types {
		number("type_vocab_size", raw.Types, 1, &a.types)
	}
	if fam.relative {
		a.buckets = 32
		if raw.Buckets != nil {
			number("relative_attention_num_buckets", raw.Buckets, 4, &a.buckets)
		}
	}
	if fam.offset {
		a.padding = 1
		if raw.Padding != nil && !fam.relative { // MPNet's is fixed
			number("pad_token_id", raw.Padding, 0, &a.padding)
		}
		a.firstPos = a.padding + 1
	}
	if raw.Eps != nil {
		a.eps = *raw.Eps
	}
	if a.eps < 0 || a.eps > 1 || math.IsNaN(a.eps) {
		problems = append(problems, fmt.Errorf("layer_norm_eps is %v, want 0 to 1", a.eps))
	}
	act := "gelu"
	if raw.HiddenAct != nil {
		act = *raw.HiddenAct
	}
	if a.act, err = findActivation(layerActivations, act); err != nil {
		problems = append(problems, err)
	}
	if t := raw.PositionType; t != nil && *t != "absolute" {
		problems = append(problems, fmt.Errorf("position_embedding_type is %q, there is absolute", *t))
	}
	if raw.Decoder || raw.Cross {
		problems = append(problems, errors.New("it is a decoder (is_decoder or add_cross_attention), not an encoder"))
	}
	if len(problems) == 0 && a.hidden%a.heads != 0 {
		problems = append(problems, fmt.Errorf("a hidden size of %d cannot be shared by %d heads", a.hidden, a.heads))
	}
	if len(problems) == 0 && a.maxTokens() < minLength {
		problems = append(problems, fmt.Errorf("there are positions for %d tokens only", a.maxTokens()))
	}
	return a, errors.Join(problems...)
}

// minLength is the least maximum length: a token between the two that the
// model puts around a text.
const minLength = 3

// family is what architectures differ by.
type family struct {
	modelType string
	prefix    string // before the names of tensors in files with a head
	distil    bool   // DistilBERT's names in config.json
	types     bool   // has token types
	relative  bool   // has a bias by relative position
	offset    bool   // positions begin behind that of padding
	tokens    tokenizer.Kind
	layer     string // before the names of a layer's tensors, with its number
	q, k, v   string
	attention string // the output of attention
	norm1     string
	up, down  string
	norm2     string
}

var families = []family{
	{
		modelType: "bert", prefix: "bert.", types: true, layer: "encoder.layer.%d.",
		q: "attention.self.query", k: "attention.self.key", v: "attention.self.value",
		attention: "attention.output.dense", norm1: "attention.output.LayerNorm",
		up: "intermediate.dense", down: "output.dense", norm2: "output.LayerNorm",
	},
	{
		modelType: "roberta", prefix: "roberta.", types: true, offset: true, tokens: tokenizer.RoBERTa, layer: "encoder.layer.%d.",
		q: "attention.self.query", k: "attention.self.key", v: "attention.self.value",
		attention: "attention.output.dense", norm1: "attention.output.LayerNorm",
		up: "intermediate.dense", down: "output.dense", norm2: "output.LayerNorm",
	},
	{
		modelType: "distilbert", prefix: "distilbert.", distil: true, layer: "transformer.layer.%d.",
		q: "attention.q_lin", k: "attention.k_lin", v: "attention.v_lin",
		attention: "attention.out_lin", norm1: "sa_layer_norm",
		up: "ffn.lin1", down: "ffn.lin2", norm2: "output_layer_norm",
	},
	{
		modelType: "mpnet", prefix: "mpnet.", relative: true, offset: true, tokens: tokenizer.MPNet, layer: "encoder.layer.%d.",
		q: "attention.attn.q", k: "attention.attn.k", v: "attention.attn.v",
		attention: "attention.attn.o", norm1: "attention.LayerNorm",
		up: "intermediate.dense", down: "output.dense", norm2: "output.LayerNorm",
	},
}

func findFamily(modelType string) (family, error) {
	var names []string
	for _, f := range families {
		if f.modelType == modelType {
			return f, nil
		}
		names = append(names, f.modelType)
	}
	return family{}, fmt.Errorf("the architecture (model_type) %q is not supported, there is %s", modelType, strings.Join(names, ", "))
}
