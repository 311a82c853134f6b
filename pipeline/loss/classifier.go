package loss

import (
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/permafrost-ml/permafrost/internal/kernels"
	"github.com/permafrost-ml/permafrost/pipeline/train/nn"
)

// classifier is the cross entropy of logits that a matrix of weights, a column
// a class, gives for embeddings.
type classifier struct {
	classes int
	scale   float64
	kernel  Param
	// margin, if it is not nil, makes both the rows and the columns unit
	// vectors, so that the products are cosines, and changes those.
	margin margin

	logits nn.Buffer // l and then its gradient
	de     nn.Buffer
	lse    []float32

	rows, columns nn.Buffer // unit ones
	byColumns     nn.Buffer // gradient by the unit columns
	invRow        []float32
	invCol        []float32
	sums          []float64
}

// margin changes cosines of embeddings and classes before the cross entropy.
type margin interface {
	// forward changes the cosines in place.
	forward(cos nn.Mat, labels []int32)
	// backward turns the gradient by what forward made into that by the
	// cosines.
	backward(g nn.Mat, labels []int32)
}

// newClassifier returns a classifier whose kernel [dim, classes] is drawn
// from N(0, 0.01²).
func newClassifier(dim, classes int, scale float64, m margin, rng *rand.Rand) (*classifier, error) {
	if err := sizes(dim, classes); err != nil {
		return nil, err
	}
	c := &classifier{classes: classes, scale: scale, kernel: nn.NewParam("kernel", dim, classes), margin: m}
	for i := range c.kernel.Values() {
		c.kernel.Values()[i] = float32(0.01 * rng.NormFloat64())
	}
	return c, nil
}

// sizes reports parameters of no values.
func sizes(dim, classes int) error {
	if dim <= 0 || classes <= 0 {
		return fmt.Errorf("a kernel of %d values for each of %d classes is impossible", dim, classes)
	}
	return nil
}

func (c *classifier) Parameters() []Param { return []Param{c.kernel} }

// classes are the labels of a batch for a loss with that number of classes.
func (b *Batch) classes(rows, classes int) ([]int32, error) {
	if err := b.lengths(rows); err != nil {
		return nil, err
	}
	if b.Labels == nil {
		return nil, errNoLabels
	}
	for i, y := range b.Labels {
		if y < 0 || int(y) >= classes {
			return nil, fmt.Errorf("row %d of the batch has class %d of %d", i, y, classes)
		}
	}
	return b.Labels, nil
}

func (c *classifier) Compute(batch *Batch, grad bool) (Result, error) {
	w := c.kernel.Mat()
	e, err := nn.ViewCols(batch.A, w.Rows)
	if err != nil {
		return Result{}, err
	}
	n := e.Rows
	labels, err := batch.classes(n, c.classes)
	if err != nil {
		return Result{}, err
	}
	if c.margin != nil {
		e, w = c.unit(e, w)
	}
	l := c.logits.Mat(n, c.classes)
	if c.margin == nil {
		nn.Gemm(nn.AsIs, nn.AsIs, float32(c.scale), e, w, 0, l)
	} else {
		nn.Gemm(nn.AsIs, nn.AsIs, 1, e, w, 0, l)
		c.margin.forward(l, labels)
		kernels.Scale(float32(c.scale), l.Data, l.Data)
	}
	c.lse = fit(c.lse, n)
	nn.LogSumExpRows(c.lse, l)
	var sum float64
	for i, y := range labels {
		sum += float64(c.lse[i]) - float64(l.Data[i*c.classes+int(y)])
	}
	res := Result{Value: sum / float64(n)}
	if !grad {
		return res, nil
	}
	nn.SoftmaxBackward(l, c.lse, labels, float32(c.scale/float64(n)))
	de := c.de.Mat(n, w.Rows)
	if c.margin == nil {
		nn.Gemm(nn.AsIs, nn.Transposed, 1, l, w, 0, de)
		nn.Gemm(nn.Transposed, nn.AsIs, 1, e, l, 1, c.kernel.GradMat())
		res.DA = c.de.Dense()
		return res, nil
	}
	c.margin.backward(l, labels)
	nn.Gemm(nn.AsIs, nn.Transposed, 1, l, w, 0, de)
	nn.NormalizeBackward(de, e, c.invRow)
	dw := c.byColumns.Mat(w.Rows, w.Cols)
	nn.Gemm(nn.Transposed, nn.AsIs, 1, e, l, 0, dw)
	c.addByColumns(dw, w)
	res.DA = c.de.Dense()
	return res, nil
}

// unit returns the unit rows of e and the unit columns of w. Those of zeros
// stay zeros, with the gradient 0.
func (c *classifier) unit(e, w nn.Mat) (rows, columns nn.Mat) {
	rows, columns = c.rows.Mat(e.Rows, e.Cols), c.columns.Mat(w.Rows, w.Cols)
	c.invRow, c.invCol, c.sums = fit(c.invRow, e.Rows), fit(c.invCol, w.Cols), fit(c.sums, w.Cols)
	nn.Normalize(rows, e, c.invRow)
	clear(c.sums)
	for i := range w.Rows {
		for j, v := range w.Row(i) {
			c.sums[j] += float64(v) * float64(v)
		}
	}
	for j, s := range c.sums {
		c.invCol[j] = 0
		if s != 0 {
			c.invCol[j] = float32(1 / max(math.Sqrt(s), nn.NormEps))
		}
	}
	for i := range w.Rows {
		kernels.Mul(columns.Row(i), w.Row(i), c.invCol)
	}
	return rows, columns
}

// addByColumns adds to the kernel's gradient what dw, that by its unit columns
// u, gives: (dw - u·(u·dw))/|w| in every column.
func (c *classifier) addByColumns(dw, u nn.Mat) {
	clear(c.sums)
	for i := range u.Rows {
		d := dw.Row(i)
		for j, v := range u.Row(i) {
			c.sums[j] += float64(v) * float64(d[j])
		}
	}
	g := c.kernel.GradMat()
	for i := range u.Rows {
		row, d := g.Row(i), dw.Row(i)
		for j, v := range u.Row(i) {
			row[j] += (d[j] - v*float32(c.sums[j])) * c.invCol[j]
		}
	}
}
