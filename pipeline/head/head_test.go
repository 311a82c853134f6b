package head

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"gorgonia.org/tensor"

	"github.com/permafrost-ml/permafrost/internal/safetensors"
)

func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0)) }

func dense(rows, cols int, data []float32) *tensor.Dense {
	return tensor.New(tensor.WithShape(rows, cols), tensor.WithBacking(data))
}

func random(rng *rand.Rand, rows, cols int) *tensor.Dense {
	data := make([]float32, rows*cols)
	for i := range data {
		data[i] = float32(rng.NormFloat64())
	}
	return dense(rows, cols, data)
}

func near(t *testing.T, what string, got []float32, want []float64, tolerance float64) {
	t.Helper()
	scale := 1e-3
	for _, v := range want {
		scale = max(scale, math.Abs(v))
	}
	if len(got) != len(want) {
		t.Fatalf("%s has %d values, want %d", what, len(got), len(want))
	}
	for i, v := range want {
		if d := math.Abs(float64(got[i]) - v); !(d <= tolerance*scale) {
			t.Errorf("%s[%d] is %v, want %v", what, i, got[i], v)
			return
		}
	}
}

func float32s(x []float64) []float32 {
	y := make([]float32, len(x))
	for i, v := range x {
		y[i] = float32(v)
	}
	return y
}

// heads are configs of every type, with inputs of at least 3 values.
func heads() map[string]Config {
	return map[string]Config{
		"empty":              Empty{},
		"gated":              Gated{},
		"layer_norm":         LayerNorm{},
		"skip_connection":    SkipConnection{Layers: 2},
		"stacked_projection": StackedProjection{OutputSizes: []int{8, 5}, Activation: "gelu"},
		"elu":                StackedProjection{OutputSizes: []int{8, 5}, Activation: "elu"},
		"silu":               StackedProjection{OutputSizes: []int{8, 5}, Activation: "silu"},
		"widening":           Widening{ExpansionFactor: 1.5, Activation: "tanh"},
		"softmax_embeddings": SoftmaxEmbeddings{Groups: 3, GroupSize: 5},
		"sequential": Sequential{Heads: []Config{
			Gated{}, Widening{}, Sequential{Heads: []Config{LayerNorm{}, StackedProjection{OutputSizes: []int{4}}}},
		}},
		"switch": Switch{Options: map[string]Config{
			"image": StackedProjection{OutputSizes: []int{6, 4}}, "text": Sequential{Heads: []Config{LayerNorm{}, StackedProjection{OutputSizes: []int{4}}}},
		}},
	}
}

// choices are for the rows of a head of heads.
func choices(n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = []string{"text", "image"}[i*i%3%2]
	}
	return all
}

// newHead makes a head with random weights, so that no gate hides the rest.
func newHead(t testing.TB, c Config, dim int) Head {
	t.Helper()
	rng := newRand(9)
	h, err := c.New(dim, rng)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range h.Parameters() {
		if len(p.Value.Shape()) == 1 {
			for i := range p.Values() {
				p.Values()[i] = float32(rng.NormFloat64())
			}
		}
	}
	return h
}

// TestDropoutGradient checks gradients with dropout against differences of a
// float64 model that uses the masks of one forward pass.
func TestDropoutGradient(t *testing.T) {
	const n, dim, layers = 6, 4, 2
	h, err := SkipConnection{Dropout: 0.25, SkipDropout: 0.4, Layers: layers}.New(dim, newRand(5))
	if err != nil {
		t.Fatal(err)
	}
	rng := newRand(6)
	for _, p := range h.Parameters() { // gates of -4 would hide much
		for i := range p.Values() {
			p.Values()[i] = float32(rng.NormFloat64())
		}
	}
	p := h.NewPass().(*chainPass)
	x, c := random(rng, n, dim), random(rng, n, dim)
	y, err := p.Forward(x)
	if err != nil {
		t.Fatal(err)
	}
	masks := [][]float32{
		p.steps[0].(*dropoutStep).drop.last.Data, p.steps[1].(*skipStep).drop.last.Data, p.steps[2].(*skipStep).drop.last.Data,
	}
	for i, m := range masks {
		zeros := 0
		for _, v := range m {
			if v == 0 {
				zeros++
			}
		}
		if len(m) != n*dim || zeros == 0 || zeros == n*dim {
			t.Fatalf("mask %d drops %d of %d values", i, zeros, len(m))
		}
	}
	values := map[string][]float64{"x": float64s(x.Float32s())}
	for _, p := range h.Parameters() {
		values[p.Name] = float64s(p.Values())
	}
	model := func() []float64 {
		cur := masked(values["x"], masks[0])
		for l, names := range [][3]string{{"fc.0.weight", "fc.0.bias", "gates.0"}, {"fc.1.weight", "fc.1.bias", "gates.1"}} {
			w, b, g := values[names[0]], values[names[1]], values[names[2]]
			in, out := masked(cur, masks[l+1]), slices.Clone(cur)
			for i := range n {
				for o := range dim {
					z := b[o]
					for k := range dim {
						z += in[i*dim+k] * w[o*dim+k]
					}
					out[i*dim+o] += z / (1 + math.Exp(-g[o]))
				}
			}
			cur = out
		}
		return cur
	}
	near(t, "y", y.Float32s(), model(), 1e-6)
	dx, err := p.Backward(c, true)
	if err != nil {
		t.Fatal(err)
	}
	sum := func() (s float64) {
		for i, v := range model() {
			s += v * float64(c.Float32s()[i])
		}
		return s
	}
	got := map[string][]float32{"x": dx.Float32s()}
	for _, p := range h.Parameters() {
		got[p.Name] = p.Grads()
	}
	for name, v := range values {
		want := make([]float64, len(v))
		for i, old := range v {
			const step = 1e-5
			v[i] = old + step
			up := sum()
			v[i] = old - step
			want[i] = (up - sum()) / (2 * step)
			v[i] = old
		}
		near(t, name, got[name], want, 1e-5)
	}
}

