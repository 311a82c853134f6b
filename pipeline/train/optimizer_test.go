package train_test

import (
	"encoding/json"
	"math"
	"os"
	"testing"

	"github.com/permafrost-ml/permafrost/pipeline/train"
	"github.com/permafrost-ml/permafrost/pipeline/train/nn"
)

func TestAdamEqualsNumPy(t *testing.T) {
	b, err := os.ReadFile("testdata/adam.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		LR, Beta1, Beta2, Eps float64
		First                 []float32
		Grads                 [][]float32
		Steps                 [][]float64
	}
	if err := json.Unmarshal(b, &cases); err != nil || len(cases) != 2 {
		t.Fatalf("%d cases, %v", len(cases), err)
	}
	for _, c := range cases {
		p := nn.NewParam("w", len(c.First))
		copy(p.Values(), c.First)
		s, err := train.Adam{LR: c.LR, Beta1: c.Beta1, Beta2: c.Beta2, Eps: c.Eps}.New([]nn.Param{p})
		if err != nil {
			t.Fatal(err)
		}
		for i, g := range c.Grads {
			copy(p.Grads(), g)
			s.Step()
			for j, want := range c.Steps[i] {
				// A step changes a weight by about LR; float32 rounds the weight itself.
				tolerance := 1e-6*math.Abs(want) + 1e-4*c.LR
				if d := math.Abs(float64(p.Values()[j]) - want); !(d <= tolerance) {
					t.Errorf("LR %v: value %d is %v after step %d, want %v", c.LR, j, p.Values()[j], i, want)
				}
			}
		}
	}
}

func TestAdamRefuses(t *testing.T) {
	for _, a := range []train.Adam{{LR: -1}, {LR: math.NaN()}, {LR: math.Inf(1)}, {Beta1: 1}, {Beta2: -0.5}, {Eps: -1}} {
		if _, err := a.New(nil); err == nil {
			t.Errorf("%+v: no error", a)
		}
	}
}
