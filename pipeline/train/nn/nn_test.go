package nn

import (
	"math"
	"runtime"
	"slices"
	"strings"
	"testing"

	"gorgonia.org/tensor"
)

func TestSigmoids(t *testing.T) {
	got := make([]float32, 3)
	Sigmoids(got, []float32{-4, -1000, 1000})
	if math.Abs(float64(got[0])-0.0179862) > 1e-7 || got[1] != 0 || got[2] != 1 {
		t.Errorf("got %v", got)
	}
}

func TestLogSumExp(t *testing.T) {
	none := float32(math.Inf(-1))
	m := Mat{2, 3, []float32{1000, none, 1000, -1000, 0, none}}
	rows, cols := make([]float32, 2), make([]float32, 3)
	LogSumExpRows(rows, m)
	LogSumExpCols(cols, make([]float64, 3), m)
	for i, want := range []float64{1000 + math.Ln2, 0} {
		if math.Abs(float64(rows[i])-want) > 1e-4 {
			t.Errorf("row %d: %v, want %v", i, rows[i], want)
		}
	}
	for j, want := range []float64{1000, 0, 1000} {
		if math.Abs(float64(cols[j])-want) > 1e-4 {
			t.Errorf("column %d: %v, want %v", j, cols[j], want)
		}
	}
}

// TestThreads: every kernel that is split among threads gives the same bits
// with one as with several.
func TestThreads(t *testing.T) {
	const n, dim = 301, 257
	fill := func(k float64) Mat {
		m := Mat{n, dim, make([]float32, n*dim)}
		for i := range m.Data {
			m.Data[i] = float32(math.Sin(k * float64(i+1)))
		}
		return m
	}
	run := func() [][]float32 {
		x, y, z, l := fill(1.1), fill(1.3), fill(1.7), fill(1.9)
		gate, bias := fill(2.3).Row(0), fill(2.9).Row(0)
		inv, dg, db := make([]float32, n), make([]float32, dim), make([]float32, dim)
		rows, cols := make([]float32, n), make([]float32, dim)
		var sums Sums
		Normalize(y, x, inv)
		NormalizeBackward(z, y, inv)
		GatedAdd(y, x, z, bias, gate)
		GatedAddBackward(x, db, dg, y, z, gate, &sums)
		Add(x, y)
		AddScalar(x, 0.5)
		LogSumExpRows(rows, l)
		LogSumExpCols(cols, make([]float64, dim), l)
		square := Mat{dim, dim, slices.Clone(l.Data[:dim*dim])}
		CrossEntropyBackward(square, rows[:dim], cols, 0.1)
		Gemm(AsIs, Transposed, 1, x, z, 0, Mat{n, n, make([]float32, n*n)})
		out := Mat{dim, dim, make([]float32, dim*dim)}
		Gemm(Transposed, AsIs, 1, x, z, 1, out)
		AdamStep{Keep1: .9, Add1: .1, Keep2: .99, Add2: .01, Rate: .1, Root: .5, Eps: 1e-8}.Apply(y.Data, x.Data, z.Data, slices.Clone(l.Data))
		return [][]float32{x.Data, y.Data, z.Data, inv, dg, db, rows, cols, square.Data, out.Data}
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	want := run()
	for _, threads := range []int{2, 3, 7} {
		runtime.GOMAXPROCS(threads)
		for k, got := range run() {
			if !slices.EqualFunc(got, want[k], func(a, b float32) bool { return math.Float32bits(a) == math.Float32bits(b) }) {
				t.Errorf("result %d differs with %d threads", k, threads)
			}
		}
	}
}

func TestParallelCoversOnce(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(4))
	for _, n := range []int{0, 1, 2, 3, 4, 5, 1000} {
		for _, cost := range []int{0, 1, grain} {
			seen := make([]int32, n)
			Parallel(n, cost, func(lo, hi int) {
				for i := lo; i < hi; i++ {
					seen[i]++
				}
			})
			if slices.ContainsFunc(seen, func(c int32) bool { return c != 1 }) {
				t.Errorf("n=%d, cost=%d: visits %v", n, cost, seen)
			}
		}
	}
}

