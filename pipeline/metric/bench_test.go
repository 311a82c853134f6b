package metric

import (
	"math/rand/v2"
	"testing"

	"gorgonia.org/tensor"
)

// BenchmarkEvaluate searches 4,000 objects of 384 values each, of 77 labels
// and in pairs.
func BenchmarkEvaluate(b *testing.B) {
	const n, dim = 4000, 384
	rng := rand.New(rand.NewPCG(1, 1))
	data, labels := make([]float32, n*dim), make([]int32, n)
	for i := range data {
		data[i] = rng.Float32() - 0.5
	}
	first, second := make([]int32, n/2), make([]int32, n/2)
	for i := range labels {
		labels[i] = rng.Int32N(77)
	}
	for i := range first {
		first[i], second[i] = int32(i), int32(i+n/2)
	}
	pairs, err := ByPairs(n, first, second, nil)
	if err != nil {
		b.Fatal(err)
	}
	x := tensor.New(tensor.WithShape(n, dim), tensor.WithBacking(data))
	for name, rel := range map[string]Relevance{"groups": ByLabel(labels), "pairs": pairs} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := Evaluate(b.Context(), x, rel, every()...); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(n*b.N)/b.Elapsed().Seconds(), "queries/s")
		})
	}
}