func float64s(x []float32) []float64 {
	y := make([]float64, len(x))
	for i, v := range x {
		y[i] = float64(v)
	}
	return y
}

func masked(x []float64, mask []float32) []float64 {
	y := make([]float64, len(x))
	for i := range x {
		y[i] = x[i] * float64(mask[i])
	}
	return y
}

// withDropout is every head that has the option dropout.
func withDropout(p float64) []Config {
	return []Config{
		Empty{Dropout: p},
		Gated{Dropout: p},
		LayerNorm{Dropout: p},
		SkipConnection{Dropout: p},
		StackedProjection{OutputSizes: []int{4, 3}, Dropout: p},
		Widening{Dropout: p},
		SoftmaxEmbeddings{Groups: 2, GroupSize: 3, Dropout: p},
	}
}

// TestDropoutOfInputs: a head with dropout is the head without, on inputs of
// which the mask is drawn anew at each pass, and so are its gradients.
func TestDropoutOfInputs(t *testing.T) {
	const n, dim = 40, 25
	x := random(newRand(6), n, dim)
	for i, c := range withDropout(0.3) {
		plain := withDropout(0)[i]
		dropped, h := newHead(t, c, dim), newHead(t, plain, dim)
		for k, p := range dropped.Parameters() {
			copy(p.Values(), h.Parameters()[k].Values())
		}
		p, q := dropped.NewPass(), h.NewPass()
		y, err := p.Forward(x)
		if err != nil {
			t.Fatal(err)
		}
		mask := slices.Clone(p.(*chainPass).steps[0].(*dropoutStep).drop.last.Data)
		zeros := 0
		for i, m := range mask {
			if m == 0 {
				zeros++
			} else if m != float32(1/0.7) {
				t.Fatalf("%s: the mask's value %d is %v", c.Type(), i, m)
			}
		}
		if share := float64(zeros) / n / dim; math.Abs(share-0.3) > 0.05 {
			t.Errorf("%s drops %v of the values", c.Type(), share)
		}
		masked := dense(n, dim, make([]float32, n*dim))
		for i, v := range x.Float32s() {
			masked.Float32s()[i] = v * mask[i]
		}
		want, err := q.Forward(masked)
		if err != nil || !slices.Equal(y.Float32s(), want.Float32s()) {
			t.Fatalf("%s: another output than that of the masked input, %v", c.Type(), err)
		}
		dy := random(newRand(7), n, h.Out())
		dx, err := p.Backward(dy, true)
		if err != nil {
			t.Fatal(err)
		}
		wantDX, err := q.Backward(dy, true)
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range wantDX.Float32s() {
			if dx.Float32s()[i] != v*mask[i] {
				t.Fatalf("%s: dx[%d] is %v, want %v", c.Type(), i, dx.Float32s()[i], v*mask[i])
			}
		}
		for k, p := range dropped.Parameters() {
			if !slices.Equal(p.Grads(), h.Parameters()[k].Grads()) {
				t.Errorf("%s: other gradients of %s", c.Type(), p.Name)
			}
		}
		if _, err := p.Forward(x); err != nil {
			t.Fatal(err)
		}
		if slices.Equal(mask, p.(*chainPass).steps[0].(*dropoutStep).drop.last.Data) {
			t.Errorf("%s: two passes drop the same values", c.Type())
		}
		// Nothing is dropped at inference.
		one, two := dense(n, h.Out(), make([]float32, n*h.Out())), dense(n, h.Out(), make([]float32, n*h.Out()))
		if err := errors.Join(dropped.Freeze().Apply(one, x), h.Freeze().Apply(two, x)); err != nil || !slices.Equal(one.Float32s(), two.Float32s()) {
			t.Errorf("%s: dropout at inference, %v", c.Type(), err)
		}
	}
}

