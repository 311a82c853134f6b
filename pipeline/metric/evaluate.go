package metric

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"gorgonia.org/tensor"

	"github.com/permafrost-ml/permafrost/internal/kernels"
	"github.com/permafrost-ml/permafrost/pipeline/train/nn"
)

// Report is what [Evaluate] found.
type Report struct {
	// Values are the metrics' means over queries, by [Config.Name]. They
	// are 0 where there are no queries.
	Values map[string]float64
	// Objects is the number of candidates, Queries that of objects with at
	// least one relevant object.
	Objects, Queries int
}

// Evaluate searches with every object among all others and returns the
// metrics' means. x holds the objects' embeddings, [n, dim]; it is borrowed
// and not changed. Time grows with n², memory with n alone: for an object 20
// bytes and 8 a metric, and for a processor 4 bytes an object and up to 20 MiB
// (or 12 bytes for each object relevant to one query, if that is more). A NaN
// or infinite embedding is an error; a row of zeros has similarity 0 to
// everything. The products are this module's own, whatever [nn.UseBLAS] was
// given. Evaluate returns ctx's error within a block of queries.
func Evaluate(ctx context.Context, x *tensor.Dense, rel Relevance, metrics ...Config) (*Report, error) {
	m, err := nn.View(x)
	if err != nil {
		return nil, err
	}
	if rel.Len() != m.Rows {
		return nil, fmt.Errorf("there are %d embeddings and relevance for %d objects", m.Rows, rel.Len())
	}
	report := &Report{Values: map[string]float64{}, Objects: m.Rows}
	for _, c := range metrics {
		if err := c.Validate(); err != nil {
			return nil, fmt.Errorf("metric %s: %w", c.Type(), err)
		}
		report.Values[c.Name()] = 0
	}
	inv, err := inverseLengths(m)
	if err != nil {
		return nil, err
	}
	e := &evaluation{
		objects: kernels.Candidates{Rows: m.Data, Dim: m.Cols, Scale: inv},
		rel:     rel, metrics: metrics, values: make([]float64, m.Rows*len(metrics)),
	}
	e.findQueries()
	if err := e.run(ctx); err != nil {
		return nil, err
	}
	report.Queries = len(e.queries)
	for k, c := range metrics {
		sum := 0.0
		for i := range m.Rows {
			sum += e.values[i*len(metrics)+k]
		}
		if report.Queries > 0 {
			report.Values[c.Name()] = sum / float64(report.Queries)
		}
	}
	return report, nil
}

func inverseLengths(x nn.Mat) ([]float32, error) {
	inv := make([]float32, x.Rows)
	for i := range x.Rows {
		norm := math.Sqrt(nn.Dot(x.Row(i), x.Row(i)))
		if math.IsNaN(norm) || math.IsInf(norm, 0) {
			return nil, fmt.Errorf("the embedding of object %d is not finite", i)
		}
		if norm > 0 {
			inv[i] = float32(1 / max(norm, nn.NormEps))
		}
	}
	return inv, nil
}

type evaluation struct {
	objects kernels.Candidates // scaled by the inverse lengths
	rel     Relevance
	metrics []Config
	queries []int32   // objects with relevant ones, in the order of blocks
	values  []float64 // objects × metrics; 0 for objects that are no queries
	next    atomic.Int64
}

// findQueries finds the queries and puts those with relevant objects in
// common side by side, so that those of a block are few.
func (e *evaluation) findQueries() {
	least := make([]int32, e.objects.Len())
	nn.Parallel(len(least), 64, func(lo, hi int) {
		var relevant []int32
		for i := lo; i < hi; i++ {
			relevant = e.rel.Append(relevant[:0], i)
			if least[i] = -1; len(relevant) > 0 {
				least[i] = min(int32(i), slices.Min(relevant))
			}
		}
	})
	for i, l := range least {
		if l >= 0 {
			e.queries = append(e.queries, int32(i))
		}
	}
	slices.SortStableFunc(e.queries, func(i, j int32) int { return cmp.Compare(least[i], least[j]) })
}

// run ranks all queries, on every processor.
func (e *evaluation) run(ctx context.Context) error {
	var wg sync.WaitGroup
	for range max(1, min(runtime.GOMAXPROCS(0), len(e.queries)/leastBlock)) {
		wg.Go(func() {
			r := newRanker(e)
			for ctx.Err() == nil {
				hi := int(e.next.Add(blockQueries))
				lo := hi - blockQueries
				if lo >= len(e.queries) {
					return
				}
				r.rank(e.queries[lo:min(hi, len(e.queries))])
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}
