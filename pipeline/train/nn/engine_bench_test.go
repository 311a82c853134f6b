package nn

import (
	"math/rand/v2"
	"testing"

	"gorgonia.org/tensor"
)

// BenchmarkEngine compares tensor operations on 256 x 384 values with the
// standard engine's.
func BenchmarkEngine(b *testing.B) {
	const rows, cols = 256, 384
	r := rand.New(rand.NewPCG(1, 1))
	for _, e := range []struct {
		name string
		tensor.Engine
	}{{"own", Engine{Workers: 1}}, {"standard", tensor.StdEng{}}} {
		wrap := func(rows, cols int) *tensor.Dense {
			return tensor.New(tensor.WithShape(rows, cols), tensor.WithBacking(random(r, rows*cols)), tensor.WithEngine(e.Engine))
		}
		x, y, out := wrap(rows, cols), wrap(rows, cols), wrap(rows, cols)
		w, row := wrap(cols, cols), tensor.New(tensor.WithShape(cols), tensor.WithBacking(random(r, cols)), tensor.WithEngine(e.Engine))
		vec := tensor.New(tensor.WithShape(rows), tensor.WithBacking(random(r, rows)), tensor.WithEngine(e.Engine))
		reuse, reuseVec := []tensor.FuncOpt{tensor.WithReuse(out)}, []tensor.FuncOpt{tensor.WithReuse(vec)}
		for _, op := range []struct {
			name string
			run  func() (tensor.Tensor, error)
		}{
			{"matmul", func() (tensor.Tensor, error) { return tensor.MatMul(x, w, reuse...) }},
			{"matvecmul", func() (tensor.Tensor, error) { return tensor.MatVecMul(x, row, reuseVec...) }},
			{"add", func() (tensor.Tensor, error) { return tensor.Add(x, y, reuse...) }},
			{"mul", func() (tensor.Tensor, error) { return tensor.Mul(x, y, reuse...) }},
			{"mulnumber", func() (tensor.Tensor, error) { return tensor.Mul(x, float32(0.5), reuse...) }},
			{"exp", func() (tensor.Tensor, error) { return tensor.Exp(x, reuse...) }},
			{"tanh", func() (tensor.Tensor, error) { return tensor.Tanh(x, reuse...) }},
			{"softmax", func() (tensor.Tensor, error) { return tensor.SoftMax(x, 1, reuse...) }},
			{"sum", func() (tensor.Tensor, error) { return tensor.Sum(x) }},
			{"rowsums", func() (tensor.Tensor, error) { return tensor.Sum(x, 1) }},
		} {
			b.Run(op.name+"/"+e.name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, err := op.run(); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
