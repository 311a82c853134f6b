package nn

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/gonum"
	"gorgonia.org/tensor"

	"github.com/permafrost-ml/permafrost/internal/kernels"
)

// What gorgonia asks of an engine before it uses it for an operation.
var (
	_ tensor.Adder       = Engine{}
	_ tensor.Suber       = Engine{}
	_ tensor.Muler       = Engine{}
	_ tensor.Diver       = Engine{}
	_ tensor.FMAer       = Engine{}
	_ tensor.MatMuler    = Engine{}
	_ tensor.MatVecMuler = Engine{}
	_ tensor.InnerProder = Engine{}
	_ tensor.OuterProder = Engine{}
	_ tensor.Dotter      = Engine{}
	_ tensor.Neger       = Engine{}
	_ tensor.Squarer     = Engine{}
	_ tensor.Exper       = Engine{}
	_ tensor.Tanher      = Engine{}
	_ tensor.SoftMaxer   = Engine{}
	_ tensor.Sumer       = Engine{}
	_ tensor.Maxer       = Engine{}
	_ tensor.Miner       = Engine{}
	_ tensor.Argmaxer    = Engine{}
	_ tensor.Mapper      = Engine{}
)

// layouts make a tensor of a shape, each in another form in memory.
var layouts = map[string]func(e tensor.Engine, shape []int, v []float32) *tensor.Dense{
	"rows": func(e tensor.Engine, shape []int, v []float32) *tensor.Dense {
		return tensor.New(tensor.WithShape(shape...), tensor.WithBacking(v), tensor.WithEngine(e))
	},
	"columns": func(e tensor.Engine, shape []int, v []float32) *tensor.Dense {
		return tensor.New(tensor.WithShape(shape...), tensor.AsFortran(slices.Clone(v)), tensor.WithEngine(e))
	},
	"transposed": func(e tensor.Engine, shape []int, v []float32) *tensor.Dense {
		t := tensor.New(tensor.WithShape(shape[1], shape[0]), tensor.WithBacking(turned(shape, v)), tensor.WithEngine(e))
		if err := t.T(); err != nil {
			panic(err)
		}
		return t
	},
	"a view of rows": func(e tensor.Engine, shape []int, v []float32) *tensor.Dense {
		more := append(make([]float32, shape[1]), append(slices.Clone(v), make([]float32, shape[1])...)...)
		t := tensor.New(tensor.WithShape(shape[0]+2, shape[1]), tensor.WithBacking(more), tensor.WithEngine(e))
		return view(t, tensor.S(1, shape[0]+1))
	},
	"a view of columns": func(e tensor.Engine, shape []int, v []float32) *tensor.Dense {
		wide := make([]float32, 0, shape[0]*(shape[1]+3))
		for i := range shape[0] {
			wide = append(append(append(wide, 7), v[i*shape[1]:(i+1)*shape[1]]...), 8, 9)
		}
		t := tensor.New(tensor.WithShape(shape[0], shape[1]+3), tensor.WithBacking(wide), tensor.WithEngine(e))
		return view(t, nil, tensor.S(1, shape[1]+1))
	},
	"masked": func(e tensor.Engine, shape []int, v []float32) *tensor.Dense {
		mask := make([]bool, len(v))
		return tensor.New(tensor.WithShape(shape...), tensor.WithBacking(v, mask), tensor.WithEngine(e))
	},
}

func turned(shape []int, v []float32) []float32 {
	out := make([]float32, len(v))
	Transpose(Mat{shape[1], shape[0], out}, Mat{shape[0], shape[1], v})
	return out
}

func view(t *tensor.Dense, slices ...tensor.Slice) *tensor.Dense {
	v, err := t.Slice(slices...)
	if err != nil {
		panic(err)
	}
	return v.(*tensor.Dense)
}

func random(r *rand.Rand, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(r.NormFloat64())
	}
	return x
}

// all returns a tensor's values in row-major order, whatever its form.
func all(t *testing.T, x tensor.Tensor) []float32 {
	t.Helper()
	if x.IsScalar() {
		return []float32{x.(*tensor.Dense).GetF32(0)}
	}
	var out []float32
	at := make([]int, x.Dims())
	for {
		v, err := x.At(at...)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, v.(float32))
		d := len(at) - 1
		for ; d >= 0; d-- {
			if at[d]++; at[d] < x.Shape()[d] {
				break
			}
			at[d] = 0
		}
		if d < 0 {
			return out
		}
	}
}

