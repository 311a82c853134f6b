package bert

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/permafrost-ml/permafrost/internal/kernels"
)

// activation is the name of an element-wise function.
type activation string

const (
	gelu     activation = "gelu"
	geluTanh activation = "gelu_tanh"
	relu     activation = "relu"
	tanh     activation = "tanh"
	identity activation = "identity"
)

// layerActivations are the activations of layers by their names in config.json.
var layerActivations = map[string]activation{
	"gelu": gelu, "gelu_new": geluTanh, "gelu_pytorch_tanh": geluTanh, "relu": relu,
}

// denseActivations are those of Dense modules by the names that
// sentence-transformers writes.
var denseActivations = map[string]activation{
	"torch.nn.modules.activation.Tanh": tanh,
	"torch.nn.modules.activation.ReLU": relu,
	"torch.nn.modules.activation.GELU": gelu,
	"torch.nn.modules.linear.Identity": identity,
}

func findActivation(known map[string]activation, name string) (activation, error) {
	if a, ok := known[name]; ok {
		return a, nil
	}
	return "", fmt.Errorf("the activation %q is not supported, there is %s",
		name, strings.Join(slices.Sorted(maps.Keys(known)), ", "))
}

// apply replaces the values of x. scratch is as long at least.
func (a activation) apply(x, scratch []float32) {
	switch a {
	case gelu:
		kernels.GELU(x, x)
	case geluTanh:
		applyGELUTanh(x, scratch)
	case relu:
		for i, v := range x {
			x[i] = max(v, 0)
		}
	case tanh:
		kernels.Tanh(x, x)
	}
}

// applyGELUTanh computes x/2·(1 + tanh(√(2/π)·(x + 0.044715·x³))), the approximation of
// GELU of the original BERT.
func applyGELUTanh(x, scratch []float32) {
	root := float32(math.Sqrt(2 / math.Pi))
	t := scratch[:len(x)]
	for i, v := range x {
		cube := float32(float32(v*v) * v)
		t[i] = root * float32(v+float32(0.044715*cube))
	}
	kernels.Tanh(t, t)
	for i, v := range x {
		x[i] = float32(0.5*v) * float32(1+t[i])
	}
}
