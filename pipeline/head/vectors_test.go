package head

import (
	"encoding/json"
	"fmt"
	"os"
	"testing"
)

// TestHeadsEqualPyTorch holds every head, its gradients and its frozen form to
// float64 transcriptions in PyTorch and their autograd, on random and on edge
// inputs (testdata/gen.py).
func TestHeadsEqualPyTorch(t *testing.T) {
	b, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		Head          map[string]json.RawMessage
		Dim           int
		Choices       []string
		Values, Grads map[string][]float64
		C, Y          []float64
	}
	if err := json.Unmarshal(b, &cases); err != nil || len(cases) != 20 {
		t.Fatalf("%d cases, %v", len(cases), err)
	}
	types := map[string]bool{}
	for i, c := range cases {
		var typ string
		if err := json.Unmarshal(c.Head["type"], &typ); err != nil {
			t.Fatal(err)
		}
		types[typ] = true
		t.Run(fmt.Sprint(i, "-", typ), func(t *testing.T) {
			delete(c.Head, "type")
			params, err := json.Marshal(c.Head)
			if err != nil {
				t.Fatal(err)
			}
			config, err := Parse(typ, params)
			if err != nil {
				t.Fatal(err)
			}
			h, err := config.New(c.Dim, newRand(1))
			if err != nil {
				t.Fatal(err)
			}
			if len(h.Parameters()) != len(c.Values)-1 {
				t.Fatalf("%d parameters, want %d", len(h.Parameters()), len(c.Values)-1)
			}
			for _, p := range h.Parameters() {
				if copy(p.Values(), float32s(c.Values[p.Name])) != len(p.Values()) {
					t.Fatalf("no values for %s", p.Name)
				}
			}
			n := len(c.Values["x"]) / c.Dim
			x, dy := dense(n, c.Dim, float32s(c.Values["x"])), dense(n, h.Out(), float32s(c.C))
			frozen := dense(n, h.Out(), make([]float32, n*h.Out()))
			if err := Apply(h.Freeze(), frozen, x, c.Choices); err != nil {
				t.Fatal(err)
			}
			near(t, "frozen y", frozen.Float32s(), c.Y, 1e-6)
			p := h.NewPass()
			for range 2 { // the second with the memory of the first
				for _, p := range h.Parameters() {
					clear(p.Grads())
				}
				y, err := Forward(p, x, c.Choices)
				if err != nil {
					t.Fatal(err)
				}
				near(t, "y", y.Float32s(), c.Y, 1e-6)
				dx, err := p.Backward(dy, true)
				if err != nil {
					t.Fatal(err)
				}
				near(t, "dx", dx.Float32s(), c.Grads["x"], 1e-5)
				for _, p := range h.Parameters() {
					near(t, p.Name, p.Grads(), c.Grads[p.Name], 1e-5)
				}
			}
			// Without the input's gradient the parameters' are the same, and
			// they add up.
			if _, err := Forward(p, x, c.Choices); err != nil {
				t.Fatal(err)
			}
			if dx, err := p.Backward(dy, false); err != nil || dx != nil {
				t.Fatalf("a gradient that nobody wants: %v, %v", dx, err)
			}
			for _, p := range h.Parameters() {
				twice := make([]float64, len(p.Grads()))
				for i, v := range c.Grads[p.Name] {
					twice[i] = 2 * v
				}
				near(t, p.Name, p.Grads(), twice, 1e-5)
			}
		})
	}
	for _, typ := range Types() {
		if !types[typ] {
			t.Errorf("no case of %s", typ)
		}
	}
}
