package export

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/permafrost-ml/permafrost/internal/protowire"
	"github.com/permafrost-ml/permafrost/pipeline/head"
)

// The numbers that onnx.proto gives to fields and types.
const (
	modelIR, modelProducer, modelGraph, modelOpsets, modelMetadata = 1, 2, 7, 8, 14

	graphNode, graphName, graphInitializer, graphInput, graphOutput, graphValueInfo, graphSparse = 1, 2, 5, 11, 12, 13, 15

	nodeInput, nodeOutput, nodeName, nodeType, nodeAttribute = 1, 2, 3, 4, 5

	tensorDims, tensorType, tensorName, tensorRaw = 1, 2, 8, 9

	typeFloat, typeInt64, typeBool = 1, 7, 9
)

// graph is a part of an ONNX graph under construction: every operation adds a
// node and returns the name of its output. It uses operators whose meaning is
// the same from opset 13 on.
type graph struct {
	prefix string // of the names of nodes, values and weights
	opset  int64
	body   []byte // nodes and weights, as fields of a GraphProto
	count  int
	inputs []byte // those of options, as fields of a GraphProto
	// choices are the options behind the inputs, by the inputs' names.
	choices map[string][]string
}

// attribute is one of a node: an int64, float32 or []int64.
type attribute struct {
	name  string
	value any
}

// op adds a node.
func (g *graph) op(kind string, inputs []string, attributes ...attribute) string {
	out := fmt.Sprintf("%s%s_%d", g.prefix, kind, g.count)
	g.count++
	g.node(kind, out, inputs, attributes)
	return out
}

func (g *graph) node(kind, out string, inputs []string, attributes []attribute) {
	var n []byte
	for _, in := range inputs {
		n = protowire.AppendBytes(n, nodeInput, in)
	}
	n = protowire.AppendBytes(n, nodeOutput, out)
	n = protowire.AppendBytes(n, nodeName, out)
	n = protowire.AppendBytes(n, nodeType, kind)
	for _, a := range attributes {
		b := protowire.AppendBytes(nil, 1, a.name)
		switch v := a.value.(type) {
		case int64:
			b = protowire.AppendInt(protowire.AppendInt(b, 3, v), 20, 2)
		case float32:
			b = protowire.AppendInt(protowire.AppendFloat(b, 2, v), 20, 1)
		case []int64:
			for _, i := range v {
				b = protowire.AppendInt(b, 8, i)
			}
			b = protowire.AppendInt(b, 20, 7)
		}
		n = protowire.AppendBytes(n, nodeAttribute, b)
	}
	g.body = protowire.AppendBytes(g.body, graphNode, n)
}

// weights adds a tensor of float32; without a shape it is one value.
func (g *graph) weights(values []float32, shape ...int) string {
	raw := make([]byte, 0, 4*len(values))
	for _, v := range values {
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(v))
	}
	return g.tensor(typeFloat, raw, shape)
}

func (g *graph) number(v float32) string { return g.weights([]float32{v}) }

// ints adds a vector of int64.
func (g *graph) ints(values ...int64) string {
	var raw []byte
	for _, v := range values {
		raw = binary.LittleEndian.AppendUint64(raw, uint64(v))
	}
	return g.tensor(typeInt64, raw, []int{len(values)})
}

func (g *graph) tensor(kind int64, raw []byte, shape []int) string {
	name := fmt.Sprintf("%sweight_%d", g.prefix, g.count)
	g.count++
	var t []byte
	for _, n := range shape {
		t = protowire.AppendInt(t, tensorDims, int64(n))
	}
	t = protowire.AppendInt(t, tensorType, kind)
	t = protowire.AppendBytes(t, tensorName, name)
	t = protowire.AppendBytes(t, tensorRaw, raw)
	g.body = protowire.AppendBytes(g.body, graphInitializer, t)
	return name
}

// valueInfo declares an input or output. A size of -1 is open, with the name
// of symbol if it is the first.
func valueInfo(name string, kind int64, symbol string, shape ...int64) []byte {
	var dims []byte
	for _, n := range shape {
		var d []byte
		switch {
		case n >= 0:
			d = protowire.AppendInt(nil, 1, n)
		case symbol != "":
			d = protowire.AppendBytes(nil, 2, symbol)
		}
		dims = protowire.AppendBytes(dims, 1, d)
	}
	t := protowire.AppendBytes(protowire.AppendInt(nil, 1, kind), 2, dims)
	return protowire.AppendBytes(protowire.AppendBytes(nil, 1, name), 2, protowire.AppendBytes(nil, 1, t))
}

