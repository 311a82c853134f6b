package bert

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/permafrost-ml/permafrost/internal/bounded"
	"github.com/permafrost-ml/permafrost/internal/kernels"
	"github.com/permafrost-ml/permafrost/internal/safetensors"
	"github.com/permafrost-ml/permafrost/internal/tokenizer"
)

// linear is a learned affine map of rows: y = x·Wᵀ + b.
type linear struct {
	in, out int
	weight  *kernels.Packed     // Wᵀ
	bytes   *kernels.PackedInt8 // Wᵀ in 8 bits, in place of weight
	bias    []float32           // out values, nil for none
}

// apply writes the map of rows rows of x to y. Rows lie end to end.
func (l *linear) apply(y, x []float32, rows int) {
	if l.bytes == nil {
		kernels.Affine(rows, x, l.in, l.weight, l.bias, y, l.out, 1)
		return
	}
	for i := range rows {
		row := y[i*l.out : (i+1)*l.out]
		if l.bias == nil {
			clear(row)
		} else {
			copy(row, l.bias)
		}
	}
	kernels.GemmInt8(rows, x, l.in, l.bytes, true, y, l.out, 1)
}

// norm is a layer normalization.
type norm struct {
	gain, bias []float32
	eps        float64
}

// apply normalizes the rows of x in place.
func (n *norm) apply(x []float32) {
	width := len(n.gain)
	for at := 0; at < len(x); at += width {
		kernels.LayerNorm(x[at:at+width], x[at:at+width], n.gain, n.bias, n.eps)
	}
}

// applySum replaces the rows of x by those of x + y, normalized.
func (n *norm) applySum(x, y []float32) {
	width := len(n.gain)
	for at := 0; at < len(x); at += width {
		row := x[at : at+width]
		kernels.AddLayerNorm(row, row, y[at:at+width], n.gain, n.bias, n.eps)
	}
}

// layer is one block of a transformer.
type layer struct {
	qkv       linear // queries, keys and values side by side
	attention linear
	norm1     norm
	up, down  linear
	norm2     norm
}

// network is all that is loaded of a model directory. It is immutable.
type network struct {
	*directory
	tokens    *tokenizer.Tokenizer
	words     []float32 // vocabulary rows of hidden values
	places    []float32 // a row per position, that of token type 0 added
	embedding norm
	layers    []layer
	relative  []float32 // heads columns for each bucket of relative positions
	dense     []linear  // of the steps that have one, in order
}

// load reads the weights and the tokenizer of a directory.
func load(ctx context.Context, d *directory) (*network, error) {
	a := d.arch
	n := &network{directory: d}
	var err error
	if n.tokens, err = tokenizer.Load(d.transformer, a.family.tokens); err != nil {
		return nil, err
	}
	if int(n.tokens.Last()) >= a.vocabulary {
		return nil, fmt.Errorf("the tokenizer has the id %d, config.json's vocab_size is %d", n.tokens.Last(), a.vocabulary)
	}
	set, err := openTensors(d.transformer)
	if err != nil {
		return nil, err
	}
	defer set.close()
	if err := set.strip(a.family.prefix, "embeddings.word_embeddings.weight"); err != nil {
		return nil, err
	}
	t := &taker{ctx: ctx, set: set, int8: d.precision == precisionInt8}
	// All shapes are looked at before any value is read.
	for _, t.dry = range []bool{true, false} {
		n.take(t)
		if t.dry && t.err == nil {
			t.err = set.unused()
		}
		if t.err != nil {
			return nil, t.err
		}
	}
	for _, s := range d.steps {
		if s.dense == nil {
			continue
		}
		l, err := loadDense(ctx, s.dense)
		if err != nil {
			return nil, fmt.Errorf("dense: %w", err)
		}
		n.dense = append(n.dense, l)
	}
	return n, nil
}

