package loss

import (
	"errors"
	"math"
	"math/rand/v2"

	"github.com/permafrost-ml/permafrost/internal/kernels"
	"github.com/permafrost-ml/permafrost/pipeline/train/nn"
)

// ArcFace declares the loss of a classifier with a margin in the angle (Deng
// et al. 2019, "ArcFace: Additive Angular Margin Loss for Deep Face
// Recognition"): with the angle θ_ij of row i's embedding and column j of the
// kernel, and the logits
//
//	l[i,j] = Scale · cos(θ_ij)            for the other classes
//	l[i,j] = Scale · cos(θ_ij + Margin)   for row i's own
//
// it is the mean over rows of logsumexp(l[i]) - l[i, label_i]. Its own
// parameter "kernel" [dim, classes] is first drawn from N(0, 0.01²) and
// trained with the head. Rows and columns of zeros have the cosine 0 and the
// gradient 0. Where sin θ is below 0.001, which float32 does not resolve, it
// counts as constant in gradients. Ids are not used.
type ArcFace struct {
	// Scale multiplies the cosines, above 0. Default: 64.
	Scale float64 `json:"scale"`
	// Margin is in radians, above 0 and at most π. Default: 0.5.
	Margin float64 `json:"margin"`
}

// Type is "arc_face".
func (ArcFace) Type() string { return "arc_face" }

// Kind is [Groups].
func (ArcFace) Kind() Kind { return Groups }

// Params are scale and margin.
func (c ArcFace) Params() map[string]any {
	return map[string]any{"scale": or(c.Scale, 64), "margin": or(c.Margin, 0.5)}
}

// New returns the loss with a fresh kernel.
func (c ArcFace) New(dim, classes int, rng *rand.Rand) (Loss, error) {
	scale, m := or(c.Scale, 64), or(c.Margin, 0.5)
	if err := errors.Join(above0("scale", scale), atMost("margin", m, math.Pi)); err != nil {
		return nil, err
	}
	return newClassifier(dim, classes, scale, &angle{cos: math.Cos(m), sin: math.Sin(m)}, rng)
}

// angle adds a margin, of which it has cosine and sine, to the angle of a
// row's own class.
type angle struct {
	cos, sin float64
	slopes   []float64
}

func (a *angle) forward(cos nn.Mat, labels []int32) {
	a.slopes = fit(a.slopes, cos.Rows)
	for i, y := range labels {
		at := &cos.Row(i)[y]
		c := min(max(float64(*at), -1), 1)
		square := 1 - c*c
		sine := math.Sqrt(square)
		*at = float32(c*a.cos - sine*a.sin)
		a.slopes[i] = a.cos
		if square > 1e-6 {
			a.slopes[i] += c / sine * a.sin
		}
	}
}

func (a *angle) backward(g nn.Mat, labels []int32) {
	for i, y := range labels {
		at := &g.Row(i)[y]
		*at = float32(float64(*at) * a.slopes[i])
	}
}

// CosFace declares the loss of a classifier with a margin in the cosine (Wang
// et al. 2018, "CosFace: Large Margin Cosine Loss for Deep Face Recognition"):
// with the cosine c_ij of row i's embedding and column j of the kernel, and the
// logits
//
//	l[i,j] = Scale · c_ij              for the other classes
//	l[i,j] = Scale · (c_ij - Margin)   for row i's own
//
// it is the mean over rows of logsumexp(l[i]) - l[i, label_i]. Its own
// parameter "kernel" [dim, classes] is first drawn from N(0, 0.01²) and
// trained with the head. Rows and columns of zeros have the cosine 0 and the
// gradient 0. Ids are not used.
type CosFace struct {
	// Scale multiplies the cosines, above 0. Default: 64.
	Scale float64 `json:"scale"`
	// Margin is above 0 and at most 2. Default: 0.35.
	Margin float64 `json:"margin"`
	// Variant may be [VariantQuaterion]: the logits are Scale times the
	// cosine of what is multiplied above. Default: "".
	Variant string `json:"variant"`
}

// Type is "cos_face".
func (CosFace) Type() string { return "cos_face" }

// Kind is [Groups].
func (CosFace) Kind() Kind { return Groups }

// Params are scale, margin and variant.
func (c CosFace) Params() map[string]any {
	return map[string]any{"scale": or(c.Scale, 64), "margin": or(c.Margin, 0.35), "variant": c.Variant}
}

// New returns the loss with a fresh kernel.
func (c CosFace) New(dim, classes int, rng *rand.Rand) (Loss, error) {
	scale, m := or(c.Scale, 64), or(c.Margin, 0.35)
	own, err := quaterion(c.Variant)
	if err := errors.Join(err, above0("scale", scale), atMost("margin", m, 2)); err != nil {
		return nil, err
	}
	return newClassifier(dim, classes, scale, &less{margin: float32(m), again: own}, rng)
}

// less takes a margin off the cosine of a row's own class.
type less struct {
	margin float32
	again  bool // all are replaced by their cosines then
	slopes nn.Buffer
}

func (s *less) forward(cos nn.Mat, labels []int32) {
	for i, y := range labels {
		cos.Row(i)[y] -= s.margin
	}
	if !s.again {
		return
	}
	slopes := s.slopes.Mat(cos.Rows, cos.Cols)
	nn.Parallel(cos.Rows, 32*cos.Cols, func(lo, hi int) {
		for k := lo * cos.Cols; k < hi*cos.Cols; k++ {
			sine, cosine := math.Sincos(float64(cos.Data[k]))
			cos.Data[k], slopes.Data[k] = float32(cosine), float32(-sine)
		}
	})
}

func (s *less) backward(g nn.Mat, _ []int32) {
	if s.again {
		kernels.Mul(g.Data, g.Data, s.slopes.Mat(g.Rows, g.Cols).Data)
	}
}
