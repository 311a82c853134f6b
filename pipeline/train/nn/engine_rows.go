package nn

import (
	"gorgonia.org/tensor"

	"github.com/permafrost-ml/permafrost/internal/kernels"
)

// rowOp writes to dst what it makes of a row x and, for gradients, of a row
// y. dst may be x or y.
type rowOp func(c *call, dst, x, y []float32)

// rows runs an operation over the last axis where its tensors allow it; b may
// be nil.
func (e Engine) rows(op rowOp, a, b tensor.Tensor, axis int, opts []tensor.FuncOpt) (tensor.Tensor, bool) {
	x, dims := numbers(a), a.Dims()
	if len(x) == 0 || dims == 0 || axis != dims-1 && axis != -1 {
		return nil, false
	}
	var y []float32
	if b != nil {
		if y = numbers(b); len(y) != len(x) || !a.Shape().Eq(b.Shape()) {
			return nil, false
		}
	}
	c := calls.Get().(*call)
	defer c.end()
	out, add, inPlace := options(c, opts)
	var dst []float32
	switch {
	case add || crosses(x, y):
		return nil, false
	case out != nil:
		var ok bool
		if dst, ok = place(out, a, x, y); !ok {
			return nil, false
		}
	case inPlace:
		out, dst = a, x
	default:
		t := a.Clone().(*tensor.Dense)
		out, dst = t, t.Float32s()
	}
	width := a.Shape()[dims-1]
	for from := 0; from < len(x); from += width {
		to := from + width
		if y == nil {
			op(c, dst[from:to], x[from:to], nil)
		} else {
			op(c, dst[from:to], x[from:to], y[from:to])
		}
	}
	return out, true
}

func softmaxRow(_ *call, dst, x, _ []float32) { kernels.Softmax(dst, x) }

func logSoftmaxRow(_ *call, dst, x, _ []float32) {
	// First less the maximum, so that the logarithm is taken where float32
	// is finest.
	kernels.Shift(kernels.Max(x), x, dst)
	kernels.Shift(kernels.LogSumExp(dst), dst, dst)
}

// softmaxGradRow is y·(g - Σy·g) of a row y of results and their gradient g.
func softmaxGradRow(c *call, dst, y, g []float32) {
	along := float32(kernels.Dot(y, g))
	for from := 0; from < len(y); from += piece {
		to := min(from+piece, len(y))
		part := c.scratch[:to-from]
		kernels.Shift(along, g[from:to], part)
		kernels.Mul(dst[from:to], part, y[from:to])
	}
}

// logSoftmaxGradRow is g - e^y·Σg of a row y of results and their gradient g.
func logSoftmaxGradRow(c *call, dst, y, g []float32) {
	sum := float32(kernels.Sum(g))
	for from := 0; from < len(y); from += piece {
		to := min(from+piece, len(y))
		part := c.scratch[:to-from]
		kernels.Exp(part, y[from:to])
		kernels.Scale(-sum, part, part)
		kernels.Add(dst[from:to], part, g[from:to])
	}
}

// SoftMax is e^x/Σe^x over an axis. Over the last one it heeds the options,
// which the standard engine does not, and subtracts each row's own maximum.
func (e Engine) SoftMax(x tensor.Tensor, axis int, opts ...tensor.FuncOpt) (tensor.Tensor, error) {
	if out, ok := e.rows(softmaxRow, x, nil, axis, opts); ok {
		return out, nil
	}
	return e.StdEng.SoftMax(x, axis, opts...)
}

// LogSoftMax is the logarithm of SoftMax, and as exact where that is 0.
func (e Engine) LogSoftMax(x tensor.Tensor, axis int, opts ...tensor.FuncOpt) (tensor.Tensor, error) {
	if out, ok := e.rows(logSoftmaxRow, x, nil, axis, opts); ok {
		return out, nil
	}
	return e.StdEng.LogSoftMax(x, axis, opts...)
}

// SoftMaxB is the gradient of SoftMax's operand, from its result and the
// result's gradient.
func (e Engine) SoftMaxB(output, grad tensor.Tensor, axis int, opts ...tensor.FuncOpt) (tensor.Tensor, error) {
	if out, ok := e.rows(softmaxGradRow, output, grad, axis, opts); ok {
		return out, nil
	}
	return e.StdEng.SoftMaxB(output, grad, axis, opts...)
}

// LogSoftMaxB is the gradient of LogSoftMax's operand, from its result and
// the result's gradient.
func (e Engine) LogSoftMaxB(output, grad tensor.Tensor, axis int, opts ...tensor.FuncOpt) (tensor.Tensor, error) {
	if out, ok := e.rows(logSoftmaxGradRow, output, grad, axis, opts); ok {
		return out, nil
	}
	return e.StdEng.LogSoftMaxB(output, grad, axis, opts...)
}

// Sum is the sum over the given axes, or over all. Sums over everything and
// over the last axis are taken in float64.
func (e Engine) Sum(a tensor.Tensor, along ...int) (tensor.Tensor, error) {
	x := numbers(a)
	switch {
	case len(x) == 0:
	case everything(a, along):
		return e.scalar(float32(kernels.Sum(x))), nil
	case len(along) == 1 && along[0] == a.Dims()-1:
		return e.reduceRows(a, x, func(row []float32) float32 { return float32(kernels.Sum(row)) }), nil
	case len(along) == 1 && along[0] == 0:
		t := tensor.NewDense(tensor.Float32, a.Shape()[1:], tensor.WithEngine(e))
		dst := t.Float32s()
		for from := 0; from < len(x); from += len(dst) {
			kernels.Axpy(1, x[from:from+len(dst)], dst)
		}
		return t, nil
	}
	return e.StdEng.Sum(a, along...)
}

// Max is the greatest value over the given axes, or over all. Over everything
// and over the last axis it is NaN if one of the values is.
func (e Engine) Max(a tensor.Tensor, along ...int) (tensor.Tensor, error) {
	x := numbers(a)
	switch {
	case len(x) == 0:
	case everything(a, along):
		return e.scalar(kernels.Max(x)), nil
	case len(along) == 1 && along[0] == a.Dims()-1:
		return e.reduceRows(a, x, kernels.Max), nil
	}
	return e.StdEng.Max(a, along...)
}

// everything reports whether axes are all of a's; none are all, too.
func everything(a tensor.Tensor, axes []int) bool {
	for i, axis := range axes {
		if axis != i {
			return false
		}
	}
	return len(axes) == 0 || len(axes) == a.Dims()
}

func (e Engine) reduceRows(a tensor.Tensor, x []float32, reduce func(row []float32) float32) *tensor.Dense {
	shape := a.Shape()
	width := shape[len(shape)-1]
	t := tensor.NewDense(tensor.Float32, shape[:len(shape)-1], tensor.WithEngine(e))
	dst := t.Float32s()
	for i := range dst {
		dst[i] = reduce(x[i*width : (i+1)*width])
	}
	return t
}
