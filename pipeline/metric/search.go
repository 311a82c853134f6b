package metric

import (
	"context"
	"fmt"

	"gorgonia.org/tensor"

	"github.com/permafrost-ml/permafrost/internal/kernels"
	"github.com/permafrost-ml/permafrost/pipeline/train/nn"
)

// Neighbor is a candidate that [Search] found.
type Neighbor struct {
	// Index is the candidate's row.
	Index int32
	// Similarity is its cosine similarity to the query.
	Similarity float32
}

// searchQueries is the number of queries between two looks at the context.
const searchQueries = 1024

// Search returns the k candidates most similar to each query, the nearest
// first; of those of equal similarity, the one of the lower row. queries is
// [m, dim] and candidates [n, dim]; both are borrowed and not changed. If
// they are one tensor, an object is no candidate for itself. A query gets
// fewer than k neighbors only where there are fewer candidates. The search is
// exact, on every processor, and keeps nothing but the result and the
// similarities of a few queries. A NaN or infinite embedding is an error; a
// row of zeros has similarity 0 to everything. Search returns ctx's error
// within a block of queries.
func Search(ctx context.Context, queries, candidates *tensor.Dense, k int) ([][]Neighbor, error) {
	if k < 1 {
		return nil, fmt.Errorf("k is %d where at least 1 is needed", k)
	}
	c, err := nn.View(candidates)
	if err != nil {
		return nil, fmt.Errorf("candidates: %w", err)
	}
	q, err := nn.ViewCols(queries, c.Cols)
	if err != nil {
		return nil, fmt.Errorf("queries: %w", err)
	}
	inv, err := inverseLengths(c)
	if err != nil {
		return nil, fmt.Errorf("candidates: %w", err)
	}
	invQ, self := inv, queries == candidates
	if !self {
		if invQ, err = inverseLengths(q); err != nil {
			return nil, fmt.Errorf("queries: %w", err)
		}
	}
	k = min(k, c.Rows)
	search := kernels.TopK{Candidates: kernels.Candidates{Rows: c.Data, Dim: c.Cols, Scale: inv}}
	found, out := make([]kernels.Neighbor, min(searchQueries, q.Rows)*k), make([][]Neighbor, 0, q.Rows)
	var unit nn.Buffer
	var exclude []int32
	for lo := 0; lo < q.Rows; lo += searchQueries {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		hi := min(lo+searchQueries, q.Rows)
		block := unit.Mat(hi-lo, q.Cols)
		if self {
			exclude = exclude[:0]
			for i := lo; i < hi; i++ {
				exclude = append(exclude, int32(i))
			}
		}
		for i := range block.Rows {
			kernels.Scale(invQ[lo+i], q.Row(lo+i), block.Row(i))
		}
		search.Find(found, block.Data, k, exclude)
		for i := range block.Rows {
			out = append(out, neighbors(found[i*k:(i+1)*k]))
		}
	}
	return out, nil
}

func neighbors(found []kernels.Neighbor) []Neighbor {
	out := make([]Neighbor, 0, len(found))
	for _, n := range found {
		if n.Index >= 0 {
			out = append(out, Neighbor{n.Index, n.Score})
		}
	}
	return out
}
