package export

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/permafrost-ml/permafrost/encode/bert"
	"github.com/permafrost-ml/permafrost/internal/bounded"
	"github.com/permafrost-ml/permafrost/internal/safetensors"
	"github.com/permafrost-ml/permafrost/pipeline/head"
)

// SentenceTransformers writes a directory that
// sentence_transformers.SentenceTransformer loads: the model directory of
// base, and behind its modules those of the head. Linear maps, with an
// activation function or without, and gates become Dense modules, of which a
// skip connection is one for each layer; layer normalization becomes a
// LayerNorm module. Softmax embeddings and switches have no such form, and
// are [ErrOptions].
//
// Options of base that change its embeddings become modules and settings of
// the directory, too, but for int8. What an encoder reads of an object is not
// in it: it takes texts.
//
// A directory that is there is [ErrExists] without force, one that no such
// export made is [ErrNotOurs]. The files of base are copied.
func SentenceTransformers(ctx context.Context, h head.Head, base bert.Options, dir string, force bool) (*HeadResult, error) {
	b, err := readBase(ctx, h, base)
	if err != nil {
		return nil, err
	}
	steps, err := head.Steps(h)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrOptions, err)
	}
	if err := b.addSteps(steps); err != nil {
		return nil, err
	}
	res := &HeadResult{In: h.In(), Out: h.Out()}
	err = placeFolder(dir, force, oursHead, func(tmp string) error { return b.write(ctx, tmp, dir, res) })
	if err != nil {
		return nil, err
	}
	return res, nil
}

// moduleDir is a sentence-transformers directory under construction.
type moduleDir struct {
	options bert.Options
	modules []map[string]any // of modules.json
	made    map[string]made  // by folder
	next    int              // that a new folder is named after
}

// made is a module of the result that is not the base's.
type made struct {
	config  map[string]any
	tensors []safetensors.Tensor
}

const (
	modulesName   = "modules.json"
	moduleType    = "sentence_transformers.models."
	maxModuleJSON = 1 << 20
	// headMark is the file by which a directory is known to be ours. It lists
	// all others.
	headMark     = "permafrost_export.json"
	headMarkKind = "permafrost.export.sentence_transformers"
)

// readBase reads what the base's modules are, and applies the options.
func readBase(ctx context.Context, h head.Head, o bert.Options) (*moduleDir, error) {
	b := &moduleDir{options: o, made: map[string]made{}}
	if o.Precision != "" && o.Precision != "float32" {
		return nil, fmt.Errorf("%w: the encoder computes in %s, which sentence-transformers does not", ErrOptions, o.Precision)
	}
	spec, err := o.Model().Spec(ctx)
	if err != nil {
		return nil, err
	}
	if spec.Dim != h.In() {
		return nil, fmt.Errorf("%w: the model %s gives %d values, the head takes %d", ErrOptions, o.Dir, spec.Dim, h.In())
	}
	there, err := bounded.JSON(filepath.Join(o.Dir, modulesName), maxModuleJSON, &b.modules)
	if err != nil {
		return nil, err
	}
	if !there { // a transformer alone
		b.modules = []map[string]any{{"path": "", "type": moduleType + "Transformer"}, {"path": "1_Pooling", "type": moduleType + "Pooling"}}
	}
	if o.Pooling != "" || !there {
		if err := b.setPooling(); err != nil {
			return nil, err
		}
	}
	if n := o.Normalize; n != nil && !*n {
		b.modules = slices.DeleteFunc(b.modules, func(m map[string]any) bool { return kindOf(m) == "Normalize" })
	}
	b.next = len(b.modules)
	if o.TruncateDim > 0 {
		whole := o
		whole.TruncateDim = 0
		spec, err := whole.Model().Spec(ctx)
		if err != nil {
			return nil, err
		}
		b.addDense(selection(o.TruncateDim, spec.Dim), "identity", false)
	}
	if n := o.Normalize; n != nil && *n {
		b.add("Normalize", made{})
	}
	return b, nil
}

// selection keeps the first values of a row.
func selection(keep, of int) head.Linear {
	l := head.Linear{In: of, Out: keep, Weight: make([]float32, keep*of)}
	for i := range keep {
		l.Weight[i*of+i] = 1
	}
	return l
}

func kindOf(m map[string]any) string {
	typ, _ := m["type"].(string)
	return typ[strings.LastIndexByte(typ, '.')+1:]
}

func folderOf(m map[string]any) string {
	p, _ := m["path"].(string)
	return p
}

