package export_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/permafrost-ml/permafrost/encode/bert"
	"github.com/permafrost-ml/permafrost/pipeline/export"
	"github.com/permafrost-ml/permafrost/pipeline/head"
)

const bertModels = "../../encode/bert/testdata"

// TestSentenceTransformers reads exported directories with the engine bert:
// they give what the encoder and then the head give.
func TestSentenceTransformers(t *testing.T) {
	yes, no := true, false
	mix := head.Sequential{Heads: []head.Config{
		head.Gated{}, head.SkipConnection{Layers: 2, Dropout: 0.1}, head.StackedProjection{OutputSizes: []int{9, 7}, Activation: "gelu"},
	}}
	for name, c := range map[string]struct {
		base bert.Options
		head head.Config
		last string // the folder of the last module
	}{
		"skip":      {bert.Options{Dir: "bert"}, head.SkipConnection{}, "3_Dense"},
		"empty":     {bert.Options{Dir: "bert"}, head.Empty{}, "2_Normalize"},
		"gated":     {bert.Options{Dir: "mpnet"}, head.Gated{}, "3_Dense"},
		"relu":      {bert.Options{Dir: "roberta"}, head.Widening{}, "4_Dense"},
		"tanh":      {bert.Options{Dir: "bert-cased-head"}, head.StackedProjection{OutputSizes: []int{3, 5}, Activation: "tanh"}, ""},
		"mix":       {bert.Options{Dir: "distilbert-dense"}, mix, "9_Dense"},
		"length":    {bert.Options{Dir: "bert", MaxLength: 5}, head.SkipConnection{}, "3_Dense"},
		"pooling":   {bert.Options{Dir: "distilbert-max", Pooling: "mean"}, head.SkipConnection{}, ""},
		"raw":       {bert.Options{Dir: "bert", Normalize: &no}, head.SkipConnection{}, "2_Dense"},
		"cut":       {bert.Options{Dir: "bert", TruncateDim: 6}, head.SkipConnection{}, "4_Dense"},
		"cut, unit": {bert.Options{Dir: "bert", TruncateDim: 6, Normalize: &yes}, head.SkipConnection{}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			c.base.Dir = filepath.Join(bertModels, c.base.Dir)
			model := c.base.Model()
			spec, err := model.Spec(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			h := trained(t, c.head, spec.Dim)
			dir := filepath.Join(t.TempDir(), "model")
			res, err := export.SentenceTransformers(t.Context(), h, c.base, dir, false)
			if err != nil {
				t.Fatal(err)
			}
			closeTo(t, name, embedded(t, bert.Model(dir), sentences()), applied(t, h, embedded(t, model, sentences()), nil))
			var total int64
			for _, f := range res.Files {
				info, err := os.Stat(f.Path)
				if err != nil || info.Size() != f.Bytes {
					t.Errorf("%s has not %d bytes, %v", f.Path, f.Bytes, err)
				}
				total += f.Bytes
			}
			if res.Bytes != total || res.In != h.In() || res.Out != h.Out() {
				t.Errorf("the result is %+v", res)
			}
			if list := modulesOf(t, dir); c.last != "" && list[len(list)-1].Path != c.last || list[len(list)-1].Idx != len(list)-1 {
				t.Errorf("the modules are %+v", list)
			}
			if _, err := os.Stat(filepath.Join(dir, "reference.f32")); err != nil {
				t.Error("a file of the base is missing")
			}

			if name == "mix" {
				sameAgain(t, h, c.base, dir, res)
			}
		})
	}
}

// sameAgain exports once more, which gives the same bytes.
func sameAgain(t *testing.T, h head.Head, base bert.Options, dir string, res *export.HeadResult) {
	t.Helper()
	again := filepath.Join(t.TempDir(), "model")
	if _, err := export.SentenceTransformers(t.Context(), h, base, again, false); err != nil {
		t.Fatal(err)
	}
	for _, f := range res.Files {
		name, err := filepath.Rel(dir, f.Path)
		if err != nil || !bytes.Equal(read(t, f.Path), read(t, filepath.Join(again, name))) {
			t.Errorf("%s differs in a second export, %v", name, err)
		}
	}
}

type module struct {
	Idx              int
	Name, Path, Type string
}

func modulesOf(t *testing.T, dir string) (list []module) {
	t.Helper()
	if err := json.Unmarshal(read(t, filepath.Join(dir, "modules.json")), &list); err != nil {
		t.Fatal(err)
	}
	return list
}

