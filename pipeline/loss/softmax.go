package loss

import (
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/permafrost-ml/permafrost/pipeline/train/nn"
)

// Softmax declares the loss of a linear classifier over the labels: with
// the logits
//
//	l = E · W / Temperature
//
// it is the mean over rows of logsumexp(l[i]) - l[i, label_i]. Embeddings
// are not normalised. Its own parameter "kernel" W [dim, classes] is first
// drawn from N(0, 0.01²) and trained with the head.
type Softmax struct {
	// Temperature divides the logits, above 0. Default: 0.05.
	Temperature float64 `json:"temperature"`
}

// Type is "softmax".
func (Softmax) Type() string { return "softmax" }

// Kind is [Groups].
func (Softmax) Kind() Kind { return Groups }

// Params is temperature.
func (c Softmax) Params() map[string]any { return map[string]any{"temperature": c.temperature()} }

func (c Softmax) temperature() float64 {
	if c.Temperature == 0 {
		return 0.05
	}
	return c.Temperature
}

// New returns the loss with a fresh kernel.
func (c Softmax) New(dim, classes int, rng *rand.Rand) (Loss, error) {
	if dim <= 0 || classes <= 0 {
		return nil, fmt.Errorf("a kernel of %d values for each of %d classes is impossible", dim, classes)
	}
	t := c.temperature()
	if !(t > 0) || math.IsInf(t, 0) {
		return nil, fmt.Errorf("temperature is %v where a number above 0 is needed", t)
	}
	s := &softmax{classes: classes, inv: float32(1 / t), kernel: nn.NewParam("kernel", dim, classes)}
	for i := range s.kernel.Values() {
		s.kernel.Values()[i] = float32(0.01 * rng.NormFloat64())
	}
	return s, nil
}

type softmax struct {
	classes int
	inv     float32 // 1 / temperature
	kernel  Param
	logits  nn.Buffer // l and then its gradient
	de      nn.Buffer
	lse     []float32
}

func (s *softmax) Parameters() []Param { return []Param{s.kernel} }

func (s *softmax) Compute(batch *Batch, grad bool) (Result, error) {
	w := s.kernel.Mat()
	e, err := nn.ViewCols(batch.A, w.Rows)
	if err != nil {
		return Result{}, err
	}
	n := e.Rows
	if err := batch.lengths(n); err != nil {
		return Result{}, err
	}
	if batch.Labels == nil {
		return Result{}, fmt.Errorf("the batch has no labels")
	}
	l := s.logits.Mat(n, s.classes)
	nn.Gemm(nn.AsIs, nn.AsIs, s.inv, e, w, 0, l)
	if cap(s.lse) < n {
		s.lse = make([]float32, n)
	}
	s.lse = s.lse[:n]
	nn.LogSumExpRows(s.lse, l)
	var sum float64
	for i, y := range batch.Labels {
		if y < 0 || int(y) >= s.classes {
			return Result{}, fmt.Errorf("row %d of the batch has class %d of %d", i, y, s.classes)
		}
		sum += float64(s.lse[i]) - float64(l.Data[i*s.classes+int(y)])
	}
	res := Result{Value: sum / float64(n)}
	if !grad {
		return res, nil
	}
	nn.SoftmaxBackward(l, s.lse, batch.Labels, float32(float64(s.inv)/float64(n)))
	de := s.de.Mat(n, w.Rows)
	nn.Gemm(nn.AsIs, nn.Transposed, 1, l, w, 0, de)
	nn.Gemm(nn.Transposed, nn.AsIs, 1, e, l, 1, s.kernel.GradMat())
	res.DA = s.de.Dense()
	return res, nil
}