// setPooling declares one way of pooling.
func (b *moduleDir) setPooling() error {
	i := slices.IndexFunc(b.modules, func(m map[string]any) bool { return kindOf(m) == "Pooling" })
	if i < 0 {
		return fmt.Errorf("%w: %s has no Pooling module", ErrOptions, b.options.Dir)
	}
	var c struct {
		Hidden int `json:"hidden_size"`
		Dim    int `json:"dim"` // of DistilBERT
	}
	if _, err := bounded.JSON(filepath.Join(b.options.Dir, filepath.FromSlash(folderOf(b.modules[0])), "config.json"), maxModuleJSON, &c); err != nil {
		return err
	}
	mode := b.options.Pooling
	if mode == "" {
		mode = "mean"
	}
	b.made[folderOf(b.modules[i])] = made{config: map[string]any{
		"word_embedding_dimension": max(c.Hidden, c.Dim),
		"pooling_mode_cls_token":   mode == "cls",
		"pooling_mode_mean_tokens": mode == "mean",
		"pooling_mode_max_tokens":  mode == "max",
	}}
	return nil
}

// add appends a module in a folder of its own.
func (b *moduleDir) add(kind string, m made) {
	folder := fmt.Sprintf("%d_%s", b.next, kind)
	for slices.ContainsFunc(b.modules, func(m map[string]any) bool { return folderOf(m) == folder }) {
		b.next++
		folder = fmt.Sprintf("%d_%s", b.next, kind)
	}
	b.next++
	b.modules = append(b.modules, map[string]any{"path": folder, "type": moduleType + kind})
	b.made[folder] = m
}

// torchActivations are the modules that Dense names for activation functions.
var torchActivations = map[string]string{
	"identity":   "torch.nn.modules.linear.Identity",
	"relu":       "torch.nn.modules.activation.ReLU",
	"leaky_relu": "torch.nn.modules.activation.LeakyReLU",
	"elu":        "torch.nn.modules.activation.ELU",
	"silu":       "torch.nn.modules.activation.SiLU",
	"gelu":       "torch.nn.modules.activation.GELU",
	"tanh":       "torch.nn.modules.activation.Tanh",
	"sigmoid":    "torch.nn.modules.activation.Sigmoid",
}

// addDense appends a Dense module.
func (b *moduleDir) addDense(l head.Linear, activation string, bias bool) {
	m := made{
		config: map[string]any{
			"in_features": l.In, "out_features": l.Out, "bias": bias, "activation_function": torchActivations[activation],
		},
		tensors: []safetensors.Tensor{{Name: "linear.weight", Shape: []int{l.Out, l.In}, Data: l.Weight}},
	}
	if bias {
		m.tensors = append(m.tensors, safetensors.Tensor{Name: "linear.bias", Shape: []int{l.Out}, Data: l.Bias})
	}
	b.add("Dense", m)
}

// addSteps appends the head.
func (b *moduleDir) addSteps(steps []head.Step) error {
	for i := 0; i < len(steps); i++ {
		switch s := steps[i].(type) {
		case head.Linear:
			activation := "identity"
			if i+1 < len(steps) {
				if a, ok := steps[i+1].(head.Activation); ok {
					activation = a.Name
					i++
				}
			}
			b.addDense(s, activation, true)
		case head.Scale:
			n := len(s.By)
			l := selection(n, n)
			for k, v := range s.By {
				l.Weight[k*n+k] = v
			}
			b.addDense(l, "identity", false)
		case head.Norm:
			n := len(s.Weight)
			b.add("LayerNorm", made{
				config: map[string]any{"dimension": n},
				tensors: []safetensors.Tensor{
					{Name: "norm.weight", Shape: []int{n}, Data: s.Weight}, {Name: "norm.bias", Shape: []int{n}, Data: s.Bias},
				},
			})
		default:
			what := strings.ToLower(strings.TrimPrefix(fmt.Sprintf("%T", s), "head."))
			return fmt.Errorf("%w: the head has a %s step, which no module of sentence-transformers computes: export it as onnx", ErrOptions, what)
		}
	}
	return nil
}

// write fills the directory.
func (b *moduleDir) write(ctx context.Context, tmp, dir string, res *HeadResult) error {
	w := &dirWriter{ctx: ctx, tmp: tmp, dir: dir, res: res}
	for i, m := range b.modules {
		m["idx"], m["name"] = i, strconv.Itoa(i)
	}
	skip := map[string]bool{modulesName: true, headMark: true}
	if b.options.MaxLength > 0 {
		name, config, err := b.lengthConfig()
		if err != nil {
			return err
		}
		config["max_seq_length"] = b.options.MaxLength
		skip[name] = true
		w.json(name, config)
	}
	w.copyFolder(b.options.Dir, "", skip)
	for _, m := range b.modules {
		folder := folderOf(m)
		mine, ok := b.made[folder]
		switch {
		case ok && mine.config == nil: // Normalize has no files
			w.folder(folder)
		case ok:
			w.json(path.Join(folder, "config.json"), mine.config)
			if mine.tensors != nil {
				w.weights(path.Join(folder, "model.safetensors"), mine.tensors)
			}
		case folder != "":
			w.copyFolder(b.options.Dir, folder, skip)
		}
	}
	w.json(modulesName, b.modules)
	names := slices.Sorted(maps.Keys(w.names))
	w.json(headMark, map[string]any{"kind": headMarkKind, "files": names})
	return w.err
}