func TestDropoutKeepsTheMean(t *testing.T) {
	for _, p := range []float64{0.3, 0.5, 0.9} {
		h, err := Empty{Dropout: p}.New(100, newRand(1))
		if err != nil {
			t.Fatal(err)
		}
		ones := make([]float32, 200*100)
		for i := range ones {
			ones[i] = 1
		}
		y, err := h.NewPass().Forward(dense(200, 100, ones))
		if err != nil {
			t.Fatal(err)
		}
		var sum float64
		for _, v := range y.Float32s() {
			sum += float64(v)
		}
		// 4 standard deviations of the mean of the 20,000
		if mean := sum / 2e4; math.Abs(mean-1) > 4*math.Sqrt(p/(1-p)/2e4) {
			t.Errorf("dropout %v: the mean is %v", p, mean)
		}
	}
}

// TestFirstWeights: weights and biases are uniform in ±1/√in, gates and norms
// have their constants, and the seed decides all.
func TestFirstWeights(t *testing.T) {
	const dim = 64
	for _, c := range []Config{
		Gated{},
		LayerNorm{},
		SkipConnection{Layers: 2},
		StackedProjection{OutputSizes: []int{100, 70}},
		Widening{},
		SoftmaxEmbeddings{Groups: 10, GroupSize: 9},
		Sequential{Heads: []Config{Widening{}, SkipConnection{}}},
		Switch{Options: map[string]Config{"a": Widening{}, "b": Gated{}}},
	} {
		h, err := c.New(dim, newRand(3))
		if err != nil {
			t.Fatal(err)
		}
		in := dim
		for _, p := range h.Parameters() {
			low, high := slices.Min(p.Values()), slices.Max(p.Values())
			name := p.Name[strings.LastIndexByte(p.Name, '/')+1:]
			constant, is := map[string]float32{"gates.0": -4, "gates.1": -4, "1.gates.0": -4, "gates": 2, "b.gates": 2, "weight": 1, "bias": 0}[name]
			if is {
				if low != constant || high != constant || len(p.Values()) != dim {
					t.Errorf("%s %s: %d values from %v to %v", c.Type(), p.Name, len(p.Values()), low, high)
				}
				continue
			}
			if s := p.Value.Shape(); len(s) == 2 {
				in = s[1]
			}
			bound := 1 / math.Sqrt(float64(in))
			var sum, squares float64
			for _, v := range p.Values() {
				sum += float64(v)
				squares += float64(v) * float64(v)
			}
			n := float64(len(p.Values()))
			if float64(low) < -bound || float64(high) > bound || math.Abs(sum/n) > 4*bound/math.Sqrt(3*n) || math.Abs(squares/n*3/bound/bound-1) > 4/math.Sqrt(n) {
				t.Errorf("%s %s is from %v to %v with the mean %v, want uniform in ±%v", c.Type(), p.Name, low, high, sum/n, bound)
			}
		}
		same, _ := c.New(dim, newRand(3))
		other, _ := c.New(dim, newRand(4))
		if !equalWeights(h, same) {
			t.Errorf("%s: the seed does not decide the weights", c.Type())
		}
		if _, fixed := map[string]bool{"gated": true, "layer_norm": true}[c.Type()]; !fixed && equalWeights(h, other) {
			t.Errorf("%s: all seeds give the same weights", c.Type())
		}
	}
}

func equalWeights(a, b Head) bool {
	return slices.EqualFunc(a.Parameters(), b.Parameters(), func(p, q Param) bool {
		return p.Name == q.Name && slices.Equal(p.Values(), q.Values())
	})
}