func alike(got, want []float32, tolerance float64) bool {
	return slices.EqualFunc(got, want, func(a, b float32) bool {
		d := math.Abs(float64(a) - float64(b))
		return a == b || a != a && b != b || d <= tolerance*math.Max(1, math.Abs(float64(b)))
	})
}

// TestEngineMatMul: every pair of forms gives the bits of a product of plain
// matrices, which is near a float64 one.
func TestEngineMatMul(t *testing.T) {
	UseBLAS(BLAS(0))
	defer UseBLAS(nil)
	r := rand.New(rand.NewPCG(1, 1))
	for _, s := range [][3]int{{1, 1, 1}, {1, 5, 1}, {3, 1, 4}, {1, 3, 7}, {7, 3, 1}, {2, 2, 2}, {17, 31, 13}, {40, 64, 48}} {
		m, k, n := s[0], s[1], s[2]
		a, b := random(r, m*k), random(r, k*n)
		want := make([]float32, m*n)
		kernels.Gemm(false, false, m, n, k, 1, a, k, b, n, 0, want, n, 1)
		for i, v := range want {
			sum := 0.0
			for p := range k {
				sum += float64(a[i/n*k+p]) * float64(b[p*n+i%n])
			}
			if math.Abs(sum-float64(v)) > 1e-4 {
				t.Fatalf("%v: element %d is %v, in float64 %v", s, i, v, sum)
			}
		}
		for nameA, layA := range layouts {
			for nameB, layB := range layouts {
				for nameC, layC := range layouts {
					x, y := layA(Engine{}, []int{m, k}, a), layB(Engine{}, []int{k, n}, b)
					z := layC(Engine{}, []int{m, n}, random(r, m*n))
					// A view of one row or column is a vector; masks are not ours.
					if x.Dims() != 2 || y.Dims() != 2 || z.Dims() != 2 || x.IsMasked() || y.IsMasked() || z.IsMasked() {
						continue
					}
					if err := (Engine{}).MatMul(x, y, z); err != nil {
						t.Fatal(err)
					}
					if got := all(t, z); !slices.Equal(got, want) {
						t.Fatalf("%v: %s · %s into %s is %v, want %v", s, nameA, nameB, nameC, got, want)
					}
					if !slices.Equal(all(t, x), a) || !slices.Equal(all(t, y), b) {
						t.Fatalf("%v: %s · %s changed an operand", s, nameA, nameB)
					}
				}
			}
		}
		x, y := layouts["rows"](Engine{}, []int{m, k}, a), layouts["rows"](tensor.StdEng{}, []int{k, n}, b)
		z, err := x.MatMul(y)
		if err != nil || !slices.Equal(z.Float32s(), want) {
			t.Errorf("%v: by the tensor's method: %v, %v", s, z, err)
		}
		if _, ok := z.Engine().(Engine); !ok {
			t.Errorf("the engine of a product is %T", z.Engine())
		}
	}
}

// TestEngineIsUsed: tensors of this package multiply by this module's
// kernels, whose products have other bits than gonum's.
func TestEngineIsUsed(t *testing.T) {
	UseBLAS(BLAS(0))
	defer UseBLAS(nil)
	r := rand.New(rand.NewPCG(2, 2))
	const m, k, n = 20, 300, 30
	a, b := random(r, m*k), random(r, k*n)
	own, other := make([]float32, m*n), make([]float32, m*n)
	kernels.Gemm(false, false, m, n, k, 1, a, k, b, n, 0, own, n, 1)
	gonum.Implementation{}.Sgemm(blas.NoTrans, blas.NoTrans, m, n, k, 1, a, k, b, n, 0, other, n)
	if slices.Equal(own, other) {
		t.Log("gonum has the same bits, as it may have in the portable profile")
	}
	x, y := Wrap(Mat{m, k, a}), Wrap(Mat{k, n, b})
	for name, product := range map[string]func() (tensor.Tensor, error){
		"tensor.MatMul": func() (tensor.Tensor, error) { return tensor.MatMul(x, y) },
		"tensor.Dot":    func() (tensor.Tensor, error) { return tensor.Dot(x, y) },
		"TensorMul":     func() (tensor.Tensor, error) { return x.TensorMul(y, []int{1}, []int{0}) },
	} {
		got, err := product()
		if err != nil || !slices.Equal(got.Data().([]float32), own) {
			t.Errorf("%s: other bits than the kernels', or %v", name, err)
		}
	}
	c := &counted{Float32: BLAS(1)}
	UseBLAS(c)
	if _, err := x.MatMul(y); err != nil || c.n != 1 {
		t.Errorf("UseBLAS was asked for %d products, %v", c.n, err)
	}
}