// lengthConfig finds the config that says how long texts may be.
func (b *moduleDir) lengthConfig() (name string, config map[string]any, err error) {
	folder := folderOf(b.modules[0])
	for _, of := range []string{"bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet"} {
		name := path.Join(folder, "sentence_"+of+"_config.json")
		there, err := bounded.JSON(filepath.Join(b.options.Dir, filepath.FromSlash(name)), maxModuleJSON, &config)
		if there || err != nil {
			return name, config, err
		}
	}
	return path.Join(folder, "sentence_bert_config.json"), map[string]any{"do_lower_case": false}, nil
}

// dirWriter writes the files of a directory. After an error it does nothing.
type dirWriter struct {
	ctx      context.Context
	tmp, dir string
	res      *HeadResult
	names    map[string]bool // of files, with slashes
	err      error
}

func (w *dirWriter) folder(name string) {
	if w.err == nil {
		w.err = os.MkdirAll(filepath.Join(w.tmp, filepath.FromSlash(name)), 0o755)
	}
}

// file writes and syncs a file.
func (w *dirWriter) file(name string, fill func(io.Writer) error) {
	w.folder(path.Dir(name))
	if w.err = errors.Join(w.err, w.ctx.Err()); w.err != nil {
		return
	}
	f, err := os.OpenFile(filepath.Join(w.tmp, filepath.FromSlash(name)), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		w.err = err
		return
	}
	count := &counted{w: f}
	if w.err = errors.Join(fill(count), f.Sync(), f.Close()); w.err != nil {
		return
	}
	if w.names == nil {
		w.names = map[string]bool{}
	}
	w.names[name] = true
	w.res.add(filepath.Join(w.dir, filepath.FromSlash(name)), count.n)
}

func (w *dirWriter) json(name string, v any) {
	w.file(name, func(to io.Writer) error {
		enc := json.NewEncoder(to)
		enc.SetIndent("", "  ")
		return enc.Encode(v)
	})
}

func (w *dirWriter) weights(name string, tensors []safetensors.Tensor) {
	for _, t := range tensors {
		for _, v := range t.Data {
			if f := float64(v); math.IsNaN(f) || math.IsInf(f, 0) {
				w.err = errors.Join(w.err, fmt.Errorf("a weight of %s is %v", name, v))
				return
			}
		}
	}
	w.file(name, func(to io.Writer) error {
		return safetensors.Write(to, tensors, map[string]string{"format": "pt"})
	})
}

// copyFolder copies the files of a module's folder: of the root those that
// lie there, of others all below. Weights in formats of other programs stay
// out where there are safetensors.
func (w *dirWriter) copyFolder(root, folder string, skip map[string]bool) {
	if w.err != nil {
		return
	}
	from := filepath.Join(root, filepath.FromSlash(folder))
	entries, err := os.ReadDir(from)
	if folder != "" && errors.Is(err, fs.ErrNotExist) {
		return // a module without files, such as Normalize
	}
	if err != nil {
		w.err = err
		return
	}
	safe := slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return strings.HasPrefix(e.Name(), "model.safetensors") })
	for _, e := range entries {
		name := path.Join(folder, e.Name())
		info, err := os.Stat(filepath.Join(from, e.Name())) // of what a link leads to
		switch {
		case err != nil:
			w.err = err
			return
		case strings.HasPrefix(e.Name(), "."), skip[name], safe && otherWeights(e.Name()):
		case info.IsDir() && folder != "":
			w.copyFolder(root, name, skip)
		case info.Mode().IsRegular():
			w.copyFile(filepath.Join(from, e.Name()), name)
		}
	}
}

func otherWeights(name string) bool {
	return slices.Contains([]string{".bin", ".h5", ".msgpack", ".ot", ".onnx", ".gguf"}, path.Ext(name))
}

func (w *dirWriter) copyFile(from, name string) {
	w.file(name, func(to io.Writer) error {
		f, err := os.Open(from)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.Copy(to, cancelled{w.ctx, f})
		return err
	})
}

// oursHead reports an error unless a directory holds what an export of a head
// wrote, and nothing else: replacing it would lose that.
func oursHead(dir string, _ []fs.DirEntry) error {
	not := func(what string) error { return fmt.Errorf("%w: %s %s", ErrNotOurs, dir, what) }
	var mark struct {
		Kind  string   `json:"kind"`
		Files []string `json:"files"`
	}
	there, err := bounded.JSON(filepath.Join(dir, headMark), maxModuleJSON, &mark)
	if err != nil || !there || mark.Kind != headMarkKind {
		return not("has no " + headMark + " of an export")
	}
	return filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, p)
		if err == nil && name != headMark && !slices.Contains(mark.Files, filepath.ToSlash(name)) {
			err = not("also holds " + name)
		}
		return err
	})
}
