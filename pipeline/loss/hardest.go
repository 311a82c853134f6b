package loss

import (
	"math"

	"github.com/permafrost-ml/permafrost/pipeline/train/nn"
)

// The ways in which losses of groups choose pairs or triplets of a batch.
const (
	// MiningHard takes, for every anchor, the farthest positive and the
	// nearest negative.
	MiningHard = "hard"
	// MiningAll takes all.
	MiningAll = "all"
	// MiningSemiHard takes, for every anchor and positive, the nearest
	// negative that is farther than the positive.
	MiningSemiHard = "semi_hard"
)

// hardest are every anchor's farthest positive and nearest negative, of
// equals the first; -1 for none.
type hardest struct {
	positive, negative []int32
	far, close         []float64
}

func (h *hardest) find(m nn.Mat, r *relation) {
	n := m.Rows
	h.positive, h.negative, h.far, h.close = fit(h.positive, n), fit(h.negative, n), fit(h.far, n), fit(h.close, n)
	nn.Parallel(n, 4*m.Cols, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			p, q := -1, -1
			far, near := float32(math.Inf(-1)), float32(math.Inf(1))
			for j, d := range m.Row(i) {
				switch r.of(i, j) {
				case positive:
					if d > far || p < 0 {
						p, far = j, d
					}
				case negative:
					if d < near || q < 0 {
						q, near = j, d
					}
				}
			}
			h.positive[i], h.negative[i], h.far[i], h.close[i] = int32(p), int32(q), float64(far), float64(near)
		}
	})
}
