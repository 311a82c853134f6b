package head

import (
	"math/rand/v2"

	"github.com/permafrost-ml/permafrost/internal/kernels"
	"github.com/permafrost-ml/permafrost/pipeline/train/nn"
)

// Gated declares the head that weakens or turns single values of embeddings:
//
//	y = drop(x) ∘ tanh(g)
//
// Input and output have one dimension D. The one parameter is "gates" g [D],
// first 2: tanh(2) = 0.964, so that training begins near the embedding
// itself. Source: Quaterion's GatedHead.
type Gated struct {
	// Dropout is the probability with which training zeroes a value of the
	// head's input; the others are scaled by 1/(1-Dropout). From 0 up to,
	// not including, 1. Default: 0.
	Dropout float64 `json:"dropout"`
}

// firstTanhGate is what the gates of a Gated head start from.
const firstTanhGate = 2

// Type is "gated".
func (Gated) Type() string { return "gated" }

// Params is dropout.
func (c Gated) Params() map[string]any { return map[string]any{"dropout": c.Dropout} }

// New returns the head. A dropout outside [0, 1) is an error.
func (c Gated) New(in int, rng *rand.Rand) (Head, error) {
	h, err := newChain(in, c.Dropout, rng)
	if err != nil {
		return nil, err
	}
	g := gate{nn.NewParam("gates", in)}
	for i := range g.gates.Values() {
		g.gates.Values()[i] = firstTanhGate
	}
	h.add(g)
	return h, nil
}

// gate is the stage y = x ∘ tanh(g).
type gate struct{ gates Param }

func (g gate) out() int        { return len(g.gates.Values()) }
func (g gate) params() []Param { return []Param{g.gates} }
func (g gate) newStep() step {
	return &gateStep{gate: g, tanh: make([]float32, g.out()), sums: make([]float32, g.out())}
}
func (g gate) freeze() frozenStage { return frozenGate(g.factors()) }
func (g gate) describe() Step      { return Scale{By: g.factors()} }

func (g gate) factors() []float32 {
	t := make([]float32, g.out())
	kernels.Tanh(t, g.gates.Values())
	return t
}

type gateStep struct {
	gate
	tanh   []float32
	x      nn.Mat // of the last forward
	y, dx  nn.Buffer
	sums   []float32 // of one gate's gradients, before the slope of tanh
	double nn.Sums
}

func (s *gateStep) forward(x nn.Mat) *nn.Buffer {
	s.x = x
	kernels.Tanh(s.tanh, s.gates.Values())
	scaleColumns(s.y.Mat(x.Rows, x.Cols), x, s.tanh)
	return &s.y
}

func (s *gateStep) backward(dy nn.Mat, wantInput bool) *nn.Buffer {
	clear(s.sums)
	nn.AddColumnDots(s.sums, dy, s.x, &s.double)
	for j, v := range s.sums {
		s.gates.Grads()[j] += v * (1 - s.tanh[j]*s.tanh[j])
	}
	if !wantInput {
		return nil
	}
	scaleColumns(s.dx.Mat(dy.Rows, dy.Cols), dy, s.tanh)
	return &s.dx
}

// scaleColumns writes every row of x times by to y, which may be x.
func scaleColumns(y, x nn.Mat, by []float32) {
	nn.Parallel(x.Rows, x.Cols, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			kernels.Mul(y.Row(i), x.Row(i), by)
		}
	})
}

type frozenGate []float32

func (f frozenGate) out() int             { return len(f) }
func (f frozenGate) apply(y, x, _ nn.Mat) { scaleColumns(y, x, f) }
