package train_test

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"strings"
	"testing"

	"github.com/permafrost-ml/permafrost/pipeline/train"
	"github.com/permafrost-ml/permafrost/pipeline/train/nn"
)

// vectors are what testdata/gen.py writes.
type vectors struct {
	First []float32
	Grads [][]float32
	Cases []struct {
		Type           string
		Options        json.RawMessage
		Clip           float64
		Schedule       string
		WarmupSteps    int     `json:"warmup_steps"`
		WarmupFraction float64 `json:"warmup_fraction"`
		Rates, Norms   []float64
		Steps          [][]float64
	}
}

// TestStepsEqualTorch: optimizers, schedules and clipping give PyTorch's
// weights, also where an optimizer is replaced by a new one with its state.
func TestStepsEqualTorch(t *testing.T) {
	b, err := os.ReadFile("testdata/optimizers.json")
	if err != nil {
		t.Fatal(err)
	}
	var v vectors
	if err := json.Unmarshal(b, &v); err != nil || len(v.Cases) < 10 {
		t.Fatalf("%d cases, %v", len(v.Cases), err)
	}
	for _, c := range v.Cases {
		name := fmt.Sprintf("%s %s clip %v %s %d %v", c.Type, c.Options, c.Clip, c.Schedule, c.WarmupSteps, c.WarmupFraction)
		o, err := train.ParseOptimizer(c.Type, c.Options)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var plan train.Schedule = train.Constant{}
		if c.Schedule != "" {
			params := fmt.Appendf(nil, `{"warmup_steps":%d,"warmup_fraction":%v}`, c.WarmupSteps, c.WarmupFraction)
			if plan, err = train.ParseSchedule(c.Schedule, params); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		params := []nn.Param{nn.NewParam("w", 2, 2), nn.NewParam("b", 2)}
		copy(params[0].Values(), v.First[:4])
		copy(params[1].Values(), v.First[4:])
		s, err := o.New(params)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for i, g := range v.Grads {
			copy(params[0].Grads(), g[:4])
			copy(params[1].Grads(), g[4:])
			norm := nn.GradNorm(params)
			if d := math.Abs(norm - c.Norms[i]); d > 1e-9*c.Norms[i] {
				t.Errorf("%s: the gradients' norm is %v at step %d, want %v", name, norm, i, c.Norms[i])
			}
			nn.ClipGrads(params, norm, c.Clip)
			rate := o.Rate() * plan.Factor(int64(i), func() int64 { return int64(len(v.Grads)) })
			if d := math.Abs(rate - c.Rates[i]); d > 1e-12*o.Rate() {
				t.Errorf("%s: the rate of step %d is %v, want %v", name, i, rate, c.Rates[i])
			}
			s.Step(rate)
			for j, want := range c.Steps[i] {
				got := params[0].Values()
				k := j
				if j >= 4 {
					got, k = params[1].Values(), j-4
				}
				// A step changes a weight by about the rate; float32 rounds the weight itself.
				tolerance := 1e-6*max(math.Abs(want), 0.01) + 1e-4*o.Rate()
				if d := math.Abs(float64(got[k]) - want); !(d <= tolerance) {
					t.Errorf("%s: value %d is %v after step %d, want %v", name, j, got[k], i, want)
				}
			}
			if i == 4 {
				s = handOver(t, o, s, params)
			}
		}
	}
}

// handOver replaces an optimizer by a new one with its state.
func handOver(t *testing.T, o train.Optimizer, old train.Stepper, params []nn.Param) train.Stepper {
	t.Helper()
	s, err := o.New(params)
	if err != nil {
		t.Fatal(err)
	}
	s.State().Steps = old.State().Steps
	for i, m := range old.State().Moments {
		for k := range m.Values {
			copy(s.State().Moments[i].Values[k], m.Values[k])
		}
	}
	return s
}

func TestOptimizersRefuse(t *testing.T) {
	minus := -0.1
	for _, o := range []train.Optimizer{
		train.Adam{LR: -1},
		train.Adam{LR: math.NaN()},
		train.Adam{LR: math.Inf(1)},
		train.Adam{Beta1: 1},
		train.Adam{Beta2: -0.5},
		train.Adam{Eps: -1},
		train.AdamW{LR: -1},
		train.AdamW{WeightDecay: &minus},
		train.SGD{LR: -1},
		train.SGD{Momentum: 1},
		train.SGD{Nesterov: true},
		train.SGD{WeightDecay: math.Inf(1)},
	} {
		if _, err := o.New(nil); err == nil {
			t.Errorf("%+v: no error", o)
		}
	}
}

// TestParse: what Params prints is taken back, and nothing that is unknown.
func TestParse(t *testing.T) {
	decay := 0.25
	for _, want := range []train.Optimizer{
		train.Adam{LR: 0.1, Beta1: 0.5, Beta2: 0.75, Eps: 1e-3},
		train.AdamW{LR: 0.1, Beta1: 0.5, Beta2: 0.75, Eps: 1e-3, WeightDecay: &decay},
		train.SGD{LR: 0.1, Momentum: 0.5, Nesterov: true, WeightDecay: 0.1},
	} {
		params, err := json.Marshal(want.Params())
		if err != nil {
			t.Fatal(err)
		}
		got, err := train.ParseOptimizer(want.Type(), params)
		if err != nil {
			t.Fatalf("%s: %v", want.Type(), err)
		}
		if back, _ := json.Marshal(got.Params()); string(back) != string(params) {
			t.Errorf("%s came back as %s", params, back)
		}
		for _, params := range []string{`{"learning_rate":1}`, `{}{}`, `[`} {
			if _, err := train.ParseOptimizer(want.Type(), json.RawMessage(params)); err == nil {
				t.Errorf("%s with params %s: no error", want.Type(), params)
			}
		}
	}
	if got, err := train.ParseOptimizer("adam", nil); err != nil || got != (train.Adam{}) {
		t.Errorf("no params: %v, %v", got, err)
	}
	if _, err := train.ParseOptimizer("rmsprop", nil); err == nil || !strings.Contains(err.Error(), `"rmsprop" (known: adam, adamw, sgd)`) {
		t.Errorf("unknown type: %v", err)
	}
	want := train.Linear{Warmup: train.Warmup{Steps: 7}}
	params, err := json.Marshal(want.Params())
	if err != nil {
		t.Fatal(err)
	}
	if got, err := train.ParseSchedule("linear", params); err != nil || got != want {
		t.Errorf("%s came back as %v, %v", params, got, err)
	}
	for params, want := range map[string]string{
		`{"warmup_steps":-1}`:                        "warmup_steps is -1",
		`{"warmup_fraction":1.5}`:                    "warmup_fraction is 1.5",
		`{"warmup_steps":1,"warmup_fraction":0.125}`: "exclude each other",
		`{"cycles":1}`:                               "unknown field",
	} {
		if _, err := train.ParseSchedule("cosine", json.RawMessage(params)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("params %s: %v, want %s", params, err, want)
		}
	}
	if _, err := train.ParseSchedule("step", nil); err == nil || !strings.Contains(err.Error(), `"step" (known: constant, cosine, linear)`) {
		t.Errorf("unknown schedule: %v", err)
	}
}