// reduce adds a reduction over some axes. The axes of most reductions became
// an input in opset 18; that of ReduceSum is one from 13 on.
func (g *graph) reduce(kind, x string, keep bool, axes ...int64) string {
	keepdims := attribute{"keepdims", int64(0)}
	if keep {
		keepdims.value = int64(1)
	}
	if g.opset >= 18 || kind == "ReduceSum" {
		return g.op(kind, []string{x, g.ints(axes...)}, keepdims)
	}
	return g.op(kind, []string{x}, attribute{"axes", axes}, keepdims)
}

// steps adds a head's steps for rows of dim values, and returns the number of
// values after them.
func (g *graph) steps(x string, dim int, steps []head.Step) (string, int, error) {
	for _, s := range steps {
		switch s := s.(type) {
		case head.Linear:
			w, b := g.weights(s.Weight, s.Out, s.In), g.weights(s.Bias, s.Out)
			x, dim = g.op("Gemm", []string{x, w, b}, attribute{"transB", int64(1)}), s.Out
		case head.Activation:
			var err error
			if x, err = g.activation(s.Name, x); err != nil {
				return "", 0, err
			}
		case head.Scale:
			x = g.op("Mul", []string{x, g.weights(s.By, len(s.By))})
		case head.Softmax:
			x = g.op("Reshape", []string{x, g.ints(0, int64(s.Groups), int64(s.Size))})
			x = g.op("Softmax", []string{x}, attribute{"axis", int64(2)})
			x = g.op("Reshape", []string{x, g.ints(0, int64(dim))})
		case head.Norm:
			x = g.op("Sub", []string{x, g.reduce("ReduceMean", x, true, 1)})
			variance := g.reduce("ReduceMean", g.op("Mul", []string{x, x}), true, 1)
			deviation := g.op("Sqrt", []string{g.op("Add", []string{variance, g.number(float32(s.Eps))})})
			x = g.op("Mul", []string{g.op("Div", []string{x, deviation}), g.weights(s.Weight, dim)})
			x = g.op("Add", []string{x, g.weights(s.Bias, dim)})
		case head.Route:
			var err error
			if x, dim, err = g.route(x, dim, s); err != nil {
				return "", 0, err
			}
		default:
			return "", 0, fmt.Errorf("%w: a step %T of the head has no form in ONNX", ErrOptions, s)
		}
	}
	return x, dim, nil
}

// activation adds an activation function, as PyTorch computes it.
func (g *graph) activation(name, x string) (string, error) {
	one := []string{x}
	switch name {
	case "relu":
		return g.op("Relu", one), nil
	case "tanh":
		return g.op("Tanh", one), nil
	case "sigmoid":
		return g.op("Sigmoid", one), nil
	case "leaky_relu":
		return g.op("LeakyRelu", one, attribute{"alpha", float32(0.01)}), nil
	case "elu":
		return g.op("Elu", one, attribute{"alpha", float32(1)}), nil
	case "silu":
		return g.op("Mul", []string{x, g.op("Sigmoid", one)}), nil
	case "gelu":
		erf := g.op("Erf", []string{g.op("Div", []string{x, g.number(math.Sqrt2)})})
		twice := g.op("Mul", []string{x, g.op("Add", []string{erf, g.number(1)})})
		return g.op("Mul", []string{twice, g.number(0.5)}), nil
	}
	return "", fmt.Errorf("%w: the activation %q has no form in ONNX", ErrOptions, name)
}

// route computes all options for all rows and takes for each row that of its
// choice; a number that is none of an option gives NaN.
func (g *graph) route(x string, dim int, r head.Route) (string, int, error) {
	input := "choice"
	if n := len(g.choices); n > 0 {
		input = fmt.Sprintf("choice_%d", n)
	}
	if g.choices == nil {
		g.choices = map[string][]string{}
	}
	g.choices[input] = slices.Clone(r.Names)
	g.inputs = protowire.AppendBytes(g.inputs, graphInput, valueInfo(input, typeInt64, "batch", -1))
	column := g.op("Unsqueeze", []string{input, g.ints(1)})
	y, out := g.number(float32(math.NaN())), 0
	for i, steps := range r.Options {
		of, n, err := g.steps(x, dim, steps)
		if err != nil {
			return "", 0, fmt.Errorf("option %q: %w", r.Names[i], err)
		}
		out = n
		y = g.op("Where", []string{g.op("Equal", []string{column, g.ints(int64(i))}), of, y})
	}
	return y, out, nil
}

// metadata says what the numbers of choices mean, as fields of a ModelProto.
func (g *graph) metadata() (fields []byte, err error) {
	for _, input := range slices.Sorted(maps.Keys(g.choices)) {
		names, err := json.Marshal(g.choices[input])
		if err != nil {
			return nil, err
		}
		entry := protowire.AppendBytes(protowire.AppendBytes(nil, 1, "permafrost."+input), 2, names)
		fields = protowire.AppendBytes(fields, modelMetadata, entry)
	}
	return fields, nil
}
