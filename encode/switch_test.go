package encode_test

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"iter"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"

	"github.com/permafrost-ml/permafrost/encode"
	"github.com/permafrost-ml/permafrost/encode/encodetest"
	"github.com/permafrost-ml/permafrost/stage"
)

// hashing is a model whose embeddings are hashes of a seed and the input.
type hashing struct {
	seed      string
	dim       int
	whole     bool // the size of the batch shows
	opened    *atomic.Int64
	closed    *atomic.Int64
	failClose bool
}

func newHashing(seed string, dim int) *hashing {
	return &hashing{seed: seed, dim: dim, opened: new(atomic.Int64), closed: new(atomic.Int64)}
}

func (m *hashing) Spec(context.Context) (encode.Spec, error) {
	return encode.Spec{Engine: "hashing", Dim: m.dim, Fields: []encode.Field{{Name: "seed", Value: m.seed}}, BatchInvariant: !m.whole}, nil
}

func (m *hashing) Open(context.Context, int) (encode.Encoder, error) {
	m.opened.Add(1)
	return hashingEncoder{m}, nil
}

func (m *hashing) Options() any { return map[string]string{"seed": m.seed} }

type hashingEncoder struct{ *hashing }

func (e hashingEncoder) Dim() int { return e.dim }

func (e hashingEncoder) Close() error {
	e.closed.Add(1)
	if e.failClose {
		return errors.New("close fails")
	}
	return nil
}

func (e hashingEncoder) Encode(ctx context.Context, batch []encode.Input, dst []float32) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	for i, in := range batch {
		e.embed(encode.AppendInput(nil, in), len(batch), dst[i*e.dim:(i+1)*e.dim])
	}
	return nil
}

func (e hashingEncoder) embed(canonical []byte, n int, dst []float32) {
	for d := range dst {
		h := fnv.New32a()
		fmt.Fprintf(h, "%s %d %s", e.seed, d, canonical)
		dst[d] = float32(h.Sum32()%1000) / 1000
		if e.whole {
			dst[d] += float32(n)
		}
	}
}

// preparedHashing is hashing in two steps.
type preparedHashing struct{ *hashing }

func (m preparedHashing) OpenPreparer(context.Context, int) (encode.Preparer, error) { return m, nil }

func (m preparedHashing) Prepare(dst []byte, in encode.Input) ([]byte, int, error) {
	before := len(dst)
	dst = encode.AppendInput(dst, in)
	return dst, len(dst) - before, nil
}

func (m preparedHashing) Close() error { return nil }

func (m preparedHashing) Open(context.Context, int) (encode.Encoder, error) {
	return preparedHashingEncoder{hashingEncoder(m)}, nil
}

type preparedHashingEncoder struct{ hashingEncoder }

func (e preparedHashingEncoder) EncodePrepared(ctx context.Context, batch [][]byte, dst []float32) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	for i, b := range batch {
		e.embed(b, len(batch), dst[i*e.dim:(i+1)*e.dim])
	}
	return nil
}

func routed(option string, values ...encode.Value) encode.Input {
	return append(encode.Input{encode.TextValue(option)}, values...)
}

// mixed are inputs of the options text and image, in no order.
func mixed() (in []encode.Input) {
	for i := range 23 {
		switch {
		case i%3 == 0:
			in = append(in, routed("image", encode.BytesValue(make([]byte, i*i)), encode.NumberValue(float64(i))))
		default:
			in = append(in, routed("text", encode.TextValue(strings.Repeat("word ", i))))
		}
	}
	return in
}

func TestSwitchContract(t *testing.T) {
	whole := newHashing("t", 8)
	whole.whole = true
	for name, m := range map[string]encode.Model{
		"invariant":     encode.Switch("kind", map[string]encode.Model{"text": newHashing("t", 8), "image": newHashing("i", 8)}),
		"not invariant": encode.Switch("kind", map[string]encode.Model{"text": whole, "image": newHashing("i", 8)}),
		"prepared":      encode.Switch("kind", map[string]encode.Model{"text": preparedHashing{newHashing("t", 8)}, "image": newHashing("i", 8)}),
	} {
		t.Run(name, func(t *testing.T) { encodetest.Run(t, m, encodetest.Options{Inputs: mixed()}) })
	}
	if _, ok := encode.Unwrap(encode.Switch("kind", map[string]encode.Model{"text": newHashing("t", 8)})).(encode.Preparing); ok {
		t.Error("a switch of encoders that prepare nothing prepares")
	}
}

