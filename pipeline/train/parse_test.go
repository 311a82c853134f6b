package train_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/permafrost-ml/permafrost/pipeline/train"
)

func TestParseOptimizer(t *testing.T) {
	want := train.Adam{LR: 0.1, Beta1: 0.5, Beta2: 0.75, Eps: 1e-3}
	params, err := json.Marshal(want.Params())
	if err != nil {
		t.Fatal(err)
	}
	if got, err := train.ParseOptimizer("adam", params); err != nil || got != want {
		t.Errorf("%s came back as %v, %v", params, got, err)
	}
	if got, err := train.ParseOptimizer("adam", nil); err != nil || got != (train.Adam{}) {
		t.Errorf("no params: %v, %v", got, err)
	}
	for _, params := range []string{`{"learning_rate":1}`, `{}{}`, `[`} {
		if _, err := train.ParseOptimizer("adam", json.RawMessage(params)); err == nil {
			t.Errorf("params %s: no error", params)
		}
	}
	if _, err := train.ParseOptimizer("sgd", nil); err == nil || !strings.Contains(err.Error(), `"sgd" (known: adam)`) {
		t.Errorf("unknown type: %v", err)
	}
}
