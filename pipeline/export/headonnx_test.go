package export_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gorgonia.org/tensor"

	"github.com/permafrost-ml/permafrost/encode"
	"github.com/permafrost-ml/permafrost/encode/bert"
	"github.com/permafrost-ml/permafrost/encode/onnx"
	"github.com/permafrost-ml/permafrost/internal/protowire"
	"github.com/permafrost-ml/permafrost/pipeline/export"
	"github.com/permafrost-ml/permafrost/pipeline/head"
)

// exported are heads of every type.
func exported() map[string]head.Config {
	all := map[string]head.Config{
		"empty": head.Empty{}, "gated": head.Gated{Dropout: 0.5}, "layer_norm": head.LayerNorm{},
		"skip_connection":    head.SkipConnection{Layers: 2, SkipDropout: 0.5},
		"widening":           head.Widening{ExpansionFactor: 1.5},
		"softmax_embeddings": head.SoftmaxEmbeddings{Groups: 3, GroupSize: 2},
		"sequential": head.Sequential{Heads: []head.Config{
			head.Gated{}, head.LayerNorm{}, head.StackedProjection{OutputSizes: []int{4, 5}, Activation: "tanh"}, head.SkipConnection{},
		}},
		"switch": head.Sequential{Heads: []head.Config{head.Gated{}, head.Switch{Options: map[string]head.Config{
			"image": head.StackedProjection{OutputSizes: []int{3}},
			"text": head.Switch{Options: map[string]head.Config{
				"a": head.StackedProjection{OutputSizes: []int{3}}, "b": head.SoftmaxEmbeddings{Groups: 1, GroupSize: 3},
			}},
		}}}},
	}
	for _, f := range head.Activations() {
		all[f] = head.StackedProjection{OutputSizes: []int{6, 4}, Activation: f}
	}
	return all
}

// trained is a head with random weights.
func trained(t *testing.T, c head.Config, in int) head.Head {
	t.Helper()
	rng := rand.New(rand.NewPCG(7, 7))
	h, err := c.New(in, rng)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range h.Parameters() {
		for i := range p.Values() {
			p.Values()[i] = float32(rng.NormFloat64() / 2)
		}
	}
	return h
}

func matrix(rows, cols int, data []float32) *tensor.Dense {
	return tensor.New(tensor.WithShape(rows, cols), tensor.WithBacking(data))
}

// applied is what a head makes of rows.
func applied(t *testing.T, h head.Head, x []float32, choices []string) []float32 {
	t.Helper()
	n := len(x) / h.In()
	y := make([]float32, n*h.Out())
	if err := head.Apply(h.Freeze(), matrix(n, h.Out(), y), matrix(n, h.In(), x), choices); err != nil {
		t.Fatal(err)
	}
	return y
}

func closeTo(t *testing.T, what string, got, want []float32) {
	t.Helper()
	within(t, what, got, want, 1e-5)
}

func within(t *testing.T, what string, got, want []float32, tolerance float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d values, want %d", what, len(got), len(want))
	}
	for i, v := range want {
		if d := math.Abs(float64(got[i] - v)); !(d <= tolerance*max(1, math.Abs(float64(v)))) {
			t.Errorf("%s: value %d is %v, want %v", what, i, got[i], v)
			return
		}
	}
}

