package metric

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/permafrost-ml/permafrost/internal/kernels"
	"github.com/permafrost-ml/permafrost/pipeline/train/nn"
)

// Spearman declares Spearman's rank correlation between the scores of pairs
// and the cosine similarities of their objects: the usual metric of semantic
// textual similarity. It needs scored pairs, see [Scored].
type Spearman struct{}

// Type is "spearman".
func (Spearman) Type() string { return "spearman" }

// Name is "spearman".
func (m Spearman) Name() string { return m.Type() }

// Params is empty: there are no options.
func (Spearman) Params() map[string]any { return map[string]any{} }

// Validate finds nothing wrong.
func (Spearman) Validate() error { return nil }

// Correlate is Pearson's correlation of the ranks; equal values have the mean
// of the ranks that they share. It is 0 where all scores, or all similarities,
// are equal.
func (Spearman) Correlate(scores, similarities []float32) float64 {
	x, y := averageRanks(scores), averageRanks(similarities)
	mean := float64(len(x)+1) / 2
	var xy, xx, yy float64
	for i := range x {
		a, b := x[i]-mean, y[i]-mean
		xy += a * b
		xx += a * a
		yy += b * b
	}
	if xx == 0 || yy == 0 {
		return 0
	}
	return xy / math.Sqrt(xx*yy)
}

// averageRanks are the ranks of values, from 1 for the least.
func averageRanks(values []float32) []float64 {
	order, ranks := make([]int, len(values)), make([]float64, len(values))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(i, j int) int {
		switch {
		case values[i] < values[j]:
			return -1
		case values[i] > values[j]:
			return 1
		}
		return 0
	})
	for lo := 0; lo < len(order); {
		hi := lo + 1
		for hi < len(order) && values[order[hi]] == values[order[lo]] {
			hi++
		}
		for _, i := range order[lo:hi] {
			ranks[i] = float64(lo+1+hi) / 2
		}
		lo = hi
	}
	return ranks
}

// errNoScores is returned for a correlation over what has no scores to
// correlate with.
var errNoScores = errors.New("it needs pairs of different scores")

// pairSimilarities are the scores of pairs with the cosine similarities of
// their objects, each rounded once from float64.
func pairSimilarities(x kernels.Candidates, rel Relevance) (scores, similarities []float32, err error) {
	s, ok := rel.(Scored)
	if !ok {
		return nil, nil, fmt.Errorf("%w, and there are no scores", errNoScores)
	}
	a, b, scores := s.Pairs()
	if !slices.ContainsFunc(scores, func(v float32) bool { return v != scores[0] }) {
		return nil, nil, fmt.Errorf("%w, and all %d pairs have the same", errNoScores, len(a))
	}
	similarities = make([]float32, len(a))
	row := func(i int32) []float32 { return x.Rows[int(i)*x.Dim:][:x.Dim] }
	nn.Parallel(len(a), 3*x.Dim, func(lo, hi int) {
		for k := lo; k < hi; k++ {
			p, q := row(a[k]), row(b[k])
			if norm := math.Sqrt(nn.Dot(p, p)) * math.Sqrt(nn.Dot(q, q)); norm > 0 {
				similarities[k] = float32(nn.Dot(p, q) / norm)
			}
		}
	})
	return scores, similarities, nil
}
