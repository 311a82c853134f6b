package nn

import (
	"fmt"
	"unsafe"

	"gorgonia.org/tensor"
)

// Mat is a row-major matrix without gaps between rows: a view of a tensor's
// memory.
type Mat struct {
	Rows, Cols int
	Data       []float32 // Rows*Cols values
}

// View returns the memory of a two-dimensional float32 tensor as a matrix.
// Views of tensors that are transposed, sliced with gaps or empty are errors.
func View(t *tensor.Dense) (Mat, error) {
	switch {
	case t == nil:
		return Mat{}, fmt.Errorf("a matrix is missing")
	case t.Dtype() != tensor.Float32:
		return Mat{}, fmt.Errorf("a matrix of float32 is needed, not of %v", t.Dtype())
	case t.Dims() != 2 || t.DataOrder().IsColMajor() || t.RequiresIterator():
		return Mat{}, fmt.Errorf("a contiguous row-major matrix is needed, not shape %v with strides %v", t.Shape(), t.Strides())
	}
	shape := t.Shape()
	m := Mat{Rows: shape[0], Cols: shape[1], Data: t.Float32s()}
	if m.Rows == 0 || m.Cols == 0 || len(m.Data) < m.Rows*m.Cols {
		return Mat{}, fmt.Errorf("a matrix of shape %v holds %d values", shape, len(m.Data))
	}
	m.Data = m.Data[:m.Rows*m.Cols]
	return m, nil
}

// ViewCols is View for a matrix that must have cols columns.
func ViewCols(t *tensor.Dense, cols int) (Mat, error) {
	m, err := View(t)
	if err == nil && m.Cols != cols {
		err = fmt.Errorf("the matrix has %d columns where %d are needed", m.Cols, cols)
	}
	return m, err
}

// Mat is the parameter's value as a matrix; a vector is one row.
func (p Param) Mat() Mat { return asMat(p.Value) }

// GradMat is the parameter's gradient as a matrix; a vector is one row.
func (p Param) GradMat() Mat { return asMat(p.Grad) }

func asMat(t *tensor.Dense) Mat {
	s := t.Shape()
	if len(s) == 1 {
		return Mat{1, s[0], t.Float32s()}
	}
	return Mat{s[0], s[1], t.Float32s()}
}

// Row is row i's memory.
func (m Mat) Row(i int) []float32 { return m.Data[i*m.Cols : (i+1)*m.Cols : (i+1)*m.Cols] }

// Buffer is a matrix that is used again at every step, so that steps of a
// size seen before allocate nothing. The zero Buffer is ready.
type Buffer struct {
	data  []float32
	dense *tensor.Dense
	mat   Mat
}

// Mat returns a matrix of that shape. Its content is whatever the last use
// left there, and the next call takes the memory back.
func (b *Buffer) Mat(rows, cols int) Mat {
	if n := rows * cols; n > len(b.data) {
		b.data, b.dense = make([]float32, n), nil
	}
	b.mat = Mat{rows, cols, b.data[:rows*cols]}
	return b.mat
}

// Dense is the matrix of the last call of Mat as a tensor over one memory.
func (b *Buffer) Dense() *tensor.Dense {
	if b.dense == nil || b.dense.Shape()[0] != b.mat.Rows || b.dense.Shape()[1] != b.mat.Cols {
		b.dense = Wrap(b.mat)
	}
	return b.dense
}

// Wrap returns a tensor over m's memory, with [Engine] for its operations.
func Wrap(m Mat) *tensor.Dense {
	return tensor.New(tensor.WithShape(m.Rows, m.Cols), tensor.WithBacking(m.Data), withEngine)
}

// Rewrap is [Wrap] that uses t again, a tensor that Wrap gave and nobody needs
// any more. One of another shape, transposed or masked, and nil, are left
// alone.
func Rewrap(t *tensor.Dense, m Mat) *tensor.Dense {
	if t == nil || t.IsMasked() || t.Dtype() != tensor.Float32 {
		return Wrap(m)
	}
	shape, strides := t.Shape(), t.Strides()
	if len(shape) != 2 || len(strides) != 2 || shape[0] != m.Rows || shape[1] != m.Cols || strides[0] != m.Cols || strides[1] != 1 {
		return Wrap(m)
	}
	t.Raw = unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(m.Data))), 4*len(m.Data))
	return t
}

// Transpose writes the transpose of src to dst.
func Transpose(dst, src Mat) {
	for i := range src.Rows {
		for j, v := range src.Row(i) {
			dst.Data[j*dst.Cols+i] = v
		}
	}
}