func TestEngineVectors(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	for _, s := range [][2]int{{1, 1}, {1, 9}, {9, 1}, {13, 37}, {64, 256}} {
		m, n := s[0], s[1]
		a, v := random(r, m*n), random(r, n)
		want := make([]float32, m)
		for i := range want {
			want[i] = float32(Dot(a[i*n:(i+1)*n], v))
		}
		x := tensor.New(tensor.WithBacking(v), tensor.WithShape(n), withEngine)
		for name, layout := range layouts {
			matrix := layout(Engine{}, s[:], a)
			if matrix.Dims() != 2 || matrix.IsMasked() {
				continue
			}
			y := tensor.New(tensor.WithBacking(random(r, m)), tensor.WithShape(m), withEngine)
			if err := (Engine{}).MatVecMul(matrix, x, y); err != nil || !alike(y.Float32s(), want, 5e-5) {
				t.Errorf("%v, matrix in %s: %v, want %v, %v", s, name, y.Float32s(), want, err)
			}
		}
		w := random(r, n)
		y := tensor.New(tensor.WithBacking(w), tensor.WithShape(n), withEngine)
		inner, err := x.Inner(y)
		if got, ok := inner.(float32); err != nil || !ok || got != float32(Dot(v, w)) {
			t.Errorf("inner product %v, %v", inner, err)
		}
		if n > 1 {
			dot, err := tensor.Dot(x, y)
			if err != nil || !dot.IsScalar() || dot.ScalarValue() != float32(Dot(v, w)) {
				t.Errorf("dot product %v, %v", dot, err)
			}
		}
	}
}

// op is an operation by values, on tensors and in float64.
type op struct {
	name  string
	run   func(a, b *tensor.Dense, opts ...tensor.FuncOpt) (tensor.Tensor, error)
	exact func(a, b float64) float64
}

var ops = []op{
	{"add", func(a, b *tensor.Dense, o ...tensor.FuncOpt) (tensor.Tensor, error) { return tensor.Add(a, b, o...) }, func(a, b float64) float64 { return a + b }},
	{"sub", func(a, b *tensor.Dense, o ...tensor.FuncOpt) (tensor.Tensor, error) { return tensor.Sub(a, b, o...) }, func(a, b float64) float64 { return a - b }},
	{"mul", func(a, b *tensor.Dense, o ...tensor.FuncOpt) (tensor.Tensor, error) { return tensor.Mul(a, b, o...) }, func(a, b float64) float64 { return a * b }},
	{"div", func(a, b *tensor.Dense, o ...tensor.FuncOpt) (tensor.Tensor, error) { return tensor.Div(a, b, o...) }, func(a, b float64) float64 { return a / b }},
	{"add number", func(a, _ *tensor.Dense, o ...tensor.FuncOpt) (tensor.Tensor, error) {
		return tensor.Add(a, float32(1.5), o...)
	}, func(a, _ float64) float64 { return a + 1.5 }},
	{"add scalar tensor", func(a, _ *tensor.Dense, o ...tensor.FuncOpt) (tensor.Tensor, error) {
		return tensor.Add(a, tensor.New(tensor.FromScalar(float32(1.5))), o...)
	}, func(a, _ float64) float64 { return a + 1.5 }},
	{"sub number", func(a, _ *tensor.Dense, o ...tensor.FuncOpt) (tensor.Tensor, error) {
		return tensor.Sub(a, float32(1.5), o...)
	}, func(a, _ float64) float64 { return a - 1.5 }},
	{"mul number", func(a, _ *tensor.Dense, o ...tensor.FuncOpt) (tensor.Tensor, error) {
		return tensor.Mul(a, float32(1.5), o...)
	}, func(a, _ float64) float64 { return a * 1.5 }},
	{"neg", func(a, _ *tensor.Dense, o ...tensor.FuncOpt) (tensor.Tensor, error) { return tensor.Neg(a, o...) }, func(a, _ float64) float64 { return -a }},
	{"square", func(a, _ *tensor.Dense, o ...tensor.FuncOpt) (tensor.Tensor, error) { return tensor.Square(a, o...) }, func(a, _ float64) float64 { return a * a }},
	{"exp", func(a, _ *tensor.Dense, o ...tensor.FuncOpt) (tensor.Tensor, error) { return tensor.Exp(a, o...) }, func(a, _ float64) float64 { return math.Exp(a) }},
	{"tanh", func(a, _ *tensor.Dense, o ...tensor.FuncOpt) (tensor.Tensor, error) { return tensor.Tanh(a, o...) }, func(a, _ float64) float64 { return math.Tanh(a) }},
	{"abs", func(a, _ *tensor.Dense, o ...tensor.FuncOpt) (tensor.Tensor, error) { return tensor.Abs(a, o...) }, func(a, _ float64) float64 { return math.Abs(a) }},
}

