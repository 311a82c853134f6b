package loss

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"gorgonia.org/tensor"
)

func matrix(rows [][]float32) *tensor.Dense {
	return tensor.New(tensor.WithShape(len(rows), len(rows[0])), tensor.WithBacking(slices.Concat(rows...)))
}

// vectors are losses as PyTorch computes them, see testdata/gen.py.
type vectors struct {
	Inputs  map[string][][]float32
	Batches []struct {
		A, B              string
		Labels, Subgroups []int32
		Scores            []float32
		AIDs, BIDs        []int64
	}
	Cases []struct {
		Name, Type string
		Params     json.RawMessage
		Batches    []int
		Weights    map[string]string
		Value      float64
		DA, DB     []float64 // nil: zeros
		Grads      map[string][]float64
	}
}

func load(t *testing.T) (v vectors) {
	t.Helper()
	b, err := os.ReadFile("testdata/vectors.json")
	if err == nil {
		err = json.Unmarshal(b, &v)
	}
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func (v *vectors) batch(i int) *Batch {
	s := v.Batches[i]
	b := &Batch{A: matrix(v.Inputs[s.A]), Labels: s.Labels, Subgroups: s.Subgroups, Scores: s.Scores, AIDs: s.AIDs, BIDs: s.BIDs}
	if s.B != "" {
		b.B = matrix(v.Inputs[s.B])
	}
	return b
}

// close compares a gradient with one of float64: to 1e-5 of its largest value,
// or to 5e-7 where all are small: some digits of float32 in sums of terms up to 1.
func close(t *testing.T, what string, got []float32, want []float64) {
	t.Helper()
	if want == nil {
		want = make([]float64, len(got))
	}
	if len(got) != len(want) {
		t.Fatalf("%s has %d values, want %d", what, len(got), len(want))
	}
	scale := 5e-2
	for _, v := range want {
		scale = max(scale, math.Abs(v))
	}
	for i, v := range want {
		if d := math.Abs(float64(got[i]) - v); !(d <= 1e-5*scale) {
			t.Errorf("%s[%d] is %v, want %v (off by %.2g)", what, i, got[i], v, d/scale)
			return
		}
	}
}

// TestEqualsTorch: every loss, distance and variant, on random and edge
// inputs, has the value and the gradients that autograd gives in float64.
func TestEqualsTorch(t *testing.T) {
	v := load(t)
	tried := map[string]int{}
	for _, c := range v.Cases {
		tried[c.Type]++
		t.Run(c.Type+" "+c.Name+" "+string(c.Params), func(t *testing.T) {
			cfg, err := Parse(c.Type, c.Params)
			if err != nil {
				t.Fatal(err)
			}
			l, err := cfg.New(4, 3, rand.New(rand.NewPCG(1, 2)))
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range l.Parameters() {
				copy(p.Values(), slices.Concat(v.Inputs[c.Weights[p.Name]]...))
			}
			for _, i := range c.Batches[:len(c.Batches)-1] {
				if _, err := l.Compute(v.batch(i), true); err != nil {
					t.Fatal(err)
				}
				for _, p := range l.Parameters() {
					clear(p.Grads())
				}
			}
			last := v.batch(c.Batches[len(c.Batches)-1])
			bare, err := l.Compute(last, false)
			if err != nil || bare.DA != nil || bare.DB != nil {
				t.Fatalf("without gradients: %v, %v", bare, err)
			}
			got, err := l.Compute(last, true)
			if err != nil {
				t.Fatal(err)
			}
			if d := math.Abs(got.Value - c.Value); !(d <= 1e-5*max(1, math.Abs(c.Value))) {
				t.Errorf("the loss is %v, want %v", got.Value, c.Value)
			}
			if len(c.Batches) == 1 && bare.Value != got.Value {
				t.Errorf("the loss is %v without gradients and %v with them", bare.Value, got.Value)
			}
			close(t, "da", got.DA.Float32s(), c.DA)
			if last.B != nil {
				close(t, "db", got.DB.Float32s(), c.DB)
			} else if got.DB != nil {
				t.Error("groups have a gradient by a second side")
			}
			for round := 1; round <= 2; round++ {
				// Gradients of parameters add up until they are cleared.
				for _, p := range l.Parameters() {
					want := slices.Clone(c.Grads[p.Name])
					for i := range want {
						want[i] *= float64(round)
					}
					close(t, p.Name, p.Grads(), want)
				}
				if _, err := l.Compute(last, true); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
	for _, typ := range Types() {
		if tried[typ] == 0 {
			t.Errorf("no vectors for %s", typ)
		}
	}
}
