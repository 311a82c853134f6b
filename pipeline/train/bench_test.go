package train_test

import (
	"context"
	"fmt"
	"iter"
	"math/rand/v2"
	"runtime"
	"testing"

	"gorgonia.org/tensor"

	"github.com/permafrost-ml/permafrost/pipeline/head"
	"github.com/permafrost-ml/permafrost/pipeline/loss"
	"github.com/permafrost-ml/permafrost/pipeline/train"
)

// fixed yields the same batches at every epoch and allocates nothing.
type fixed struct {
	*memory
	list []*train.Batch
}

func (f *fixed) Batches(epochs int) int64 { return int64(epochs * len(f.list)) }

func (f *fixed) Epoch(context.Context, int, int64) iter.Seq2[*train.Batch, error] {
	return func(yield func(*train.Batch, error) bool) {
		for _, b := range f.list {
			if !yield(b, nil) {
				return
			}
		}
	}
}

// randomPairs are batches of pairs like those of a set of questions and
// answers: all first sides differ, one second side in 900 is there twice.
func randomPairs(rows, dim, batch int) *fixed {
	rng := rand.New(rand.NewPCG(1, 1))
	draw := func(n int) *tensor.Dense {
		data := make([]float32, n*dim)
		for i := range data {
			data[i] = rng.Float32() - 0.5
		}
		return tensor.New(tensor.WithShape(n, dim), tensor.WithBacking(data))
	}
	f := &fixed{memory: &memory{kind: loss.Pairs, dim: dim}}
	for lo := 0; lo < rows; lo += batch {
		n := min(batch, rows-lo)
		b := &train.Batch{A: draw(n), B: draw(n)}
		for i := range n {
			b.AIDs, b.BIDs = append(b.AIDs, int64(lo+i)), append(b.BIDs, int64(rows+lo+i-(lo+i+1)%900/899))
		}
		f.list = append(f.list, b)
	}
	return f
}

// TestStepsReuseMemory: after the first epoch a step allocates no matrix,
// only the small change of goroutines.
func TestStepsReuseMemory(t *testing.T) {
	const rows, dim, batch, epochs = 640, 64, 256, 5
	data := randomPairs(rows, dim, batch)
	var stats [2]runtime.MemStats
	_, err := train.Fit(t.Context(), data, head.SkipConnection{Dropout: 0.1, Layers: 2},
		loss.MultipleNegativesRanking{Symmetric: true}, train.Options{Epochs: epochs, Callbacks: train.Callbacks{
			OnEpoch: func(e train.Epoch) error {
				if e.Epoch == 0 {
					runtime.ReadMemStats(&stats[0])
				} else if e.Epoch == epochs-1 {
					runtime.ReadMemStats(&stats[1])
				}
				return nil
			},
		}})
	if err != nil {
		t.Fatal(err)
	}
	steps := uint64((epochs - 1) * len(data.list))
	bytes, mallocs := (stats[1].TotalAlloc-stats[0].TotalAlloc)/steps, (stats[1].Mallocs-stats[0].Mallocs)/steps
	t.Logf("%d bytes in %d allocations a step", bytes, mallocs)
	// One matrix of a batch has 64 KiB, the logits have 256 KiB.
	if bytes > 48<<10 || mallocs > 600 {
		t.Errorf("a step allocates %d bytes in %d pieces", bytes, mallocs)
	}
}

// BenchmarkEpoch trains one epoch of 6,373 pairs in batches of 1,024.
func BenchmarkEpoch(b *testing.B) {
	for _, dim := range []int{256, 384} {
		b.Run(fmt.Sprintf("dim=%d", dim), func(b *testing.B) {
			const rows = 6373
			data := randomPairs(rows, dim, 1024)
			b.ReportAllocs()
			var epochs []train.Epoch
			for b.Loop() {
				res, err := train.Fit(b.Context(), data, head.SkipConnection{},
					loss.MultipleNegativesRanking{Symmetric: true}, train.Options{Epochs: 1})
				if err != nil {
					b.Fatal(err)
				}
				epochs = append(epochs, res.Epochs...)
			}
			var seconds float64
			for _, e := range epochs {
				seconds += e.Duration.Seconds()
			}
			b.ReportMetric(seconds/float64(len(epochs)), "s/epoch")
			b.ReportMetric(float64(rows*len(epochs))/seconds, "pairs/s")
		})
	}
}