// TestHeadONNX computes what the written graphs say, for batches of any size,
// and compares it with the heads.
func TestHeadONNX(t *testing.T) {
	const in = 5
	rng := rand.New(rand.NewPCG(1, 1))
	for name, c := range exported() {
		h := trained(t, c, in)
		file := filepath.Join(t.TempDir(), "head.onnx")
		res, err := export.HeadONNX(h, file, false)
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(file)
		if err != nil || res.Bytes != info.Size() || res.In != in || res.Out != h.Out() || len(res.Files) != 1 || res.Files[0].Path != file {
			t.Errorf("%s: the result is %+v, %v", name, res, err)
		}
		g := readONNX(t, file)
		wantIn := []string{"encoder_embedding type 1 batch 5"}
		if name == "switch" {
			wantIn = append(wantIn, "choice type 7 batch", "choice_1 type 7 batch")
		}
		if want := fmt.Sprint("embedding type 1 batch ", h.Out()); g.opset != 17 || !slices.Equal(g.inputs, wantIn) || !slices.Equal(g.outputs, []string{want}) {
			t.Errorf("%s: opset %d, from %q to %q", name, g.opset, g.inputs, g.outputs)
		}
		slices.Sort(g.names)
		if n := len(g.names); len(slices.Compact(g.names)) != n {
			t.Errorf("%s: a name is used twice", name)
		}
		for _, n := range []int{1, 2, 7} {
			x := make([]float32, n*in)
			for i := range x {
				x[i] = float32(rng.NormFloat64())
			}
			values := map[string]values64{"encoder_embedding": {[]int{n, in}, float64s(x)}}
			var choices []string
			for i := range n {
				choices = append(choices, []string{"text/b", "image", "text/a"}[i%3])
			}
			if name == "switch" {
				outer, inner := values64{shape: []int{n}}, values64{shape: []int{n}}
				for _, c := range choices {
					outer.data = append(outer.data, map[bool]float64{true: 1}[c != "image"])
					inner.data = append(inner.data, map[string]float64{"text/b": 1, "image": 9}[c])
				}
				values["choice"], values["choice_1"] = outer, inner
			}
			got, err := g.run(values)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			y := got["embedding"]
			if !slices.Equal(y.shape, []int{n, h.Out()}) {
				t.Errorf("%s: an output of shape %v", name, y.shape)
			}
			closeTo(t, name, float32s(y.data), applied(t, h, x, choices))
		}
		if name == "switch" && (g.metadata["permafrost.choice"] != `["image","text"]` || g.metadata["permafrost.choice_1"] != `["a","b"]`) {
			t.Errorf("the metadata are %q", g.metadata)
		}

		// The same head gives the same bytes; what is there stays without force.
		again := filepath.Join(t.TempDir(), "head.onnx")
		if _, err := export.HeadONNX(h, again, false); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(read(t, file), read(t, again)) {
			t.Errorf("%s: two exports differ", name)
		}
		if _, err := export.HeadONNX(h, again, false); !errors.Is(err, export.ErrExists) {
			t.Errorf("%s: over a file: %v", name, err)
		}
		if _, err := export.HeadONNX(h, again, true); err != nil {
			t.Error(err)
		}
	}
}

func float64s(x []float32) []float64 {
	y := make([]float64, len(x))
	for i, v := range x {
		y[i] = float64(v)
	}
	return y
}

