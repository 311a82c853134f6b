package loss

import (
	"errors"
	"math"
	"math/rand/v2"

	"github.com/permafrost-ml/permafrost/internal/kernels"
	"github.com/permafrost-ml/permafrost/pipeline/train/nn"
)

// Center declares the distance of embeddings to the centres of their classes
// (Wen et al. 2016, "A Discriminative Feature Learning Approach for Deep Face
// Recognition"):
//
//	Lambda · mean over rows of |x_i - c_{label_i}|²
//
// Its own parameter "centers" [classes, dim] is first drawn from Xavier's
// uniform distribution and trained with the head, by the loss's gradient (the
// paper moves centres by a rule of its own). Alone it is least where all
// embeddings are equal: it is there to be added to another loss (see [Sum]).
// Ids are not used.
type Center struct {
	// Lambda multiplies the loss, above 0. Default: 0.5, as in the paper.
	Lambda float64 `json:"lambda_c"`
	// Variant may be [VariantQuaterion]: embeddings are unit rows, and the
	// squares are averaged over their values, too. Default: "".
	Variant string `json:"variant"`
}

// Type is "center".
func (Center) Type() string { return "center" }

// Kind is [Groups].
func (Center) Kind() Kind { return Groups }

// Params are lambda_c and variant.
func (c Center) Params() map[string]any {
	return map[string]any{"lambda_c": or(c.Lambda, 0.5), "variant": c.Variant}
}

// New returns the loss with fresh centres.
func (c Center) New(dim, classes int, rng *rand.Rand) (Loss, error) {
	lambda := or(c.Lambda, 0.5)
	own, err := quaterion(c.Variant)
	if err := errors.Join(err, above0("lambda_c", lambda), sizes(dim, classes)); err != nil {
		return nil, err
	}
	l := &center{lambda: lambda, unit: own, centers: nn.NewParam("centers", classes, dim)}
	limit := math.Sqrt(6 / float64(classes+dim))
	for i := range l.centers.Values() {
		l.centers.Values()[i] = float32((2*rng.Float64() - 1) * limit)
	}
	return l, nil
}

type center struct {
	lambda  float64
	unit    bool
	centers Param
	rows    nn.Buffer
	inv     []float32
	de      nn.Buffer
}

func (c *center) Parameters() []Param { return []Param{c.centers} }

func (c *center) Compute(batch *Batch, grad bool) (Result, error) {
	w := c.centers.Mat()
	e, err := nn.ViewCols(batch.A, w.Cols)
	if err != nil {
		return Result{}, err
	}
	labels, err := batch.classes(e.Rows, w.Rows)
	if err != nil {
		return Result{}, err
	}
	factor := c.lambda / float64(e.Rows)
	if c.unit {
		rows := c.rows.Mat(e.Rows, e.Cols)
		c.inv = fit(c.inv, e.Rows)
		nn.Normalize(rows, e, c.inv)
		e = rows
		factor /= float64(e.Cols)
	}
	de := c.de.Mat(e.Rows, e.Cols)
	var sum float64
	for i, y := range labels {
		d := de.Row(i)
		kernels.Sub(d, e.Row(i), w.Row(int(y)))
		sum += kernels.Dot(d, d)
	}
	res := Result{Value: factor * sum}
	if !grad {
		return res, nil
	}
	kernels.Scale(float32(2*factor), de.Data, de.Data)
	g := c.centers.GradMat()
	for i, y := range labels {
		kernels.Axpy(-1, de.Row(i), g.Row(int(y)))
	}
	if c.unit {
		nn.NormalizeBackward(de, e, c.inv)
	}
	res.DA = c.de.Dense()
	return res, nil
}
