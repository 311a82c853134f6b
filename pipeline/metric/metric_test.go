package metric

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"

	"gorgonia.org/tensor"
)

func matrix(rows [][]float32) *tensor.Dense {
	return tensor.New(tensor.WithShape(len(rows), len(rows[0])), tensor.WithBacking(slices.Concat(rows...)))
}

func all() []Config {
	return []Config{RetrievalPrecision{}, RetrievalPrecision{K: 3}, ReciprocalRank{}}
}

// every are all metrics of rankings, with options.
func every() []Config {
	return append(
		all(), Recall{K: 2}, Recall{}, RPrecision{}, NDCG{K: 1}, NDCG{K: 4}, NDCG{}, MAP{}, MAP{K: 3},
		ReciprocalRank{Variant: VariantQuaterion}, RPrecision{Variant: VariantQuaterion},
	)
}

func TestEvaluateEqualsNumPy(t *testing.T) {
	b, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		Name    string
		X       [][]float32
		Labels  []int32
		A, B    []int32
		Scores  []float32
		Queries int
		Values  map[string]float64
	}
	if err := json.Unmarshal(b, &cases); err != nil {
		t.Fatal(err)
	}
	for _, c := range cases {
		rel := ByLabel(c.Labels)
		metrics := every()
		if c.Labels == nil {
			if rel, err = ByPairs(len(c.X), c.A, c.B, c.Scores); err != nil {
				t.Fatal(err)
			}
		}
		if _, ok := c.Values["spearman"]; ok {
			metrics = append(metrics, Spearman{})
		}
		got, err := Evaluate(t.Context(), matrix(c.X), rel, metrics...)
		if err != nil {
			t.Fatal(err)
		}
		if got.Queries != c.Queries || got.Objects != len(c.X) || len(got.Values) != len(c.Values) || got.Deviations != nil {
			t.Errorf("%s: got %+v, want %d queries", c.Name, got, c.Queries)
		}
		for name, want := range c.Values {
			if v, ok := got.Values[name]; !ok || math.Abs(v-want) > 1e-12 {
				t.Errorf("%s: %s is %v, want %v", c.Name, name, v, want)
			}
		}
	}
}

// TestEvaluateEqualsSorting compares with a sort of all candidates by
// float64 cosine, on random vectors and sizes around a block's.
func TestEvaluateEqualsSorting(t *testing.T) {
	for _, n := range []int{2, 3, blockQueries - 1, blockQueries, blockQueries + 1} {
		rng := rand.New(rand.NewPCG(uint64(n), 0))
		const dim = 17
		rows := make([][]float32, n)
		labels := make([]int32, n)
		for i := range rows {
			rows[i] = make([]float32, dim)
			size := math.Pow(10, float64(rng.IntN(9)-4))
			for j := range rows[i] {
				rows[i][j] = float32(rng.NormFloat64() * size)
			}
			labels[i] = rng.Int32N(int32(n/4 + 1))
		}
		var sums [3]float64
		queries := 0
		for q := range rows {
			rel := ByLabel(labels).Append(nil, q)
			if len(rel) == 0 {
				continue
			}
			queries++
			var order []int32
			sim := make([]float64, n)
			for j := range rows {
				sim[j] = cosine(rows[q], rows[j])
				if j != q {
					order = append(order, int32(j))
				}
			}
			slices.SortFunc(order, func(a, b int32) int {
				if sim[a] > sim[b] {
					return -1
				}
				return 1
			})
			first := 0
			for r, j := range order {
				if slices.Contains(rel, j) {
					if r == 0 {
						sums[0]++
					}
					if r < 3 {
						sums[1] += 1.0 / 3
					}
					if first == 0 {
						first = r + 1
					}
				}
			}
			sums[2] += 1 / float64(first)
		}
		got, err := Evaluate(t.Context(), matrix(rows), ByLabel(labels), all()...)
		if err != nil {
			t.Fatal(err)
		}
		if got.Queries != queries {
			t.Errorf("n=%d: %d queries, want %d", n, got.Queries, queries)
		}
		for k, m := range all() {
			if want := sums[k] / float64(max(queries, 1)); math.Abs(got.Values[m.Name()]-want) > 1e-9 {
				t.Errorf("n=%d: %s is %v, want %v", n, m.Name(), got.Values[m.Name()], want)
			}
		}
	}
}