func float32s(x []float64) []float32 {
	y := make([]float32, len(x))
	for i, v := range x {
		y[i] = float32(v)
	}
	return y
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// ownHead is a head of a user's own.
type ownHead struct{ head.Head }

func TestHeadONNXRefuses(t *testing.T) {
	own := ownHead{trained(t, head.Gated{}, 3)}
	file := filepath.Join(t.TempDir(), "x.onnx")
	if _, err := export.HeadONNX(own, file, false); !errors.Is(err, export.ErrOptions) {
		t.Errorf("a head of another package: %v", err)
	}
	if _, err := export.HeadONNX(trained(t, head.Gated{}, 3), filepath.Join(t.TempDir(), "no", "x.onnx"), false); err == nil {
		t.Error("no folder: no error")
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("a failed export left a file")
	}
}

// encoderOf is what the engine says of a model without its library.
func encoderOf(file string, dim int) onnx.Output {
	return onnx.Output{File: file, Name: "sentence_embedding", Shape: []int64{-1, int64(dim)}, Symbol: "batch", Pooling: "none", Dim: dim}
}

const onnxModels = "../../encode/onnx/testdata"

// TestJoinedONNX looks at the joined file as bytes: everything of the encoder
// but its outputs, then the head, under names that the encoder has not.
func TestJoinedONNX(t *testing.T) {
	base := filepath.Join(onnxModels, "tiny", "model.onnx")
	h := trained(t, head.SkipConnection{}, 16)
	file := filepath.Join(t.TempDir(), "joined.onnx")
	if _, err := export.JoinedONNX(t.Context(), h, encoderOf(base, 16), file, false); err != nil {
		t.Fatal(err)
	}
	of, g := readONNX(t, base), readONNX(t, file)
	if !slices.Equal(g.inputs, of.inputs) || !slices.Equal(g.outputs, []string{"embedding type 1 batch 16"}) || g.opset != of.opset {
		t.Errorf("from %q to %q in opset %d", g.inputs, g.outputs, g.opset)
	}
	if n := len(of.nodes); len(g.nodes) != n+2 || g.nodes[n].inputs[0] != "sentence_embedding" || g.nodes[n].kind != "Gemm" {
		t.Errorf("%d nodes, the encoder has %d; then %+v", len(g.nodes), n, g.nodes[min(n, len(g.nodes)-1)])
	}

	// Joined once more, the names of the first head are taken.
	twice := filepath.Join(t.TempDir(), "twice.onnx")
	enc := encoderOf(file, 16)
	enc.Name = "embedding"
	if _, err := export.JoinedONNX(t.Context(), h, enc, twice, false); err != nil {
		t.Fatal(err)
	}
	g = readONNX(t, twice)
	slices.Sort(g.names)
	if n := len(g.names); len(slices.Compact(slices.Clone(g.names))) != n || !slices.Equal(g.outputs, []string{"head1_embedding type 1 batch 16"}) {
		t.Errorf("names %q, outputs %q", g.names, g.outputs)
	}
}

// TestJoinedONNXOfOpset18 joins a graph of an opset in which the axes of
// reductions are inputs.
func TestJoinedONNXOfOpset18(t *testing.T) {
	h, behind := trained(t, head.Gated{}, 6), trained(t, head.LayerNorm{}, 6)
	base, file := filepath.Join(t.TempDir(), "base.onnx"), filepath.Join(t.TempDir(), "joined.onnx")
	if _, err := export.HeadONNX(h, base, false); err != nil {
		t.Fatal(err)
	}
	enc := encoderOf(changed(t, base, 18, nil), 6)
	enc.Name = "embedding"
	if _, err := export.JoinedONNX(t.Context(), behind, enc, file, false); err != nil {
		t.Fatal(err)
	}
	x := []float32{1, 2, 3, -4, 5, 0.5, 0, 0, 1, 0, 0, 0}
	got, err := readONNX(t, file).run(map[string]values64{"encoder_embedding": {[]int{2, 6}, float64s(x)}})
	if err != nil {
		t.Fatal(err)
	}
	closeTo(t, "joined", float32s(got["head1_embedding"].data), applied(t, behind, applied(t, h, x, nil), nil))
}

// changed is a file with other fields of the model before it.
func changed(t *testing.T, file string, opset int64, more []byte) string {
	t.Helper()
	b := read(t, file)
	var out []byte
	r := protowire.NewReader(bytes.NewReader(b), int64(len(b)))
	err := r.Each(func(f protowire.Field) error {
		if f.Number != 8 {
			out = append(out, b[f.Start:f.To]...)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	out = protowire.AppendBytes(out, 8, protowire.AppendInt(protowire.AppendBytes(nil, 1, ""), 2, opset))
	name := filepath.Join(t.TempDir(), "model.onnx")
	if err := os.WriteFile(name, append(out, more...), 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestJoinedONNXRefuses(t *testing.T) {
	base := filepath.Join(onnxModels, "tiny", "model.onnx")
	external := encoderOf(filepath.Join(onnxModels, "external", "model.onnx"), 16)
	external.Files = []string{"weights.bin"}
	skip := trained(t, head.SkipConnection{}, 16)
	cut := filepath.Join(t.TempDir(), "cut.onnx")
	if b := read(t, base); os.WriteFile(cut, b[:len(b)/2], 0o644) != nil {
		t.Fatal("no file")
	}
	own := filepath.Join(t.TempDir(), "own.onnx")
	if os.WriteFile(own, read(t, base), 0o644) != nil {
		t.Fatal("no file")
	}
	for name, c := range map[string]struct {
		h    head.Head
		enc  onnx.Output
		to   string
		want string
	}{
		"dimension":     {trained(t, head.Gated{}, 8), encoderOf(base, 16), "", "the encoder gives 16 values, the head takes 8"},
		"switch":        {trained(t, head.Switch{Options: map[string]head.Config{"a": head.Empty{}}}, 16), encoderOf(base, 16), "", "routes rows"},
		"old opset":     {skip, encoderOf(changed(t, base, 12, nil), 16), "", "opset 12"},
		"two graphs":    {skip, encoderOf(changed(t, base, 17, protowire.AppendBytes(nil, 7, "")), 16), "", "2 graphs"},
		"cut":           {skip, encoderOf(cut, 16), "", "not an ONNX model"},
		"no file":       {skip, encoderOf(cut+"x", 16), "", "no such file"},
		"external":      {skip, external, "", "must be in their folder"},
		"itself":        {skip, encoderOf(own, 16), own, "is the encoder itself"},
		"of a user":     {ownHead{skip}, encoderOf(base, 16), "", "cannot be taken apart"},
		"not a folder":  {skip, encoderOf(base, 16), filepath.Join(t.TempDir(), "no", "x"), "no such file"},
		"a folder":      {skip, encoderOf(base, 16), t.TempDir(), "is a folder"},
		"sixteen other": {trained(t, head.Gated{}, 16), encoderOf(base, 8), "", "gives 8 values"},
	} {
		to := c.to
		if to == "" {
			to = filepath.Join(t.TempDir(), "out.onnx")
		}
		if _, err := export.JoinedONNX(t.Context(), c.h, c.enc, to, true); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		if _, err := os.Stat(to); c.to == "" && err == nil {
			t.Errorf("%s: a failed export left a file", name)
		}
	}
}

// TestCancelledHeadExports leave nothing behind.
func TestCancelledHeadExports(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	dir := t.TempDir()
	base := encoderOf(filepath.Join(onnxModels, "tiny", "model.onnx"), 16)
	plain := bert.Options{Dir: filepath.Join(bertModels, "bert")}
	spec, err := plain.Model().Spec(ctx)
	if err != nil {
		t.Fatal(err)
	}
	stop := errors.New("stop")
	cancel(stop)
	if _, err := export.JoinedONNX(ctx, trained(t, head.Gated{}, 16), base, filepath.Join(dir, "x.onnx"), false); !errors.Is(err, stop) {
		t.Errorf("JoinedONNX: %v", err)
	}
	if _, err := export.SentenceTransformers(ctx, trained(t, head.Gated{}, spec.Dim), plain, filepath.Join(dir, "x"), false); !errors.Is(err, stop) && !errors.Is(err, context.Canceled) {
		t.Errorf("SentenceTransformers: %v", err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("left are %v, %v", entries, err)
	}
	if _, err := onnx.OutputOf(t.Context(), plain.Model()); err == nil {
		t.Error("an encoder of another engine has a graph")
	}
}

// useLibrary makes the engine onnx use ONNX Runtime, if it is found.
func useLibrary(t *testing.T, m encode.Model) {
	t.Helper()
	_, err := m.Spec(t.Context())
	if errors.Is(err, onnx.ErrNoCgo) {
		t.Skip(err)
	}
	if !errors.Is(err, onnx.ErrNoLibrary) {
		return
	}
	home, _ := os.UserHomeDir()
	dir := os.Getenv("PERMAFROST_BENCH_DIR")
	if dir == "" {
		dir = filepath.Join(home, ".cache", "permafrost-bench")
	}
	found, _ := filepath.Glob(filepath.Join(dir, "onnx", "lib", "python3*", "site-packages", "onnxruntime", "capi"))
	if len(found) == 0 {
		t.Skip(err)
	}
	t.Setenv(onnx.LibraryVariable, found[0])
	if _, err := m.Spec(t.Context()); errors.Is(err, onnx.ErrNoLibrary) {
		t.Skip(err)
	}
}

// TestJoinedONNXRuns runs joined graphs in ONNX Runtime: they give what the
// encoder and then the head give, for outputs of every shape and with every
// option that changes what the engine makes of an output.
func TestJoinedONNXRuns(t *testing.T) {
	useLibrary(t, onnx.Model(filepath.Join(onnxModels, "tiny")))
	yes, no := true, false
	for name, o := range map[string]onnx.Options{
		"tiny": {Path: "tiny"}, "hidden": {Path: "hidden"}, "half": {Path: "half"}, "open": {Path: "open"}, "fixed": {Path: "fixed"},
		"roberta": {Path: "roberta"}, "external": {Path: "external"},
		"hidden cls":      {Path: "hidden", Pooling: "cls", Normalize: &no},
		"hidden max":      {Path: "hidden", Pooling: "max"},
		"hidden cut":      {Path: "hidden", TruncateDim: 7},
		"hidden cut last": {Path: "hidden", TruncateDim: 7, Normalize: &yes},
		"tiny cut":        {Path: "tiny", TruncateDim: 3},
		"tiny last":       {Path: "tiny", Normalize: &yes},
	} {
		t.Run(name, func(t *testing.T) { joinedRuns(t, o, sentences()) })
	}
	for name, o := range map[string]onnx.Options{
		"pictures": {Path: "../../../testdata/vision"}, "half pictures": {Path: "vision_half"}, "one picture": {Path: "single"},
		"planes": {Path: "planes", Pooling: "mean"}, "planes max": {Path: "planes", Pooling: "max", TruncateDim: 2, Normalize: &yes},
	} {
		t.Run(name, func(t *testing.T) { joinedRuns(t, o, pictures(t)) })
	}
}

func sentences() (batch []encode.Input) {
	for _, s := range []string{"a red apple", "hello", "", "a longer text that has more words than the others have, to be padded", "Hello"} {
		batch = append(batch, encode.Input{encode.TextValue(s)})
	}
	return batch
}

func pictures(t *testing.T) (batch []encode.Input) {
	t.Helper()
	files, err := filepath.Glob("../../testdata/images/train/*/*")
	if err != nil || len(files) < 3 {
		t.Fatalf("pictures %q, %v", files, err)
	}
	for _, f := range files[:3] {
		batch = append(batch, encode.Input{encode.BytesValue(read(t, f))})
	}
	return batch
}

func joinedRuns(t *testing.T, o onnx.Options, batch []encode.Input) {
	o.Path = filepath.Join(onnxModels, o.Path)
	model := o.Model()
	graph, err := onnx.OutputOf(t.Context(), model)
	if err != nil {
		t.Fatal(err)
	}
	h := trained(t, head.Sequential{Heads: []head.Config{
		head.SkipConnection{}, head.LayerNorm{}, head.StackedProjection{OutputSizes: []int{9, 4}, Activation: "gelu"}, head.SoftmaxEmbeddings{Groups: 2, GroupSize: 3},
	}}, graph.Dim)
	want := applied(t, h, embedded(t, model, batch), nil)

	dir := t.TempDir()
	copyFiles(t, o.Path, dir)
	file := filepath.Join(dir, "joined.onnx")
	if len(graph.Files) > 0 { // beside the weights, which is where it must be
		graph.File = filepath.Join(dir, "model.onnx")
	}
	if _, err := export.JoinedONNX(t.Context(), h, graph, file, false); err != nil {
		t.Fatal(err)
	}
	tolerance := 1e-5
	if graph.Float16 { // the library may leave out the rounding between encoder and head
		tolerance = 2e-3
	}
	within(t, "joined", embedded(t, onnx.Model(file), batch), want, tolerance)
}

// embedded are the embeddings of inputs, side by side.
func embedded(t *testing.T, m encode.Model, batch []encode.Input) []float32 {
	t.Helper()
	enc, err := m.Open(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := enc.Close(); err != nil {
			t.Error(err)
		}
	}()
	out := make([]float32, len(batch)*enc.Dim())
	if err := enc.Encode(context.WithoutCancel(t.Context()), batch, out); err != nil {
		t.Fatal(err)
	}
	return out
}

// copyFiles copies the files of a folder, also those of its folder onnx.
func copyFiles(t *testing.T, from, to string) {
	t.Helper()
	for _, of := range []string{from, filepath.Join(from, "onnx")} {
		entries, err := os.ReadDir(of)
		if err != nil && of == from {
			t.Fatal(err)
		}
		for _, e := range entries {
			if e.IsDir() {
				continue
			}
			in, err := os.Open(filepath.Join(of, e.Name()))
			if err != nil {
				t.Fatal(err)
			}
			out, err := os.Create(filepath.Join(to, e.Name()))
			if err != nil {
				t.Fatal(err)
			}
			_, err = io.Copy(out, in)
			if err := errors.Join(err, in.Close(), out.Close()); err != nil {
				t.Fatal(err)
			}
		}
	}
}
