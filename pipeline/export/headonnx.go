package export

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"

	"github.com/permafrost-ml/permafrost/encode/onnx"
	"github.com/permafrost-ml/permafrost/internal/protowire"
	"github.com/permafrost-ml/permafrost/pipeline/head"
)

const (
	headIR    = 8  // ONNX 1.12 and later
	headOpset = 17 // of a head alone; that of an encoder's graph otherwise
	// leastOpset is from which on the operators of a head mean what they mean.
	leastOpset = 13
	// leastLength is the length that a normalized embedding is divided by at
	// least.
	leastLength = 1e-12
	// headInput and headOutput are the names of a graph's input and output.
	headInput, headOutput = "encoder_embedding", "embedding"
)

// HeadResult says what an export of a head wrote.
type HeadResult struct {
	In    int           `json:"in"`  // values of an embedding before the head
	Out   int           `json:"out"` // and after it
	Bytes int64         `json:"bytes"`
	Files []WrittenFile `json:"files"`
}

// WrittenFile is a file that an export of a head wrote.
type WrittenFile struct {
	Path  string `json:"path"`
	Bytes int64  `json:"bytes"`
}

func (r *HeadResult) add(path string, size int64) {
	r.Files = append(r.Files, WrittenFile{path, size})
	r.Bytes += size
}

// HeadONNX writes a head as an ONNX model of opset 17: the input
// encoder_embedding, float32 [batch, In], the output embedding, float32
// [batch, Out]. A head that routes rows has the input choice, too, int64
// [batch]: the number of the option of each row in the list of names that is
// the model's metadata permafrost.choice; a head of several switches has
// choice_1 and so on.
//
// A file that is there is [ErrExists] without force. The same head gives the
// same bytes.
func HeadONNX(h head.Head, path string, force bool) (*HeadResult, error) {
	g := &graph{prefix: "head_", opset: headOpset}
	steps, err := head.Steps(h)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrOptions, err)
	}
	y, _, err := g.steps(headInput, h.In(), steps)
	if err != nil {
		return nil, err
	}
	g.node("Identity", headOutput, []string{y}, nil)
	metadata, err := g.metadata()
	if err != nil {
		return nil, err
	}
	body := protowire.AppendBytes(g.body, graphName, "head")
	body = protowire.AppendBytes(body, graphInput, valueInfo(headInput, typeFloat, "batch", -1, int64(h.In())))
	body = append(body, g.inputs...)
	body = protowire.AppendBytes(body, graphOutput, valueInfo(headOutput, typeFloat, "batch", -1, int64(h.Out())))
	m := protowire.AppendInt(nil, modelIR, headIR)
	m = protowire.AppendBytes(m, modelProducer, "permafrost")
	m = protowire.AppendBytes(m, modelOpsets, protowire.AppendInt(protowire.AppendBytes(nil, 1, ""), 2, headOpset))
	m = append(m, metadata...)
	return placeHead(h, path, force, int64(len(m))+int64(len(body)), func(w io.Writer) error {
		m = protowire.AppendHeader(m, modelGraph, int64(len(body)))
		if _, err := w.Write(m); err != nil {
			return err
		}
		_, err := w.Write(body)
		return err
	})
}

// placeHead writes an ONNX file of about that size.
func placeHead(h head.Head, path string, force bool, size int64, fill func(io.Writer) error) (*HeadResult, error) {
	if size > math.MaxInt32 {
		return nil, fmt.Errorf("%w: the model would have %d bytes, an ONNX file has less than 2 GiB", ErrOptions, size)
	}
	res := &HeadResult{In: h.In(), Out: h.Out()}
	err := placeFile(path, force, func(f *os.File) error {
		count := &counted{w: f}
		buf := bufio.NewWriterSize(count, 1<<18)
		if err := errors.Join(fill(buf), buf.Flush()); err != nil {
			return err
		}
		res.add(path, count.n)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return res, nil
}

// JoinedONNX writes the graph of an encoder with a head behind it: its inputs
// are the encoder's, its one output is called embedding, float32 [batch, Out].
// What the engine does with the graph's output, pooling and scaling, is a part
// of it; what it does before, tokenization, is not. Names of the head begin
// with head_, or something else where the encoder's graph has such names.
//
// The graph needs opset 13 or later. Weights that lie in files beside it stay
// there, so that path must be in their folder.
func JoinedONNX(ctx context.Context, h head.Head, enc onnx.Output, path string, force bool) (*HeadResult, error) {
	if enc.Dim != h.In() {
		return nil, fmt.Errorf("%w: the encoder gives %d values, the head takes %d", ErrOptions, enc.Dim, h.In())
	}
	if err := mayJoin(enc, path); err != nil {
		return nil, err
	}
	base, err := os.Open(enc.File)
	if err != nil {
		return nil, err
	}
	defer base.Close()
	info, err := base.Stat()
	if err != nil {
		return nil, err
	}
	j := &joiner{r: base, size: info.Size(), names: map[string]bool{}}
	if err := j.read(); err != nil {
		return nil, fmt.Errorf("%s: %w", enc.File, err)
	}
	g := &graph{prefix: j.free("head_"), opset: j.opset}
	steps, err := head.Steps(h)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrOptions, err)
	}
	y, _, err := g.steps(g.embedding(enc), h.In(), steps)
	if err != nil {
		return nil, err
	}
	if g.choices != nil {
		return nil, fmt.Errorf("%w: a head that routes rows does not fit behind one encoder's graph", ErrOptions)
	}
	output := headOutput
	if j.names[output] {
		output = g.prefix + output
	}
	g.node("Identity", output, []string{y}, nil)
	added := protowire.AppendBytes(g.body, graphOutput, valueInfo(output, typeFloat, enc.Symbol, enc.Shape[0], int64(h.Out())))
	return placeHead(h, path, force, j.size+int64(len(added)), func(w io.Writer) error { return j.write(ctx, w, added) })
}

