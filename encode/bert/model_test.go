package bert

import (
	"context"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"github.com/permafrost-ml/permafrost/encode"
	"github.com/permafrost-ml/permafrost/encode/encodetest"
)

func tinyModel(name string) Options { return Options{Dir: filepath.Join("testdata", name)} }

func TestContract(t *testing.T) {
	for _, name := range tiny {
		t.Run(name, func(t *testing.T) { encodetest.Run(t, tinyModel(name).Model(), encodetest.Options{}) })
	}
	o := tinyModel("bert")
	o.Precision = precisionInt8
	t.Run("int8", func(t *testing.T) { encodetest.Run(t, o.Model(), encodetest.Options{}) })
}

// TestSameBitsInAnyBatch encodes texts one by one, all at once, and shuffled
// in batches that end passes at every place.
func TestSameBitsInAnyBatch(t *testing.T) {
	inputs := readTexts(t, "testdata/texts.json")
	for len(inputs) < 300 { // of several passes
		inputs = append(inputs, inputs...)
	}
	for _, name := range tiny {
		t.Run(name, func(t *testing.T) {
			enc := open(t, tinyModel(name).Model())
			dim := enc.Dim()
			all := embed(t, enc, inputs)
			check := func(order []int) {
				batch := make([]encode.Input, len(order))
				for i, at := range order {
					batch[i] = inputs[at]
				}
				got := embed(t, enc, batch)
				for i, at := range order {
					if !sameBits(got[i*dim:(i+1)*dim], all[at*dim:(at+1)*dim]) {
						t.Fatalf("%q has other bits in a batch of %d", inputs[at].Text(), len(order))
					}
				}
			}
			rng := rand.New(rand.NewPCG(1, 2))
			for i := range inputs {
				check([]int{i})
			}
			for range 20 {
				check(rng.Perm(len(inputs))[:rng.IntN(len(inputs))])
			}
		})
	}
}

func sameBits(a, b []float32) bool {
	return slices.EqualFunc(a, b, func(x, y float32) bool { return math.Float32bits(x) == math.Float32bits(y) })
}

// TestWorkersShareWeights: encoders that are open at the same time use one
// network, which is gone after the last Close.
func TestWorkersShareWeights(t *testing.T) {
	m := tinyModel("bert").Model()
	var encs []*encoder
	var wg sync.WaitGroup
	var mu sync.Mutex
	for i := range 8 {
		wg.Go(func() {
			enc, err := m.Open(context.Background(), i)
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			encs = append(encs, enc.(*encoder))
		})
	}
	wg.Wait()
	for _, e := range encs {
		if e.net != encs[0].net {
			t.Error("two encoders have weights of their own")
		}
	}
	if n := len(shared.all); n != 1 {
		t.Errorf("%d networks are loaded", n)
	}
	for _, e := range encs {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}
	if n := len(shared.all); n != 0 {
		t.Errorf("%d networks are left", n)
	}
}

// TestAllocatesNothing leaves out what a byte-level tokenizer copies: texts
// that are no UTF-8, and a space before each text. Its pool of words drops some
// under the race detector.
func TestAllocatesNothing(t *testing.T) {
	inputs := slices.DeleteFunc(readTexts(t, "testdata/texts.json"), func(in encode.Input) bool { return !utf8.ValidString(in.Text()) })
	for _, name := range tiny {
		enc := open(t, tinyModel(name).Model())
		dst := make([]float32, len(inputs)*enc.Dim())
		ctx := context.Background()
		n := testing.AllocsPerRun(10, func() {
			if err := enc.Encode(ctx, inputs, dst); err != nil {
				t.Fatal(err)
			}
		})
		if n != 0 && name != "roberta-prefix" && !(raceEnabled && name == "roberta") {
			t.Errorf("%s: %v allocations, want 0", name, n)
		}
	}
}

