package head

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"

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
// near the embedding itself. Source: Quaterion's SkipConnectionHead.
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
	h, err := newChain(in, c.Dropout, rng)
	if err != nil {
		return nil, err
	}
	if err := checkDropout("skip_dropout", c.SkipDropout); err != nil {
		return nil, err
	}
	if c.Layers < 0 {
		return nil, fmt.Errorf("n_layers is %d", c.Layers)
	}
	for i := range c.layers() {
		s := skip{
			linear:  newLinear("fc."+strconv.Itoa(i), in, in, rng),
			gate:    nn.NewParam("gates."+strconv.Itoa(i), in),
			dropout: c.SkipDropout, rng: rng,
		}
		for j := range s.gate.Values() {
			s.gate.Values()[j] = firstGate
		}
		h.add(s)
	}
	return h, nil
}

// skip is the stage y = (drop(x)·Wᵀ + b) ∘ sigmoid(g) + x.
type skip struct {
	linear
	gate    Param
	dropout float64
	rng     *rand.Rand
}

func (s skip) params() []Param { return []Param{s.weight, s.bias, s.gate} }

func (s skip) newStep() step { return &skipStep{skip: s, sigmoids: make([]float32, s.out())} }

func (s skip) freeze() frozenStage {
	f := frozenSkip{transposed(s.weight.Mat()), slices.Clone(s.bias.Values()), make([]float32, s.out())}
	nn.Sigmoids(f.gate, s.gate.Values())
	return f
}

// describe folds the gate s and the skip into one linear map:
//
//	(x·Wᵀ + b)∘s + x = x·(I + diag(s)·W)ᵀ + s∘b
func (s skip) describe() Step {
	l := s.linear.describe().(Linear)
	gate := make([]float32, s.out())
	nn.Sigmoids(gate, s.gate.Values())
	for i, g := range gate {
		row := l.Weight[i*l.In : (i+1)*l.In]
		for j, w := range row {
			v := float64(g) * float64(w)
			if i == j {
				v++
			}
			row[j] = float32(v)
		}
		l.Bias[i] *= g
	}
	return l
}

// skipStep keeps the linear map's input and output.
type skipStep struct {
	skip
	sigmoids []float32 // of the gate
	drop     dropout
	in, z    nn.Mat
	zBuf     nn.Buffer
	y, dz    nn.Buffer
	dx       nn.Buffer
	sums     nn.Sums
}

func (s *skipStep) forward(x nn.Mat) *nn.Buffer {
	s.in = s.drop.forward(x, s.dropout, s.rng)
	s.z = s.zBuf.Mat(x.Rows, x.Cols)
	nn.Gemm(nn.AsIs, nn.Transposed, 1, s.in, s.weight.Mat(), 0, s.z)
	nn.Sigmoids(s.sigmoids, s.gate.Values())
	nn.GatedAdd(s.y.Mat(x.Rows, x.Cols), x, s.z, s.bias.Values(), s.sigmoids)
	return &s.y
}

func (s *skipStep) backward(dy nn.Mat, wantInput bool) *nn.Buffer {
	dz := s.dz.Mat(dy.Rows, dy.Cols)
	nn.GatedAddBackward(dz, s.bias.Grads(), s.gate.Grads(), dy, s.z, s.sigmoids, &s.sums)
	nn.Gemm(nn.Transposed, nn.AsIs, 1, dz, s.in, 1, s.weight.GradMat())
	if !wantInput {
		return nil
	}
	// One part comes through the linear map, the other through the skip.
	dx := s.dx.Mat(dy.Rows, dy.Cols)
	nn.Gemm(nn.AsIs, nn.AsIs, 1, dz, s.weight.Mat(), 0, dx)
	s.drop.backward(dx, dx)
	nn.Add(dx, dy)
	return &s.dx
}

type frozenSkip struct {
	weight     nn.Mat // [in, out]
	bias, gate []float32
}

func (f frozenSkip) out() int { return len(f.bias) }

func (f frozenSkip) apply(y, x, z nn.Mat) {
	nn.Gemm(nn.AsIs, nn.AsIs, 1, x, f.weight, 0, z)
	nn.GatedAdd(y, x, z, f.bias, f.gate)
}
