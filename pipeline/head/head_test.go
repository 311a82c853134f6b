package head

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"os"
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

func TestSkipConnectionEqualsNumPy(t *testing.T) {
	b, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		Layers        int
		Values, Grads map[string][]float64
		C, Y          []float64
	}
	if err := json.Unmarshal(b, &cases); err != nil || len(cases) != 2 {
		t.Fatalf("%d cases, %v", len(cases), err)
	}
	for _, c := range cases {
		const n, dim = 4, 5
		h, err := SkipConnection{Layers: c.Layers}.New(dim, newRand(1))
		if err != nil {
			t.Fatal(err)
		}
		if len(h.Parameters()) != len(c.Values)-1 {
			t.Fatalf("%d parameters, want %d", len(h.Parameters()), len(c.Values)-1)
		}
		for _, p := range h.Parameters() {
			copy(p.Values(), float32s(c.Values[p.Name]))
		}
		p, x := h.NewPass(), dense(n, dim, float32s(c.Values["x"]))
		y, err := p.Forward(x)
		if err != nil {
			t.Fatal(err)
		}
		near(t, "y", y.Float32s(), c.Y, 1e-6)
		frozen := dense(n, dim, make([]float32, n*dim))
		if err := h.Freeze().Apply(frozen, x); err != nil {
			t.Fatal(err)
		}
		near(t, "frozen y", frozen.Float32s(), c.Y, 1e-6)
		dx, err := p.Backward(dense(n, dim, float32s(c.C)), true)
		if err != nil {
			t.Fatal(err)
		}
		near(t, "dx", dx.Float32s(), c.Grads["x"], 1e-5)
		for _, p := range h.Parameters() {
			near(t, p.Name, p.Grads(), c.Grads[p.Name], 1e-5)
		}
	}
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
	p := h.NewPass().(*skipPass)
	x, c := random(rng, n, dim), random(rng, n, dim)
	y, err := p.Forward(x)
	if err != nil {
		t.Fatal(err)
	}
	masks := [][]float32{p.in.last.Data, p.layers[0].drop.last.Data, p.layers[1].drop.last.Data}
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

func TestDropoutKeepsTheMean(t *testing.T) {
	h, err := SkipConnection{Dropout: 0.3}.New(100, newRand(1))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range h.Parameters() {
		clear(p.Values()) // only the skip is left
	}
	ones := make([]float32, 100*100)
	for i := range ones {
		ones[i] = 1
	}
	p := h.NewPass()
	y, err := p.Forward(dense(100, 100, ones))
	if err != nil {
		t.Fatal(err)
	}
	var sum float64
	zeros := 0
	for _, v := range y.Float32s() {
		sum += float64(v)
		if v == 0 {
			zeros++
		}
	}
	if math.Abs(sum/1e4-1) > 0.03 || math.Abs(float64(zeros)/1e4-0.3) > 0.02 {
		t.Errorf("mean %v, %d of 10000 dropped", sum/1e4, zeros)
	}
	first := slices.Clone(y.Float32s())
	if y, _ = p.Forward(dense(100, 100, ones)); slices.Equal(first, y.Float32s()) {
		t.Error("two passes drop the same values")
	}
}

func TestFirstWeights(t *testing.T) {
	const dim = 64
	h, err := SkipConnection{Layers: 2}.New(dim, newRand(3))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range h.Parameters() {
		low, high := slices.Min(p.Values()), slices.Max(p.Values())
		if strings.HasPrefix(p.Name, "gates.") {
			if low != -4 || high != -4 || len(p.Values()) != dim {
				t.Errorf("%s: %d values from %v to %v", p.Name, len(p.Values()), low, high)
			}
			continue
		}
		if low < -0.125 || high > 0.125 || low > -0.11 || high < 0.11 {
			t.Errorf("%s is from %v to %v, want ±0.125", p.Name, low, high)
		}
	}
	same, _ := SkipConnection{Layers: 2}.New(dim, newRand(3))
	other, _ := SkipConnection{Layers: 2}.New(dim, newRand(4))
	if !equalWeights(h, same) || equalWeights(h, other) {
		t.Error("weights are not decided by the seed")
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
	for _, c := range configs() {
		h, err := c.New(3, newRand(1))
		if err != nil {
			t.Fatal(err)
		}
		p := h.NewPass()
		for name, x := range map[string]*tensor.Dense{"columns": bad, "a view with gaps": view.(*tensor.Dense), "float64": double, "nil": nil} {
			if _, err := p.Forward(x); err == nil {
				t.Errorf("%s: Forward takes %s", c.Type(), name)
			}
			if err := h.Freeze().Apply(good, x); err == nil {
				t.Errorf("%s: Apply takes %s", c.Type(), name)
			}
			if err := h.Freeze().Apply(x, good); err == nil {
				t.Errorf("%s: Apply writes to %s", c.Type(), name)
			}
		}
		if err := h.Freeze().Apply(random(rng, 5, 3), good); err == nil {
			t.Errorf("%s: Apply takes 4 rows for 5", c.Type())
		}
	}
	h, _ := SkipConnection{}.New(3, newRand(1))
	p := h.NewPass()
	if _, err := p.Backward(good, false); err == nil {
		t.Error("Backward before Forward: no error")
	}
}

func TestOptionsOutOfRange(t *testing.T) {
	for _, c := range []SkipConnection{{Dropout: 1}, {Dropout: -0.1}, {Dropout: math.NaN()}, {SkipDropout: 1}, {Layers: -1}} {
		if _, err := c.New(3, newRand(1)); err == nil {
			t.Errorf("%+v: no error", c)
		}
	}
	for _, c := range configs() {
		if _, err := c.New(0, newRand(1)); err == nil {
			t.Errorf("%s: no error for 0 inputs", c.Type())
		}
	}
}

func TestParse(t *testing.T) {
	for _, c := range append(configs(), SkipConnection{Dropout: 0.1, SkipDropout: 0.2, Layers: 3}) {
		params, err := json.Marshal(c.Params())
		if err != nil {
			t.Fatal(err)
		}
		got, err := Parse(c.Type(), params)
		if err != nil {
			t.Fatal(err)
		}
		if again, _ := json.Marshal(got.Params()); string(again) != string(params) {
			t.Errorf("%s came back as %s", params, again)
		}
		if _, err := Parse(c.Type(), json.RawMessage(`{"unknown":1}`)); err == nil {
			t.Errorf("%s takes an unknown option", c.Type())
		}
	}
	if c, err := Parse("empty", nil); err != nil || c != (Empty{}) {
		t.Errorf("no params: %v, %v", c, err)
	}
	if _, err := Parse("gated", nil); !errors.Is(err, ErrType) || !strings.Contains(err.Error(), "empty, skip_connection") {
		t.Errorf("unknown type: %v", err)
	}
}

func TestSaveAndLoad(t *testing.T) {
	for _, c := range []Config{Empty{}, SkipConnection{}, SkipConnection{Layers: 2, Dropout: 0.5}} {
		h, err := c.New(7, newRand(8))
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if err := Save(&b, h); err != nil {
			t.Fatal(err)
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
	} {
		if _, err := Load(c.r, c.config, c.in); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
	if _, err := Load(strings.NewReader("no weights"), SkipConnection{}, 3); !errors.Is(err, safetensors.ErrFormat) {
		t.Errorf("another file: %v", err)
	}
}
