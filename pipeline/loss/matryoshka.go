package loss

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strconv"

	"github.com/permafrost-ml/permafrost/internal/strictjson"
	"github.com/permafrost-ml/permafrost/pipeline/train/nn"
)

// Matryoshka declares the weighted sum of one loss of the embeddings' first
// values, for several numbers of them, so that embeddings can be cut to one of
// those (Kusupati et al. 2022, "Matryoshka Representation Learning"):
//
//	{type: matryoshka, dims: [384, 128, 32], loss: {type: multiple_negatives_ranking}}
//
// The loss is made anew for each number, with parameters and a state of its
// own, whose names begin with the number: "128.kernel".
type Matryoshka struct {
	// Dims are the numbers of values, each once, from 1 to all. Default: all,
	// and half as many again and again while 8 are left.
	Dims []int
	// Weights multiply the loss, one for each number, above 0. Default: 1
	// each.
	Weights []float64
	// Loss is the loss. Default: [MultipleNegativesRanking].
	Loss Config
}

// UnmarshalJSON reads the nested loss with its options and type side by side.
func (c *Matryoshka) UnmarshalJSON(data []byte) error {
	r, err := strictjson.Decode[struct {
		Dims    []int           `json:"dims"`
		Weights []float64       `json:"weights"`
		Loss    json.RawMessage `json:"loss"`
	}](data)
	if err != nil {
		return err
	}
	*c = Matryoshka{Dims: r.Dims, Weights: r.Weights}
	if len(r.Loss) > 0 && string(r.Loss) != "null" {
		c.Loss, err = parseFlat(r.Loss, nil)
	}
	return err
}

// Type is "matryoshka".
func (Matryoshka) Type() string { return "matryoshka" }

// Kind is the loss's.
func (c Matryoshka) Kind() Kind { return c.inner().Kind() }

func (c Matryoshka) inner() Config {
	if c.Loss == nil {
		return MultipleNegativesRanking{}
	}
	return c.Loss
}

// Params are dims, weights (both null for their defaults) and loss.
func (c Matryoshka) Params() map[string]any {
	return map[string]any{"dims": c.Dims, "weights": c.Weights, "loss": flat(c.inner(), nil)}
}

// New returns the loss. The parameters for the first number are drawn first.
func (c Matryoshka) New(dim, classes int, rng *rand.Rand) (Loss, error) {
	if err := dimension(dim); err != nil {
		return nil, err
	}
	dims := c.Dims
	if len(dims) == 0 {
		for d := dim; d == dim || d >= 8; d /= 2 {
			dims = append(dims, d)
		}
	}
	if len(c.Weights) != 0 && len(c.Weights) != len(dims) {
		return nil, fmt.Errorf("weights: there are %d for %d dims", len(c.Weights), len(dims))
	}
	m := &matryoshka{dim: dim}
	seen := map[int]bool{}
	for i, d := range dims {
		if d < 1 || d > dim || seen[d] {
			return nil, fmt.Errorf("dims: %d is not from 1 to %d, or there twice", d, dim)
		}
		seen[d] = true
		w := 1.0
		if len(c.Weights) != 0 {
			w = c.Weights[i]
		}
		if err := above0("weight", w); err != nil {
			return nil, err
		}
		l, err := c.inner().New(d, classes, rng)
		if err != nil {
			return nil, fmt.Errorf("loss %s: %w", c.inner().Type(), err)
		}
		m.parts = append(m.parts, part{name: strconv.Itoa(d), loss: l, weight: w})
		m.dims = append(m.dims, d)
	}
	return m, nil
}

type matryoshka struct {
	parts
	dim   int
	dims  []int
	a, b  nn.Buffer // the first values
	cut   Batch
	total total
}

func (m *matryoshka) Compute(b *Batch, grad bool) (Result, error) {
	x, err := nn.ViewCols(b.A, m.dim)
	if err != nil {
		return Result{}, err
	}
	var y nn.Mat
	if b.B != nil {
		if x, y, err = b.pairs(m.dim); err != nil {
			return Result{}, err
		}
	}
	m.cut = *b
	if grad {
		m.total.begin(b, m.dim)
	}
	var value float64
	for i, d := range m.dims {
		m.cut.A = firstColumns(&m.a, x, d).Dense()
		if b.B != nil {
			m.cut.B = firstColumns(&m.b, y, d).Dense()
		}
		p := &m.parts[i]
		r, err := p.compute(&m.cut, grad)
		if err != nil {
			return Result{}, err
		}
		value += p.weight * r.Value
		if grad {
			m.total.add(p.weight, r)
		}
	}
	if !grad {
		return Result{Value: value}, nil
	}
	return m.total.result(value), nil
}

// firstColumns copies the first cols columns of x.
func firstColumns(dst *nn.Buffer, x nn.Mat, cols int) *nn.Buffer {
	m := dst.Mat(x.Rows, cols)
	for i := range x.Rows {
		copy(m.Row(i), x.Row(i))
	}
	return dst
}
