package head

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"

	"gorgonia.org/tensor"

	"github.com/permafrost-ml/permafrost/pipeline/train/nn"
)

// SkipConnection declares the head that adds a gated linear map to its
// input, once a layer:
//
//	x ← (drop(x)·Wᵀ + b) ∘ sigmoid(g) + x
//
// Input and output have one dimension D. The parameters of layer i, from 0,
// are "fc.i.weight" W [D, D] and "fc.i.bias" b [D], both first drawn from
// U(-1/√D, 1/√D) as PyTorch's Linear does, and "gates.i" g [D], a gate for
// each dimension, first -4: sigmoid(-4) = 0.018, so that training begins
// near the embedding itself.
type SkipConnection struct {
	// Dropout is the probability with which training zeroes a value of the
	// head's input, before the skip branches off; the others are scaled by
	// 1/(1-Dropout). From 0 up to, not including, 1. Default: 0.
	Dropout float64 `json:"dropout"`
	// SkipDropout is the same for the input of every layer's linear map
	// alone. Default: 0.
	SkipDropout float64 `json:"skip_dropout"`
	// Layers is the number of layers. Default: 1.
	Layers int `json:"n_layers"`
}

// firstGate is what gates start from.
const firstGate = -4

// Type is "skip_connection".
func (SkipConnection) Type() string { return "skip_connection" }

// Params are dropout, skip_dropout and n_layers.
func (c SkipConnection) Params() map[string]any {
	return map[string]any{"dropout": c.Dropout, "skip_dropout": c.SkipDropout, "n_layers": c.layers()}
}

func (c SkipConnection) layers() int {
	if c.Layers == 0 {
		return 1
	}
	return c.Layers
}

// New returns the head. A dropout outside [0, 1) and a negative number of
// layers are errors.
func (c SkipConnection) New(in int, rng *rand.Rand) (Head, error) {
	if err := checkIn(in); err != nil {
		return nil, err
	}
	if err := checkDropout("dropout", c.Dropout); err != nil {
		return nil, err
	}
	if err := checkDropout("skip_dropout", c.SkipDropout); err != nil {
		return nil, err
	}
	if c.Layers < 0 {
		return nil, fmt.Errorf("n_layers is %d", c.Layers)
	}
	h := &skip{dim: in, dropout: c.Dropout, skipDropout: c.SkipDropout, rng: rng}
	bound := 1 / math.Sqrt(float64(in))
	for i := range c.layers() {
		l := skipLayer{
			weight: nn.NewParam("fc."+strconv.Itoa(i)+".weight", in, in),
			bias:   nn.NewParam("fc."+strconv.Itoa(i)+".bias", in),
			gate:   nn.NewParam("gates."+strconv.Itoa(i), in),
		}
		uniform(l.weight.Values(), bound, rng)
		uniform(l.bias.Values(), bound, rng)
		for j := range l.gate.Values() {
			l.gate.Values()[j] = firstGate
		}
		h.layers = append(h.layers, l)
	}
	return h, nil
}

// uniform draws from U(-bound, bound).
func uniform(dst []float32, bound float64, rng *rand.Rand) {
	for i := range dst {
		dst[i] = float32((2*rng.Float64() - 1) * bound)
	}
}

type skip struct {
	dim                  int
	dropout, skipDropout float64
	rng                  *rand.Rand
	layers               []skipLayer
}

type skipLayer struct{ weight, bias, gate Param }

func (h *skip) In() int  { return h.dim }
func (h *skip) Out() int { return h.dim }

func (h *skip) Parameters() []Param {
	params := make([]Param, 0, 3*len(h.layers))
	for _, l := range h.layers {
		params = append(params, l.weight, l.bias, l.gate)
	}
	return params
}

func (h *skip) NewPass() Pass {
	return &skipPass{head: h, layers: make([]skipState, len(h.layers)), gate: make([]float32, h.dim)}
}

// skipPass keeps what Backward needs of a Forward.
type skipPass struct {
	head   *skip
	rows   int // of the last Forward
	in     dropout
	layers []skipState
	gate   []float32 // the sigmoids of one layer's gate
	sums   nn.Sums
	dz     nn.Buffer
	dx     [2]nn.Buffer // a layer's gradient is read while the next is made
}

// skipState is what one layer keeps: its linear map's input and output.
type skipState struct {
	drop       dropout
	in, z      nn.Mat
	zBuf, yBuf nn.Buffer
}

func (p *skipPass) Forward(x *tensor.Dense) (*tensor.Dense, error) {
	m, err := nn.ViewCols(x, p.head.dim)
	if err != nil {
		return nil, err
	}
	p.rows = m.Rows
	m = p.in.forward(m, p.head.dropout, p.head.rng)
	for i, l := range p.head.layers {
		s := &p.layers[i]
		s.in = s.drop.forward(m, p.head.skipDropout, p.head.rng)
		s.z = s.zBuf.Mat(m.Rows, m.Cols)
		nn.Gemm(nn.AsIs, nn.Transposed, 1, s.in, l.weight.Mat(), 0, s.z)
		y := s.yBuf.Mat(m.Rows, m.Cols)
		nn.Sigmoids(p.gate, l.gate.Values())
		nn.GatedAdd(y, m, s.z, l.bias.Values(), p.gate)
		m = y
	}
	return p.layers[len(p.layers)-1].yBuf.Dense(), nil
}

func (p *skipPass) Backward(dy *tensor.Dense, wantInput bool) (*tensor.Dense, error) {
	g, err := nn.ViewCols(dy, p.head.dim)
	if err != nil {
		return nil, err
	}
	if g.Rows != p.rows {
		return nil, fmt.Errorf("the gradient has %d rows, the output had %d", g.Rows, p.rows)
	}
	dz := p.dz.Mat(g.Rows, g.Cols)
	for i := len(p.head.layers) - 1; i >= 0; i-- {
		l, s := p.head.layers[i], &p.layers[i]
		nn.Sigmoids(p.gate, l.gate.Values())
		nn.GatedAddBackward(dz, l.bias.Grads(), l.gate.Grads(), g, s.z, p.gate, &p.sums)
		nn.Gemm(nn.Transposed, nn.AsIs, 1, dz, s.in, 1, l.weight.GradMat())
		if i == 0 && !wantInput {
			return nil, nil
		}
		// One part comes through the linear map, the other through the skip.
		dx := p.dx[i%2].Mat(g.Rows, g.Cols)
		nn.Gemm(nn.AsIs, nn.AsIs, 1, dz, l.weight.Mat(), 0, dx)
		s.drop.backward(dx)
		nn.Add(dx, g)
		g = dx
	}
	p.in.backward(g)
	return p.dx[0].Dense(), nil
}
