package metric

import (
	"math/rand/v2"
	"testing"

	"gorgonia.org/tensor"
)

// BenchmarkEvaluate searches 4,000 objects of 77 labels, 384 values each.
func BenchmarkEvaluate(b *testing.B) {
	const n, dim = 4000, 384
	rng := rand.New(rand.NewPCG(1, 1))
	data, labels := make([]float32, n*dim), make([]int32, n)
	for i := range data {
		data[i] = rng.Float32() - 0.5
	}
	for i := range labels {
		labels[i] = rng.Int32N(77)
	}
	x, rel := tensor.New(tensor.WithShape(n, dim), tensor.WithBacking(data)), ByLabel(labels)
	for b.Loop() {
		if _, err := Evaluate(b.Context(), x, rel, all()...); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(n*b.N)/b.Elapsed().Seconds(), "queries/s")
}
