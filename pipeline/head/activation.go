package head

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/permafrost-ml/permafrost/internal/kernels"
	"github.com/permafrost-ml/permafrost/pipeline/train/nn"
)

// The activation functions, by the names that PyTorch's torch.nn.functional
// gives them.
const (
	identity  = "identity"   // x
	relu      = "relu"       // max(x, 0)
	leakyReLU = "leaky_relu" // x, or 0.01·x below 0
	elu       = "elu"        // x, or e^x - 1 below 0
	silu      = "silu"       // x·sigmoid(x)
	gelu      = "gelu"       // x·Φ(x), with Φ by erf
	tanh      = "tanh"
	sigmoid   = "sigmoid" // 1/(1+e^-x)
)

// leakySlope is that of leaky_relu below 0.
const leakySlope = 0.01

// Activations are the names of the activation functions, sorted.
func Activations() []string {
	return []string{elu, gelu, identity, leakyReLU, relu, sigmoid, silu, tanh}
}

// findActivation returns the name of an activation function, which is relu by
// default.
func findActivation(name string) (string, error) {
	if name == "" {
		return relu, nil
	}
	if !slices.Contains(Activations(), name) {
		return "", fmt.Errorf("activation_fn: %q is none of %s", name, strings.Join(Activations(), ", "))
	}
	return name, nil
}

// activate writes f(x) to y, which may be x.
func activate(f string, y, x []float32) {
	switch f {
	case relu:
		for i, v := range x {
			y[i] = max(v, 0)
		}
	case leakyReLU:
		for i, v := range x {
			if !(v > 0) {
				v *= leakySlope
			}
			y[i] = v
		}
	case elu:
		for i, v := range x {
			if !(v > 0) {
				v = float32(math.Expm1(float64(v)))
			}
			y[i] = v
		}
	case silu:
		pieces(x, func(lo, hi int, s []float32) {
			kernels.Sigmoid(s, x[lo:hi])
			kernels.Mul(y[lo:hi], x[lo:hi], s)
		})
	case gelu:
		kernels.GELU(y, x)
	case tanh:
		kernels.Tanh(y, x)
	case sigmoid:
		kernels.Sigmoid(y, x)
	}
}

// slopes writes dy·f'(x) to dx; y is f(x).
func slopes(f string, dx, dy, x, y []float32) {
	switch f {
	case relu:
		for i, v := range x {
			dx[i] = 0
			if v > 0 {
				dx[i] = dy[i]
			}
		}
	case leakyReLU:
		for i, v := range x {
			dx[i] = dy[i]
			if !(v > 0) {
				dx[i] *= leakySlope
			}
		}
	case elu:
		for i, v := range x {
			dx[i] = dy[i]
			if !(v > 0) {
				dx[i] *= y[i] + 1
			}
		}
	case silu: // s·(1 + x·(1-s)), with the sigmoid s
		pieces(x, func(lo, hi int, s []float32) {
			kernels.Sigmoid(s, x[lo:hi])
			for i, v := range s {
				dx[lo+i] = dy[lo+i] * v * (1 + x[lo+i]*(1-v))
			}
		})
	case gelu: // Φ(x) + x·φ(x)
		pieces(x, func(lo, hi int, s []float32) {
			var normal [piece]float32
			e := normal[:hi-lo]
			for i, v := range x[lo:hi] {
				s[i], e[i] = v/math.Sqrt2, -v*v/2
			}
			kernels.Erf(s, s)
			kernels.Exp(e, e)
			for i, v := range x[lo:hi] {
				density := e[i] * float32(1/math.Sqrt(2*math.Pi))
				dx[lo+i] = dy[lo+i] * (0.5*(1+s[i]) + v*density)
			}
		})
	case tanh:
		for i, v := range y {
			dx[i] = dy[i] * (1 - v*v)
		}
	case sigmoid:
		for i, v := range y {
			dx[i] = dy[i] * v * (1 - v)
		}
	}
}

// piece is the number of values of scratch on a goroutine's stack.
const piece = 256

// pieces calls fn for ranges of x with scratch of their length.
func pieces(x []float32, fn func(lo, hi int, scratch []float32)) {
	var scratch [piece]float32
	for lo := 0; lo < len(x); lo += piece {
		hi := min(lo+piece, len(x))
		fn(lo, hi, scratch[:hi-lo])
	}
}

// activation is the stage y = f(x), for any f but identity.
type activation struct {
	name string
	dim  int
}

func (a activation) out() int            { return a.dim }
func (activation) params() []Param       { return nil }
func (a activation) newStep() step       { return &activationStep{activation: a} }
func (a activation) freeze() frozenStage { return a }
func (a activation) describe() Step      { return Activation{Name: a.name} }

func (a activation) apply(y, x, _ nn.Mat) { activate(a.name, y.Data, x.Data) }

type activationStep struct {
	activation
	x, y     nn.Mat // of the last forward
	yBuf, dx nn.Buffer
}

// activationCost is about the work for a value, in simple operations.
const activationCost = 8

func (s *activationStep) forward(x nn.Mat) *nn.Buffer {
	s.x, s.y = x, s.yBuf.Mat(x.Rows, x.Cols)
	nn.Parallel(len(x.Data), activationCost, func(lo, hi int) {
		activate(s.name, s.y.Data[lo:hi], x.Data[lo:hi])
	})
	return &s.yBuf
}

func (s *activationStep) backward(dy nn.Mat, wantInput bool) *nn.Buffer {
	if !wantInput {
		return nil
	}
	dx := s.dx.Mat(dy.Rows, dy.Cols)
	nn.Parallel(len(dy.Data), activationCost, func(lo, hi int) {
		slopes(s.name, dx.Data[lo:hi], dy.Data[lo:hi], s.x.Data[lo:hi], s.y.Data[lo:hi])
	})
	return &s.dx
}
