package head

import (
	"fmt"
	"math/rand/v2"

	"github.com/permafrost-ml/permafrost/internal/kernels"
	"github.com/permafrost-ml/permafrost/pipeline/train/nn"
)

// SoftmaxEmbeddings declares the head that makes several distributions of an
// embedding, side by side:
//
//	z = drop(x)·Wᵀ + b,   y = softmax(z₀), softmax(z₁), ...
//
// where zᵢ is group i of z. The output has Groups·GroupSize values. The
// parameters are "projection_layer.weight" W [out, in] and
// "projection_layer.bias" b [out], both first drawn from U(-1/√in, 1/√in) as
// PyTorch's Linear does. Source: Quaterion's SoftmaxEmbeddingsHead.
type SoftmaxEmbeddings struct {
	// Groups is the number of distributions, from 1 up. It is needed.
	Groups int `json:"output_groups"`
	// GroupSize is the number of values of each, from 1 up. It is needed.
	GroupSize int `json:"output_size_per_group"`
	// Dropout is the probability with which training zeroes a value of the
	// head's input; the others are scaled by 1/(1-Dropout). From 0 up to,
	// not including, 1. Default: 0.
	Dropout float64 `json:"dropout"`
}

// Type is "softmax_embeddings".
func (SoftmaxEmbeddings) Type() string { return "softmax_embeddings" }

// Params are output_groups, output_size_per_group and dropout.
func (c SoftmaxEmbeddings) Params() map[string]any {
	return map[string]any{"output_groups": c.Groups, "output_size_per_group": c.GroupSize, "dropout": c.Dropout}
}

// New returns the head. Numbers below 1, more than 2^20 values in all and a
// dropout outside [0, 1) are errors.
func (c SoftmaxEmbeddings) New(in int, rng *rand.Rand) (Head, error) {
	if err := checkSize("output_groups", c.Groups); err != nil {
		return nil, err
	}
	if err := checkSize("output_size_per_group", c.GroupSize); err != nil {
		return nil, err
	}
	if c.Groups*c.GroupSize > maxSize {
		return nil, fmt.Errorf("%d groups of %d values are more than %d values", c.Groups, c.GroupSize, maxSize)
	}
	h, err := newChain(in, c.Dropout, rng)
	if err != nil {
		return nil, err
	}
	h.add(newLinear("projection_layer", in, c.Groups*c.GroupSize, rng))
	h.add(softmax{c.Groups, c.GroupSize})
	return h, nil
}

// softmax is the stage that takes the softmax of every group of a row.
type softmax struct{ groups, size int }

func (s softmax) out() int            { return s.groups * s.size }
func (softmax) params() []Param       { return nil }
func (s softmax) newStep() step       { return &softmaxStep{softmax: s} }
func (s softmax) freeze() frozenStage { return s }
func (s softmax) describe() Step      { return Softmax{Groups: s.groups, Size: s.size} }

func (s softmax) apply(y, x, _ nn.Mat) {
	for lo := 0; lo < len(x.Data); lo += s.size {
		kernels.Softmax(y.Data[lo:lo+s.size], x.Data[lo:lo+s.size])
	}
}

type softmaxStep struct {
	softmax
	y        nn.Mat // of the last forward
	yBuf, dx nn.Buffer
}

func (s *softmaxStep) forward(x nn.Mat) *nn.Buffer {
	s.y = s.yBuf.Mat(x.Rows, x.Cols)
	nn.Parallel(x.Rows, activationCost*x.Cols, func(lo, hi int) {
		s.apply(rowsOf(s.y, lo, hi), rowsOf(x, lo, hi), nn.Mat{})
	})
	return &s.yBuf
}

// backward is y·(dy - Σ dy·y) in every group.
func (s *softmaxStep) backward(dy nn.Mat, wantInput bool) *nn.Buffer {
	if !wantInput {
		return nil
	}
	dx := s.dx.Mat(dy.Rows, dy.Cols)
	nn.Parallel(dy.Rows*s.groups, 2*s.size, func(lo, hi int) {
		for g := lo; g < hi; g++ {
			from, to := g*s.size, (g+1)*s.size
			y, d := s.y.Data[from:to], dy.Data[from:to]
			mean := float32(kernels.Dot(y, d))
			for i, v := range y {
				dx.Data[from+i] = v * (d[i] - mean)
			}
		}
	})
	return &s.dx
}

func rowsOf(m nn.Mat, lo, hi int) nn.Mat {
	return nn.Mat{Rows: hi - lo, Cols: m.Cols, Data: m.Data[lo*m.Cols : hi*m.Cols]}
}