func TestEmpty(t *testing.T) {
	h, err := Empty{}.New(3, nil)
	if err != nil {
		t.Fatal(err)
	}
	x := dense(2, 3, []float32{1, 2, 3, 4, 5, 6})
	p := h.NewPass()
	if y, err := p.Forward(x); err != nil || y != x || len(h.Parameters()) != 0 {
		t.Errorf("Forward gave %v, %v", y, err)
	}
	if dx, err := p.Backward(x, true); err != nil || dx != x {
		t.Errorf("Backward gave %v, %v", dx, err)
	}
	dst := dense(2, 3, make([]float32, 6))
	if err := h.Freeze().Apply(dst, x); err != nil || !slices.Equal(dst.Float32s(), x.Float32s()) {
		t.Errorf("Apply gave %v, %v", dst, err)
	}
}

func TestShapesThatDoNotFit(t *testing.T) {
	rng := newRand(1)
	good, bad := random(rng, 4, 3), random(rng, 4, 5)
	view, err := random(rng, 4, 6).Slice(nil, tensor.S(0, 3))
	if err != nil {
		t.Fatal(err)
	}
	double := tensor.New(tensor.WithShape(4, 3), tensor.WithBacking(make([]float64, 12)))
	for name, c := range heads() {
		h := newHead(t, c, 3)
		p, ok := h.NewPass(), choices(4)
		y := random(rng, 4, h.Out())
		if _, err := p.Backward(y, false); err == nil {
			t.Errorf("%s: Backward before Forward", name)
		}
		for what, x := range map[string]*tensor.Dense{"columns": bad, "a view with gaps": view.(*tensor.Dense), "float64": double, "nil": nil} {
			if _, err := Forward(p, x, ok); err == nil {
				t.Errorf("%s: Forward takes %s", name, what)
			}
			if err := Apply(h.Freeze(), y, x, ok); err == nil {
				t.Errorf("%s: Apply takes %s", name, what)
			}
			if h.Out() != 5 || what != "columns" {
				if err := Apply(h.Freeze(), x, good, ok); err == nil {
					t.Errorf("%s: Apply writes to %s", name, what)
				}
			}
		}
		if err := Apply(h.Freeze(), random(rng, 5, h.Out()), good, ok); err == nil {
			t.Errorf("%s: Apply takes 4 rows for 5", name)
		}
		if _, err := Forward(p, good, ok); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := p.Backward(random(rng, 5, h.Out()), true); err == nil {
			t.Errorf("%s: Backward takes 5 rows for 4", name)
		}
	}
}

func TestOptionsOutOfRange(t *testing.T) {
	one := []int{1}
	configs := append(withDropout(1), withDropout(-0.1)...)
	for _, c := range append(append(configs, withDropout(math.NaN())...),
		SkipConnection{SkipDropout: 1}, SkipConnection{Layers: -1},
		StackedProjection{}, StackedProjection{OutputSizes: []int{3, 0}}, StackedProjection{OutputSizes: []int{1 << 30}},
		StackedProjection{OutputSizes: one, Activation: "softmax"},
		Widening{ExpansionFactor: -1}, Widening{ExpansionFactor: 0.1}, Widening{ExpansionFactor: math.NaN()},
		Widening{ExpansionFactor: math.Inf(1)}, Widening{Activation: "swoosh"},
		SoftmaxEmbeddings{}, SoftmaxEmbeddings{Groups: 1}, SoftmaxEmbeddings{Groups: -1, GroupSize: 2}, SoftmaxEmbeddings{Groups: 1 << 20, GroupSize: 1 << 20},
		Sequential{}, Sequential{Heads: []Config{nil}}, Sequential{Heads: []Config{Empty{}, SkipConnection{Layers: -1}}},
		Switch{}, Switch{Options: map[string]Config{"a": nil}}, Switch{Options: map[string]Config{"a": Gated{Dropout: 2}}},
		Switch{Options: map[string]Config{"a": Empty{}, "b": StackedProjection{OutputSizes: one}}},
		Switch{Options: map[string]Config{"a": Sequential{Heads: []Config{Gated{}}}, "a.0": Gated{}}},
	) {
		if h, err := c.New(3, newRand(1)); err == nil || h != nil {
			t.Errorf("%#v: no error", c)
		}
	}
	for name, c := range heads() {
		if _, err := c.New(0, newRand(1)); err == nil {
			t.Errorf("%s: no error for 0 inputs", name)
		}
	}
}

