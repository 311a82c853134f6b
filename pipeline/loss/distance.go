package loss

import "math"

// Distance names how embeddings x and y are compared: by a distance d(x, y),
// low for similar objects, or by a similarity s(x, y), high for them. Each
// loss says which of them it takes. The empty Distance is the loss's default.
type Distance string

// The distances. A row of zeros has the cosine 0 with every other, and the
// gradient 0. Where Euclidean's d is 0, or a difference under Manhattan is,
// that part of the gradient is 0.
const (
	// Cosine is s = cos(x, y) and d = 1 - cos(x, y).
	Cosine Distance = "cosine"
	// Euclidean is d = |x - y|₂ and s = 1/(1 + d).
	Euclidean Distance = "euclidean"
	// Manhattan is d = |x - y|₁ and s = 1/(1 + d). A matrix of n·n
	// distances takes n·n·dim steps of plain code and no memory of that
	// size: the other distances are matrix products and far faster.
	Manhattan Distance = "manhattan"
	// DotProduct is s = x·y and d = -x·y.
	DotProduct Distance = "dot_product"
)

// check reports a distance that there is not.
func (d Distance) check() error {
	return oneOf("distance", d, Cosine, Euclidean, Manhattan, DotProduct)
}

// measure is a number that a distance gives for two embeddings.
type measure struct {
	distance Distance
	// Products (cosine and dot product) are alpha·(x·y) + beta, of unit
	// vectors for the cosine.
	alpha, beta float64
	// nearness, if it is not 0, replaces the others' d by nearness/(1 + d).
	nearness float64
	// eps is added to every difference of the others.
	eps float64
}

// product reports whether the measure is a product of two embeddings.
func (m measure) product() bool { return m.distance == Cosine || m.distance == DotProduct }

// distances is the measure d, of Quaterion's matrices if variant says so:
// those have (1 - cos)/2 for the cosine.
func distances(d Distance, variant string) measure {
	m := measure{distance: d, alpha: -1}
	if d == Cosine {
		m.beta = 1
		if variant == VariantQuaterion {
			m.alpha, m.beta = -0.5, 0.5
		}
	}
	return m
}

// similarities is the measure scale·s, of Quaterion's matrices if variant
// says so: those have (cos + 1)/2 for the cosine.
func similarities(d Distance, variant string, scale float64) measure {
	m := measure{distance: d, alpha: scale}
	switch {
	case !m.product():
		m.nearness = scale
	case d == Cosine && variant == VariantQuaterion:
		m.alpha, m.beta = scale/2, scale/2
	}
	return m
}

// of is the measure of a distance d that is no product.
func (m measure) of(d float64) float64 {
	if m.nearness != 0 {
		return m.nearness / (1 + d)
	}
	return d
}

// slope is the derivative of of at d.
func (m measure) slope(d float64) float64 {
	if m.nearness != 0 {
		return -m.nearness / ((1 + d) * (1 + d))
	}
	return 1
}

// between is the distance of two embeddings, not of a product.
func (m measure) between(x, y []float32) float64 {
	if m.distance == Manhattan {
		return manhattan(x, y, m.eps)
	}
	return math.Sqrt(squares(x, y, m.eps))
}

// manhattan is Σ|x - y + eps|, in four sums that do not wait for each other.
func manhattan(x, y []float32, eps float64) float64 {
	var a, b, c, d float64
	y = y[:len(x)]
	i := 0
	for ; i+4 <= len(x); i += 4 {
		p, q := x[i:i+4:i+4], y[i:i+4:i+4]
		a += math.Abs(float64(p[0]) - float64(q[0]) + eps)
		b += math.Abs(float64(p[1]) - float64(q[1]) + eps)
		c += math.Abs(float64(p[2]) - float64(q[2]) + eps)
		d += math.Abs(float64(p[3]) - float64(q[3]) + eps)
	}
	for ; i < len(x); i++ {
		a += math.Abs(float64(x[i]) - float64(y[i]) + eps)
	}
	return a + b + c + d
}

// squares is Σ(x - y + eps)².
func squares(x, y []float32, eps float64) float64 {
	var a, b float64
	y = y[:len(x)]
	i := 0
	for ; i+2 <= len(x); i += 2 {
		p, q := x[i:i+2:i+2], y[i:i+2:i+2]
		u, v := float64(p[0])-float64(q[0])+eps, float64(p[1])-float64(q[1])+eps
		a += u * u
		b += v * v
	}
	if i < len(x) {
		u := float64(x[i]) - float64(y[i]) + eps
		a += u * u
	}
	return a + b
}