// fromNumber is not part of ops: with a result tensor the standard engine,
// which other forms of tensors fall back to, does not do it right.
func TestEngineSubtractsFromNumber(t *testing.T) {
	v := []float32{1, -2, 3, 0, 5, 6, 7}
	a := tensor.New(tensor.WithShape(7), tensor.WithBacking(slices.Clone(v)), withEngine)
	out := tensor.New(tensor.WithShape(7), tensor.WithBacking([]float32{1, 1, 1, 1, 1, 1, 1}), withEngine)
	for name, c := range map[string]struct {
		opt  tensor.FuncOpt
		want []float32
	}{
		"new":   {tensor.UseSafe(), []float32{0.5, 3.5, -1.5, 1.5, -3.5, -4.5, -5.5}},
		"reuse": {tensor.WithReuse(out), []float32{0.5, 3.5, -1.5, 1.5, -3.5, -4.5, -5.5}},
	} {
		got, err := tensor.Sub(float32(1.5), a, c.opt)
		if err != nil || !slices.Equal(got.Data().([]float32), c.want) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	if !slices.Equal(a.Float32s(), v) {
		t.Errorf("the operand is now %v", a)
	}
}

// TestEngineValues: every operation, form of operands and option gives what
// float64 does, where it should.
func TestEngineValues(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 4))
	for _, shape := range [][]int{{2, 3}, {5, 7}, {13, 101}, {3, 700}} {
		n := shape[0] * shape[1]
		a, b, before := random(r, n), random(r, n), random(r, n)
		for _, op := range ops {
			want, sum := make([]float32, n), make([]float32, n)
			for i := range want {
				v := op.exact(float64(a[i]), float64(b[i]))
				want[i], sum[i] = float32(v), float32(float64(before[i])+v)
			}
			for nameA, layA := range layouts {
				for nameB, layB := range layouts {
					fresh := func() (x, y *tensor.Dense) {
						return layA(Engine{}, shape, slices.Clone(a)), layB(Engine{}, shape, slices.Clone(b))
					}
					check := func(how string, x, y *tensor.Dense, got tensor.Tensor, err error, same tensor.Tensor, want []float32) {
						t.Helper()
						if err != nil {
							t.Fatalf("%s of %s and %s, %s: %v", op.name, nameA, nameB, how, err)
						}
						if v := all(t, got); !alike(v, want, 3e-6) {
							t.Fatalf("%s of %v, %s and %s, %s: %v, want %v", op.name, shape, nameA, nameB, how, v, want)
						}
						if same != nil && got != same {
							t.Fatalf("%s of %s and %s, %s: another tensor", op.name, nameA, nameB, how)
						}
						if got != tensor.Tensor(x) && !slices.Equal(all(t, x), a) || got != tensor.Tensor(y) && !slices.Equal(all(t, y), b) {
							t.Fatalf("%s of %s and %s, %s changed an operand", op.name, nameA, nameB, how)
						}
					}
					x, y := fresh()
					got, err := op.run(x, y)
					check("new", x, y, got, err, nil, want)
					if nameA != "rows" || nameB != "rows" {
						continue
					}
					// The standard engine has faults of its own with options
					// and other forms; those below are ours.
					x, y = fresh()
					got, err = op.run(x, y, tensor.UseUnsafe())
					check("in place", x, y, got, err, x, want)
					x, y = fresh()
					out := layouts["rows"](Engine{}, shape, slices.Clone(before))
					got, err = op.run(x, y, tensor.WithReuse(out))
					check("reuse", x, y, got, err, out, want)
					out = layouts["rows"](Engine{}, []int{n}, slices.Clone(before))
					got, err = op.run(x, y, tensor.WithReuse(out))
					check("reuse of another shape", x, y, got, err, out, want)
					if !out.Shape().Eq(tensor.Shape(shape)) {
						t.Fatalf("the shape of a reused tensor is %v", out.Shape())
					}
					x, y = fresh()
					got, err = op.run(x, y, tensor.WithReuse(x))
					check("reuse of the first", x, y, got, err, x, want)
					if op.name != "div" { // the standard engine's overwrites too soon
						x, y = fresh()
						got, err = op.run(x, y, tensor.WithReuse(y))
						check("reuse of the second", x, y, got, err, y, want)
					}
					x, y = fresh()
					out = layouts["rows"](Engine{}, shape, slices.Clone(before))
					got, err = op.run(x, y, tensor.WithIncr(out))
					check("increment", x, y, got, err, out, sum)
				}
			}
		}
	}
}

