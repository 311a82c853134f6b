package trainable

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/permafrost-ml/permafrost/internal/kernels"
	"github.com/permafrost-ml/permafrost/pipeline/train/nn"
)

// Projection declares a trained linear map of the embeddings x of one frozen
// encoder, which stay in the cache: x·Wᵀ + b. The parameters "weight" W [Dim,
// in] and "bias" b [Dim] are first drawn from U(-1/√in, 1/√in) as PyTorch's
// Linear does.
type Projection struct {
	// Dim is the number of values of an output. Default: 0, as many as the
	// frozen encoder gives.
	Dim int `json:"dim"`
}

// Type is "projection".
func (Projection) Type() string { return "projection" }

// Params is dim.
func (p Projection) Params() map[string]any { return map[string]any{"dim": p.Dim} }

// ReadsTexts is false.
func (Projection) ReadsTexts() bool { return false }

// New returns the projection.
func (p Projection) New(in int, rng *rand.Rand) (Encoder, error) {
	dim := p.Dim
	if dim == 0 {
		dim = in
	}
	if in <= 0 || dim < 0 {
		return nil, fmt.Errorf("a projection of %d values to %d is impossible", in, dim)
	}
	e := &projection{weight: nn.NewParam("weight", dim, in), bias: nn.NewParam("bias", dim)}
	bound := 1 / math.Sqrt(float64(in))
	for _, q := range e.Parameters() {
		for i := range q.Values() {
			q.Values()[i] = float32((2*rng.Float64() - 1) * bound)
		}
	}
	return e, nil
}

type projection struct{ weight, bias nn.Param }

func (e *projection) Dim() int               { return e.weight.Mat().Rows }
func (e *projection) Parameters() []nn.Param { return []nn.Param{e.weight, e.bias} }
func (e *projection) NewPass() Pass          { return &projectionPass{e: e} }

func (e *projection) Freeze() Frozen {
	w := e.weight.Mat()
	f := &frozenProjection{weight: nn.Mat{Rows: w.Cols, Cols: w.Rows, Data: make([]float32, len(w.Data))}, bias: slices.Clone(e.bias.Values())}
	nn.Transpose(f.weight, w)
	return f
}

type projectionPass struct {
	e   *projection
	in  nn.Mat
	out nn.Buffer
}

func (p *projectionPass) Forward(in Input) (nn.Mat, error) {
	w := p.e.weight.Mat()
	if in.Rows.Rows == 0 || in.Rows.Cols != w.Cols {
		return nn.Mat{}, fmt.Errorf("a projection of %d values got %d", w.Cols, in.Rows.Cols)
	}
	p.in = in.Rows
	out := p.out.Mat(in.Rows.Rows, w.Rows)
	nn.Gemm(nn.AsIs, nn.Transposed, 1, in.Rows, w, 0, out)
	addRows(out, p.e.bias.Values())
	return out, nil
}

func (p *projectionPass) Backward(dy nn.Mat) error {
	if dy.Rows != p.in.Rows || dy.Cols != p.e.Dim() {
		return fmt.Errorf("the gradient is of shape [%d, %d], the output had [%d, %d]", dy.Rows, dy.Cols, p.in.Rows, p.e.Dim())
	}
	nn.Gemm(nn.Transposed, nn.AsIs, 1, dy, p.in, 1, p.e.weight.GradMat())
	grad := p.e.bias.Grads()
	for j := range grad {
		var sum float64
		for i := range dy.Rows {
			sum += float64(dy.Data[i*dy.Cols+j])
		}
		grad[j] += float32(sum)
	}
	return nil
}

type frozenProjection struct {
	weight nn.Mat // Wᵀ
	bias   []float32
}

func (f *frozenProjection) Dim() int { return len(f.bias) }

// Apply uses the module's own product, whose rows have the same bits in any
// batch.
func (f *frozenProjection) Apply(dst nn.Mat, in Input) error {
	x, w := in.Rows, f.weight
	if x.Cols != w.Rows || dst.Cols != w.Cols || dst.Rows != x.Rows {
		return fmt.Errorf("a projection of %d values to %d got [%d, %d] for [%d, %d]", w.Rows, w.Cols, x.Rows, x.Cols, dst.Rows, dst.Cols)
	}
	kernels.Gemm(false, false, x.Rows, w.Cols, w.Rows, 1, x.Data, x.Cols, w.Data, w.Cols, 0, dst.Data, dst.Cols, 0)
	addRows(dst, f.bias)
	return nil
}

// addRows adds a vector to every row.
func addRows(m nn.Mat, v []float32) {
	for i := range m.Rows {
		kernels.Add(m.Row(i), m.Row(i), v)
	}
}
