package nn

import (
	"sync"
	"unsafe"

	"gonum.org/v1/gonum/blas"
	"gorgonia.org/tensor"

	"github.com/permafrost-ml/permafrost/internal/kernels"
)

// Engine is gorgonia's standard engine with this module's arithmetic for
// float32 tensors:
//
//   - MatMul of matrices of any data order, transposed or sliced ones too;
//     MatVecMul, Inner and Dot;
//   - Add, Sub, Mul and their forms with a scalar, FMAScalar, Neg, Square, Exp
//     and Tanh;
//   - SoftMax and LogSoftMax over the last axis, with their gradients;
//   - Sum over everything, the first or the last axis, and Max over
//     everything or the last.
//
// Those but MatMul are for tensors without gaps in row-major order. All that
// is left (other types and orders, masks, other operations and axes, and
// operands that do not fit, with their errors) is the standard engine's.
// [Wrap] gives tensors this engine, so those that heads, losses and
// pipelines hand out have it; others get it by tensor.WithEngine. An
// operation uses the engine of its first tensor.
//
// Results are within rounding of the standard engine's, with the differences
// that each method names. They do not depend on Workers, and rows of products
// and of SoftMax have the same bits whatever is in the others. Options mean
// what they mean there; with a tensor for the result, or in place, an
// operation itself allocates nothing (WithReuse and the list of options do,
// where they are made anew for each call).
//
// The zero Engine is ready and safe for concurrent use.
type Engine struct {
	tensor.StdEng
	// Workers is the most goroutines of one matrix product; other
	// operations run where they are called. Default: one a processor.
	Workers int
}

// withEngine is kept because making it allocates.
var withEngine = tensor.WithEngine(Engine{})

// numbers returns the values of a float32 tensor without gaps in row-major
// order, and nil for any other tensor and without values.
func numbers(t tensor.Tensor) []float32 {
	d, ok := t.(*tensor.Dense)
	if !ok || d.Dtype() != tensor.Float32 || !d.IsNativelyAccessible() || d.IsMasked() ||
		d.RequiresIterator() || d.DataOrder().IsColMajor() {
		return nil
	}
	v := d.Float32s()
	if len(v) != d.Shape().TotalSize() {
		return nil
	}
	return v
}

// matrix is an operand of a product: its rows, or its columns if trans is
// set, are ld values apart.
type matrix struct {
	data  []float32
	ld    int
	trans bool
}

// matrixOf returns a float32 tensor of two dimensions as an operand, if the
// values of its rows or of its columns are neighbours.
func matrixOf(t tensor.Tensor) (m matrix, ok bool) {
	d, ok := t.(*tensor.Dense)
	if !ok || d.Dtype() != tensor.Float32 || !d.IsNativelyAccessible() || d.IsMasked() {
		return m, false
	}
	shape, strides := d.Shape(), d.Strides()
	if len(shape) != 2 || shape[0] < 1 || shape[1] < 1 {
		return m, false
	}
	m.data = d.Float32s()
	lines, width := shape[0], shape[1]
	switch {
	case min(lines, width) == 1 && len(m.data) == lines*width:
		m.ld = width // whatever its strides; there may be none
	case len(strides) != 2:
		return m, false
	case strides[1] == 1 || width == 1:
		m.ld = strides[0]
	case strides[0] == 1 || lines == 1:
		m.ld, m.trans = strides[1], true
		lines, width = width, lines
	default:
		return m, false
	}
	if lines == 1 {
		m.ld = width
	}
	return m, m.ld >= width && len(m.data) >= (lines-1)*m.ld+width
}

// MatMul writes a·b to preallocated. Unlike the standard engine it takes
// columns out of a matrix and operands of different data orders, and
// multiplies zeros like other numbers: infinities and NaN reach every element
// that they belong to.
func (e Engine) MatMul(a, b, preallocated tensor.Tensor) error {
	x, okX := matrixOf(a)
	y, okY := matrixOf(b)
	z, okZ := matrixOf(preallocated)
	if !okX || !okY || !okZ {
		return e.StdEng.MatMul(a, b, preallocated)
	}
	m, k, n := a.Shape()[0], a.Shape()[1], b.Shape()[1]
	if s := preallocated.Shape(); b.Shape()[0] != k || s[0] != m || s[1] != n {
		return e.StdEng.MatMul(a, b, preallocated)
	}
	if z.trans { // the transpose of the result is bᵀ·aᵀ
		gemm(!y.trans, !x.trans, n, m, k, 1, y.data, y.ld, x.data, x.ld, 0, z.data, z.ld, e.Workers)
		return nil
	}
	gemm(x.trans, y.trans, m, n, k, 1, x.data, x.ld, y.data, y.ld, 0, z.data, z.ld, e.Workers)
	return nil
}