// TestEngineOtherTypes: what is not ours is the standard engine's.
func TestEngineOtherTypes(t *testing.T) {
	a := tensor.New(tensor.WithShape(2, 2), tensor.WithBacking([]float64{1, 2, 3, 4}), withEngine)
	for name, f := range map[string]func() (tensor.Tensor, error){
		"[7 10 15 22]": func() (tensor.Tensor, error) { return tensor.MatMul(a, a) },
		"[2 4 6 8]":    func() (tensor.Tensor, error) { return tensor.Add(a, a) },
		"[3 4 5 6]":    func() (tensor.Tensor, error) { return tensor.Add(a, 2.0) },
		"10":           func() (tensor.Tensor, error) { return tensor.Sum(a) },
		"[3 7]":        func() (tensor.Tensor, error) { return tensor.Sum(a, 1) },
		"4":            func() (tensor.Tensor, error) { return Engine{}.Max(a) },
	} {
		got, err := f()
		if err != nil || fmt.Sprint(got.Data()) != name {
			t.Errorf("got %v, %v, want %s", got, err, name)
		}
	}
	b := tensor.New(tensor.WithShape(2, 2), tensor.WithBacking([]float32{1, 2, 3, 4}), withEngine)
	c := tensor.New(tensor.WithShape(3), tensor.WithBacking([]float32{1, 2, 3}), withEngine)
	for name, f := range map[string]func() (tensor.Tensor, error){
		"types":    func() (tensor.Tensor, error) { return tensor.Add(a, b) },
		"shapes":   func() (tensor.Tensor, error) { return tensor.Add(b, c) },
		"number":   func() (tensor.Tensor, error) { return tensor.Add(b, 2.0) },
		"reuse":    func() (tensor.Tensor, error) { return tensor.Add(b, b, tensor.WithReuse(c)) },
		"products": func() (tensor.Tensor, error) { return tensor.MatMul(b, c) },
		"axis":     func() (tensor.Tensor, error) { return tensor.Sum(b, 2) },
		"softmax":  func() (tensor.Tensor, error) { return tensor.SoftMaxB(b, c, 0) },
	} {
		if got, err := f(); err == nil {
			t.Errorf("%s that do not fit give %v", name, got)
		}
	}
}