// take takes all tensors of the transformer.
func (n *network) take(t *taker) {
	a, f := n.arch, n.arch.family
	h := a.hidden
	n.words = t.tensor("embeddings.word_embeddings.weight", a.vocabulary, h)
	n.places = t.tensor("embeddings.position_embeddings.weight", a.positions, h)
	if a.types > 0 {
		types := t.tensor("embeddings.token_type_embeddings.weight", a.types, h)
		if !t.dry && t.err == nil {
			for i := range a.positions {
				kernels.Axpy(1, types[:h], n.places[i*h:(i+1)*h])
			}
		}
	}
	n.embedding = t.norm("embeddings.LayerNorm", h, a.eps)
	if f.relative {
		n.relative = t.tensor("encoder.relative_attention_bias.weight", a.buckets, a.heads)
	}
	n.layers = n.layers[:0]
	for i := range a.layers {
		if t.err != nil {
			return
		}
		at := fmt.Sprintf(f.layer, i)
		l := layer{
			qkv:       t.linear(h, h, true, at+f.q, at+f.k, at+f.v),
			attention: t.linear(h, h, true, at+f.attention),
			norm1:     t.norm(at+f.norm1, h, a.eps),
			up:        t.linear(h, a.intermediate, true, at+f.up),
			down:      t.linear(a.intermediate, h, true, at+f.down),
			norm2:     t.norm(at+f.norm2, h, a.eps),
		}
		n.layers = append(n.layers, l)
	}
}

func loadDense(ctx context.Context, d *dense) (l linear, err error) {
	set, err := openTensors(d.folder)
	if err != nil {
		return l, err
	}
	defer set.close()
	t := &taker{ctx: ctx, set: set}
	for _, t.dry = range []bool{true, false} {
		l = t.linear(d.in, d.out, d.bias, "linear")
		if t.dry && t.err == nil {
			t.err = set.unused()
		}
		if t.err != nil {
			return l, t.err
		}
	}
	return l, nil
}

// tensors are the tensors of a folder's safetensors files by name.
type tensors struct {
	byName map[string]placed
	taken  map[string]bool
	opened []*os.File
}

// placed is a tensor in its file.
type placed struct {
	file *safetensors.File
	info safetensors.Info
}

const (
	weightsFile = "model.safetensors"
	weightsList = "model.safetensors.index.json"
)

