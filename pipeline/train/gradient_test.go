package train_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"gorgonia.org/tensor"

	"github.com/permafrost-ml/permafrost/pipeline/head"
	"github.com/permafrost-ml/permafrost/pipeline/loss"
)

// model is a head and a loss in float64, written for clearness alone: what
// analytic gradients are compared with.
type model struct {
	n, dim, classes int
	layers          int
	params          map[string][]float64 // of head and loss, by name
	a, b            []float64
	aids, bids      []int64
	labels          []int32
	scale           float64
	symmetric       bool
	quaterion       bool
	temperature     float64
}

func (m *model) embed(x []float64) []float64 {
	cur := slices.Clone(x)
	for l := range m.layers {
		w, b, g := m.params[fmt.Sprintf("fc.%d.weight", l)], m.params[fmt.Sprintf("fc.%d.bias", l)], m.params[fmt.Sprintf("gates.%d", l)]
		out := slices.Clone(cur)
		for i := range m.n {
			for o := range m.dim {
				z := b[o]
				for k := range m.dim {
					z += cur[i*m.dim+k] * w[o*m.dim+k]
				}
				out[i*m.dim+o] += z / (1 + math.Exp(-g[o]))
			}
		}
		cur = out
	}
	return cur
}

func (m *model) loss() float64 {
	if m.labels != nil {
		return m.softmax(m.embed(m.a))
	}
	return m.mnr(m.embed(m.a), m.embed(m.b))
}

func (m *model) softmax(e []float64) (sum float64) {
	for i := range m.n {
		total, own := 0.0, 0.0
		for c := range m.classes {
			l := 0.0
			for k := range m.dim {
				l += e[i*m.dim+k] * m.params["kernel"][k*m.classes+c] / m.temperature
			}
			total += math.Exp(l)
			if c == int(m.labels[i]) {
				own = l
			}
		}
		sum += math.Log(total) - own
	}
	return sum / float64(m.n)
}

func (m *model) mnr(a, b []float64) float64 {
	logit := func(i, j int) float64 {
		var ab, aa, bb float64
		for k := range m.dim {
			x, y := a[i*m.dim+k], b[j*m.dim+k]
			ab, aa, bb = ab+x*y, aa+x*x, bb+y*y
		}
		cos := ab / math.Sqrt(aa*bb)
		if m.quaterion {
			cos = (cos + 1) / 2
		}
		return m.scale * cos
	}
	var forth, back float64
	for i := range m.n {
		var row, col float64
		for j := range m.n {
			positive := m.aids != nil && (m.aids[i] == m.aids[j] || m.bids[i] == m.bids[j])
			if i == j || !positive || m.quaterion {
				row += math.Exp(logit(i, j))
				col += math.Exp(logit(j, i))
			}
		}
		forth += math.Log(row) - logit(i, i)
		back += math.Log(col) - logit(i, i)
	}
	if m.symmetric {
		return (forth + back) / float64(2*m.n)
	}
	return forth / float64(m.n)
}

func TestGradients(t *testing.T) {
	const n, dim, classes = 7, 6, 3
	aids, bids := []int64{1, 2, 3, 3, 4, 5, 6}, []int64{11, 12, 11, 13, 14, 14, 14}
	for _, layers := range []int{1, 2} {
		for _, c := range []struct {
			loss       loss.Config
			aids, bids []int64
		}{
			{loss: loss.MultipleNegativesRanking{}},
			{loss: loss.MultipleNegativesRanking{Symmetric: true}},
			{loss: loss.MultipleNegativesRanking{Scale: 5}, aids: aids, bids: bids},
			{loss: loss.MultipleNegativesRanking{Scale: 5, Symmetric: true}, aids: aids, bids: bids},
			{loss: loss.MultipleNegativesRanking{Symmetric: true, Variant: loss.VariantQuaterion}, aids: aids, bids: bids},
			{loss: loss.Softmax{Temperature: 0.3}},
		} {
			t.Run(fmt.Sprintf("%d layers %+v %v", layers, c.loss, c.aids != nil), func(t *testing.T) {
				rng := rand.New(rand.NewPCG(21, uint64(layers)))
				h, err := head.SkipConnection{Layers: layers}.New(dim, rng)
				if err != nil {
					t.Fatal(err)
				}
				l, err := c.loss.New(dim, classes, rng)
				if err != nil {
					t.Fatal(err)
				}
				m := &model{n: n, dim: dim, classes: classes, layers: layers, params: map[string][]float64{}, aids: c.aids, bids: c.bids}
				var labels []int32
				switch c := c.loss.(type) {
				case loss.MultipleNegativesRanking:
					m.scale, m.symmetric, m.quaterion = c.Params()["scale"].(float64), c.Symmetric, c.Variant != ""
				case loss.Softmax:
					m.temperature, labels = c.Temperature, []int32{0, 1, 2, 2, 1, 0, 1}
					m.labels = labels
				}
				params := slices.Concat(h.Parameters(), l.Parameters())
				for _, p := range params { // as they might be after training: gates of -4 would hide much
					for i := range p.Values() {
						p.Values()[i] = float32(rng.NormFloat64())
						m.params[p.Name] = append(m.params[p.Name], float64(p.Values()[i]))
					}
				}
				draw := func() (*tensor.Dense, []float64) {
					x, y := make([]float32, n*dim), make([]float64, n*dim)
					for i := range x {
						x[i] = float32(rng.NormFloat64())
						y[i] = float64(x[i])
					}
					return tensor.New(tensor.WithShape(n, dim), tensor.WithBacking(x)), y
				}
				b := &loss.Batch{Labels: labels, AIDs: c.aids, BIDs: c.bids}
				b.A, m.a = draw()
				b.B, m.b = draw()

				passes := []head.Pass{h.NewPass(), h.NewPass()}
				e := *b
				if e.A, err = passes[0].Forward(b.A); err != nil {
					t.Fatal(err)
				}
				if e.B, err = passes[1].Forward(b.B); err != nil {
					t.Fatal(err)
				}
				got, err := l.Compute(&e, true)
				if err != nil {
					t.Fatal(err)
				}
				if want := m.loss(); math.Abs(got.Value-want) > 1e-5*max(1, want) {
					t.Errorf("loss %v, want %v", got.Value, want)
				}
				dx, err := passes[0].Backward(got.DA, true)
				if err != nil {
					t.Fatal(err)
				}
				compare(t, "first sides", dx.Float32s(), m.a, m)
				if got.DB != nil {
					if dx, err = passes[1].Backward(got.DB, true); err != nil {
						t.Fatal(err)
					}
					compare(t, "second sides", dx.Float32s(), m.b, m)
				}
				for _, p := range params {
					compare(t, p.Name, p.Grads(), m.params[p.Name], m)
				}
			})
		}
	}
}

// compare holds a gradient against central differences of the model by x.
func compare(t *testing.T, what string, got []float32, x []float64, m *model) {
	t.Helper()
	want, largest := make([]float64, len(x)), 1e-2
	for i, old := range x {
		const step = 1e-5
		x[i] = old + step
		up := m.loss()
		x[i] = old - step
		want[i] = (up - m.loss()) / (2 * step)
		x[i] = old
		largest = max(largest, math.Abs(want[i]))
	}
	for i, v := range want {
		if d := math.Abs(float64(got[i]) - v); !(d <= 2e-5*largest) {
			t.Errorf("%s: gradient %d is %v, want %v", what, i, got[i], v)
			return
		}
	}
}
