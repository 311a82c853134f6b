package onnx

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/permafrost-ml/permafrost/encode"
)

// TestBadModels: what is wrong with a model or its options is an error of
// Spec and of Open that names it.
func TestBadModels(t *testing.T) {
	type change func(t *testing.T, dir string)
	remove := func(name string) change {
		return func(t *testing.T, dir string) {
			if err := os.Remove(filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	with := func(name string, fn func([]byte) []byte) change {
		return func(t *testing.T, dir string) { edit(t, filepath.Join(dir, name), fn) }
	}
	text := func(s string) func([]byte) []byte { return func([]byte) []byte { return []byte(s) } }
	for name, tc := range map[string]struct {
		model  string
		change change
		o      Options
		want   string
	}{
		"no directory":      {"nowhere", nil, Options{}, "no such file"},
		"no graph":          {"tiny", remove("model.onnx"), Options{}, "neither model.onnx nor onnx/model.onnx"},
		"no tokenizer":      {"tiny", remove("tokenizer.json"), Options{}, "tokenizer.json"},
		"no weights":        {"external", remove("weights.bin"), Options{}, "weights.bin"},
		"text":              {"tiny", with("model.onnx", text("this is no ONNX model, is it?")), Options{}, "not an ONNX model"},
		"empty":             {"tiny", with("model.onnx", text("")), Options{}, "not an ONNX model"},
		"cut":               {"tiny", with("model.onnx", func(b []byte) []byte { return b[:len(b)/2] }), Options{}, "not an ONNX model"},
		"weights elsewhere": {"external", with("model.onnx", func(b []byte) []byte { return []byte(strings.ReplaceAll(string(b), "weights.bin", "../ghts.bin")) }), Options{}, "outside of its folder"},
		"cut weights":       {"external", with("weights.bin", func(b []byte) []byte { return b[:100] }), Options{}, "out of bounds"},
		"other inputs": {"tiny", with("model.onnx", func(b []byte) []byte {
			return []byte(strings.ReplaceAll(string(b), "attention_mask", "attention_musk"))
		}), Options{}, "attention_musk"},
		"bad config":           {"tiny", with("config.json", text("{")), Options{}, "config.json"},
		"few words":            {"tiny", with("config.json", text(`{"vocab_size": 20}`)), Options{}, "the model 20"},
		"dense":                {"hidden", with("modules.json", replace("models.Normalize", "models.Dense")), Options{}, "Dense"},
		"sqrt pooling":         {"hidden", with("1_Pooling/config.json", replace(`sqrt_len_tokens":false`, `sqrt_len_tokens":true`)), Options{}, "pooling_mode_mean_sqrt_len_tokens"},
		"escaping module":      {"hidden", with("modules.json", replace(`1_Pooling`, `../Pooling`)), Options{}, "../Pooling"},
		"no pooling":           {"hidden", remove("1_Pooling/config.json"), Options{}, `["mean" "max" "cls"]`},
		"pooled already":       {"tiny", nil, Options{Pooling: "mean"}, "pooled already"},
		"pooling none":         {"hidden", nil, Options{Pooling: "none"}, "needs one of"},
		"unknown output":       {"tiny", nil, Options{Output: "pooler_output"}, `no output "pooler_output"`},
		"long":                 {"tiny", nil, Options{MaxLength: 25}, "above the 24 tokens"},
		"long for the graph":   {"fixed", nil, Options{MaxLength: 13}, "above the 12 tokens"},
		"positions of padding": {"roberta", nil, Options{MaxLength: 49}, "above the 48 tokens"},
		"bad padding":          {"roberta", with("config.json", replace(`"pad_token_id": 1`, `"pad_token_id": 49`)), Options{}, "pad_token_id 49"},
		"lowered":              {"roberta", with("sentence_bert_config.json", text(`{"do_lower_case": true}`)), Options{}, "keeps case"},
		"another tokenizer":    {"roberta", with("tokenizer.json", replace(`"BPE"`, `"Unigram"`)), Options{}, `the model "Unigram"`},
		"many values":          {"tiny", nil, Options{TruncateDim: 17}, "more than the 16"},
		"no gpu":               {"tiny", nil, Options{Device: "gpu"}, "device gpu"},
		"unknown pooling":      {"tiny", nil, Options{Pooling: "sum"}, `pooling: unknown value "sum"`},
		"unknown device":       {"tiny", nil, Options{Device: "tpu"}, `device: unknown value "tpu"`},
		"short":                {"tiny", nil, Options{MaxLength: 2}, "max_length: 2"},
		"negative":             {"tiny", nil, Options{Threads: -1}, "threads: -1"},
	} {
		t.Run(name, func(t *testing.T) {
			tc.o.Path = filepath.Join("testdata", tc.model)
			if tc.change != nil {
				tc.o.Path = copyOf(t, tc.model)
				tc.change(t, tc.o.Path)
			}
			enc, err := testModel(t, tc.o).Open(t.Context(), 0)
			if err == nil {
				err = errors.Join(errors.New("it opens"), enc.Close())
			}
			if !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want one with %q", err, tc.want)
			}
		})
	}
	if err := (Options{Pooling: "x", Device: "y"}).Validate(); err == nil || strings.Count(err.Error(), "\n") != 2 {
		t.Errorf("three problems are %v", err)
	}
}

// TestErrorsOfRuns: what the library finds wrong while it runs is an error,
// and the encoder works on.
func TestErrorsOfRuns(t *testing.T) {
	dir := copyOf(t, "tiny")
	// Ten more words than the table has rows.
	edit(t, filepath.Join(dir, "tokenizer.json"), replace(`"[PAD]":0,`, `"[PAD]":0,"zz0":50,"zz1":51,"zz2":52,"zz3":53,"zz4":54,"zz5":55,"zz6":56,"zz7":57,"zz8":58,"zz9":59,`))
	if err := os.Remove(filepath.Join(dir, "config.json")); err != nil {
		t.Fatal(err)
	}
	enc := open(t, testModel(t, Options{Path: dir}))
	want := embed(t, enc, texts("cat"))
	err := enc.Encode(t.Context(), texts("cat", "zz9"), make([]float32, 2*enc.Dim()))
	if err == nil || !strings.Contains(err.Error(), "run of 2 texts") || !strings.Contains(err.Error(), "Gather") {
		t.Errorf("a token that the model has not: %v", err)
	}
	if got := embed(t, enc, texts("cat")); !same(got[0], want[0]) {
		t.Error("after an error the encoder gives something else")
	}
	if err := enc.Encode(t.Context(), texts("cat"), make([]float32, enc.Dim()-1)); err == nil {
		t.Error("too little room is no error")
	}
}

var _ encode.Configured = (*model)(nil)
