package onnx

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/permafrost-ml/permafrost/internal/protowire"
)

// graph is what of a model's graph the engine must know before it opens a
// session: what goes in and comes out, and which other files belong to it.
type graph struct {
	inputs, outputs []value
	// files are the files of weights beside the model, by their names there.
	files []string
}

// value is an input or output of a graph.
type value struct {
	name string
	elem elem
	dims []int64 // unknown where the size is open
	// symbols are the names of the open sizes.
	symbols []string
}

const unknown = -1

func (v *value) String() string {
	dims := make([]string, len(v.dims))
	for i, d := range v.dims {
		switch {
		case d >= 0:
			dims[i] = fmt.Sprint(d)
		case v.symbols[i] != "":
			dims[i] = v.symbols[i]
		default:
			dims[i] = "?"
		}
	}
	return fmt.Sprintf("%s %v[%s]", v.name, v.elem, strings.Join(dims, ", "))
}

func list(values []value) string {
	texts := make([]string, len(values))
	for i := range values {
		texts[i] = values[i].String()
	}
	return strings.Join(texts, "; ")
}

func find(values []value, name string) *value {
	for i := range values {
		if values[i].name == name {
			return &values[i]
		}
	}
	return nil
}

// elem is the type of a tensor's elements, by ONNX's numbers.
type elem int

// The types that inputs and outputs may have here.
const (
	float32s elem = 1
	int32s   elem = 6
	int64s   elem = 7
	float16s elem = 10
)

func (e elem) String() string {
	switch e {
	case float32s:
		return "float32"
	case int32s:
		return "int32"
	case int64s:
		return "int64"
	case float16s:
		return "float16"
	}
	return fmt.Sprintf("type %d", int(e))
}

func (e elem) float() bool { return e == float32s || e == float16s }

// size is the number of bytes of an element.
func (e elem) size() int {
	switch e {
	case float16s:
		return 2
	case int64s:
		return 8
	}
	return 4
}

// maxDepth is how deep graphs may lie in each other (bodies of loops and
// branches).
const maxDepth = 32

// readGraph reads the graph of an ONNX file; weights are stepped over.
func readGraph(r io.ReaderAt, size int64) (graph, error) {
	p := parser{Reader: protowire.NewReader(r, size)}
	found := false
	err := p.Each(func(f protowire.Field) error {
		switch f.Number {
		case 7: // graph
			found = true
			return p.graph(f, 0)
		case 25: // functions
			return p.Message(f, func(f protowire.Field) error {
				if f.Number == 7 {
					return p.node(f, 0)
				}
				return nil
			})
		}
		return nil
	})
	if err == nil && !found {
		err = fmt.Errorf("there is no graph in it")
	}
	if err != nil {
		return graph{}, fmt.Errorf("not an ONNX model: %w", err)
	}
	// Older files list the weights among the inputs.
	p.g.inputs = slices.DeleteFunc(p.g.inputs, func(v value) bool { return p.weights[v.name] })
	slices.Sort(p.g.files)
	p.g.files = slices.Compact(p.g.files)
	return p.g, nil
}

type parser struct {
	*protowire.Reader
	g       graph
	weights map[string]bool
}

func (p *parser) graph(f protowire.Field, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("graphs in graphs, more than %d deep", maxDepth)
	}
	return p.Message(f, func(f protowire.Field) error {
		switch f.Number {
		case 1:
			return p.node(f, depth)
		case 5:
			name, err := p.tensor(f)
			if err == nil && depth == 0 {
				if p.weights == nil {
					p.weights = map[string]bool{}
				}
				p.weights[name] = true
			}
			return err
		case 15:
			return p.sparse(f)
		case 11, 12:
			if depth > 0 {
				return nil
			}
			v, err := p.value(f)
			if f.Number == 11 {
				p.g.inputs = append(p.g.inputs, v)
			} else {
				p.g.outputs = append(p.g.outputs, v)
			}
			return err
		}
		return nil
	})
}

// node looks for weights and graphs in a node's attributes.
func (p *parser) node(f protowire.Field, depth int) error {
	return p.Message(f, func(f protowire.Field) error {
		if f.Number != 5 {
			return nil
		}
		return p.Message(f, func(f protowire.Field) (err error) {
			switch f.Number {
			case 5, 10: // tensors
				_, err = p.tensor(f)
			case 6, 11: // graphs
				if f.Kind == protowire.Bytes {
					err = p.graph(f, depth+1)
				}
			case 22, 23:
				err = p.sparse(f)
			}
			return err
		})
	})
}

func (p *parser) sparse(f protowire.Field) error {
	return p.Message(f, func(f protowire.Field) (err error) {
		if f.Number == 1 || f.Number == 2 {
			_, err = p.tensor(f)
		}
		return err
	})
}

// tensor returns the name of a tensor and notes the file in which it lies.
func (p *parser) tensor(f protowire.Field) (name string, err error) {
	err = p.Message(f, func(f protowire.Field) (err error) {
		switch f.Number {
		case 8:
			name, err = p.Text(f)
		case 13:
			err = p.external(f)
		}
		return err
	})
	return name, err
}

func (p *parser) external(f protowire.Field) error {
	var key, val string
	err := p.Message(f, func(f protowire.Field) (err error) {
		switch f.Number {
		case 1:
			key, err = p.Text(f)
		case 2:
			val, err = p.Text(f)
		}
		return err
	})
	if err == nil && key == "location" && !slices.Contains(p.g.files, val) {
		p.g.files = append(p.g.files, val)
	}
	return err
}

func (p *parser) value(f protowire.Field) (v value, err error) {
	err = p.Message(f, func(f protowire.Field) (err error) {
		switch f.Number {
		case 1:
			v.name, err = p.Text(f)
		case 2: // type
			return p.Message(f, func(f protowire.Field) error {
				if f.Number != 1 {
					return nil
				}
				return p.Message(f, func(f protowire.Field) error { return p.tensorType(f, &v) })
			})
		}
		return err
	})
	return v, err
}

func (p *parser) tensorType(f protowire.Field, v *value) error {
	switch f.Number {
	case 1:
		v.elem = elem(min(f.Value, 1<<16))
	case 2: // shape
		return p.Message(f, func(f protowire.Field) error {
			if f.Number != 1 {
				return nil
			}
			size, symbol := int64(unknown), ""
			err := p.Message(f, func(f protowire.Field) (err error) {
				switch f.Number {
				case 1:
					size = int64(f.Value)
				case 2:
					symbol, err = p.Text(f)
				}
				return err
			})
			if size < 0 || size > maxDim {
				size = unknown
			}
			v.dims, v.symbols = append(v.dims, size), append(v.symbols, symbol)
			return err
		})
	}
	return nil
}

// maxDim is the largest size of an axis that is taken as said.
const maxDim = 1 << 24
