package encode

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Encoder turns inputs into embeddings. One is opened per worker, so an
// Encoder need not be safe for concurrent use.
type Encoder interface {
	// Dim is the number of float32 values of one embedding, the same for the
	// life of the encoder and equal to its model's Spec.Dim.
	Dim() int
	// Encode writes the embedding of batch[i] to dst[i*Dim : (i+1)*Dim].
	// dst has exactly len(batch)*Dim values, belongs to the caller (it is
	// the memory of an Arrow buffer) and must not be kept. The same input
	// must give the same bits each time; with Spec.BatchInvariant also in
	// any batch. Encode returns soon, with ctx's error, when ctx ends.
	Encode(ctx context.Context, batch []Input, dst []float32) error
	// Close frees what the encoder holds. It is called once.
	Close() error
}

// Model declares an encoder and opens instances of it. A Model is safe for
// concurrent use and cheap to make: nothing is loaded before Spec or Open.
type Model interface {
	// Spec describes the encoder without opening it. It may read files to
	// hash them. Its Fields must change whenever the output can change.
	Spec(ctx context.Context) (Spec, error)
	// Open loads an encoder for the worker of that number (0, 1, ...).
	Open(ctx context.Context, worker int) (Encoder, error)
}

// Configured is a Model that can be made again: Options are, as JSON, what a
// config says under the encoder's name beside its type and what it reads. An
// output folder keeps them. Paths in them are absolute.
type Configured interface {
	Model
	Options() any
}

// Spec describes an encoder: its size and all that decides its output.
type Spec struct {
	// Engine is the kind of encoder, such as "static".
	Engine string
	// OutputVersion is bumped by hand when the engine's code changes its
	// output. Default: 0.
	OutputVersion int
	// Dim is the number of values of an embedding.
	Dim int
	// Fields are the printable facts that decide the output: hashes of
	// weights and tokenizer, pooling, normalization, maximum length ...
	// Never paths, times or anything of the machine. At least one is needed.
	Fields []Field
	// BatchInvariant says that an input's embedding has the same bits in any
	// batch. Where it is false the batch size becomes part of the
	// fingerprint. Default: false.
	BatchInvariant bool
}

// Field is one declared, printable fact of a fingerprint.
type Field struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// ErrNoFingerprint is returned for a model that declares no field.
var ErrNoFingerprint = errors.New("the model declares no fingerprint field")

// Declared returns all fields of the fingerprint, sorted by name: those of
// the engine, the dimension and, for an encoder that is not batch-invariant,
// the batch size.
func (s Spec) Declared(batchSize int) ([]Field, error) {
	if len(s.Fields) == 0 || s.Engine == "" {
		return nil, ErrNoFingerprint
	}
	if s.Dim <= 0 {
		return nil, fmt.Errorf("the model declares dimension %d", s.Dim)
	}
	fields := slices.Clone(s.Fields)
	fields = append(fields,
		Field{"engine", s.Engine},
		Field{"output_version", fmt.Sprint(s.OutputVersion)},
		Field{"dim", fmt.Sprint(s.Dim)})
	if !s.BatchInvariant {
		fields = append(fields, Field{"batch_size", fmt.Sprint(batchSize)})
	}
	slices.SortFunc(fields, func(a, b Field) int { return strings.Compare(a.Name, b.Name) })
	for i, f := range fields {
		if f.Name == "" || i > 0 && f.Name == fields[i-1].Name {
			return nil, fmt.Errorf("the model declares the field %q twice or without a name", f.Name)
		}
	}
	return fields, nil
}

// Declaration returns the fingerprint of all fields of [Spec.Declared], and
// the fields by name.
func (s Spec) Declaration(batchSize int) (fingerprint string, fields map[string]string, err error) {
	declared, err := s.Declared(batchSize)
	if err != nil {
		return "", nil, err
	}
	fields = make(map[string]string, len(declared))
	for _, f := range declared {
		fields[f.Name] = f.Value
	}
	return Fingerprint(declared), fields, nil
}

// Fingerprint hashes declared fields: SHA-256, in hexadecimal, over a version
// tag and the length-prefixed names and values in the order given.
func Fingerprint(fields []Field) string {
	h := sha256.New()
	fmt.Fprint(h, "permafrost.fingerprint.v1\n")
	for _, f := range fields {
		fmt.Fprintf(h, "%d:%s%d:%s", len(f.Name), f.Name, len(f.Value), f.Value)
	}
	return hex.EncodeToString(h.Sum(nil))
}
