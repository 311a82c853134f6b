package head_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"

	"github.com/permafrost-ml/permafrost/pipeline/head"
)

// A head of several, as a config file declares it:
//
//	head:
//	  type: sequential
//	  heads:
//	    - {type: skip_connection, dropout: 0.1}
//	    - {type: stacked_projection, output_sizes: [128, 64], activation_fn: gelu}
func ExampleSequential() {
	c := head.Sequential{Heads: []head.Config{
		head.SkipConnection{Dropout: 0.1},
		head.StackedProjection{OutputSizes: []int{128, 64}, Activation: "gelu"},
	}}
	h, err := c.New(384, rand.New(rand.NewPCG(1, 1)))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(h.In(), "values to", h.Out())
	for _, p := range h.Parameters() {
		fmt.Println(p.Name, p.Value.Shape())
	}
	// Output:
	// 384 values to 64
	// 0.fc.0.weight (384, 384)
	// 0.fc.0.bias (384)
	// 0.gates.0 (384)
	// 1._stack.0.weight (128, 384)
	// 1._stack.0.bias (128)
	// 1._stack.1.weight (64, 128)
	// 1._stack.1.bias (64)
}

func ExampleParse() {
	c, err := head.Parse("widening", json.RawMessage(`{"expansion_factor": 2, "activation_fn": "silu"}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(c.Params())
	// Output:
	// map[activation_fn:silu dropout:0 expansion_factor:2]
}