func cosine(a, b []float32) float64 {
	var ab, aa, bb float64
	for i := range a {
		ab += float64(a[i]) * float64(b[i])
		aa += float64(a[i]) * float64(a[i])
		bb += float64(b[i]) * float64(b[i])
	}
	return ab / math.Sqrt(aa*bb)
}

// TestCollapsedEncoder: one vector for every object must look as bad as it is.
func TestCollapsedEncoder(t *testing.T) {
	for name, v := range map[string]float32{"constant": 1, "zero": 0} {
		rows := make([][]float32, 100)
		labels := make([]int32, 100)
		for i := range rows {
			rows[i] = []float32{v, v, v}
			labels[i] = int32(i / 2)
		}
		got, err := Evaluate(t.Context(), matrix(rows), ByLabel(labels), all()...)
		if err != nil {
			t.Fatal(err)
		}
		if got.Values["retrieval_precision@1"] != 0 || math.Abs(got.Values["reciprocal_rank"]-1.0/99) > 1e-12 {
			t.Errorf("%s embeddings score %v", name, got.Values)
		}
	}
}

func TestEvaluateIgnoresOrderAndThreads(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	const n = 300
	rows, labels := make([][]float32, n), make([]int32, n)
	for i := range rows {
		rows[i] = []float32{float32(rng.IntN(3) - 1), float32(rng.IntN(3) - 1), float32(rng.IntN(3) - 1)}
		labels[i] = rng.Int32N(60)
	}
	evaluate := func() map[string]float64 {
		r, err := Evaluate(t.Context(), matrix(rows), ByLabel(labels), all()...)
		if err != nil {
			t.Fatal(err)
		}
		return r.Values
	}
	want := evaluate()
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	if got := evaluate(); !reflect.DeepEqual(got, want) {
		t.Errorf("one thread gives %v, several %v", got, want)
	}
	rng.Shuffle(n, func(i, j int) {
		rows[i], rows[j] = rows[j], rows[i]
		labels[i], labels[j] = labels[j], labels[i]
	})
	for name, v := range evaluate() {
		if math.Abs(v-want[name]) > 1e-12 {
			t.Errorf("%s is %v in another order of rows, %v before", name, v, want[name])
		}
	}
}

func TestEvaluateRefuses(t *testing.T) {
	good := matrix([][]float32{{1, 0}, {0, 1}})
	rel := ByLabel([]int32{0, 0})
	for name, c := range map[string]struct {
		x      *tensor.Dense
		rel    Relevance
		metric Config
		want   string
	}{
		"no matrix":     {nil, rel, ReciprocalRank{}, "missing"},
		"NaN":           {matrix([][]float32{{1, 0}, {0, float32(math.NaN())}}), rel, ReciprocalRank{}, "object 1 is not finite"},
		"infinite":      {matrix([][]float32{{float32(math.Inf(-1)), 0}, {0, 1}}), rel, ReciprocalRank{}, "object 0 is not finite"},
		"other numbers": {good, ByLabel([]int32{0}), ReciprocalRank{}, "2 embeddings and relevance for 1"},
		"negative k":    {good, rel, RetrievalPrecision{K: -1}, "k is -1"},
		"variant":       {good, rel, RPrecision{Variant: "other"}, `variant is "other"`},
		"groups":        {good, rel, Spearman{}, "spearman: it needs pairs of different scores, and there are no scores"},
		"one score":     {good, scored(t, 2, []int32{0, 1}, []int32{1, 1}, []float32{1, 1}), Spearman{}, "all 2 pairs have the same"},
		"no metric":     {good, rel, neither{}, "neither a ranking nor a correlation"},
	} {
		if _, err := Evaluate(t.Context(), c.x, c.rel, c.metric); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Evaluate(ctx, good, rel); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end of ctx: got %v", err)
	}
}