// TestOptionsChangeTheResult holds each option to what it does, and to a
// fingerprint of its own.
func TestOptionsChangeTheResult(t *testing.T) {
	yes, no := true, false
	text := []encode.Input{{encode.TextValue("the cache keeps embeddings of frozen encoders, once")}}
	prefix := []encode.Input{{encode.TextValue("the cache keep")}}
	base := embed(t, open(t, tinyModel("bert").Model()), text)
	prints := map[string]string{}
	fingerprint := func(name string, o Options) {
		spec, err := o.Model().Spec(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		sum, _, err := spec.Declaration(32)
		if err != nil {
			t.Fatal(err)
		}
		if other, ok := prints[sum]; ok {
			t.Errorf("%s has the fingerprint of %s", name, other)
		}
		prints[sum] = name
	}
	fingerprint("the default", tinyModel("bert"))
	length := func(x []float32) float64 {
		s := 0.0
		for _, v := range x {
			s += float64(v) * float64(v)
		}
		return math.Sqrt(s)
	}
	for _, tc := range []struct {
		name string
		set  func(*Options)
		ok   func(got []float32) bool
	}{
		{"max_length", func(o *Options) { o.MaxLength = 5 }, func(got []float32) bool {
			cut := embed(t, open(t, tinyModel("bert").Model()), prefix)
			return sameBits(got, cut) && !sameBits(got, base)
		}},
		{"pooling cls", func(o *Options) { o.Pooling = "cls" }, func(got []float32) bool { return !sameBits(got, base) && len(got) == 24 }},
		{"pooling max", func(o *Options) { o.Pooling = "max" }, func(got []float32) bool { return !sameBits(got, base) && len(got) == 24 }},
		{"normalize false", func(o *Options) { o.Normalize = &no }, func(got []float32) bool {
			l := length(got)
			for i := range got {
				if math.Abs(float64(got[i])/l-float64(base[i])) > 1e-6 {
					return false
				}
			}
			return math.Abs(l-1) > 0.01
		}},
		{"truncate_dim", func(o *Options) { o.TruncateDim = 7 }, func(got []float32) bool { return sameBits(got, base[:7]) }},
		{"truncate_dim and normalize", func(o *Options) { o.TruncateDim, o.Normalize = 7, &yes }, func(got []float32) bool {
			return len(got) == 7 && math.Abs(length(got)-1) < 1e-6 && math.Abs(float64(got[0])*length(base[:7])-float64(base[0])) < 1e-6
		}},
	} {
		o := tinyModel("bert")
		tc.set(&o)
		fingerprint(tc.name, o)
		if got := embed(t, open(t, o.Model()), text); !tc.ok(got) {
			t.Errorf("%s gives %v; without it %v", tc.name, got, base)
		}
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for want, o := range map[string]Options{
		"model: name":                             {},
		"max_length: -1":                          {Dir: "x", MaxLength: -1},
		"max_length: 2, want 3":                   {Dir: "x", MaxLength: 2},
		"positions for 48 tokens":                 {Dir: "testdata/bert", MaxLength: 49},
		"truncate_dim: -1":                        {Dir: "x", TruncateDim: -1},
		"truncate_dim: 25, an embedding has 24":   {Dir: "testdata/bert", TruncateDim: 25},
		`pooling: "men" is none of`:               {Dir: "x", Pooling: "men"},
		"is of another size":                      {Dir: "testdata/bert-all-poolings", Pooling: "cls"},
		`precision: "int4" is none of`:            {Dir: "x", Precision: "int4"},
		"device: this engine runs on the cpu":     {Dir: "x", Device: "gpu"},
		`device: "tpu" is none of`:                {Dir: "x", Device: "tpu"},
		"there is no config.json in testdata/non": {Dir: "testdata/none"},
	} {
		_, specErr := o.Model().Spec(t.Context())
		enc, openErr := o.Model().Open(t.Context(), 0)
		for _, err := range []error{specErr, openErr} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%+v gives %v, want %q", o, err, want)
			}
		}
		if enc != nil {
			t.Errorf("%+v: an encoder comes with the error", o)
		}
	}
}

func TestConfiguredIsAbsolute(t *testing.T) {
	m, ok := tinyModel("bert").Model().(encode.Configured)
	if !ok {
		t.Fatal("the model has no options")
	}
	o, ok := m.Options().(Options)
	if !ok || !filepath.IsAbs(o.Dir) || filepath.Base(o.Dir) != "bert" {
		t.Errorf("the options are %+v", m.Options())
	}
	again, err := o.Model().Spec(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	first, err := m.Spec(t.Context())
	if err != nil || !slices.Equal(first.Fields, again.Fields) {
		t.Errorf("the model made again declares %v, %v; want %v", again.Fields, err, first.Fields)
	}
}
