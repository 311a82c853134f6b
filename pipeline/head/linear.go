package head

import (
	"math"
	"math/rand/v2"
	"slices"

	"github.com/permafrost-ml/permafrost/pipeline/train/nn"
)

// linear is the stage y = x·Wᵀ + b, with W [out, in] and b [out].
type linear struct{ weight, bias Param }

// newLinear draws the first weights as PyTorch's Linear does: both from
// U(-1/√in, 1/√in).
func newLinear(name string, in, out int, rng *rand.Rand) linear {
	l := linear{nn.NewParam(name+".weight", out, in), nn.NewParam(name+".bias", out)}
	bound := 1 / math.Sqrt(float64(in))
	uniform(l.weight.Values(), bound, rng)
	uniform(l.bias.Values(), bound, rng)
	return l
}

// uniform draws from U(-bound, bound).
func uniform(dst []float32, bound float64, rng *rand.Rand) {
	for i := range dst {
		dst[i] = float32((2*rng.Float64() - 1) * bound)
	}
}

func (l linear) out() int        { return l.weight.Mat().Rows }
func (l linear) params() []Param { return []Param{l.weight, l.bias} }
func (l linear) newStep() step   { return &linearStep{linear: l} }

func (l linear) freeze() frozenStage {
	return frozenLinear{transposed(l.weight.Mat()), slices.Clone(l.bias.Values())}
}

func (l linear) describe() Step {
	w := l.weight.Mat()
	return Linear{In: w.Cols, Out: w.Rows, Weight: slices.Clone(w.Data), Bias: slices.Clone(l.bias.Values())}
}

type linearStep struct {
	linear
	x     nn.Mat // of the last forward
	y, dx nn.Buffer
	sums  nn.Sums
}

func (s *linearStep) forward(x nn.Mat) *nn.Buffer {
	s.x = x
	y := s.y.Mat(x.Rows, s.out())
	nn.Gemm(nn.AsIs, nn.Transposed, 1, x, s.weight.Mat(), 0, y)
	nn.AddBias(y, s.bias.Values())
	return &s.y
}

func (s *linearStep) backward(dy nn.Mat, wantInput bool) *nn.Buffer {
	nn.AddColumnSums(s.bias.Grads(), dy, &s.sums)
	nn.Gemm(nn.Transposed, nn.AsIs, 1, dy, s.x, 1, s.weight.GradMat())
	if !wantInput {
		return nil
	}
	nn.Gemm(nn.AsIs, nn.AsIs, 1, dy, s.weight.Mat(), 0, s.dx.Mat(s.x.Rows, s.x.Cols))
	return &s.dx
}

type frozenLinear struct {
	weight nn.Mat // [in, out]
	bias   []float32
}

func (f frozenLinear) out() int { return f.weight.Cols }

func (f frozenLinear) apply(y, x, _ nn.Mat) {
	nn.Gemm(nn.AsIs, nn.AsIs, 1, x, f.weight, 0, y)
	nn.AddBias(y, f.bias)
}