// TestEvaluateMemory: similarities are not kept, whose number grows with the
// square of the objects'.
func TestEvaluateMemory(t *testing.T) {
	const n, dim = 5000, 2
	rng := rand.New(rand.NewPCG(7, 7))
	data, labels := make([]float32, n*dim), make([]int32, n)
	for i := range data {
		data[i] = rng.Float32() - 0.5
	}
	for i := range labels {
		labels[i] = rng.Int32N(n / 3)
	}
	x, rel := tensor.New(tensor.WithShape(n, dim), tensor.WithBacking(data)), ByLabel(labels)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := Evaluate(t.Context(), x, rel, ReciprocalRank{}); err != nil {
		t.Fatal(err)
	}
	if _, err := Search(t.Context(), x, x, 3); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	limit := uint64(100*n + runtime.GOMAXPROCS(0)<<22)
	if got := after.TotalAlloc - before.TotalAlloc; got > limit {
		t.Errorf("%d bytes for %d objects, want at most %d", got, n, limit)
	}
}

func TestNoQueries(t *testing.T) {
	got, err := Evaluate(t.Context(), matrix([][]float32{{1, 0}, {0, 1}}), ByLabel([]int32{0, 1}), all()...)
	if err != nil || got.Queries != 0 || got.Values["reciprocal_rank"] != 0 || len(got.Values) != 3 {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestByPairs(t *testing.T) {
	rel, err := ByPairs(4, []int32{0, 0, 1, 2, 0}, []int32{1, 1, 0, 2, 3}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range [][]int32{{1, 3}, {0}, nil, {0}} {
		if got := rel.Append(nil, i); !slices.Equal(got, want) {
			t.Errorf("partners of %d are %v, want %v", i, got, want)
		}
	}
	if _, ok := rel.(Scored); ok {
		t.Error("pairs without scores are scored")
	}
	rel = scored(t, 4, []int32{0, 0, 1, 2}, []int32{1, 2, 3, 3}, []float32{0.5, 0, -1, 2})
	for i, want := range [][]int32{{1}, {0}, {3}, {2}} {
		if got := rel.Append(nil, i); !slices.Equal(got, want) {
			t.Errorf("partners of %d by score are %v, want %v", i, got, want)
		}
	}
	nan := float32(math.NaN())
	for name, c := range map[string]struct {
		a, b   []int32
		scores []float32
	}{
		"lengths":   {[]int32{0}, []int32{}, nil},
		"scores":    {[]int32{0}, []int32{1}, []float32{1, 1}},
		"too large": {[]int32{0}, []int32{4}, nil},
		"negative":  {[]int32{-1}, []int32{0}, nil},
		"NaN":       {[]int32{0}, []int32{1}, []float32{nan}},
		"infinite":  {[]int32{0}, []int32{1}, []float32{float32(math.Inf(1))}},
	} {
		if _, err := ByPairs(4, c.a, c.b, c.scores); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func scored(t *testing.T, n int, a, b []int32, scores []float32) Relevance {
	t.Helper()
	rel, err := ByPairs(n, a, b, scores)
	if err != nil {
		t.Fatal(err)
	}
	return rel
}

// neither is a metric that says nothing.
type neither struct{}

func (neither) Type() string           { return "neither" }
func (neither) Name() string           { return "neither" }
func (neither) Params() map[string]any { return nil }
func (neither) Validate() error        { return nil }

func TestParse(t *testing.T) {
	for _, m := range append(every(), Spearman{}) {
		params, err := json.Marshal(m.Params())
		if err != nil {
			t.Fatal(err)
		}
		got, err := Parse(m.Type(), params)
		if err != nil || got.Name() != m.Name() {
			t.Errorf("%s with %s came back as %v, %v", m.Type(), params, got, err)
		}
	}
	if _, err := Parse("recal", nil); !errors.Is(err, ErrType) || !strings.Contains(err.Error(), "map, ndcg, r_precision, recall, reciprocal_rank, retrieval_precision, spearman") {
		t.Errorf("unknown type: %v", err)
	}
	for _, params := range []string{`{"kk":1}`, `{"k":-1}`, `{"k":1}{}`, `{`} {
		if _, err := Parse("retrieval_precision", json.RawMessage(params)); err == nil {
			t.Errorf("params %s: no error", params)
		}
	}
}