func TestEngineFMA(t *testing.T) {
	a := Wrap(Mat{2, 2, []float32{1, 2, 3, 4}})
	y := Wrap(Mat{2, 2, []float32{1, 1, 1, 1}})
	got, err := tensor.FMA(a, float32(2), y)
	if err != nil || got != tensor.Tensor(y) || !slices.Equal(y.Float32s(), []float32{3, 5, 7, 9}) {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := tensor.FMA(a, a, y); err != nil || !slices.Equal(y.Float32s(), []float32{4, 9, 16, 25}) {
		t.Errorf("got %v, %v", y, err)
	}
}

// TestEngineSoftMax: against float64, with rows as far apart as float32
// allows.
func TestEngineSoftMax(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 5))
	for _, shape := range [][]int{{1}, {300}, {2, 3}, {7, 301}, {2, 3, 5}} {
		n, width := tensor.Shape(shape).TotalSize(), shape[len(shape)-1]
		x, g := random(r, n), random(r, n)
		for i := range x {
			x[i] = x[i]*3 + float32(i/width)*100 - 150
		}
		soft, log, softB, logB := make([]float32, n), make([]float32, n), make([]float32, n), make([]float32, n)
		for from := 0; from < n; from += width {
			top, sum, gSum, along := math.Inf(-1), 0.0, 0.0, 0.0
			for i := from; i < from+width; i++ {
				top = math.Max(top, float64(x[i]))
			}
			for i := from; i < from+width; i++ {
				sum += math.Exp(float64(x[i]) - top)
				gSum += float64(g[i])
			}
			for i := from; i < from+width; i++ {
				p := math.Exp(float64(x[i])-top) / sum
				soft[i], log[i] = float32(p), float32(float64(x[i])-top-math.Log(sum))
				along += p * float64(g[i])
			}
			for i := from; i < from+width; i++ {
				softB[i] = float32(float64(soft[i]) * (float64(g[i]) - along))
				logB[i] = float32(float64(g[i]) - float64(soft[i])*gSum)
			}
		}
		wrap := func(v []float32) *tensor.Dense {
			return tensor.New(tensor.WithShape(shape...), tensor.WithBacking(slices.Clone(v)), withEngine)
		}
		for name, c := range map[string]struct {
			first, second []float32
			run           func(a, b *tensor.Dense, opts ...tensor.FuncOpt) (tensor.Tensor, error)
			want          []float32
		}{
			"softmax": {x, g, func(a, _ *tensor.Dense, o ...tensor.FuncOpt) (tensor.Tensor, error) {
				return tensor.SoftMax(a, -1, o...)
			}, soft},
			"log": {x, g, func(a, _ *tensor.Dense, o ...tensor.FuncOpt) (tensor.Tensor, error) {
				return tensor.LogSoftMax(a, len(shape)-1, o...)
			}, log},
			"gradient": {soft, g, func(a, b *tensor.Dense, o ...tensor.FuncOpt) (tensor.Tensor, error) {
				return tensor.SoftMaxB(a, b, -1, o...)
			}, softB},
			"log's gradient": {log, g, func(a, b *tensor.Dense, o ...tensor.FuncOpt) (tensor.Tensor, error) {
				return tensor.LogSoftMaxB(a, b, -1, o...)
			}, logB},
		} {
			check := func(how string, got tensor.Tensor, err error, same tensor.Tensor) {
				t.Helper()
				if err != nil || !alike(got.(*tensor.Dense).Float32s(), c.want, 3e-6) || !got.Shape().Eq(tensor.Shape(shape)) || same != nil && got != same {
					t.Fatalf("%s of %v, %s: %v, want %v, %v", name, shape, how, got, c.want, err)
				}
			}
			a, b, out := wrap(c.first), wrap(c.second), wrap(c.second)
			got, err := c.run(a, b)
			check("new", got, err, nil)
			got, err = c.run(a, b, tensor.WithReuse(out))
			check("reuse", got, err, out)
			got, err = c.run(a, b, tensor.WithReuse(b))
			check("reuse of the second", got, err, b)
			got, err = c.run(a, wrap(c.second), tensor.UseUnsafe())
			check("in place", got, err, a)
		}
	}
	// Another axis is the standard engine's.
	got, err := tensor.SoftMax(Wrap(Mat{2, 2, []float32{1, 5, 1, 5}}), 0)
	if err != nil || !alike(got.Data().([]float32), []float32{0.5, 0.5, 0.5, 0.5}, 1e-6) {
		t.Errorf("over the first axis: %v, %v", got, err)
	}
}

