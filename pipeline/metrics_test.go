package pipeline_test

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/permafrost-ml/permafrost/encode"
	"github.com/permafrost-ml/permafrost/encode/static"
	"github.com/permafrost-ml/permafrost/pipeline"
	"github.com/permafrost-ml/permafrost/pipeline/loss"
	"github.com/permafrost-ml/permafrost/pipeline/metric"
	"github.com/permafrost-ml/permafrost/source"
)

// relevance is a split as its metrics see it, by brute force: texts to search
// and which of them match.
type relevance struct {
	texts []string
	match map[[2]int]bool
}

// add returns the number of a text.
func (r *relevance) add(text string) int {
	if i := slices.Index(r.texts, text); i >= 0 {
		return i
	}
	r.texts = append(r.texts, text)
	return len(r.texts) - 1
}

// scores are precision at 1 and 3 and the reciprocal rank over all texts
// that match any other. What matches comes last among equally near ones.
func (r *relevance) scores(vectors map[string][]float32) (out [3]float64, queries int) {
	cosine := func(a, b []float32) float64 {
		var dot, aa, bb float64
		for i := range a {
			dot, aa, bb = dot+float64(a[i])*float64(b[i]), aa+float64(a[i])*float64(a[i]), bb+float64(b[i])*float64(b[i])
		}
		return dot / math.Sqrt(aa*bb)
	}
	for q := range r.texts {
		type found struct {
			score float64
			match int
		}
		var others []found
		for o := range r.texts {
			if o != q {
				f := found{score: cosine(vectors[r.texts[q]], vectors[r.texts[o]])}
				if r.match[[2]int{q, o}] {
					f.match = 1
				}
				others = append(others, f)
			}
		}
		slices.SortFunc(others, func(a, b found) int {
			return cmp.Or(cmp.Compare(b.score, a.score), cmp.Compare(a.match, b.match))
		})
		first := slices.IndexFunc(others, func(f found) bool { return f.match == 1 })
		if first < 0 {
			continue
		}
		queries++
		out[0] += float64(others[0].match)
		out[1] += float64(others[0].match+others[1].match+others[2].match) / 3
		out[2] += 1 / float64(first+1)
	}
	for i := range out {
		out[i] /= float64(queries)
	}
	return out, queries
}

// TestMetrics are those of the whole split, for any number of workers and
// any batch.
func TestMetrics(t *testing.T) {
	rs := rows(40, "")
	for i := range rs { // duplicates: answers shared by rows, questions asked again
		rs[i].A = rs[i%25].A
		if i%7 == 0 {
			rs[i].Q = rs[(i+3)%40].Q
		}
	}
	for _, kind := range []loss.Kind{loss.Pairs, loss.Groups} {
		want := relevance{match: map[[2]int]bool{}}
		for i, r := range rs {
			if kind == loss.Pairs { // over distinct objects
				q, a := want.add(r.Q), want.add(r.A)
				want.match[[2]int{q, a}], want.match[[2]int{a, q}] = true, true
				continue
			}
			want.texts = append(want.texts, r.Q) // over rows
			for j, o := range rs {
				want.match[[2]int{i, j}] = o.C == r.C
			}
		}
		for _, workers := range []int{1, 4} {
			cfg := config(t, "")
			cfg.Splits = pipeline.Splits[row]{"train": source.Slice(rows(60, "")), "val": source.Slice(rs)}
			cfg.Encoders = pipeline.Encoders{"enc": static.Default()}
			cfg.Sample = func(r row) pipeline.Sample { return pipeline.Pair(encode.Text(r.Q), encode.Text(r.A)) }
			if kind == loss.Groups {
				cfg.Sample = func(r row) pipeline.Sample { return pipeline.Group(encode.Text(r.Q), r.C) }
				cfg.Loss = loss.Softmax{}
			}
			cfg.Cache.NumWorkers = workers
			cfg.Train.BatchSize = 3 * workers
			cfg.Metrics = []metric.Config{metric.RetrievalPrecision{}, metric.RetrievalPrecision{K: 3}, metric.ReciprocalRank{}}
			cfg.Output = t.TempDir()
			res, err := open(t, cfg).Run(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for what, got := range map[string]map[string]float64{"baseline": res.Eval.Baseline, "tuned": res.Eval.Tuned} {
				vectors := embed(t, cfg.Output, what == "baseline", want.texts)
				scores, queries := want.scores(vectors)
				if res.Eval.Objects != len(want.texts) || res.Eval.Queries != queries {
					t.Errorf("%v: %d objects and %d queries, want %d and %d", kind, res.Eval.Objects, res.Eval.Queries, len(want.texts), queries)
				}
				for i, name := range []string{"retrieval_precision@1", "retrieval_precision@3", "reciprocal_rank"} {
					if math.Abs(got[name]-scores[i]) > 1e-9 {
						t.Errorf("%v, %d workers, %s: %s is %v, want %v", kind, workers, what, name, got[name], scores[i])
					}
				}
			}
		}
	}
}

// embed returns the embeddings of texts, as the encoder gives them or after
// the head.
func embed(t testing.TB, dir string, raw bool, texts []string) map[string][]float32 {
	t.Helper()
	out := map[string][]float32{}
	if raw {
		enc, err := static.Default().Open(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		defer enc.Close()
		for _, text := range texts {
			out[text] = make([]float32, enc.Dim())
			if err := enc.Encode(t.Context(), []encode.Input{{encode.TextValue(text)}}, out[text]); err != nil {
				t.Fatal(fmt.Errorf("%q: %w", text, err))
			}
		}
		return out
	}
	m := loadModel(t, dir)
	for _, text := range texts {
		v, err := m.Encode(t.Context(), []encode.Object{encode.Text(text)})
		if err != nil {
			t.Fatal(err)
		}
		out[text] = v[0]
	}
	return out
}