func TestParse(t *testing.T) {
	all := slices.Collect(maps.Values(heads()))
	for _, c := range append(append(all, withDropout(0.25)...), SkipConnection{Dropout: 0.1, SkipDropout: 0.2, Layers: 3}, Sequential{}, Switch{}) {
		params, err := json.Marshal(c.Params())
		if err != nil {
			t.Fatal(err)
		}
		got, err := Parse(c.Type(), params)
		if err != nil {
			t.Fatal(err)
		}
		if again, _ := json.Marshal(got.Params()); string(again) != string(params) || got.Type() != c.Type() {
			t.Errorf("%s came back as %s", params, again)
		}
		if _, err := Parse(c.Type(), json.RawMessage(`{"unknown":1}`)); err == nil {
			t.Errorf("%s takes an unknown option", c.Type())
		}
	}
	if len(Types()) != 9 {
		t.Errorf("types are %q", Types())
	}
	for _, typ := range Types() {
		if _, err := Parse(typ, nil); err != nil {
			t.Errorf("no params: %v", err)
		}
	}
	if c, err := Parse("empty", nil); err != nil || c != (Empty{}) {
		t.Errorf("no params: %v, %v", c, err)
	}
	for _, c := range []struct{ typ, params, want string }{
		{"gate", "", "known: empty, gated, layer_norm, sequential"},
		{"sequential", `{"heads":[{"type":"gated"},{"type":"gate"}]}`, `head sequential: heads[1]: unknown head type "gate"`},
		{"sequential", `{"heads":[{"type":"gated","dropuot":1}]}`, `heads[0]: head gated: json: unknown field "dropuot"`},
		{"sequential", `{"heads":["gated"]}`, "heads[0]: want a head"},
		{"sequential", `{"heads":[{"dropout":1}]}`, "heads[0]: no type"},
		{"sequential", `{"heads":[{"type":"sequential","heads":[{"type":3}]}]}`, "heads[0]: head sequential: heads[0]: no type"},
		{"switch", `{"options":{"a":{"type":"gate"}}}`, `option "a": unknown head type`},
		{"switch", `{"options":[]}`, "cannot unmarshal array"},
	} {
		if _, err := Parse(c.typ, json.RawMessage(c.params)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %s: %v, want %q", c.typ, c.params, err, c.want)
		}
	}
	if _, err := Parse("gate", nil); !errors.Is(err, ErrType) {
		t.Errorf("unknown type: %v", err)
	}
}

func TestSaveAndLoad(t *testing.T) {
	for name, c := range heads() {
		h := newHead(t, c, 7)
		var b, again bytes.Buffer
		if err := errors.Join(Save(&b, h), Save(&again, h)); err != nil || !bytes.Equal(b.Bytes(), again.Bytes()) {
			t.Fatalf("%s: two files of the same weights differ, %v", name, err)
		}
		got, err := Load(bytes.NewReader(b.Bytes()), c, 7)
		if err != nil || !equalWeights(h, got) {
			t.Errorf("%#v: other weights came back (%v)", c, err)
		}
	}
}

func TestLoadRefuses(t *testing.T) {
	h, err := SkipConnection{}.New(3, newRand(1))
	if err != nil {
		t.Fatal(err)
	}
	saved := func(h Head) io.Reader {
		var b bytes.Buffer
		if err := Save(&b, h); err != nil {
			t.Fatal(err)
		}
		return &b
	}
	two, _ := SkipConnection{Layers: 2}.New(3, newRand(1))
	empty, _ := Empty{}.New(3, nil)
	damaged, _ := SkipConnection{}.New(3, newRand(1))
	damaged.Parameters()[1].Values()[2] = float32(math.NaN())
	for name, c := range map[string]struct {
		r      io.Reader
		config Config
		in     int
		want   string
	}{
		"other dimension": {saved(h), SkipConnection{}, 4, "shape [3] where a head skip_connection for 4 values has (4)"},
		"more layers":     {saved(two), SkipConnection{}, 3, `no weights "fc.1.bias"`},
		"fewer layers":    {saved(h), SkipConnection{Layers: 2}, 3, `weights ["fc.1.bias" "fc.1.weight" "gates.1"]`},
		"other head":      {saved(h), Empty{}, 3, "a head empty has no weights"},
		"nothing in it":   {saved(empty), SkipConnection{}, 3, "are missing"},
		"NaN":             {saved(damaged), SkipConnection{}, 3, `parameter "fc.0.bias" is NaN at value 2`},
		"cut":             {io.LimitReader(saved(h), 200), SkipConnection{}, 3, "ends within"},
		"bad options":     {saved(h), SkipConnection{Dropout: 2}, 3, "dropout"},
		"nested":          {saved(h), Sequential{Heads: []Config{SkipConnection{}}}, 3, `no weights "fc.0.bias"`},
	} {
		if _, err := Load(c.r, c.config, c.in); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
	if _, err := Load(strings.NewReader("no weights"), SkipConnection{}, 3); !errors.Is(err, safetensors.ErrFormat) {
		t.Errorf("another file: %v", err)
	}
}
