package nn

import (
	"math"

	"github.com/permafrost-ml/permafrost/internal/kernels"
)

// SGDStep holds the numbers of one step of gradient descent.
type SGDStep struct {
	Rate     float32 // the learning rate
	Decay    float32 // the weight decay, added to gradients times the values
	Momentum float32
	Nesterov bool
	First    bool // the velocity begins with this step's gradient
}

// Apply updates the velocity v, which may be nil without Momentum, by the
// gradient g and then the values w.
func (s SGDStep) Apply(w, g, v []float32) {
	Parallel(len(w), 2, func(lo, hi int) {
		w, g := w[lo:hi], g[lo:hi]
		if s.Momentum == 0 {
			for i, d := range g {
				w[i] -= s.Rate * (d + s.Decay*w[i])
			}
			return
		}
		v := v[lo:hi]
		for i, d := range g {
			d += s.Decay * w[i]
			if s.First {
				v[i] = d
			} else {
				v[i] = s.Momentum*v[i] + d
			}
			if s.Nesterov {
				d += s.Momentum * v[i]
			} else {
				d = v[i]
			}
			w[i] -= s.Rate * d
		}
	})
}

// GradNorm is the Euclidean length of the gradients of all params together,
// in float64. It is NaN or infinite where one of them is.
func GradNorm(params []Param) float64 {
	var sum float64
	for _, p := range params {
		g := p.Grads()
		sum += kernels.Dot(g, g)
	}
	return math.Sqrt(sum)
}

// ClipGrads scales the gradients of all params so that their norm, which is
// given, becomes limit at most: by limit/(norm + 1e-6), as PyTorch's
// clip_grad_norm_. A limit of 0 is none.
func ClipGrads(params []Param, norm, limit float64) {
	by := limit / (norm + 1e-6)
	if limit == 0 || !(by < 1) {
		return
	}
	for _, p := range params {
		kernels.Scale(float32(by), p.Grads(), p.Grads())
	}
}

// NotFinite appends the numbers of the rows of m that hold a NaN or an
// infinity to rows.
func NotFinite(rows []int, m Mat) []int {
	for i := range m.Rows {
		// Squares of float32 are finite in float64.
		if d := Dot(m.Row(i), m.Row(i)); math.IsNaN(d) || math.IsInf(d, 0) {
			rows = append(rows, i)
		}
	}
	return rows
}