// weightFiles lists the files of a folder's weights: one, or the parts that
// the index names.
func weightFiles(folder string) ([]string, error) {
	if _, err := os.Stat(filepath.Join(folder, weightsFile)); err == nil {
		return []string{weightsFile}, nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var index struct {
		WeightMap map[string]string `json:"weight_map"`
	}
	there, err := bounded.JSON(filepath.Join(folder, weightsList), 8*maxConfig, &index)
	if err != nil {
		return nil, err
	}
	if !there {
		return nil, fmt.Errorf("there is no %s in %s (other formats, such as pytorch_model.bin, are not read)", weightsFile, folder)
	}
	var names []string
	for _, name := range index.WeightMap {
		if !filepath.IsLocal(name) || strings.ContainsAny(name, `/\`) {
			return nil, fmt.Errorf("%s: %q is no file beside it", weightsList, name)
		}
		names = append(names, name)
	}
	slices.Sort(names)
	if names = slices.Compact(names); len(names) == 0 || len(names) > 1000 {
		return nil, fmt.Errorf("%s names %d files", weightsList, len(names))
	}
	return names, nil
}

// openTensors opens the files and reads their headers.
func openTensors(folder string) (_ *tensors, err error) {
	names, err := weightFiles(folder)
	if err != nil {
		return nil, err
	}
	s := &tensors{byName: map[string]placed{}, taken: map[string]bool{}}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	for _, name := range names {
		f, err := os.Open(filepath.Join(folder, name))
		if err != nil {
			return nil, err
		}
		s.opened = append(s.opened, f)
		info, err := f.Stat()
		if err != nil {
			return nil, err
		}
		st, err := safetensors.Open(f, info.Size())
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		for _, t := range st.Tensors() {
			key := modern(t.Name)
			if _, ok := s.byName[key]; ok {
				return nil, fmt.Errorf("%s: there is a second tensor %q", name, key)
			}
			s.byName[key] = placed{st, t}
		}
	}
	return s, nil
}

// modern is a tensor's name as it is spelled since the first BERT: gamma and
// beta are weight and bias.
func modern(name string) string {
	if s, ok := strings.CutSuffix(name, "LayerNorm.gamma"); ok {
		return s + "LayerNorm.weight"
	}
	if s, ok := strings.CutSuffix(name, "LayerNorm.beta"); ok {
		return s + "LayerNorm.bias"
	}
	return name
}

func (s *tensors) close() {
	for _, f := range s.opened {
		_ = f.Close() // it was read only
	}
}

// strip takes a prefix off all names if the tensor named is there with it
// only; what is there without the prefix then belongs to a head.
func (s *tensors) strip(prefix, name string) error {
	if _, ok := s.byName[name]; ok {
		return nil
	}
	if _, ok := s.byName[prefix+name]; !ok {
		return fmt.Errorf("%s: the tensor %q is missing", weightsFile, name)
	}
	stripped := map[string]placed{}
	for key, t := range s.byName {
		if rest, ok := strings.CutPrefix(key, prefix); ok {
			stripped[rest] = t
		}
	}
	s.byName = stripped
	return nil
}

// heads are beginnings of names of tensors that embeddings do not depend on:
// buffers, the pooler and heads of other tasks.
var heads = []string{
	"pooler.", "embeddings.position_ids", "embeddings.token_type_ids", "cls.", "lm_head.",
	"vocab_transform.", "vocab_layer_norm.", "vocab_projector.", "classifier.", "pre_classifier.", "qa_outputs.",
}

// unused reports a tensor that nothing took.
func (s *tensors) unused() error {
	var left []string
	for name := range s.byName {
		if !s.taken[name] && !slices.ContainsFunc(heads, func(h string) bool { return strings.HasPrefix(name, h) }) {
			left = append(left, name)
		}
	}
	if len(left) == 0 {
		return nil
	}
	slices.Sort(left)
	return fmt.Errorf("%s: config.json has no place for the tensor %q of shape %v (%d such tensors)",
		weightsFile, left[0], s.byName[left[0]].info.Shape, len(left))
}

// taker takes tensors out of a set until the first error.
type taker struct {
	ctx  context.Context
	set  *tensors
	dry  bool // only look at the shapes
	int8 bool // round the weights of linear maps to 8 bits
	err  error
}

// tensor returns the values of a tensor of that shape, nil on a dry run.
func (t *taker) tensor(name string, shape ...int) []float32 {
	if t.check(name, shape); t.err != nil || t.dry {
		return nil
	}
	size := 1
	for _, n := range shape {
		size *= n
	}
	dst := make([]float32, size)
	t.read(dst, name)
	return dst
}

// check reports a tensor that is not there with that shape.
func (t *taker) check(name string, shape []int) {
	if t.err != nil {
		return
	}
	p, ok := t.set.byName[name]
	switch {
	case !ok:
		t.err = fmt.Errorf("%s: the tensor %q is missing", weightsFile, name)
	case !slices.Equal(p.info.Shape, shape):
		t.err = fmt.Errorf("%s: the tensor %q has the shape %v, config.json asks for %v", weightsFile, name, p.info.Shape, shape)
	}
	t.set.taken[name] = true
}

func (t *taker) read(dst []float32, name string) {
	if t.err = t.ctx.Err(); t.err != nil {
		return
	}
	p := t.set.byName[name]
	if err := p.file.Float32(dst, p.info); err != nil {
		t.err = fmt.Errorf("%s: %w", weightsFile, err)
	}
}

// linear takes maps from in to out values, and puts them side by side.
func (t *taker) linear(in, out int, bias bool, names ...string) linear {
	l := linear{in: in, out: out * len(names)}
	for _, name := range names {
		t.check(name+".weight", []int{out, in})
		if bias {
			t.check(name+".bias", []int{out})
		}
	}
	if t.err != nil || t.dry {
		return l
	}
	weight := make([]float32, l.in*l.out)
	if bias {
		l.bias = make([]float32, l.out)
	}
	for i, name := range names {
		if t.read(weight[i*in*out:(i+1)*in*out], name+".weight"); t.err == nil && bias {
			t.read(l.bias[i*out:(i+1)*out], name+".bias")
		}
		if t.err != nil {
			return l
		}
	}
	if !t.int8 {
		l.weight = kernels.Pack(true, l.in, l.out, weight, l.in)
		return l
	}
	var err error
	if l.bytes, err = kernels.PackInt8(true, l.in, l.out, weight, l.in); err != nil {
		t.err = fmt.Errorf("%s: the tensor %q: %w", weightsFile, names[0]+".weight", err)
	}
	return l
}

func (t *taker) norm(name string, width int, eps float64) norm {
	return norm{t.tensor(name+".weight", width), t.tensor(name+".bias", width), eps}
}