// MatVecMul writes the product of a matrix and a vector to preallocated.
func (e Engine) MatVecMul(a, b, preallocated tensor.Tensor) error {
	m, ok := matrixOf(a)
	x, y := numbers(b), numbers(preallocated)
	if !ok || x == nil || y == nil || len(y) != a.Shape()[0] || len(x) != a.Shape()[1] {
		return e.StdEng.MatVecMul(a, b, preallocated)
	}
	if m.trans {
		kernels.BLAS{}.Sgemv(blas.Trans, len(x), len(y), 1, m.data, m.ld, x, 1, 0, y, 1)
		return nil
	}
	kernels.BLAS{}.Sgemv(blas.NoTrans, len(y), len(x), 1, m.data, m.ld, x, 1, 0, y, 1)
	return nil
}

// Inner is the inner product of two vectors of one length, a float32 that is
// summed in float64.
func (e Engine) Inner(a, b tensor.Tensor) (any, error) {
	x, y := numbers(a), numbers(b)
	if x == nil || len(x) != len(y) {
		return e.StdEng.Inner(a, b)
	}
	return float32(kernels.Dot(x, y)), nil
}

// Dot is gorgonia's product of two tensors of any shapes, by way of Inner,
// MatVecMul and MatMul.
func (e Engine) Dot(a, b tensor.Tensor, opts ...tensor.FuncOpt) (tensor.Tensor, error) {
	x, y := numbers(a), numbers(b)
	if x == nil || len(x) != len(y) || !a.Shape().IsVector() || !b.Shape().IsVector() || a.IsScalar() || b.IsScalar() {
		return e.StdEng.Dot(a, b, opts...)
	}
	return e.scalar(float32(kernels.Dot(x, y))), nil
}

// FMAScalar adds x·a, for a number x, to y.
func (e Engine) FMAScalar(a tensor.Tensor, x any, y tensor.Tensor) (tensor.Tensor, error) {
	src, dst := numbers(a), numbers(y)
	s, ok := number(x)
	if !ok || src == nil || len(src) != len(dst) || !a.Shape().Eq(y.Shape()) || crosses(dst, src) {
		return e.StdEng.FMAScalar(a, x, y)
	}
	kernels.Axpy(s, src, dst)
	return y, nil
}

func (e Engine) scalar(v float32) *tensor.Dense {
	return tensor.New(tensor.WithShape(), tensor.WithBacking([]float32{v}), tensor.WithEngine(e))
}

// crosses reports whether two slices share memory without beginning at one
// place.
func crosses(x, y []float32) bool {
	if len(x) == 0 || len(y) == 0 || &x[0] == &y[0] {
		return false
	}
	const size = unsafe.Sizeof(x[0])
	p, q := uintptr(unsafe.Pointer(&x[0])), uintptr(unsafe.Pointer(&y[0]))
	return p < q+uintptr(len(y))*size && q < p+uintptr(len(x))*size
}

// call is what an operation needs besides its operands.
type call struct {
	opts    tensor.OpOpt
	scratch [piece]float32
}

var calls = sync.Pool{New: func() any { return new(call) }}

// options returns what the options of an operation say: the tensor for the
// result, whether the result is added to it, and whether it overwrites the
// first operand.
func options(c *call, opts []tensor.FuncOpt) (reuse tensor.Tensor, add, inPlace bool) {
	for _, opt := range opts {
		opt(&c.opts)
	}
	reuse, add = c.opts.IncrReuse()
	return reuse, add, !c.opts.Safe()
}

func (c *call) end() {
	c.opts = tensor.OpOpt{}
	calls.Put(c)
}
