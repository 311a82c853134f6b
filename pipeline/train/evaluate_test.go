package train_test

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/permafrost-ml/permafrost/pipeline/head"
	"github.com/permafrost-ml/permafrost/pipeline/loss"
	"github.com/permafrost-ml/permafrost/pipeline/metric"
	"github.com/permafrost-ml/permafrost/pipeline/train"
)

func frozen(t *testing.T, c head.Config, in int) head.Frozen {
	t.Helper()
	h, err := c.New(in, rand.New(rand.NewPCG(0, 0)))
	if err != nil {
		t.Fatal(err)
	}
	return h.Freeze()
}

// TestEvaluatePairs follows one small split by hand. Object 1 is in two
// pairs and on both sides, object 4 in no positive one.
func TestEvaluatePairs(t *testing.T) {
	e := map[int64][]float32{1: {1, 0}, 2: {1, 0.1}, 3: {0, 1}, 4: {0.1, 1}, 5: {-1, 0}}
	data := &memory{
		kind: loss.Pairs, dim: 2, batch: 2,
		aids: []int64{1, 3, 4}, bids: []int64{2, 1, 5}, scores: []float32{1, 0.5, 0},
	}
	for i := range data.aids {
		data.a, data.b = append(data.a, e[data.aids[i]]...), append(data.b, e[data.bids[i]]...)
	}
	got, err := train.Evaluate(t.Context(), data, frozen(t, head.Empty{}, 2), metric.RetrievalPrecision{}, metric.ReciprocalRank{})
	if err != nil {
		t.Fatal(err)
	}
	// 1 finds 2 first; 2 finds 1 first; 3 finds 4, 2 and 5
	// before 1: 5 is as far, but not relevant.
	if got.Objects != 5 || got.Queries != 3 {
		t.Errorf("got %+v", got)
	}
	if p := got.Values["retrieval_precision@1"]; p != 2.0/3 {
		t.Errorf("precision is %v", p)
	}
	if rr := got.Values["reciprocal_rank"]; rr != (1+1+1.0/4)/3 {
		t.Errorf("reciprocal rank is %v", rr)
	}
	if got, err = train.Evaluate(t.Context(), data, frozen(t, head.Empty{}, 2), metric.Spearman{}); err != nil || got.Values["spearman"] != 1 {
		t.Errorf("the scores follow the similarities: %+v, %v", got, err)
	}
	objects, err := train.Embed(t.Context(), data, frozen(t, head.Empty{}, 2))
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []struct {
		id int64
		at train.Place
	}{{1, train.Place{}}, {2, train.Place{Side: 1}}, {3, train.Place{Row: 1}}, {4, train.Place{Row: 2}}, {5, train.Place{Row: 2, Side: 1}}} {
		vec := objects.Embeddings.Float32s()[2*i : 2*i+2]
		if objects.Places[i] != want.at || !slices.Equal(vec, e[want.id]) {
			t.Errorf("object %d is %v at %v, want %v at %v", i, vec, objects.Places[i], e[want.id], want.at)
		}
	}
	data.aids, data.bids = nil, nil
	if got, err = train.Evaluate(t.Context(), data, frozen(t, head.Empty{}, 2)); err != nil || got.Objects != 6 || got.Queries != 4 {
		t.Errorf("without ids: %+v, %v", got, err)
	}
}

// TestEvaluateIgnoresBatches: batches of any size give the same value.
func TestEvaluateIgnoresBatches(t *testing.T) {
	for _, data := range []*memory{toyPairs(60, 12, 1), toyGroups(60, 12, 5, 1)} {
		var want float64
		for _, size := range []int{1, 7, 60, 1000} {
			data.batch = size
			got, err := train.Evaluate(t.Context(), data, frozen(t, head.SkipConnection{}, 12), metric.ReciprocalRank{})
			if err != nil {
				t.Fatal(err)
			}
			v := got.Values["reciprocal_rank"]
			if size == 1 {
				want = v
			}
			if v != want || v == 0 {
				t.Errorf("%v: %v with batches of %d, %v with those of 1", data.kind, v, size, want)
			}
		}
	}
}

func TestEvaluateRefuses(t *testing.T) {
	empty := frozen(t, head.Empty{}, 2)
	oneSide := toyPairs(4, 2, 2)
	oneSide.bids = nil
	noLabels := toyGroups(4, 2, 2, 2)
	noLabels.labels = nil
	for name, c := range map[string]struct {
		data *memory
		want string
	}{
		"dimension":       {toyPairs(4, 3, 2), "takes 2 values and the data have 3"},
		"no data":         {&memory{kind: loss.Groups, dim: 2, batch: 2}, "no batch"},
		"ids of one side": {oneSide, "batch 0: a batch has ids of one side only"},
		"no labels":       {noLabels, "batch 0: a batch of 2 rows has 0 labels"},
	} {
		if _, err := train.Evaluate(t.Context(), c.data, empty); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}
