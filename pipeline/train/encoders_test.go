package train_test

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/permafrost-ml/permafrost/pipeline/head"
	"github.com/permafrost-ml/permafrost/pipeline/loss"
	"github.com/permafrost-ml/permafrost/pipeline/metric"
	"github.com/permafrost-ml/permafrost/pipeline/train"
	"github.com/permafrost-ml/permafrost/pipeline/train/trainable"
)

// TestEncodersLearn: where embeddings say nothing and texts all, an encoder
// of texts is what makes pairs find each other; saved, it does so again.
func TestEncodersLearn(t *testing.T) {
	data := toyPairs(120, 4, 40)
	rng := rand.New(rand.NewPCG(1, 1))
	for i := range data.a {
		data.a[i], data.b[i] = rng.Float32()-0.5, rng.Float32()-0.5
	}
	for i := range 120 {
		data.texts = append(data.texts, strings.Repeat(string(rune('a'+i%26)), 2+i/26))
	}
	parts := []train.Part{{Name: "noise", Dim: 4}, {Name: "texts", Encoder: trainable.NgramBag{Dim: 16, Buckets: 500}}}
	res, err := train.Fit(t.Context(), data, head.SkipConnection{}, loss.MultipleNegativesRanking{}, train.Options{
		Epochs: 60, Optimizer: train.Adam{LR: 5e-2}, Parts: parts,
	})
	if err != nil {
		t.Fatal(err)
	}
	measure := func(e *train.Encoders) float64 {
		rep, err := train.Evaluate(t.Context(), train.Encoded(data, e.Freeze()), res.Head.Freeze(), metric.RetrievalPrecision{})
		if err != nil {
			t.Fatal(err)
		}
		return rep.Values["retrieval_precision@1"]
	}
	got := measure(res.Encoders)
	if got < 0.9 {
		t.Errorf("precision at 1 is %v", got)
	}
	var file bytes.Buffer
	if err := res.Encoders.Save(&file); err != nil {
		t.Fatal(err)
	}
	saved := file.Bytes()
	back, err := train.LoadEncoders(bytes.NewReader(saved), parts)
	if err != nil || measure(back) != got {
		t.Errorf("after loading: %v, another precision: %v", err, err == nil)
	}
	value, err := train.MeanLoss(t.Context(), train.Encoded(data, back.Freeze()), res.Head.Freeze(), res.Loss)
	if err != nil || !(value < res.FirstLoss()) {
		t.Errorf("the loss is %v, %v", value, err)
	}
	if _, err := train.LoadEncoders(bytes.NewReader(saved), parts[:1]); err == nil {
		t.Error("weights of other encoders: no error")
	}
	parts[1].Encoder = trainable.NgramBag{Dim: 16, Buckets: 501}
	if _, err := train.LoadEncoders(bytes.NewReader(saved), parts); err == nil {
		t.Error("weights of another shape: no error")
	}
}

func TestEncodersRefuse(t *testing.T) {
	pairs := toyPairs(40, 4, 10)
	for want, parts := range map[string][]train.Part{
		`encoder "e" of the type ngram_bag has 4 values to read`:  {{Name: "e", Dim: 4, Encoder: trainable.NgramBag{}}},
		`encoder "e": projection: a projection of 4 values to -1`: {{Name: "e", Dim: 4, Encoder: trainable.Projection{Dim: -1}}},
		`encoder "e": a batch has no texts`:                       {{Name: "e", Encoder: trainable.NgramBag{}}, {Name: "f", Dim: 4}},
		`the matrix has 4 columns where 3 are needed`:             {{Name: "e", Dim: 3, Encoder: trainable.Projection{}}},
		`encoder "e" of the type projection has 0 values to read`: {{Name: "e", Encoder: trainable.Projection{}}},
	} {
		_, err := train.Fit(t.Context(), pairs, head.SkipConnection{}, loss.MultipleNegativesRanking{}, train.Options{Parts: parts})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	// Names of weights are those of the encoders.
	e, err := train.NewEncoders([]train.Part{{Name: "x", Dim: 2, Encoder: trainable.Projection{}}, {Name: "y", Dim: 1}}, rand.New(rand.NewPCG(1, 1)))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, p := range e.Parameters() {
		names = append(names, p.Name)
	}
	if !slices.Equal(names, []string{"x.weight", "x.bias"}) || e.Dim() != 3 {
		t.Errorf("%d values, parameters %q", e.Dim(), names)
	}
}
