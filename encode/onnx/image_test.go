package onnx

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/permafrost-ml/permafrost/encode"
	"github.com/permafrost-ml/permafrost/encode/encodetest"
)

// vision is the model of the image recipe.
const vision = "../../testdata/vision"

// pictures are what tools/onnx/vision.py wrote: files, and what ONNX Runtime
// gives for them when Pillow prepares them.
func pictures(t testing.TB) (batch []encode.Input, want map[string][][]float64) {
	t.Helper()
	var p struct {
		Names             []string
		Files             [][]byte
		Pooled, Mean, Max [][]float64
	}
	b, err := os.ReadFile("testdata/pictures.json")
	if err == nil {
		err = json.Unmarshal(b, &p)
	}
	if err != nil || len(p.Files) < 8 {
		t.Fatal(len(p.Files), err)
	}
	for _, file := range p.Files {
		batch = append(batch, encode.Input{encode.BytesValue(file)})
	}
	return batch, map[string][][]float64{"pooled": p.Pooled, "mean": p.Mean, "max": p.Max}
}

func TestImages(t *testing.T) {
	batch, want := pictures(t)
	for name, tc := range map[string]struct {
		options Options
		want    string
		most    float64
	}{
		"pooled":      {Options{Path: vision}, "pooled", 1e-6},
		"mean":        {Options{Path: "testdata/planes", Pooling: "mean"}, "mean", 1e-5},
		"max":         {Options{Path: "testdata/planes", Pooling: "max"}, "max", 1e-5},
		"float16":     {Options{Path: "testdata/vision_half"}, "pooled", 2e-3},
		"one by one":  {Options{Path: "testdata/single"}, "pooled", 1e-6},
		"two threads": {Options{Path: vision, Threads: 2}, "pooled", 1e-6},
	} {
		t.Run(name, func(t *testing.T) {
			enc := open(t, testModel(t, tc.options))
			near(t, batch, embed(t, enc, batch), want[tc.want], tc.most)
			near(t, batch[3:], embed(t, enc, batch[3:4]), want[tc.want][3:], tc.most)
		})
	}
}

func TestImageContract(t *testing.T) {
	batch, _ := pictures(t)
	for _, path := range []string{vision, "testdata/vision_half", "testdata/single"} {
		t.Run(filepath.Base(path), func(t *testing.T) {
			encodetest.Run(t, testModel(t, Options{Path: path}), encodetest.Options{Inputs: batch, BatchSizes: []int{1, 2, 7, 40}})
		})
	}
}

func TestImageSpec(t *testing.T) {
	got := fields(t, testModel(t, Options{Path: vision}))
	if want := "rgb resize shortest 36 bicubic crop 32x32 rescale 0.00392156862745098 normalize [0.5 0.5 0.5] [0.25 0.25 0.25]"; got["preprocess"] != want {
		t.Errorf("preprocess %q, want %q", got["preprocess"], want)
	}
	if got["dim"] != "64" || got["output"] != "image_embeds" || got["max_tokens"] != "" {
		t.Errorf("fields %v", got)
	}
}

func TestBadImages(t *testing.T) {
	batch, _ := pictures(t)
	enc := open(t, testModel(t, Options{Path: vision}))
	dst := make([]float32, 2*enc.Dim())
	for name, tc := range map[string]struct {
		in   encode.Input
		want string
	}{
		"no picture": {encode.Input{encode.BytesValue([]byte("hello"))}, "no PNG, JPEG, GIF or WebP"},
		"a text":     {encode.Input{encode.TextValue("hello")}, "bytes of a picture"},
		"two fields": {encode.Input{batch[0][0], batch[1][0]}, "one field"},
		"cut":        {encode.Input{encode.BytesValue(batch[0][0].Bytes()[:400])}, "PNG file of 400 bytes"},
	} {
		if err := enc.Encode(t.Context(), []encode.Input{batch[0], tc.in}, dst); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: error %v, want one with %q", name, err, tc.want)
		}
	}
	for name, tc := range map[string]struct {
		change func(dir string) error
		o      Options
		want   string
	}{
		"no config":   {func(dir string) error { return os.Remove(filepath.Join(dir, "preprocessor_config.json")) }, Options{}, "needs preprocessor_config.json"},
		"other size":  {func(dir string) error { return rewrite(dir, `"width": 32`, `"width": 30`) }, Options{}, "gives [3, 32, 30]"},
		"bad config":  {func(dir string) error { return rewrite(dir, `"resample": 3`, `"resample": 7`) }, Options{}, "resample: 7"},
		"max_length":  {nil, Options{MaxLength: 9}, "max_length"},
		"cls pooling": {nil, Options{Path: "testdata/planes", Pooling: "cls"}, "needs one of"},
		"no pooling":  {nil, Options{Path: "testdata/planes"}, "needs one of"},
	} {
		if tc.o.Path == "" {
			dir := t.TempDir()
			if err := os.CopyFS(dir, os.DirFS(vision)); err != nil {
				t.Fatal(err)
			}
			if tc.change != nil {
				if err := tc.change(dir); err != nil {
					t.Fatal(err)
				}
			}
			tc.o.Path = dir
		}
		if _, err := testModel(t, tc.o).Spec(t.Context()); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: error %v, want one with %q", name, err, tc.want)
		}
	}
}

func rewrite(dir, old, with string) error {
	file := filepath.Join(dir, "preprocessor_config.json")
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	return os.WriteFile(file, []byte(strings.Replace(string(b), old, with, 1)), 0o600)
}
