package pipeline_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/permafrost-ml/permafrost/encode"
	"github.com/permafrost-ml/permafrost/encode/bert"
	"github.com/permafrost-ml/permafrost/internal/models"
	"github.com/permafrost-ml/permafrost/pipeline"
)

const tinyBERT = "../encode/bert/testdata/bert"

func modelConfig(engine, model string) string {
	return `
version: 1
dataset: {splits: {train: {csv: rows.csv}}, pair: {a: one, b: two}}
encoders: {content: {type: ` + engine + `, model: ` + model + `}}
cache: {save_dir: cache}
head: {type: skip_connection}
loss: {type: multiple_negatives_ranking}
train: {epochs: 1}
output: out
`
}

// TestModelsByName: a config names a folder beside it, an absolute one, or a
// model of the store, and an output folder opens the same one again.
func TestModelsByName(t *testing.T) {
	t.Setenv("PERMAFROST_MODELS", t.TempDir())
	st, err := models.New("", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := st.Import(t.Context(), tinyBERT, models.ImportOptions{Name: "acme/tiny"}); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.CopyFS(filepath.Join(dir, "beside"), os.DirFS(tinyBERT)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "rows.csv"), []byte("one,two\na,b\nc,d\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	want, err := bert.Model(tinyBERT).Spec(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, ref := range []string{"acme/tiny", "tiny", "beside", filepath.Join(dir, "beside")} {
		c, err := pipeline.ParseConfig(filepath.Join(dir, "config.yaml"), []byte(modelConfig("bert", ref)))
		if err != nil {
			t.Fatalf("%s: %v", ref, err)
		}
		got, err := c.Encoders["content"].Spec(t.Context())
		a, _, errA := want.Declaration(32)
		b, _, errB := got.Declaration(32)
		if err = errors.Join(err, errA, errB); err != nil || a != b {
			t.Errorf("%s: %v, fingerprint %.12s, want %.12s", ref, err, b, a)
		}
		c.Output = filepath.Join(dir, "out")
		p, err := pipeline.New(c)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Run(t.Context()); err != nil {
			t.Fatalf("%s: %v", ref, err)
		}
		m, err := pipeline.Load(c.Output)
		if err != nil {
			t.Fatalf("%s: %v", ref, err)
		}
		if v, err := m.Encode(t.Context(), []encode.Object{encode.Text("a")}); err != nil || len(v) != 1 || len(v[0]) != got.Dim {
			t.Errorf("%s: the model that was loaded gives %v, %v", ref, v, err)
		}
		for _, c := range []io.Closer{m, p} {
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestMissingModels(t *testing.T) {
	t.Setenv("PERMAFROST_MODELS", t.TempDir())
	for _, engine := range []string{"bert", "onnx"} {
		for ref, want := range map[string]string{
			"acme/none": "pipeline model pull acme/none",
			"./none":    "there is no folder",
			"":          "model",
		} {
			_, err := pipeline.ParseConfig("config.yaml", []byte(modelConfig(engine, `"`+ref+`"`)))
			if !errors.Is(err, pipeline.ErrConfig) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "config.yaml:4") {
				t.Errorf("%s %q: error %v, want %q", engine, ref, err, want)
			}
		}
	}
}
