package pipeline_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"gorgonia.org/tensor"

	"github.com/permafrost-ml/permafrost/encode"
	"github.com/permafrost-ml/permafrost/encode/bert"
	"github.com/permafrost-ml/permafrost/encode/static"
	"github.com/permafrost-ml/permafrost/pipeline"
	"github.com/permafrost-ml/permafrost/pipeline/head"
	"github.com/permafrost-ml/permafrost/pipeline/loss"
)

// trained runs a pipeline of two encoders and returns it with its output.
func trained(t testing.TB, change func(cfg *pipeline.Config[row])) (*pipeline.Pipeline[row], string) {
	t.Helper()
	cfg := config(t, "")
	cfg.Output = filepath.Join(t.TempDir(), "out")
	cfg.Train.Sequential = true
	cfg.Encoders = pipeline.Encoders{
		"one": encode.Reading(static.Default(), encode.Reads{Template: "query: {text}"}),
		"two": static.Default(),
	}
	if change != nil {
		change(&cfg)
	}
	p := open(t, cfg)
	if _, err := p.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	return p, cfg.Output
}

func loadModel(t testing.TB, dir string, own ...pipeline.Encoders) *pipeline.Model {
	t.Helper()
	m, err := pipeline.Load(dir, own...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

func questions(n int) (out []encode.Object) {
	for _, r := range rows(n, "") {
		out = append(out, encode.Text(r.Q))
	}
	return out
}

// TestModelEncodes: the trained head over the cached embeddings, bit by bit,
// one object at a time or many, from one goroutine or several.
func TestModelEncodes(t *testing.T) {
	p, dir := trained(t, nil)
	m := loadModel(t, dir)
	if m.Dim() != 2*static.Dim || len(m.Labels()) != 0 {
		t.Errorf("dimension %d, labels %q", m.Dim(), m.Labels())
	}
	f, err := os.Open(filepath.Join(dir, "head.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h, err := head.Load(f, head.SkipConnection{}, 2*static.Dim)
	if err != nil {
		t.Fatal(err)
	}
	var want [][]float32
	for b, err := range p.Epoch(t.Context(), "train", 0) {
		if err != nil {
			t.Fatal(err)
		}
		one, two := b.A("one").Data().([]float32), b.A("two").Data().([]float32)
		for i := range b.Rows() {
			x := slices.Concat(one[i*static.Dim:(i+1)*static.Dim], two[i*static.Dim:(i+1)*static.Dim])
			y := make([]float32, len(x))
			if err := h.Freeze().Apply(tensor.New(tensor.WithShape(1, len(y)), tensor.WithBacking(y)),
				tensor.New(tensor.WithShape(1, len(x)), tensor.WithBacking(x))); err != nil {
				t.Fatal(err)
			}
			want = append(want, y)
		}
	}
	objects := questions(60)
	check := func(what string, got [][]float32, want [][]float32, err error) {
		if err != nil || len(got) != len(want) {
			t.Errorf("%s: %d embeddings, %v", what, len(got), err)
			return
		}
		for i := range got {
			if !slices.Equal(got[i], want[i]) {
				t.Errorf("%s: object %d has another embedding", what, i)
			}
		}
	}
	got, err := m.Encode(t.Context(), objects)
	check("all", got, want, err)
	many := make([]encode.Object, 0, 600) // more than are encoded at once
	for range 10 {
		many = append(many, objects...)
	}
	got, err = m.Encode(t.Context(), many)
	check("many", got, slices.Concat(want, want, want, want, want, want, want, want, want, want), err)
	got, err = m.Encode(t.Context(), nil)
	check("none", got, nil, err)
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := w; i < 60; i += 4 {
				got, err := m.Encode(t.Context(), objects[i:i+1])
				check("at once", got, want[i:i+1], err)
			}
		})
	}
	wg.Wait()
	if _, err := m.Encode(t.Context(), []encode.Object{encode.Text("x"), encode.Record(nil)}); !errors.Is(err, encode.ErrField) ||
		!strings.Contains(err.Error(), `object 1: encoder "one"`) {
		t.Errorf("an object without fields gives %v", err)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	if _, err := m.Encode(t.Context(), objects); err == nil {
		t.Error("a closed model encodes")
	}
}

// TestModelLabels are those of the training, by class number.
func TestModelLabels(t *testing.T) {
	_, dir := trained(t, func(cfg *pipeline.Config[row]) { cfg.Sample, cfg.Loss = groupOf, loss.Softmax{} })
	want := slices.Sorted(slices.Values(topics))
	if got := loadModel(t, dir).Labels(); !slices.Equal(got, want) {
		t.Errorf("labels %q, want %q", got, want)
	}
}

// TestModelOfOwnEncoders: a user's model is given to Load, and must be the
// one of the training; one that is not batch-invariant gets its batches.
func TestModelOfOwnEncoders(t *testing.T) {
	own := newModel("a")
	own.variant = true
	p, dir := trained(t, func(cfg *pipeline.Config[row]) {
		cfg.Encoders = pipeline.Encoders{"enc": encode.Reading(own, encode.Reads{Template: "q: {text}"})}
		cfg.Cache.BatchSize = 8
		cfg.Sample = groupOf
		cfg.Loss = loss.Softmax{}
		cfg.Head = head.SkipConnection{}
		delete(cfg.Splits, "val")
	})
	m := loadModel(t, dir, pipeline.Encoders{"other": newModel("z")}, pipeline.Encoders{"enc": own})
	got, err := m.Encode(t.Context(), questions(32)) // four batches, as in the fill
	if err != nil {
		t.Fatal(err)
	}
	again, err := m.Encode(t.Context(), questions(8))
	if err != nil {
		t.Fatal(err)
	}
	for i := range again {
		if !slices.Equal(got[i], again[i]) {
			t.Errorf("object %d has another embedding in another call", i)
		}
	}
	_ = p
	changed := newModel("b")
	changed.variant = true
	for name, c := range map[string]struct {
		own  []pipeline.Encoders
		want string
	}{
		"no model":        {nil, `"enc" is of the type "test": give its model to Load`},
		"another weight":  {[]pipeline.Encoders{{"enc": changed}}, "the head was trained on"},
		"another name":    {[]pipeline.Encoders{{"other": own}}, "give its model to Load"},
		"another encoder": {[]pipeline.Encoders{{"enc": static.Default()}}, "the head was trained on"},
	} {
		if _, err := pipeline.Load(dir, c.own...); !errors.Is(err, pipeline.ErrEncoder) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// TestDamagedOutput: no part of an output folder is taken for what it is
// not.
func TestDamagedOutput(t *testing.T) {
	_, dir := trained(t, nil)
	for _, name := range []string{"config.json", "head.safetensors"} {
		path := filepath.Join(dir, name)
		whole := read(t, path)
		cuts := map[string][]byte{"cut": whole[:len(whole)/2], "empty": nil, "longer": append(slices.Clone(whole), 'x')}
		if name == "config.json" {
			var doc map[string]any
			if err := json.Unmarshal(whole, &doc); err != nil {
				t.Fatal(err)
			}
			for _, key := range []string{"kind", "schema_version", "encoders", "head"} {
				part := map[string]any{}
				for k, v := range doc {
					if k != key {
						part[k] = v
					}
				}
				cuts["no "+key], _ = json.Marshal(part)
			}
			cuts["another dimension"] = []byte(strings.Replace(string(whole), `"dim": 256`, `"dim": 255`, 1))
			cuts["another fingerprint"] = []byte(strings.Replace(string(whole), `"fingerprint": "`, `"fingerprint": "0`, 1))
		}
		for damage, b := range cuts {
			if err := os.WriteFile(path, b, 0o644); err != nil {
				t.Fatal(err)
			}
			if _, err := pipeline.Load(dir); err == nil || !strings.Contains(err.Error(), dir) {
				t.Errorf("%s, %s: got %v", name, damage, err)
			}
		}
		if err := os.WriteFile(path, whole, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	loadModel(t, dir)
	if _, err := pipeline.Load(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing folder gives %v", err)
	}
}

// TestRunsAreReproducible: two runs write the same head, and another seed
// another.
func TestRunsAreReproducible(t *testing.T) {
	of := func(seed uint64) string {
		cfg := config(t, "")
		cfg.Seed = seed
		return fmt.Sprintf("%x", weights(t, cfg))
	}
	first := of(1)
	if again := of(1); again != first {
		t.Error("the same run trains other weights")
	}
	if of(2) == first {
		t.Error("the seed changes nothing")
	}
}

// TestModelMakesItsEncoderAgain: the output folder of a pipeline with a model
// directory is all that Load needs.
func TestModelMakesItsEncoderAgain(t *testing.T) {
	options := bert.Options{Dir: "../encode/bert/testdata/bert", MaxLength: 9}
	_, dir := trained(t, func(cfg *pipeline.Config[row]) {
		cfg.Encoders = pipeline.Encoders{"one": encode.Reading(options.Model(), encode.Reads{Template: "query: {text}"})}
	})
	m := loadModel(t, dir)
	if vecs, err := m.Encode(t.Context(), questions(3)); err != nil || m.Dim() != 24 || len(vecs) != 3 {
		t.Errorf("%d embeddings of dimension %d, %v", len(vecs), m.Dim(), err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.Replace(string(text), `"max_length": 9`, `"max_length": 10`, 1)
	if changed == string(text) {
		t.Fatalf("the option is not in %s", text)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(changed), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := pipeline.Load(dir); !errors.Is(err, pipeline.ErrEncoder) {
		t.Errorf("a changed option gives %v, want ErrEncoder", err)
	}
}