// mayJoin holds the result of a join to the place of what it refers to.
func mayJoin(enc onnx.Output, path string) error {
	base, err := os.Stat(enc.File)
	if err != nil {
		return err
	}
	if there, err := os.Stat(path); err == nil && os.SameFile(base, there) {
		return fmt.Errorf("%w: %s is the encoder itself", ErrOptions, path)
	}
	if len(enc.Files) == 0 {
		return nil
	}
	of, err := os.Stat(filepath.Dir(enc.File))
	if err != nil {
		return err
	}
	if to, err := os.Stat(filepath.Dir(path)); err != nil || !os.SameFile(of, to) {
		return fmt.Errorf("%w: the encoder's weights lie in %q: the result must be in their folder, %s", ErrOptions, enc.Files, filepath.Dir(enc.File))
	}
	return nil
}

// embedding adds what the engine does with the graph's output.
func (g *graph) embedding(enc onnx.Output) string {
	x := enc.Name
	if enc.Float16 {
		x = g.op("Cast", []string{x}, attribute{"to", int64(typeFloat)})
	}
	dim := enc.Shape[len(enc.Shape)-1]
	switch len(enc.Shape) {
	case 3:
		x = g.poolTokens(x, enc)
	case 4:
		dim = enc.Shape[1]
		kind := map[string]string{"mean": "ReduceMean", "max": "ReduceMax"}[enc.Pooling]
		x = g.reduce(kind, x, false, 2, 3)
	}
	if enc.NormalizeAll {
		x = g.normalize(x)
	}
	if int64(enc.Dim) != dim {
		x = g.op("Slice", []string{x, g.ints(0), g.ints(int64(enc.Dim)), g.ints(1)})
	}
	if enc.Normalize {
		x = g.normalize(x)
	}
	return x
}

// poolTokens makes one vector of those of the tokens that count.
func (g *graph) poolTokens(x string, enc onnx.Output) string {
	switch {
	case enc.Pooling == "cls":
		return g.op("Squeeze", []string{g.op("Slice", []string{x, g.ints(0), g.ints(1), g.ints(1)}), g.ints(1)})
	case enc.Mask == "" && enc.Pooling == "mean":
		return g.reduce("ReduceMean", x, false, 1)
	case enc.Mask == "":
		return g.reduce("ReduceMax", x, false, 1)
	}
	axis := g.ints(2)
	if enc.Pooling == "max" {
		counts := g.op("Unsqueeze", []string{g.op("Cast", []string{enc.Mask}, attribute{"to", int64(typeBool)}), axis})
		return g.reduce("ReduceMax", g.op("Where", []string{counts, x, g.number(-math.MaxFloat32)}), false, 1)
	}
	mask := g.op("Unsqueeze", []string{g.op("Cast", []string{enc.Mask}, attribute{"to", int64(typeFloat)}), axis})
	sum := g.reduce("ReduceSum", g.op("Mul", []string{x, mask}), false, 1)
	return g.op("Div", []string{sum, g.reduce("ReduceSum", mask, false, 1)})
}

// normalize adds the scaling of rows to length 1.
func (g *graph) normalize(x string) string {
	length := g.op("Max", []string{g.reduce("ReduceL2", x, true, 1), g.number(leastLength)})
	return g.op("Div", []string{x, length})
}

// cancelled is a reader that ends with ctx.
type cancelled struct {
	ctx context.Context
	r   io.Reader
}

