package loss

import (
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for _, e := range entries() {
		c := e.config
		params, err := json.Marshal(c.Params())
		if err != nil {
			t.Fatal(err)
		}
		full, err := Parse(c.Type(), params)
		if err != nil {
			t.Fatalf("%s does not take its own parameters %s: %v", c.Type(), params, err)
		}
		again, _ := json.Marshal(full.Params())
		zero, err := Parse(c.Type(), nil)
		if err != nil || !reflect.DeepEqual(zero, c) || string(again) != string(params) {
			t.Errorf("%s: %s came back as %s; no params as %v, %v", c.Type(), params, again, zero, err)
		}
		if _, err := Parse(c.Type(), json.RawMessage(`{"unknown":1}`)); err == nil {
			t.Errorf("%s takes an unknown option", c.Type())
		}
	}
	if _, err := Parse("quadruplet", nil); !errors.Is(err, ErrType) {
		t.Errorf("unknown type: %v", err)
	}
	want := []string{"contrastive", "cosent", "info_nce", "matryoshka", "multiple_negatives_ranking", "sum"}
	if got := Types(Pairs); !slices.Equal(got, want) {
		t.Errorf("losses of pairs are %v", got)
	}
}

// TestParseNested: what Params prints of nested losses is read back, and what
// does not belong there is not.
func TestParseNested(t *testing.T) {
	c := Sum{Losses: []Weighted{
		{Loss: Triplet{Mining: MiningAll, XBM: &XBM{Size: 7}}},
		{Weight: 0.5, Loss: Matryoshka{Dims: []int{4, 2}, Weights: []float64{1, 3}, Loss: Softmax{Temperature: 2}}},
	}}
	params, err := json.Marshal(c.Params())
	if err != nil {
		t.Fatal(err)
	}
	back, err := Parse("sum", params)
	if err != nil {
		t.Fatal(err)
	}
	again, _ := json.Marshal(back.Params())
	if string(again) != string(params) || !strings.Contains(string(params), `"size":7,"start":0,"weight":1`) {
		t.Errorf("%s came back as %s", params, again)
	}
	if back.Kind() != Groups || (Matryoshka{Loss: Center{}}).Kind() != Groups {
		t.Error("nested losses of groups are not for groups")
	}
	for params, want := range map[string]string{
		`{"losses":[{"type":"triplet","margn":1}]}`:           `loss triplet: json: unknown field "margn"`,
		`{"losses":[{"weight":1}]}`:                           "no type of a loss is given",
		`{"losses":[{"type":"none"}]}`:                        `unknown loss type "none"`,
		`{"losses":[{"type":"triplet","weight":"x"}]}`:        "weight: json: cannot unmarshal",
		`{"losses":[{"type":"triplet","xbm":{"sise":3}}]}`:    `unknown field "sise"`,
		`{"losses":[3]}`:                                      "cannot unmarshal number",
		`{"losses":[{"type":"sum","losses":[{"type":1}]}]}`:   "no type of a loss is given",
		`{"losses":[{"type":"matryoshka","loss":{"a":1}}]}`:   "no type of a loss is given",
		`{"losses":[{"type":"matryoshka","weight":1,"w":2}]}`: `unknown field "w"`,
	} {
		if _, err := Parse("sum", json.RawMessage(params)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", params, err, want)
		}
	}
}
