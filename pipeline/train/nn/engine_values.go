package nn

import (
	"gorgonia.org/tensor"

	"github.com/permafrost-ml/permafrost/internal/kernels"
)

// valueOp is an operation value by value. It writes to dst what it makes of x, of y,
// which is as long if it is not nil, and of s. dst may be x or y.
type valueOp func(dst, x, y []float32, s float32)

func addOp(dst, x, y []float32, _ float32)    { kernels.Add(dst, x, y) }
func subOp(dst, x, y []float32, _ float32)    { kernels.Sub(dst, x, y) }
func mulOp(dst, x, y []float32, _ float32)    { kernels.Mul(dst, x, y) }
func shiftOp(dst, x, _ []float32, s float32)  { kernels.Shift(s, x, dst) }
func scaleOp(dst, x, _ []float32, s float32)  { kernels.Scale(s, x, dst) }
func squareOp(dst, x, _ []float32, _ float32) { kernels.Mul(dst, x, x) }
func expOp(dst, x, _ []float32, _ float32)    { kernels.Exp(dst, x) }
func tanhOp(dst, x, _ []float32, _ float32)   { kernels.Tanh(dst, x) }

func fromOp(dst, x, _ []float32, s float32) {
	kernels.Scale(-1, x, dst)
	kernels.Shift(-s, dst, dst)
}

// values runs an operation where its tensors allow it; b may be nil.
func (e Engine) values(op valueOp, a, b tensor.Tensor, s float32, opts []tensor.FuncOpt) (tensor.Tensor, bool) {
	x := numbers(a)
	if x == nil {
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
	switch {
	case out != nil:
		dst, ok := place(out, a, x, y)
		if !ok {
			return nil, false
		}
		if add {
			c.add(op, dst, x, y, s)
		} else {
			op(dst, x, y, s)
		}
	case crosses(x, y):
		return nil, false
	case inPlace:
		out = a
		op(x, x, y, s)
	default:
		t := a.Clone().(*tensor.Dense)
		out = t
		op(t.Float32s(), t.Float32s(), y, s)
	}
	return out, true
}

// place returns the memory of a tensor for a result of a's shape, if it can
// hold it.
func place(out, a tensor.Tensor, x, y []float32) ([]float32, bool) {
	dst := numbers(out)
	if len(dst) != len(x) || crosses(dst, x) || crosses(dst, y) {
		return nil, false
	}
	if !out.Shape().Eq(a.Shape()) && out.Reshape(a.Shape()...) != nil {
		return nil, false
	}
	return dst, true
}

// add adds what the operation gives to dst.
func (c *call) add(op valueOp, dst, x, y []float32, s float32) {
	for from := 0; from < len(x); from += piece {
		to := min(from+piece, len(x))
		part := c.scratch[:to-from]
		if y == nil {
			op(part, x[from:to], nil, s)
		} else {
			op(part, x[from:to], y[from:to], s)
		}
		kernels.Axpy(1, part, dst[from:to])
	}
}

// number is the value of the scalar operand of an operation.
func number(v any) (float32, bool) {
	switch v := v.(type) {
	case float32:
		return v, true
	case tensor.Tensor:
		if x := numbers(v); len(x) == 1 {
			return x[0], true
		}
	}
	return 0, false
}

// withNumber runs an operation of a tensor of several values and a number.
func (e Engine) withNumber(op valueOp, a tensor.Tensor, s float32, opts []tensor.FuncOpt) (tensor.Tensor, bool) {
	if a.Shape().IsScalarEquiv() {
		return nil, false
	}
	return e.values(op, a, nil, s, opts)
}

// Add is a + b.
func (e Engine) Add(a, b tensor.Tensor, opts ...tensor.FuncOpt) (tensor.Tensor, error) {
	if out, ok := e.values(addOp, a, b, 0, opts); ok {
		return out, nil
	}
	return e.StdEng.Add(a, b, opts...)
}

// Sub is a - b.
func (e Engine) Sub(a, b tensor.Tensor, opts ...tensor.FuncOpt) (tensor.Tensor, error) {
	if out, ok := e.values(subOp, a, b, 0, opts); ok {
		return out, nil
	}
	return e.StdEng.Sub(a, b, opts...)
}

// Mul is a·b, value by value.
func (e Engine) Mul(a, b tensor.Tensor, opts ...tensor.FuncOpt) (tensor.Tensor, error) {
	if out, ok := e.values(mulOp, a, b, 0, opts); ok {
		return out, nil
	}
	return e.StdEng.Mul(a, b, opts...)
}

// AddScalar is a + b for a number b.
func (e Engine) AddScalar(a tensor.Tensor, b any, leftTensor bool, opts ...tensor.FuncOpt) (tensor.Tensor, error) {
	if s, ok := number(b); ok {
		if out, ok := e.withNumber(shiftOp, a, -s, opts); ok {
			return out, nil
		}
	}
	return e.StdEng.AddScalar(a, b, leftTensor, opts...)
}

// SubScalar is a - b for a number b, and b - a without leftTensor.
func (e Engine) SubScalar(a tensor.Tensor, b any, leftTensor bool, opts ...tensor.FuncOpt) (tensor.Tensor, error) {
	op := valueOp(fromOp)
	if leftTensor {
		op = shiftOp
	}
	if s, ok := number(b); ok {
		if out, ok := e.withNumber(op, a, s, opts); ok {
			return out, nil
		}
	}
	return e.StdEng.SubScalar(a, b, leftTensor, opts...)
}

// MulScalar is a·b for a number b.
func (e Engine) MulScalar(a tensor.Tensor, b any, leftTensor bool, opts ...tensor.FuncOpt) (tensor.Tensor, error) {
	if s, ok := number(b); ok {
		if out, ok := e.withNumber(scaleOp, a, s, opts); ok {
			return out, nil
		}
	}
	return e.StdEng.MulScalar(a, b, leftTensor, opts...)
}

// Neg is -a.
func (e Engine) Neg(a tensor.Tensor, opts ...tensor.FuncOpt) (tensor.Tensor, error) {
	if out, ok := e.values(scaleOp, a, nil, -1, opts); ok {
		return out, nil
	}
	return e.StdEng.Neg(a, opts...)
}

// Square is a·a, value by value.
func (e Engine) Square(a tensor.Tensor, opts ...tensor.FuncOpt) (tensor.Tensor, error) {
	if out, ok := e.values(squareOp, a, nil, 0, opts); ok {
		return out, nil
	}
	return e.StdEng.Square(a, opts...)
}

// Exp is e^a, within 2 units in the last place.
func (e Engine) Exp(a tensor.Tensor, opts ...tensor.FuncOpt) (tensor.Tensor, error) {
	if out, ok := e.values(expOp, a, nil, 0, opts); ok {
		return out, nil
	}
	return e.StdEng.Exp(a, opts...)
}

// Tanh is the hyperbolic tangent, within 2 units in the last place.
func (e Engine) Tanh(a tensor.Tensor, opts ...tensor.FuncOpt) (tensor.Tensor, error) {
	if out, ok := e.values(tanhOp, a, nil, 0, opts); ok {
		return out, nil
	}
	return e.StdEng.Tanh(a, opts...)
}
