package encode_test

import (
	"context"
	"fmt"
	"log"
	"strings"

	"github.com/permafrost-ml/permafrost/encode"
)

// vowels is a whole encoder: the share of each vowel in a text. It is also
// its own model, because it has nothing to load.
type vowels struct{}

func (vowels) Spec(context.Context) (encode.Spec, error) {
	return encode.Spec{
		Engine: "vowels", Dim: 5, BatchInvariant: true,
		Fields: []encode.Field{{Name: "alphabet", Value: "aeiou"}},
	}, nil
}

func (vowels) Open(context.Context, int) (encode.Encoder, error) { return vowels{}, nil }

func (vowels) Dim() int { return 5 }

func (vowels) Encode(_ context.Context, batch []encode.Input, dst []float32) error {
	for i, in := range batch {
		text := strings.ToLower(in.Text())
		for k, vowel := range []string{"a", "e", "i", "o", "u"} {
			dst[5*i+k] = float32(strings.Count(text, vowel)) / float32(max(1, len(text)))
		}
	}
	return nil
}

func (vowels) Close() error { return nil }

// An encoder of a user's own: a model that declares it, and the encoder.
func Example() {
	ctx := context.Background()
	var model encode.Model = vowels{}
	spec, err := model.Spec(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fields, err := spec.Declared(32)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(fields)
	enc, err := model.Open(ctx, 0)
	if err != nil {
		log.Fatal(err)
	}
	defer enc.Close()
	in, err := encode.Reads{Template: "query: {text}"}.Input(encode.Text("idea"))
	if err != nil {
		log.Fatal(err)
	}
	dst := make([]float32, enc.Dim())
	if err := enc.Encode(ctx, []encode.Input{in}, dst); err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%.2f\n", dst)
	// Output:
	// [{alphabet aeiou} {dim 5} {engine vowels} {output_version 0}]
	// [0.09 0.18 0.09 0.00 0.09]
}

// Titles and documents share a space, each by an encoder of its own.
func ExampleSwitch() {
	m := encode.Switch("kind", map[string]encode.Model{
		"title":    vowels{},
		"document": encode.Reading(vowels{}, encode.Reads{Template: "{title} {text}"}),
	})
	reads := encode.ReadsOf(m)
	object := encode.Record(map[string]encode.Value{
		"kind":  encode.TextValue("document"),
		"title": encode.TextValue("a"),
		"text":  encode.TextValue("io"),
	})
	in, err := reads.Input(object)
	if err != nil {
		log.Fatal(err)
	}
	enc, err := m.Open(context.Background(), 0)
	if err != nil {
		log.Fatal(err)
	}
	defer enc.Close()
	out := make([]float32, enc.Dim())
	if err := enc.Encode(context.Background(), []encode.Input{in}, out); err != nil {
		log.Fatal(err)
	}
	fmt.Println(reads.Choice(object), out)
	// Output: document [0.25 0 0.25 0.25 0]
}