// TestSentenceTransformersOfPlainTransformer: a directory without modules.json
// gets them, weights of other programs stay out, and links are followed.
func TestSentenceTransformersOfPlainTransformer(t *testing.T) {
	blobs, base := t.TempDir(), t.TempDir()
	copyFiles(t, filepath.Join(bertModels, "bert"), blobs)
	for _, e := range []string{"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"} {
		if err := os.Symlink(filepath.Join(blobs, e), filepath.Join(base, e)); err != nil {
			t.Skip(err)
		}
	}
	for _, e := range []string{"pytorch_model.bin", ".gitattributes"} {
		if err := os.WriteFile(filepath.Join(base, e), []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	model := bert.Model(base)
	spec, err := model.Spec(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	h := trained(t, head.SkipConnection{}, spec.Dim)
	dir := filepath.Join(t.TempDir(), "model")
	if _, err := export.SentenceTransformers(t.Context(), h, bert.Options{Dir: base, MaxLength: 9}, dir, false); err != nil {
		t.Fatal(err)
	}
	want := applied(t, h, embedded(t, bert.Options{Dir: base, MaxLength: 9}.Model(), sentences()), nil)
	closeTo(t, "plain", embedded(t, bert.Model(dir), sentences()), want)
	var paths []string
	for _, m := range modulesOf(t, dir) {
		paths = append(paths, m.Path)
	}
	if !slices.Equal(paths, []string{"", "1_Pooling", "2_Dense"}) {
		t.Errorf("the modules are in %q", paths)
	}
	for _, e := range []string{"pytorch_model.bin", ".gitattributes"} {
		if _, err := os.Lstat(filepath.Join(dir, e)); err == nil {
			t.Errorf("%s was copied", e)
		}
	}
	if info, err := os.Lstat(filepath.Join(dir, "config.json")); err != nil || !info.Mode().IsRegular() {
		t.Errorf("config.json is %v, %v", info, err)
	}
}

// TestSentenceTransformersOfAnExport puts a head behind the head of an exported
// directory, of which a module has no files and no folder.
func TestSentenceTransformersOfAnExport(t *testing.T) {
	base, dir := filepath.Join(t.TempDir(), "base"), filepath.Join(t.TempDir(), "model")
	plain := bert.Options{Dir: filepath.Join(bertModels, "bert")}
	spec, err := plain.Model().Spec(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	h := trained(t, head.SkipConnection{}, spec.Dim)
	if _, err := export.SentenceTransformers(t.Context(), h, plain, base, false); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(base, "2_Normalize")); err != nil {
		t.Fatal(err)
	}
	yes, no := true, false
	for _, normalize := range []*bool{nil, &yes, &no} { // what stands between the modules, too
		o := bert.Options{Dir: base, Normalize: normalize}
		if _, err := export.SentenceTransformers(t.Context(), h, o, dir, true); err != nil {
			t.Fatal(err)
		}
		closeTo(t, "twice", embedded(t, bert.Model(dir), sentences()), applied(t, h, embedded(t, o.Model(), sentences()), nil))
	}
	if _, err := export.SentenceTransformers(t.Context(), h, plain, dir, true); err != nil {
		t.Error(err)
	}
}

func TestSentenceTransformersRefuses(t *testing.T) {
	dir := filepath.Join(bertModels, "bert")
	spec, err := bert.Model(dir).Spec(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	in := spec.Dim
	skip := trained(t, head.SkipConnection{}, in)
	for name, c := range map[string]struct {
		h    head.Head
		base bert.Options
		want string
	}{
		"softmax":   {trained(t, head.SoftmaxEmbeddings{Groups: 2, GroupSize: 2}, in), bert.Options{Dir: dir}, "a softmax step"},
		"switch":    {trained(t, head.Switch{Options: map[string]head.Config{"a": head.Empty{}}}, in), bert.Options{Dir: dir}, "a route step"},
		"of a user": {ownHead{skip}, bert.Options{Dir: dir}, "cannot be taken apart"},
		"dimension": {trained(t, head.Gated{}, in+1), bert.Options{Dir: dir}, "the head takes"},
		"int8":      {skip, bert.Options{Dir: dir, Precision: "int8"}, "computes in int8"},
		"no base":   {skip, bert.Options{Dir: filepath.Join(dir, "no")}, "no config.json"},
	} {
		to := filepath.Join(t.TempDir(), "model")
		if _, err := export.SentenceTransformers(t.Context(), c.h, c.base, to, true); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		if _, err := os.Stat(to); err == nil {
			t.Errorf("%s: a failed export left a folder", name)
		}
	}

	// Only what such an export wrote is replaced, and only with force.
	to := filepath.Join(t.TempDir(), "model")
	write := func(force bool) error {
		_, err := export.SentenceTransformers(t.Context(), skip, bert.Options{Dir: dir}, to, force)
		return err
	}
	if err := write(false); err != nil {
		t.Fatal(err)
	}
	if err := write(false); !errors.Is(err, export.ErrExists) {
		t.Errorf("over a folder: %v", err)
	}
	if err := write(true); err != nil {
		t.Error(err)
	}
	mine := filepath.Join(to, "2_Normalize", "notes.txt")
	if err := os.WriteFile(mine, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := write(true); !errors.Is(err, export.ErrNotOurs) {
		t.Errorf("over a folder with something else: %v", err)
	}
	to = filepath.Join(t.TempDir())
	if err := os.WriteFile(filepath.Join(to, "modules.json"), []byte("[]"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := write(true); !errors.Is(err, export.ErrNotOurs) {
		t.Errorf("over a model of someone else: %v", err)
	}
}
