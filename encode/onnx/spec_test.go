package onnx

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/permafrost-ml/permafrost/encode"
)

// fields are a spec's fields by name, without the library's version.
func fields(t testing.TB, m encode.Model) map[string]string {
	t.Helper()
	spec, err := m.Spec(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if spec.BatchInvariant || spec.Engine != "onnx" {
		t.Errorf("spec %+v", spec)
	}
	_, all, err := spec.Declaration(32)
	if err != nil {
		t.Fatal(err)
	}
	if v := all["onnxruntime"]; len(strings.Split(v, ".")) < 3 {
		t.Errorf("the library's version is %q", v)
	}
	delete(all, "onnxruntime")
	return all
}

// TestSpec pins the fields: a change of one that is not meant makes every
// cache stale, and one that is missing leaves stale ones in use.
func TestSpec(t *testing.T) {
	want := map[string]string{
		"batch_size": "32", "dim": "16", "engine": "onnx", "max_tokens": "12", "model_dim": "16", "normalization": "none", "output": "sentence_embedding",
		"output_version": "2", "pooling": "none", "provider": "onnx-cpu", "threads": "1",
		"tokenizer": "sha256:TOKENIZER", "weights": "sha256:WEIGHTS",
	}
	got := fields(t, testModel(t, Options{Path: "testdata/tiny"}))
	weights, err := sha256Of(t.Context(), "testdata/tiny/model.onnx")
	if err != nil {
		t.Fatal(err)
	}
	want["weights"] = "sha256:" + weights
	want["tokenizer"] = got["tokenizer"]
	if !maps.Equal(got, want) || len(got["tokenizer"]) != len("sha256:")+64 {
		t.Errorf("fields %v, want %v", got, want)
	}
}

// TestOptionsAreDeclared: what changes the output changes a field.
func TestOptionsAreDeclared(t *testing.T) {
	no := false
	base := fields(t, testModel(t, Options{Path: "testdata/hidden"}))
	if base["pooling"] != "mean" || base["normalization"] != "l2" {
		t.Errorf("of modules.json: %v", base)
	}
	for name, tc := range map[string]struct {
		change Options
		fields []string
	}{
		"pooling":      {Options{Pooling: "cls", Normalize: ptr(true)}, []string{"pooling"}},
		"normalize":    {Options{Normalize: &no}, []string{"normalization"}},
		"max_length":   {Options{MaxLength: 7}, []string{"max_tokens"}},
		"truncate_dim": {Options{TruncateDim: 8}, []string{"dim", "normalization"}},
		"threads":      {Options{Threads: 2}, []string{"threads"}},
		"nothing":      {Options{Threads: 1, MaxLength: 12, Device: "cpu", Output: "last_hidden_state", Pooling: "mean", Normalize: ptr(true), TruncateDim: 16}, nil},
	} {
		tc.change.Path = "testdata/hidden"
		got := fields(t, testModel(t, tc.change))
		var changed []string
		for k, v := range got {
			if base[k] != v {
				changed = append(changed, k)
			}
		}
		slices.Sort(changed)
		if !slices.Equal(changed, tc.fields) || len(got) != len(base) {
			t.Errorf("%s changes %v, want %v", name, changed, tc.fields)
		}
	}
}

func ptr[T any](v T) *T { return &v }

// copyOf copies a model of testdata.
func copyOf(t testing.TB, name string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(filepath.Join("testdata", name))); err != nil {
		t.Fatal(err)
	}
	return dir
}

// edit changes a file of a model.
func edit(t testing.TB, file string, change func([]byte) []byte) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, change(b), 0o600); err != nil {
		t.Fatal(err)
	}
}

func replace(old, with string) func([]byte) []byte {
	return func(b []byte) []byte { return bytes.Replace(b, []byte(old), []byte(with), 1) }
}

// TestChangedFilesAreNoticed changes files under a model in use.
func TestChangedFilesAreNoticed(t *testing.T) {
	flip := func(b []byte) []byte {
		b[len(b)-40] ^= 1 // within the last weights
		return b
	}
	for name, tc := range map[string]struct {
		model, file string
		change      func([]byte) []byte
		field       string
	}{
		"graph":     {"tiny", "model.onnx", replace("permafrost tools/onnx", "permafrost tools/ONNX"), "weights"},
		"weights":   {"external", "weights.bin", flip, "weights"},
		"tokenizer": {"tiny", "tokenizer.json", replace(`"cat":13,"sat":14`, `"sat":13,"cat":14`), "tokenizer"},
		"length":    {"tiny", "sentence_bert_config.json", replace("12", "10"), "max_tokens"},
		"pooling": {"hidden", "1_Pooling/config.json", func(b []byte) []byte {
			return replace("cls_token\":false", "cls_token\":true")(replace("mean_tokens\":true", "mean_tokens\":false")(b))
		}, "pooling"},
		"modules": {"hidden", "modules.json", func([]byte) []byte {
			return []byte(`[{"type":"a.Transformer"},{"type":"a.Pooling","path":"1_Pooling"}]`)
		}, "normalization"},
	} {
		dir := copyOf(t, tc.model)
		m := testModel(t, Options{Path: dir})
		before := fields(t, m)
		edit(t, filepath.Join(dir, filepath.FromSlash(tc.file)), tc.change)
		after := fields(t, m)
		if before[tc.field] == after[tc.field] || after[tc.field] == "" {
			t.Errorf("%s: the field %s stays %q", name, tc.field, before[tc.field])
		}
	}
}

func TestOptionsComeBack(t *testing.T) {
	o := Options{Path: "testdata/tiny", Library: "lib", Pooling: "mean", MaxLength: 9, Normalize: ptr(false)}
	got, ok := o.Model().(encode.Configured).Options().(Options)
	if !ok || !filepath.IsAbs(got.Path) || !filepath.IsAbs(got.Library) {
		t.Fatalf("options %+v", got)
	}
	b, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	var again Options
	if err := json.Unmarshal(b, &again); err != nil || again.Path != got.Path || again.MaxLength != 9 || *again.Normalize {
		t.Errorf("%s gives %+v (%v)", b, again, err)
	}
}
