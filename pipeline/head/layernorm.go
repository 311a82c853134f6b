package head

import (
	"math"
	"math/rand/v2"
	"slices"

	"github.com/permafrost-ml/permafrost/internal/kernels"
	"github.com/permafrost-ml/permafrost/pipeline/train/nn"
)

// LayerNorm declares the head that normalizes every embedding by itself:
//
//	d = drop(x),   y = (d - mean(d)) / √(var(d) + 1e-5) ∘ w + b
//
// where var is the biased variance. Input and output have one dimension D.
// The parameters are "weight" w [D], first 1, and "bias" b [D], first 0.
// Source: Ba, Kiros, Hinton: Layer Normalization, 2016; PyTorch's LayerNorm.
type LayerNorm struct {
	// Dropout is the probability with which training zeroes a value of the
	// head's input; the others are scaled by 1/(1-Dropout). From 0 up to,
	// not including, 1. Default: 0.
	Dropout float64 `json:"dropout"`
}

// layerNormEps is what is added to a variance.
const layerNormEps = 1e-5

// Type is "layer_norm".
func (LayerNorm) Type() string { return "layer_norm" }

// Params is dropout.
func (c LayerNorm) Params() map[string]any { return map[string]any{"dropout": c.Dropout} }

// New returns the head. A dropout outside [0, 1) is an error.
func (c LayerNorm) New(in int, rng *rand.Rand) (Head, error) {
	h, err := newChain(in, c.Dropout, rng)
	if err != nil {
		return nil, err
	}
	n := layerNorm{nn.NewParam("weight", in), nn.NewParam("bias", in)}
	for i := range n.weight.Values() {
		n.weight.Values()[i] = 1
	}
	h.add(n)
	return h, nil
}

// layerNorm is the stage y = (x - mean(x)) / √(var(x) + ε) ∘ w + b.
type layerNorm struct{ weight, bias Param }

func (n layerNorm) out() int        { return len(n.weight.Values()) }
func (n layerNorm) params() []Param { return []Param{n.weight, n.bias} }
func (n layerNorm) newStep() step   { return &layerNormStep{layerNorm: n} }

func (n layerNorm) freeze() frozenStage {
	return frozenLayerNorm{slices.Clone(n.weight.Values()), slices.Clone(n.bias.Values())}
}

func (n layerNorm) describe() Step {
	return Norm{Weight: slices.Clone(n.weight.Values()), Bias: slices.Clone(n.bias.Values()), Eps: layerNormEps}
}

type layerNormStep struct {
	layerNorm
	normal  nn.Mat    // the normalized rows of the last forward
	inverse []float32 // by row: 1/√(var + ε)
	nBuf    nn.Buffer
	y, dx   nn.Buffer
	sums    nn.Sums
}

func (s *layerNormStep) forward(x nn.Mat) *nn.Buffer {
	s.normal = s.nBuf.Mat(x.Rows, x.Cols)
	s.inverse = slices.Grow(s.inverse[:0], x.Rows)[:x.Rows]
	y := s.y.Mat(x.Rows, x.Cols)
	nn.Parallel(x.Rows, 4*x.Cols, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			s.inverse[i] = normalizeRow(s.normal.Row(i), x.Row(i))
			affine(y.Row(i), s.normal.Row(i), s.weight.Values(), s.bias.Values())
		}
	})
	return &s.y
}

// normalizeRow writes (x - mean(x)) / √(var(x) + ε) to dst and returns what
// it multiplied by.
func normalizeRow(dst, x []float32) (inverse float32) {
	n := float64(len(x))
	kernels.Shift(float32(kernels.Sum(x)/n), x, dst)
	inverse = float32(1 / math.Sqrt(kernels.Dot(dst, dst)/n+layerNormEps))
	kernels.Scale(inverse, dst, dst)
	return inverse
}

// affine writes x ∘ w + b to y, which may be x.
func affine(y, x, w, b []float32) {
	kernels.Mul(y, x, w)
	kernels.Add(y, y, b)
}

// backward is (g - mean(g) - x̂·mean(g∘x̂))/√(var + ε), where g is dy∘w and x̂
// the normalized row.
func (s *layerNormStep) backward(dy nn.Mat, wantInput bool) *nn.Buffer {
	nn.AddColumnSums(s.bias.Grads(), dy, &s.sums)
	nn.AddColumnDots(s.weight.Grads(), dy, s.normal, &s.sums)
	if !wantInput {
		return nil
	}
	dx := s.dx.Mat(dy.Rows, dy.Cols)
	nn.Parallel(dy.Rows, 4*dy.Cols, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			g, normal := dx.Row(i), s.normal.Row(i)
			kernels.Mul(g, dy.Row(i), s.weight.Values())
			n := float64(len(g))
			mean, along := float32(kernels.Sum(g)/n), float32(kernels.Dot(g, normal)/n)
			for j, v := range normal {
				g[j] = (g[j] - mean - v*along) * s.inverse[i]
			}
		}
	})
	return &s.dx
}

type frozenLayerNorm struct{ weight, bias []float32 }

func (f frozenLayerNorm) out() int { return len(f.weight) }

func (f frozenLayerNorm) apply(y, x, _ nn.Mat) {
	for i := range x.Rows {
		normalizeRow(y.Row(i), x.Row(i))
		affine(y.Row(i), y.Row(i), f.weight, f.bias)
	}
}