func (c cancelled) Read(b []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.r.Read(b)
}

// joiner reads an ONNX file and copies it with more in its graph.
type joiner struct {
	r     io.ReaderAt
	size  int64
	opset int64
	graph protowire.Field
	names map[string]bool // of all nodes, values and weights
	gone  int64           // bytes of the graph's outputs
}

// read finds the names that the graph has, and its opset.
func (j *joiner) read() error {
	r := protowire.NewReader(j.r, j.size)
	graphs := 0
	err := r.Each(func(f protowire.Field) error {
		switch f.Number {
		case modelGraph:
			graphs++
			j.graph = f
			return j.readGraph(r, f, 0)
		case modelOpsets:
			domain, version := "", int64(0)
			err := r.Message(f, func(f protowire.Field) (err error) {
				switch f.Number {
				case 1:
					domain, err = r.Text(f)
				case 2:
					version = int64(f.Value)
				}
				return err
			})
			if domain == "" || domain == "ai.onnx" {
				j.opset = version
			}
			return err
		}
		return nil
	})
	switch {
	case err != nil:
		return fmt.Errorf("not an ONNX model: %w", err)
	case graphs != 1:
		return fmt.Errorf("%w: the file has %d graphs", ErrOptions, graphs)
	case j.opset < leastOpset:
		return fmt.Errorf("%w: its graph is of opset %d, a head can be joined from %d on: convert it, or export the head alone", ErrOptions, j.opset, leastOpset)
	}
	return nil
}

// maxGraphs is how deep graphs may lie in each other.
const maxGraphs = 32

func (j *joiner) readGraph(r *protowire.Reader, f protowire.Field, depth int) error {
	if depth > maxGraphs {
		return fmt.Errorf("graphs in graphs, more than %d deep", maxGraphs)
	}
	return r.Message(f, func(f protowire.Field) error {
		switch f.Number {
		case graphNode:
			return r.Message(f, func(f protowire.Field) error {
				if f.Number != nodeAttribute {
					return j.name(r, f, nodeInput, nodeOutput, nodeName)
				}
				return r.Message(f, func(f protowire.Field) error {
					if f.Number == 6 || f.Number == 11 {
						return j.readGraph(r, f, depth+1)
					}
					return nil
				})
			})
		case graphInitializer:
			return r.Message(f, func(f protowire.Field) error { return j.name(r, f, tensorName) })
		case graphSparse:
			return r.Message(f, func(f protowire.Field) error {
				if f.Number != 1 {
					return nil
				}
				return r.Message(f, func(f protowire.Field) error { return j.name(r, f, tensorName) })
			})
		case graphInput, graphOutput, graphValueInfo:
			if f.Number == graphOutput && depth == 0 {
				j.gone += f.To - f.Start
			}
			return r.Message(f, func(f protowire.Field) error { return j.name(r, f, 1) })
		}
		return nil
	})
}

// name notes a name, if that is what the field of one of these numbers is.
func (j *joiner) name(r *protowire.Reader, f protowire.Field, numbers ...int) error {
	for _, n := range numbers {
		if f.Number == n {
			name, err := r.Text(f)
			j.names[name] = true
			return err
		}
	}
	return nil
}

// free returns a prefix that no name has.
func (j *joiner) free(prefix string) string {
	for n := 1; ; n++ {
		taken := false
		for name := range j.names {
			taken = taken || strings.HasPrefix(name, prefix)
		}
		if !taken {
			return prefix
		}
		prefix = fmt.Sprintf("head%d_", n)
	}
}

// write copies the file with what is added to its graph, and without the
// graph's outputs.
func (j *joiner) write(ctx context.Context, w io.Writer, added []byte) error {
	section := func(from, to int64) error {
		n, err := io.Copy(w, cancelled{ctx, io.NewSectionReader(j.r, from, to-from)})
		if err == nil && n != to-from {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	if err := section(0, j.graph.Start); err != nil {
		return err
	}
	size := j.graph.To - j.graph.From - j.gone + int64(len(added))
	if _, err := w.Write(protowire.AppendHeader(nil, modelGraph, size)); err != nil {
		return err
	}
	r := protowire.NewReader(io.NewSectionReader(j.r, j.graph.From, j.graph.To-j.graph.From), j.graph.To-j.graph.From)
	err := r.Each(func(f protowire.Field) error {
		if f.Number == graphOutput {
			return nil
		}
		return section(j.graph.From+f.Start, j.graph.From+f.To)
	})
	if err != nil {
		return err
	}
	if _, err := w.Write(added); err != nil {
		return err
	}
	return section(j.graph.To, j.size)
}
