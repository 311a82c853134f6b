package bert

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/permafrost-ml/permafrost/encode"
)

// Options declare an encoder. Their JSON names are the keys of a config.
type Options struct {
	// Dir is the model directory, as sentence-transformers publishes it.
	Dir string `json:"model"`
	// MaxLength is the most tokens of a text, those that the model puts
	// around it included; what is beyond is cut off. It is at most what the
	// model has positions for. Default: that of sentence-transformers, i.e.
	// max_seq_length of sentence_bert_config.json, else the tokenizer's
	// model_max_length, else all positions.
	MaxLength int `json:"max_length,omitempty"`
	// Pooling makes one vector of a text's tokens: "mean", "cls" (the first
	// token's) or "max". Default: what the model's Pooling step says.
	Pooling string `json:"pooling,omitempty"`
	// Normalize scales embeddings to length 1 as the last step; false leaves
	// the model's own Normalize steps out. Default: the model's steps.
	Normalize *bool `json:"normalize,omitempty"`
	// TruncateDim keeps the first values of an embedding, for models trained
	// so (Matryoshka). As in sentence-transformers it follows the model's
	// steps, so that the result has length 1 only with Normalize. Default:
	// all.
	TruncateDim int `json:"truncate_dim,omitempty"`
	// Precision is that of the layers' products: "float32", or "int8", which
	// is faster and less exact (see the package comment). It is part of the
	// fingerprint. Default: "float32".
	Precision string `json:"precision,omitempty"`
	// Device is where it runs: "auto" or "cpu", which are the same here.
	// Default: "auto".
	Device string `json:"device,omitempty"`
}

const (
	precisionFloat32 = "float32"
	precisionInt8    = "int8"
)

// Model returns the model of a directory with its own settings.
func Model(dir string) encode.Model { return Options{Dir: dir}.Model() }

// Model returns the model that o declares. Nothing is read before Spec or
// Open, which report what is wrong, as Validate does.
func (o Options) Model() encode.Model { return &model{options: o} }

// Validate reports what is wrong with the options by themselves; it reads
// nothing.
func (o Options) Validate() error {
	if o.Dir == "" {
		return errors.New("model: name the model's directory")
	}
	if o.MaxLength < 0 || o.MaxLength > 0 && o.MaxLength < minLength {
		return fmt.Errorf("max_length: %d, want %d or more", o.MaxLength, minLength)
	}
	if o.TruncateDim < 0 {
		return fmt.Errorf("truncate_dim: %d, want no number below 0", o.TruncateDim)
	}
	switch o.Pooling {
	case "", "mean", "cls", "max":
	default:
		return fmt.Errorf("pooling: %q is none of mean, cls, max", o.Pooling)
	}
	switch o.Precision {
	case "", precisionFloat32, precisionInt8:
	default:
		return fmt.Errorf("precision: %q is none of %s, %s", o.Precision, precisionFloat32, precisionInt8)
	}
	switch o.Device {
	case "", "auto", "cpu":
	case "gpu":
		return errors.New("device: this engine runs on the cpu; use the engine onnx for a gpu")
	default:
		return fmt.Errorf("device: %q is none of auto, cpu", o.Device)
	}
	return nil
}

// absolute is o with an absolute path.
func (o Options) absolute() Options {
	if abs, err := filepath.Abs(o.Dir); err == nil {
		o.Dir = abs
	}
	return o
}
