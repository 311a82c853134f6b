package nn

import (
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
)

// TestColumns holds sums over columns to plain loops in float64, with more
// values than one goroutine takes.
func TestColumns(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(3))
	const rows, cols = 301, 157
	rng := rand.New(rand.NewPCG(1, 2))
	a, b, y := Mat{rows, cols, make([]float32, rows*cols)}, Mat{rows, cols, make([]float32, rows*cols)}, Mat{rows, cols, make([]float32, rows*cols)}
	bias := make([]float32, cols)
	for i := range a.Data {
		a.Data[i], b.Data[i] = float32(rng.NormFloat64()), float32(rng.NormFloat64())
		bias[i%cols] = float32(rng.NormFloat64())
	}
	sums, dots := slices.Clone(bias), slices.Clone(bias) // they are added to
	var s Sums
	AddColumnSums(sums, a, &s)
	AddColumnDots(dots, a, b, &s)
	copy(y.Data, a.Data)
	AddBias(y, bias)
	for j := range cols {
		var sum, dot float64
		for i := range rows {
			sum += float64(a.Row(i)[j])
			dot += float64(a.Row(i)[j]) * float64(b.Row(i)[j])
			if want := a.Row(i)[j] + bias[j]; y.Row(i)[j] != want {
				t.Fatalf("row %d, column %d: %v, want %v", i, j, y.Row(i)[j], want)
			}
		}
		if want := bias[j] + float32(sum); sums[j] != want {
			t.Errorf("sum of column %d is %v, want %v", j, sums[j], want)
		}
		if want := bias[j] + float32(dot); dots[j] != want {
			t.Errorf("product of column %d is %v, want %v", j, dots[j], want)
		}
	}
}