func TestBufferKeepsItsMemory(t *testing.T) {
	var b Buffer
	m := b.Mat(4, 3)
	d := b.Dense()
	m.Data[5] = 42
	if v, err := View(d); err != nil || v.Row(1)[2] != 42 {
		t.Errorf("matrix and tensor differ: %v, %v", v, err)
	}
	if s := b.Mat(2, 3); &s.Data[0] != &m.Data[0] || b.Dense().Shape()[0] != 2 {
		t.Error("a smaller matrix is in new memory or has the old shape")
	}
	if n := testing.AllocsPerRun(10, func() { b.Mat(2, 3); b.Dense() }); n != 0 {
		t.Errorf("%v allocations for a shape seen before", n)
	}
	b.Mat(100, 3)
	if v, err := View(b.Dense()); err != nil || v.Rows != 100 {
		t.Errorf("after growing: %v rows, %v", v.Rows, err)
	}
}

func TestViewRefuses(t *testing.T) {
	floats := func(shape ...int) *tensor.Dense { return NewParam("", shape...).Value }
	transposed := floats(2, 3)
	if err := transposed.T(); err != nil {
		t.Fatal(err)
	}
	gaps, err := floats(4, 4).Slice(nil, tensor.S(1, 3))
	if err != nil {
		t.Fatal(err)
	}
	for name, d := range map[string]*tensor.Dense{
		"nil":        nil,
		"vector":     floats(3),
		"cube":       floats(2, 2, 2),
		"transposed": transposed,
		"gaps":       gaps.(*tensor.Dense),
		"float64":    tensor.New(tensor.WithShape(1, 2), tensor.WithBacking([]float64{1, 2})),
		"columns":    tensor.New(tensor.WithShape(2, 2), tensor.AsFortran([]float32{1, 2, 3, 4})),
	} {
		if m, err := View(d); err == nil {
			t.Errorf("%s: got %v", name, m)
		}
	}
	rows, err := floats(4, 3).Slice(tensor.S(1, 3))
	if err != nil {
		t.Fatal(err)
	}
	if m, err := View(rows.(*tensor.Dense)); err != nil || m.Rows != 2 || len(m.Data) != 6 {
		t.Errorf("whole rows of a matrix: %v, %v", m, err)
	}
	if m, err := View(floats(1, 1)); err != nil || len(m.Data) != 1 {
		t.Errorf("one value: %v, %v", m, err)
	}
	if _, err := ViewCols(floats(2, 3), 4); err == nil || !strings.Contains(err.Error(), "3 columns where 4") {
		t.Errorf("other columns: %v", err)
	}
}

func TestCheckFinite(t *testing.T) {
	p := NewParam("w", 2, 2)
	if err := CheckFinite([]Param{p}); err != nil {
		t.Error(err)
	}
	p.Values()[3] = float32(math.Inf(1))
	if err := CheckFinite([]Param{p}); err == nil || err.Error() != `parameter "w" is +Inf at value 3` {
		t.Errorf("got %v", err)
	}
}

// TestRewrap uses a tensor again only as what it was.
func TestRewrap(t *testing.T) {
	a := Mat{Rows: 2, Cols: 2, Data: []float32{1, 2, 3, 4}}
	b := Mat{Rows: 2, Cols: 2, Data: []float32{5, 6, 7, 8}}
	x := Wrap(a)
	y := Rewrap(x, b)
	if y != x || !slices.Equal(y.Data().([]float32), b.Data) || &y.Float32s()[3] != &b.Data[3] {
		t.Errorf("%v over other memory than %v", y, b.Data)
	}
	if err := y.T(); err != nil {
		t.Fatal(err)
	}
	for _, z := range []*tensor.Dense{
		Rewrap(y, a), Rewrap(nil, a), Rewrap(Wrap(Mat{Rows: 4, Cols: 1, Data: b.Data}), a), Rewrap(tensor.New(tensor.WithShape(2, 2), tensor.Of(tensor.Float64)), a),
	} {
		if z == y || !slices.Equal(z.Data().([]float32), a.Data) || z.Shape()[0] != 2 || z.Strides()[0] != 2 {
			t.Errorf("%v, want %v", z, a.Data)
		}
	}
	x = Wrap(a)
	if allocs := testing.AllocsPerRun(10, func() { x = Rewrap(x, b) }); allocs > 0 {
		t.Errorf("%v allocations for a tensor used again", allocs)
	}
}
