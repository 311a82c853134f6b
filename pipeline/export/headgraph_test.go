package export_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"slices"
	"testing"

	"github.com/permafrost-ml/permafrost/internal/protowire"
)

// onnxGraph is a graph as the tests read it: enough of ONNX to compute what a
// head's graph computes, in float64.
type onnxGraph struct {
	opset           int64
	nodes           []onnxNode
	weights         map[string]values64
	inputs, outputs []string          // with their types and shapes
	metadata        map[string]string // of the model
	names           []string          // of nodes, values and weights, each where it is made
}

type onnxNode struct {
	kind            string
	inputs, outputs []string
	ints            map[string][]int64
	floats          map[string]float32
}

// values64 is a tensor.
type values64 struct {
	shape []int
	data  []float64
}

// readONNX reads a model with the wire reader of the project.
func readONNX(t *testing.T, file string) *onnxGraph {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	g := &onnxGraph{weights: map[string]values64{}, metadata: map[string]string{}}
	r := protowire.NewReader(bytes.NewReader(b), int64(len(b)))
	text := func(f protowire.Field) string { return string(b[f.From:f.To]) }
	value := func(f protowire.Field) (s string, err error) { // a ValueInfoProto
		err = r.Message(f, func(f protowire.Field) error {
			if f.Number == 1 {
				s = text(f)
				g.names = append(g.names, s)
				return nil
			}
			return r.Message(f, func(f protowire.Field) error {
				return r.Message(f, func(f protowire.Field) error {
					if f.Number == 1 {
						s += fmt.Sprint(" type ", f.Value)
						return nil
					}
					return r.Message(f, func(f protowire.Field) error {
						return r.Message(f, func(f protowire.Field) error {
							if f.Number == 1 {
								s += fmt.Sprint(" ", f.Value)
							} else {
								s += " " + text(f)
							}
							return nil
						})
					})
				})
			})
		})
		return s, err
	}
	err = r.Each(func(f protowire.Field) error {
		switch f.Number {
		case 8:
			return r.Message(f, func(f protowire.Field) error {
				if f.Number == 2 {
					g.opset = int64(f.Value)
				}
				return nil
			})
		case 14:
			key := ""
			return r.Message(f, func(f protowire.Field) error {
				if f.Number == 1 {
					key = text(f)
				} else {
					g.metadata[key] = text(f)
				}
				return nil
			})
		case 7:
			return r.Message(f, func(f protowire.Field) (err error) {
				var s string
				switch f.Number {
				case 1:
					return g.readNode(r, b, f)
				case 5:
					return g.readTensor(r, b, f)
				case 11:
					s, err = value(f)
					g.inputs = append(g.inputs, s)
				case 12:
					if s, err = value(f); err == nil {
						g.names = g.names[:len(g.names)-1] // that of a node's output
					}
					g.outputs = append(g.outputs, s)
				}
				return err
			})
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func (g *onnxGraph) readNode(r *protowire.Reader, b []byte, f protowire.Field) error {
	n := onnxNode{ints: map[string][]int64{}, floats: map[string]float32{}}
	err := r.Message(f, func(f protowire.Field) error {
		s := string(b[f.From:f.To])
		switch f.Number {
		case 1:
			n.inputs = append(n.inputs, s)
		case 2:
			n.outputs = append(n.outputs, s)
			g.names = append(g.names, s)
		case 4:
			n.kind = s
		case 5:
			name := ""
			return r.Message(f, func(f protowire.Field) error {
				switch f.Number {
				case 1:
					name = string(b[f.From:f.To])
				case 2:
					n.floats[name] = math.Float32frombits(binary.LittleEndian.Uint32(b[f.From:f.To]))
				case 3, 8:
					n.ints[name] = append(n.ints[name], int64(f.Value))
				}
				return nil
			})
		}
		return nil
	})
	g.nodes = append(g.nodes, n)
	return err
}

func (g *onnxGraph) readTensor(r *protowire.Reader, b []byte, f protowire.Field) error {
	var a values64
	name, kind := "", uint64(0)
	var raw []byte
	err := r.Message(f, func(f protowire.Field) error {
		switch f.Number {
		case 1:
			a.shape = append(a.shape, int(f.Value))
		case 2:
			kind = f.Value
		case 8:
			name = string(b[f.From:f.To])
		case 9:
			raw = b[f.From:f.To]
		}
		return nil
	})
	for len(raw) > 0 {
		if kind == 1 {
			a.data = append(a.data, float64(math.Float32frombits(binary.LittleEndian.Uint32(raw))))
			raw = raw[4:]
			continue
		}
		a.data = append(a.data, float64(int64(binary.LittleEndian.Uint64(raw))))
		raw = raw[8:]
	}
	if size := product(a.shape); size != len(a.data) && kind < 8 {
		err = fmt.Errorf("weights %s have the shape %v and %d values", name, a.shape, len(a.data))
	}
	g.names = append(g.names, name)
	g.weights[name] = a
	return err
}

func product(shape []int) int {
	n := 1
	for _, s := range shape {
		n *= s
	}
	return n
}

// run computes the values of the graph.
func (g *onnxGraph) run(inputs map[string]values64) (map[string]values64, error) {
	values := map[string]values64{}
	for name, a := range g.weights {
		values[name] = a
	}
	for name, a := range inputs {
		values[name] = a
	}
	for _, n := range g.nodes {
		in := make([]values64, len(n.inputs))
		for i, name := range n.inputs {
			a, ok := values[name]
			if !ok {
				return nil, fmt.Errorf("node %s reads %q, which nothing before it makes", n.kind, name)
			}
			in[i] = a
		}
		out, err := n.compute(g.opset, in)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", n.kind, err)
		}
		values[n.outputs[0]] = out
	}
	return values, nil
}

// elementwise are operators on one or two arrays, value by value.
var elementwise = map[string]func(x ...float64) float64{
	"Identity":  func(x ...float64) float64 { return x[0] },
	"Cast":      func(x ...float64) float64 { return x[0] },
	"Relu":      func(x ...float64) float64 { return max(x[0], 0) },
	"Tanh":      func(x ...float64) float64 { return math.Tanh(x[0]) },
	"Sigmoid":   func(x ...float64) float64 { return 1 / (1 + math.Exp(-x[0])) },
	"Erf":       func(x ...float64) float64 { return math.Erf(x[0]) },
	"Sqrt":      func(x ...float64) float64 { return math.Sqrt(x[0]) },
	"Add":       func(x ...float64) float64 { return x[0] + x[1] },
	"Sub":       func(x ...float64) float64 { return x[0] - x[1] },
	"Mul":       func(x ...float64) float64 { return x[0] * x[1] },
	"Div":       func(x ...float64) float64 { return x[0] / x[1] },
	"Max":       func(x ...float64) float64 { return max(x[0], x[1]) },
	"LeakyRelu": nil, "Elu": nil, // with alpha
	"Equal": func(x ...float64) float64 { return map[bool]float64{true: 1}[x[0] == x[1]] },
	"Where": func(x ...float64) float64 {
		if x[0] != 0 {
			return x[1]
		}
		return x[2]
	},
}

func (n onnxNode) compute(opset int64, in []values64) (values64, error) {
	if f, ok := elementwise[n.kind]; ok {
		alpha := float64(n.floats["alpha"])
		switch n.kind {
		case "LeakyRelu":
			f = func(x ...float64) float64 { return max(x[0], alpha*x[0]) }
		case "Elu":
			f = func(x ...float64) float64 { return max(x[0], 0) + alpha*math.Expm1(min(x[0], 0)) }
		}
		return broadcast(f, in...), nil
	}
	axes := n.ints["axes"]
	if n.kind == "ReduceMean" && (opset >= 18) != (axes == nil) {
		return values64{}, fmt.Errorf("axes %v in opset %d", axes, opset)
	}
	if len(in) > 1 && axes == nil {
		for _, a := range in[1].data {
			axes = append(axes, int64(a))
		}
	}
	x := in[0]
	switch n.kind {
	case "Gemm":
		out := values64{shape: []int{x.shape[0], in[1].shape[0]}}
		k := x.shape[1]
		if n.ints["transB"][0] != 1 || in[1].shape[1] != k {
			return values64{}, fmt.Errorf("a product of %v and %v", x.shape, in[1].shape)
		}
		for i := range x.shape[0] {
			for o := range in[1].shape[0] {
				v := in[2].data[o]
				for j := range k {
					v += x.data[i*k+j] * in[1].data[o*k+j]
				}
				out.data = append(out.data, v)
			}
		}
		return out, nil
	case "Unsqueeze":
		return values64{slices.Insert(slices.Clone(x.shape), int(axes[0]), 1), x.data}, nil
	case "Reshape":
		shape := []int{x.shape[0]}
		for _, s := range axes[1:] {
			shape = append(shape, int(s))
		}
		if axes[0] != 0 || product(shape) != len(x.data) {
			return values64{}, fmt.Errorf("%v to %v", x.shape, axes)
		}
		return values64{shape, x.data}, nil
	case "Softmax":
		size := x.shape[n.ints["axis"][0]]
		out := values64{x.shape, slices.Clone(x.data)}
		for row := range slices.Chunk(out.data, size) {
			top, sum := slices.Max(row), 0.0
			for i, v := range row {
				row[i] = math.Exp(v - top)
				sum += row[i]
			}
			for i := range row {
				row[i] /= sum
			}
		}
		return out, nil
	case "ReduceMean":
		if !slices.Equal(axes, []int64{1}) || len(x.shape) != 2 || n.ints["keepdims"][0] != 1 {
			return values64{}, fmt.Errorf("over %v of %v", axes, x.shape)
		}
		out := values64{shape: []int{x.shape[0], 1}}
		for row := range slices.Chunk(x.data, x.shape[1]) {
			sum := 0.0
			for _, v := range row {
				sum += v
			}
			out.data = append(out.data, sum/float64(len(row)))
		}
		return out, nil
	}
	return values64{}, fmt.Errorf("not an operator of the tests")
}

// broadcast computes f of arrays of NumPy's broadcasting rules.
func broadcast(f func(x ...float64) float64, in ...values64) values64 {
	rank := 0
	for _, a := range in {
		rank = max(rank, len(a.shape))
	}
	out := values64{shape: make([]int, rank)}
	for i := range rank {
		for _, a := range in {
			if k := i - (rank - len(a.shape)); k >= 0 {
				out.shape[i] = max(out.shape[i], a.shape[k])
			}
		}
	}
	args := make([]float64, len(in))
	for flat := range product(out.shape) {
		for i, a := range in {
			at, rest, stride := 0, flat, 1
			for d := rank - 1; d >= 0; d-- {
				index := rest % out.shape[d]
				rest /= out.shape[d]
				if k := d - (rank - len(a.shape)); k >= 0 {
					if a.shape[k] > 1 {
						at += index * stride
					}
					stride *= a.shape[k]
				}
			}
			args[i] = a.data[at]
		}
		out.data = append(out.data, f(args...))
	}
	return out
}
