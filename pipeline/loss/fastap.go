package loss

import (
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/permafrost-ml/permafrost/pipeline/train/nn"
)

// FastAP declares 1 - the mean over samples of a differentiable average
// precision (Cakir et al. 2019, "Deep Metric Learning to Rank"). The squared
// Euclidean distances d² of a sample's unit row to the others', from 0 to 4,
// are put in soft histograms with Bins + 1 places 4l/Bins, among neighbours
// in proportion to their nearness: h⁺ of its positives, h of positives and
// negatives, H⁺ and H summed up to a place. Of its N⁺ positives it then has
//
//	FastAP = 1/N⁺ · Σ_l h⁺_l·H⁺_l/H_l
//
// over places with H_l > 0. Samples without a positive are left out; without
// any other the loss is 0. A distance exactly at a place has the gradient 0.
// Objects of one id form no pair. Memory: a table of n² values for n samples.
type FastAP struct {
	// Bins is the number of parts of the histogram, above 0. Default: 10.
	Bins int `json:"num_bins"`
}

// Type is "fast_ap".
func (FastAP) Type() string { return "fast_ap" }

// Kind is [Groups].
func (FastAP) Kind() Kind { return Groups }

// Params is num_bins.
func (c FastAP) Params() map[string]any { return map[string]any{"num_bins": or(c.Bins, 10)} }

// New returns the loss. It has no parameters; classes and rng are not used.
func (c FastAP) New(dim, _ int, _ *rand.Rand) (Loss, error) {
	bins := or(c.Bins, 10)
	if bins < 1 || bins > 1<<20 {
		return nil, fmt.Errorf("num_bins is %d where a number from 1 to %d is needed", bins, 1<<20)
	}
	return newGrouped(&fastAP{bins: bins}, distances(Cosine, ""), dim, nil, false)
}

type fastAP struct {
	bins int
	rowwise
	precision []float64 // of each row, NaN without a positive
}

// place is where a distance lies: at that much beyond a place of the
// histogram. d² = 2 - 2·cos is twice the cosine's d.
func (f *fastAP) place(d float32) (l int, beyond float64) {
	t := min(float64(d)*float64(f.bins)/2, float64(f.bins))
	if !(t > 0) {
		return 0, 0
	}
	l = int(t)
	return l, t - float64(l)
}

func (f *fastAP) apply(m nn.Mat, r *relation, grad bool) (value, factor float64) {
	n := m.Rows
	f.precision = fit(f.precision, n)
	f.each(n, 16*m.Cols, func(i int, l *lane) {
		row := m.Row(i)
		size := f.bins + 2 // the last stays empty
		l.sums = fit(l.sums, 4*size)
		clear(l.sums)
		near, all := l.sums[:size], l.sums[size:2*size]
		positives := 0
		for j, d := range row {
			k := r.of(i, j)
			if k == none {
				continue
			}
			at, beyond := f.place(d)
			all[at] += 1 - beyond
			all[at+1] += beyond
			if k == positive {
				near[at] += 1 - beyond
				near[at+1] += beyond
				positives++
			}
		}
		if positives == 0 {
			f.precision[i] = math.NaN()
			if grad {
				clear(row)
			}
			return
		}
		// What more in a place would change: as a positive, or as any.
		byNear, byAll := l.sums[2*size:3*size], l.sums[3*size:]
		var sum, upNear, upAll float64
		for k := range near {
			upNear += near[k]
			upAll += all[k]
			if upAll > 0 {
				sum += near[k] * upNear / upAll
				byNear[k] = upNear / upAll
				byAll[k] = near[k] / upAll // for the sums below
				all[k] = byAll[k] * upNear / upAll
			}
		}
		f.precision[i] = sum / float64(positives)
		if !grad {
			return
		}
		var restNear, restAll float64
		for k := size - 1; k >= 0; k-- {
			restNear += byAll[k]
			restAll -= all[k]
			byNear[k] += restNear
			byAll[k] = restAll
		}
		step := -float64(f.bins) / 2 / float64(positives)
		for j, d := range row {
			k := r.of(i, j)
			at, beyond := f.place(d)
			g := 0.0
			if k != none && beyond > 0 {
				g = byAll[at+1] - byAll[at]
				if k == positive {
					g += byNear[at+1] - byNear[at]
				}
			}
			row[j] = float32(step * g)
		}
	})
	var sum float64
	rows := 0
	for _, p := range f.precision {
		if !math.IsNaN(p) {
			sum += p
			rows++
		}
	}
	if rows == 0 {
		return 0, 0
	}
	return 1 - sum/float64(rows), 1 / float64(rows)
}