// TestSwitchRoutes: each embedding is that of the option alone, in place.
func TestSwitchRoutes(t *testing.T) {
	text, image := newHashing("t", 8), newHashing("i", 8)
	enc, err := encode.Switch("kind", map[string]encode.Model{"text": text, "image": preparedHashing{image}, "never": newHashing("n", 8)}).Open(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	in := mixed()
	got := make([]float32, len(in)*8)
	if err := enc.Encode(t.Context(), in, got); err != nil {
		t.Fatal(err)
	}
	for i, one := range in {
		want := make([]float32, 8)
		option := map[string]*hashing{"text": text, "image": image}[one[0].Text()]
		if err := (hashingEncoder{option}).Encode(t.Context(), []encode.Input{one[1:]}, want); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got[i*8:(i+1)*8], want) {
			t.Errorf("embedding %d of %s is %v, want %v", i, one[0].Text(), got[i*8:(i+1)*8], want)
		}
	}
	for _, bad := range []encode.Input{routed("audio", encode.TextValue("x")), {}} {
		if err := enc.Encode(t.Context(), []encode.Input{in[0], bad}, got[:16]); err == nil {
			t.Errorf("the input %v is encoded", bad)
		}
	}
	if err := enc.Close(); err != nil {
		t.Error(err)
	}
}

// TestSwitchOpensWhatItMeets: an option that no object chooses is not opened,
// and all others are closed, whatever fails.
func TestSwitchOpensWhatItMeets(t *testing.T) {
	text, image, never := newHashing("t", 8), newHashing("i", 8), newHashing("n", 8)
	text.failClose = true
	enc, err := encode.Switch("kind", map[string]encode.Model{"text": text, "image": image, "never": never}).Open(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	if n := text.opened.Load() + image.opened.Load(); n != 0 {
		t.Errorf("%d options are open before the first object", n)
	}
	for range 3 {
		if err := enc.Encode(t.Context(), mixed()[:5], make([]float32, 40)); err != nil {
			t.Fatal(err)
		}
	}
	if a, b, c := text.opened.Load(), image.opened.Load(), never.opened.Load(); a != 1 || b != 1 || c != 0 {
		t.Errorf("the options were opened %d, %d and %d times", a, b, c)
	}
	if err := enc.Close(); err == nil || !strings.Contains(err.Error(), `close option "text": close fails`) {
		t.Errorf("Close gives %v", err)
	}
	if a, b := text.closed.Load(), image.closed.Load(); a != 1 || b != 1 {
		t.Errorf("the options were closed %d and %d times", a, b)
	}
}

func TestSwitchSpec(t *testing.T) {
	declare := func(options map[string]encode.Model, batch int) string {
		t.Helper()
		spec, err := encode.Switch("kind", options).Spec(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		fingerprint, _, err := spec.Declaration(batch)
		if err != nil {
			t.Fatal(err)
		}
		return fingerprint
	}
	whole := newHashing("t", 8)
	whole.whole = true
	seen := map[string]string{}
	for what, options := range map[string]map[string]encode.Model{
		"two":           {"text": newHashing("t", 8), "image": newHashing("i", 8)},
		"swapped":       {"image": newHashing("t", 8), "text": newHashing("i", 8)},
		"other weights": {"text": newHashing("t2", 8), "image": newHashing("i", 8)},
		"other names":   {"texts": newHashing("t", 8), "image": newHashing("i", 8)},
		"one more":      {"text": newHashing("t", 8), "image": newHashing("i", 8), "audio": newHashing("a", 8)},
		"other dim":     {"text": newHashing("t", 4), "image": newHashing("i", 4)},
		"not invariant": {"text": whole, "image": newHashing("i", 8)},
	} {
		f := declare(options, 32)
		if old, ok := seen[f]; ok {
			t.Errorf("%s and %s have one fingerprint", what, old)
		}
		seen[f] = what
		if again := declare(options, 33); (again != f) != (what == "not invariant") {
			t.Errorf("%s: the batch size is in the fingerprint: %v", what, again != f)
		}
	}
	for want, options := range map[string]map[string]encode.Model{
		"one dimension: image has 4, text has 8": {"text": newHashing("t", 8), "image": newHashing("i", 4)},
		"without options":                        {},
		`option "text" has no model`:             {"text": nil},
	} {
		if _, err := encode.Switch("kind", options).Spec(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
		if _, err := encode.Switch("kind", options).Open(t.Context(), 0); err == nil {
			t.Errorf("%s: it opens", want)
		}
	}
}

func TestSwitchReads(t *testing.T) {
	m := encode.Switch("kind", map[string]encode.Model{
		"text":  encode.Reading(newHashing("t", 8), encode.Reads{Template: "query: {body}"}),
		"image": encode.Reading(newHashing("i", 8), encode.Reads{Field: "picture"}),
		"both": encode.Switch("size", map[string]encode.Model{
			"1": encode.Reading(newHashing("i", 8), encode.Reads{Fields: []string{"picture", "body"}}),
		}),
	})
	r := encode.ReadsOf(m)
	if err := r.Validate(); err != nil {
		t.Fatal(err)
	}
	object := func(kind string) encode.Object {
		return encode.Record(map[string]encode.Value{
			"kind": encode.TextValue(kind), "body": encode.TextValue("b"), "picture": encode.BytesValue([]byte("p")), "size": encode.NumberValue(1),
		})
	}
	for kind, want := range map[string]encode.Input{
		"text":  routed("text", encode.TextValue("query: b")),
		"image": routed("image", encode.BytesValue([]byte("p"))),
		"both":  routed("both", encode.TextValue("1"), encode.BytesValue([]byte("p")), encode.TextValue("b")),
	} {
		if got, err := r.Input(object(kind)); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v, %v, want %v", kind, got, err, want)
		}
	}
	if c := r.Choice(object("both")); c != "both/1" {
		t.Errorf("the choice is %q", c)
	}
	if _, err := r.Input(object("audio")); err == nil || !strings.Contains(err.Error(), `field "kind": "audio" is none of the options both, image, text`) {
		t.Errorf("an unknown option gives %v", err)
	}
	if _, err := r.Input(object("text").With("kind", encode.Value{})); !errors.Is(err, encode.ErrField) {
		t.Errorf("a missing choice gives %v", err)
	}
	if _, err := r.Input(encode.Record(map[string]encode.Value{"kind": encode.TextValue("image")})); !errors.Is(err, encode.ErrField) || !strings.Contains(err.Error(), `option "image"`) {
		t.Errorf("a missing field of an option gives %v", err)
	}
	// Equal values under two options are two objects.
	same := encode.Reads{By: "kind", Options: map[string]encode.Reads{"a": {}, "b": {}}}
	id := func(kind string) encode.ID {
		in, err := same.Input(encode.Text("t").With("kind", encode.TextValue(kind)))
		if err != nil {
			t.Fatal(err)
		}
		return encode.Identify(encode.AppendInput(nil, in))
	}
	if id("a") == id("b") {
		t.Error("the option is not in the id")
	}
	for _, bad := range []encode.Reads{
		{By: "kind"},
		{Options: map[string]encode.Reads{"a": {}}},
		{By: "kind", Field: "text", Options: map[string]encode.Reads{"a": {}}},
		{By: "kind", Options: map[string]encode.Reads{"a": {Template: "{"}}},
	} {
		if bad.Validate() == nil {
			t.Errorf("%+v is valid", bad)
		}
	}
	if want := `by field "kind" {"a": field "text", "b": field "text"}`; same.String() != want {
		t.Errorf("got %s, want %s", same, want)
	}
}

// TestSamplesStoreTheChoice: the options that objects choose are columns, and
// an object that chooses none is left out.
// TestChoices: all that objects can choose, and the column that has it.
func TestChoices(t *testing.T) {
	inner := encode.Reads{By: "lang", Options: map[string]encode.Reads{"de": {}, "at": {}}}
	for _, c := range []struct {
		reads encode.Reads
		want  []string
	}{
		{encode.Reads{}, nil},
		{encode.Reads{Field: "a"}, nil},
		{encode.Reads{By: "kind", Options: map[string]encode.Reads{"y": {}, "x": inner}}, []string{"x/at", "x/de", "y"}},
	} {
		if got := c.reads.Choices(); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.reads, got, c.want)
		}
	}
	if a, b := encode.ChoiceColumn("enc", ""), encode.ChoiceColumn("enc", "b"); a != "enc_option" || b != "enc_b_option" {
		t.Errorf("columns %s and %s", a, b)
	}
}