func TestEngineReductions(t *testing.T) {
	r := rand.New(rand.NewPCG(6, 6))
	for _, shape := range [][]int{{1}, {9}, {3, 4}, {33, 65}, {2, 3, 5}} {
		v := random(r, tensor.Shape(shape).TotalSize())
		for i := range v {
			v[i] -= 10
		}
		x := tensor.New(tensor.WithShape(shape...), tensor.WithBacking(v), withEngine)
		width := shape[len(shape)-1]
		rows, cols := len(v)/width, len(v)/shape[0]
		sum, top := 0.0, float32(math.Inf(-1))
		rowSums, rowTops, firstSums := make([]float32, rows), make([]float32, rows), make([]float64, cols)
		for i, f := range v {
			if i%width == 0 {
				rowTops[i/width] = f
			}
			sum += float64(f)
			top = max(top, f)
			firstSums[i%cols] += float64(f)
			rowTops[i/width] = max(rowTops[i/width], f)
		}
		for i := range rowSums {
			rowSums[i] = float32(kernels.Sum(v[i*width : (i+1)*width]))
		}
		firsts := make([]float32, cols)
		for i, f := range firstSums {
			firsts[i] = float32(f)
		}
		check := func(what string, got tensor.Tensor, err error, want ...float32) {
			t.Helper()
			if err != nil || !alike(all(t, got), want, 1e-5) {
				t.Fatalf("%s of %v: %v, want %v, %v", what, shape, got, want, err)
			}
		}
		got, err := tensor.Sum(x)
		check("sum", got, err, float32(sum))
		max0, err := x.Max()
		check("maximum", max0, err, top)
		if len(shape) == 1 {
			continue
		}
		got, err = tensor.Sum(x, len(shape)-1)
		check("row sums", got, err, rowSums...)
		if !got.Shape().Eq(tensor.Shape(shape[:len(shape)-1])) {
			t.Errorf("row sums of %v have shape %v", shape, got.Shape())
		}
		got, err = tensor.Sum(x, 0)
		check("sum over the first axis", got, err, firsts...)
		max0, err = x.Max(len(shape) - 1)
		check("row maxima", max0, err, rowTops...)
	}
	x := Wrap(Mat{1, 3, []float32{1, float32(math.NaN()), 2}})
	if got, err := x.Max(1); err != nil || got.Float32s()[0] == got.Float32s()[0] {
		t.Errorf("the maximum with NaN is %v, %v", got, err)
	}
}

// TestEngineAllocates: operations with a tensor for the result, and options
// made once, allocate nothing.
func TestEngineAllocates(t *testing.T) {
	if raceOn {
		t.Skip("the race detector allocates")
	}
	r := rand.New(rand.NewPCG(7, 7))
	const n = 64
	make2 := func(e tensor.Engine) (a, b, c *tensor.Dense) {
		return layouts["rows"](e, []int{n, n}, random(r, n*n)), layouts["rows"](e, []int{n, n}, random(r, n*n)),
			layouts["rows"](e, []int{n, n}, random(r, n*n))
	}
	counts := func(e tensor.Engine) map[string]float64 {
		a, b, c := make2(e)
		reuse, incr, inPlace := []tensor.FuncOpt{tensor.WithReuse(c)}, []tensor.FuncOpt{tensor.WithIncr(c)}, []tensor.FuncOpt{tensor.UseUnsafe()}
		out := map[string]float64{}
		for name, f := range map[string]func() (tensor.Tensor, error){
			"product":           func() (tensor.Tensor, error) { return c, e.(tensor.MatMuler).MatMul(a, b, c) },
			"matmul":            func() (tensor.Tensor, error) { return tensor.MatMul(a, b, reuse...) },
			"add":               func() (tensor.Tensor, error) { return tensor.Add(a, b, reuse...) },
			"add, increment":    func() (tensor.Tensor, error) { return tensor.Add(a, b, incr...) },
			"mul, in place":     func() (tensor.Tensor, error) { return tensor.Mul(a, b, inPlace...) },
			"exp":               func() (tensor.Tensor, error) { return tensor.Exp(a, reuse...) },
			"softmax":           func() (tensor.Tensor, error) { return tensor.SoftMax(a, 1, reuse...) },
			"softmax, gradient": func() (tensor.Tensor, error) { return tensor.SoftMaxB(a, b, 1, reuse...) },
			"fma":               func() (tensor.Tensor, error) { return tensor.FMA(a, float32(0), c) },
			"add, new options":  func() (tensor.Tensor, error) { return tensor.Add(a, b, tensor.WithReuse(c)) },
			"sum":               func() (tensor.Tensor, error) { return tensor.Sum(a) },
			"row sums":          func() (tensor.Tensor, error) { return tensor.Sum(a, 1) },
			"add, new result":   func() (tensor.Tensor, error) { return tensor.Add(a, b) },
		} {
			if _, err := f(); err != nil {
				t.Fatal(name, err)
			}
			out[name] = testing.AllocsPerRun(100, func() { f() })
		}
		return out
	}
	own, standard := counts(Engine{}), counts(tensor.StdEng{})
	for name, got := range own {
		t.Logf("%s: %v allocations, the standard engine %v", name, got, standard[name])
		switch name {
		case "matmul", "add, new options", "sum", "row sums", "add, new result":
			// Gorgonia's own, around what the engine does.
			if got > standard[name] {
				t.Errorf("%s: %v allocations, the standard engine has %v", name, got, standard[name])
			}
		default:
			if got > 0 {
				t.Errorf("%s: %v allocations", name, got)
			}
		}
	}
}
