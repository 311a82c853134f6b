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
	// Values are the metrics, by [Config.Name]: for a [Ranking] the mean over
	// queries, 0 where there are no queries. Of samples, they are the means.
	Values map[string]float64
	// Deviations are the standard deviations over samples, nil without them.
	Deviations map[string]float64
	// Objects is the number of candidates, Queries that of objects with at
	// least one relevant object, at most a sample's size.
	Objects, Queries int
}

// Evaluate searches with every object among all others and returns the
// metrics' means. x holds the objects' embeddings, [n, dim]; it is borrowed
// and not changed. Time grows with n², memory with n alone: for an object 24
// bytes and 8 a metric, and for a processor 4 bytes an object and up to 20 MiB
// (or 12 bytes for each object relevant to one query, if that is more). A NaN
// or infinite embedding is an error, and so is a [Correlation] over anything
// but pairs of different scores; a row of zeros has similarity 0 to
// everything. The products are this module's own, whatever [nn.UseBLAS] was
// given. Evaluate returns ctx's error within a block of queries.
func Evaluate(ctx context.Context, x *tensor.Dense, rel Relevance, metrics ...Config) (*Report, error) {
	return EvaluateSample(ctx, x, rel, Sample{}, metrics...)
}

// EvaluateSample is [Evaluate] over random samples of the queries, and of the
// pairs. It searches with each query that is drawn once.
func EvaluateSample(ctx context.Context, x *tensor.Dense, rel Relevance, s Sample, metrics ...Config) (*Report, error) {
	m, err := nn.View(x)
	if err != nil {
		return nil, err
	}
	if rel.Len() != m.Rows {
		return nil, fmt.Errorf("there are %d embeddings and relevance for %d objects", m.Rows, rel.Len())
	}
	if err := s.Validate(); err != nil {
		return nil, err
	}
	e := &evaluation{rel: rel, sample: s, report: &Report{Values: map[string]float64{}, Objects: m.Rows}}
	if s.Size > 0 {
		e.report.Deviations = map[string]float64{}
	}
	var correlations []Correlation
	for _, c := range metrics {
		if err := c.Validate(); err != nil {
			return nil, fmt.Errorf("metric %s: %w", c.Type(), err)
		}
		switch c := c.(type) {
		case Ranking:
			e.metrics = append(e.metrics, c)
		case Correlation:
			correlations = append(correlations, c)
		default:
			return nil, fmt.Errorf("metric %s is neither a ranking nor a correlation", c.Type())
		}
	}
	inv, err := inverseLengths(m)
	if err != nil {
		return nil, err
	}
	e.objects = kernels.Candidates{Rows: m.Data, Dim: m.Cols, Scale: inv}
	for _, c := range correlations {
		if err := e.correlate(c); err != nil {
			return nil, fmt.Errorf("metric %s: %w", c.Type(), err)
		}
	}
	return e.report, e.search(ctx)
}

// set reports a metric of a value for each sample.
func (e *evaluation) set(name string, values []float64) {
	mean, deviation := meanDeviation(values)
	if e.report.Values[name] = mean; e.report.Deviations != nil {
		e.report.Deviations[name] = deviation
	}
}

// correlate measures pairs.
func (e *evaluation) correlate(c Correlation) error {
	scores, similarities, err := pairSimilarities(e.objects, e.rel)
	if err != nil {
		return err
	}
	if e.sample.Size == 0 {
		e.set(c.Name(), []float64{c.Correlate(scores, similarities)})
		return nil
	}
	var values []float64
	for _, drawn := range e.sample.draw(len(scores), pairStream, func(int32) bool { return true }) {
		s, t := make([]float32, len(drawn)), make([]float32, len(drawn))
		for i, k := range drawn {
			s[i], t[i] = scores[k], similarities[k]
		}
		values = append(values, c.Correlate(s, t))
	}
	e.set(c.Name(), values)
	return nil
}

// search measures retrieval.
func (e *evaluation) search(ctx context.Context) error {
	n := e.objects.Len()
	e.values, e.relevant = make([]float64, n*len(e.metrics)), make([]int32, n)
	samples := [][]int32{nil}
	if e.sample.Size == 0 {
		for i := range n {
			e.queries = append(e.queries, int32(i))
		}
		e.findQueries()
		samples[0] = slices.Sorted(slices.Values(e.queries))
	} else {
		var relevant []int32
		samples = e.sample.draw(n, queryStream, func(i int32) bool {
			relevant = e.rel.Append(relevant[:0], int(i))
			return len(relevant) > 0
		})
		e.queries = slices.Compact(slices.Sorted(slices.Values(slices.Concat(samples...))))
		e.findQueries()
	}
	if err := e.run(ctx); err != nil {
		return err
	}
	e.report.Queries = len(samples[0])
	for k, c := range e.metrics {
		var means []float64
		for _, queries := range samples {
			means = append(means, e.mean(k, queries))
		}
		e.set(c.Name(), means)
	}
	return nil
}

// mean is that of metric k over queries.
func (e *evaluation) mean(k int, queries []int32) float64 {
	w, weighted := e.metrics[k].(Weighted)
	sum, weights := 0.0, 0.0
	for _, q := range queries {
		weight := 1.0
		if weighted {
			weight = w.Weight(int(e.relevant[q]))
		}
		sum += weight * e.values[int(q)*len(e.metrics)+k]
		weights += weight
	}
	if weights == 0 {
		return 0
	}
	return sum / weights
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
	objects  kernels.Candidates // scaled by the inverse lengths
	rel      Relevance
	sample   Sample
	metrics  []Ranking
	report   *Report
	queries  []int32   // objects with relevant ones, in the order of blocks
	values   []float64 // objects × metrics; 0 for objects that are no queries
	relevant []int32   // by object that is a query: how many are relevant
	next     atomic.Int64
}

// findQueries drops the queries without relevant objects and puts those with
// some in common side by side, so that those of a block are few.
func (e *evaluation) findQueries() {
	least := make([]int32, e.objects.Len())
	nn.Parallel(len(e.queries), 64, func(lo, hi int) {
		var relevant []int32
		for _, i := range e.queries[lo:hi] {
			relevant = e.rel.Append(relevant[:0], int(i))
			if e.relevant[i] = int32(len(relevant)); len(relevant) > 0 {
				least[i] = min(i, slices.Min(relevant))
			}
		}
	})
	e.queries = slices.DeleteFunc(e.queries, func(i int32) bool { return e.relevant[i] == 0 })
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