func TestSamplesStoreTheChoice(t *testing.T) {
	object := func(kind string) encode.Object {
		return encode.Record(map[string]encode.Value{"kind": encode.TextValue(kind), "text": encode.TextValue("t " + kind)})
	}
	uses := []encode.Use{{Name: "e", Reads: encode.Reads{By: "kind", Options: map[string]encode.Reads{"x": {}, "y": {}}}}, {Name: "plain"}}
	for name, c := range map[string]struct {
		samples []encode.Sample
		want    map[string][]string
	}{
		"groups": {
			[]encode.Sample{encode.GroupSample(object("x"), 1), encode.GroupSample(object("z"), 1), encode.GroupSample(object("y"), 2)},
			map[string][]string{"e_option": {"x", "y"}},
		},
		"pairs": {
			[]encode.Sample{encode.PairSample(object("x"), object("y")), encode.PairSample(object("y"), object("z")), encode.PairSample(object("y"), object("x"))},
			map[string][]string{"e_a_option": {"x", "y"}, "e_b_option": {"y", "x"}},
		},
	} {
		left := 0
		g, _ := stage.NewGroup(t.Context())
		recs := encode.Samples(g, stage.From(g, "samples", func(context.Context) iter.Seq2[encode.Sample, error] { return eachOf(c.samples) }), encode.SampleOptions{Split: "s", Uses: uses, Skip: func(encode.Sample, error) error {
			left++
			return nil
		}})
		got := map[string][]string{}
		stage.Each(g, recs, "look", func(_ context.Context, rec arrow.Record) error {
			defer rec.Release()
			for i, f := range rec.Schema().Fields() {
				if col, ok := rec.Column(i).(*array.String); ok && strings.HasSuffix(f.Name, "_option") {
					for k := range col.Len() {
						got[f.Name] = append(got[f.Name], col.Value(k))
					}
				}
			}
			return nil
		})
		if err := g.Wait(); err != nil || left != 1 || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %v, %d left out, %v", name, got, left, err)
		}
	}
}

func eachOf(samples []encode.Sample) iter.Seq2[encode.Sample, error] {
	return func(yield func(encode.Sample, error) bool) {
		for _, s := range samples {
			if !yield(s, nil) {
				return
			}
		}
	}
}
