package nn_test

import (
	"fmt"

	"gorgonia.org/tensor"

	"github.com/permafrost-ml/permafrost/pipeline/train/nn"
)

// A classifier of two embeddings, by gorgonia's functions. The tensors of a
// batch or of a head have the engine already.
func ExampleEngine() {
	fast := tensor.WithEngine(nn.Engine{})
	x := tensor.New(tensor.WithShape(2, 3), tensor.WithBacking([]float32{1, 0, 2, 0, 1, 1}), fast)
	w := tensor.New(tensor.WithShape(3, 2), tensor.WithBacking([]float32{1, 0, 0, 1, 1, 0}), fast)
	scores, err := tensor.MatMul(x, w)
	if err != nil {
		fmt.Println(err)
		return
	}
	p, err := tensor.SoftMax(scores, 1, tensor.UseUnsafe())
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%.3f\n", p.Data())
	// Output:
	// [0.953 0.047 0.500 0.500]
}
