package models

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/permafrost-ml/permafrost/internal/models/hubtest"
)

func mustImport(t *testing.T, s *Store, name string) map[string][]byte {
	t.Helper()
	files := hubtest.Model(1, 100_000)
	if _, err := s.Import(t.Context(), writeFolder(t, filepath.Join(t.TempDir(), "src"), files), ImportOptions{Name: name}); err != nil {
		t.Fatal(err)
	}
	return files
}

func TestNames(t *testing.T) {
	for name, ok := range map[string]bool{
		"a": true, "org/name": true, "all-MiniLM-L6-v2": true, "BAAI/bge-small-en-v1.5": true, "a_b.c-d": true,
		"": false, "a/b/c": false, "../a": false, "a--b": false, "a..b": false, ".a": false, "a.": false, "-a": false, "a-": false,
		"a/": false, "/a": false, "a b": false, "ä": false, `a\b`: false, "a:b": false, strings.Repeat("a", 97): false, ".tmp": false,
	} {
		if err := checkName(name); (err == nil) != ok || err != nil && !errors.Is(err, ErrName) {
			t.Errorf("%q: %v", name, err)
		}
	}
	for text, want := range map[string]string{
		"My model (2)": "My-model-2", "..x..": "x", "a--b": "a-b", "日本": "", "-_.": "", "_a": "a", "v1.5": "v1.5", "a . b": "a-b",
	} {
		if got := nameOf(text); got != want || got != "" && checkName(got) != nil {
			t.Errorf("nameOf(%q) = %q, want %q", text, got, want)
		}
	}
}

func TestListAndFind(t *testing.T) {
	s := newStore(t)
	if entries, err := s.List(t.Context()); err != nil || len(entries) > 0 {
		t.Fatalf("no store: %v, %v", entries, err)
	}
	for _, name := range []string{"b/x", "a/x", "a/y", "z"} {
		mustImport(t, s, name)
	}
	writeFolder(t, filepath.Join(s.Dir(), "no-model"), map[string][]byte{"config.json": nil})
	damage(t, filepath.Join(s.Path("a/y"), ManifestName))
	entries, err := s.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name)
		if (e.Err != nil) != (e.Name == "a/y") || e.Err != nil && !errors.Is(e.Err, ErrCorrupt) {
			t.Errorf("%s: %v", e.Name, e.Err)
		}
	}
	if want := []string{"a/x", "a/y", "b/x", "z"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	for name, want := range map[string]string{"a/x": "a/x", "y": "a/y", "z": "z"} {
		if got, err := s.Find(t.Context(), name); got != want || err != nil {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	for name, want := range map[string]error{"x": ErrAmbiguous, "no-model": ErrNotFound, "c": ErrNotFound, "../a": ErrName} {
		if _, err := s.Find(t.Context(), name); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
	}
	if _, err := s.Open(t.Context(), "y"); !errors.Is(err, ErrCorrupt) {
		t.Errorf("error %v", err)
	}
}

func TestVerify(t *testing.T) {
	s := newStore(t)
	mustImport(t, s, "x")
	m, err := s.Open(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	in := func(name string) string { return filepath.Join(m.Dir, name) }
	damage(t, in("tokenizer.json"))
	for _, err := range []error{
		os.Remove(in("vocab.txt")),
		os.Truncate(in("model.safetensors"), 5),
		os.WriteFile(in("extra.txt"), nil, 0o666),
		os.Remove(in("config.json")),
		os.Mkdir(in("config.json"), 0o777),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	read := int64(0)
	damaged, extra, err := Verify(t.Context(), m, func(n int64) { read += n })
	if err != nil {
		t.Fatal(err)
	}
	says := map[string]string{"tokenizer.json": "SHA-256", "vocab.txt": "missing", "model.safetensors": "5 bytes, want", "config.json": "not a regular file"}
	for _, d := range damaged {
		if want, ok := says[d.Path]; !ok || !strings.Contains(d.Err.Error(), want) {
			t.Errorf("%s: %v", d.Path, d.Err)
		}
		delete(says, d.Path)
	}
	if len(says) > 0 || !slices.Equal(extra, []string{"extra.txt"}) || read == 0 {
		t.Errorf("not found: %v; extra %q, %d bytes read", says, extra, read)
	}
}

func TestRemove(t *testing.T) {
	s := newStore(t)
	if _, err := s.Remove(t.Context(), "x", false); !errors.Is(err, ErrNotFound) {
		t.Errorf("error %v", err)
	}
	mustImport(t, s, "x")
	mustImport(t, s, "y")
	extra := filepath.Join(s.Path("x"), "notes.md")
	if err := os.WriteFile(extra, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Remove(t.Context(), "x", false); err == nil || !strings.Contains(err.Error(), "notes.md") {
		t.Errorf("error %v", err)
	}
	if err := os.Remove(extra); err != nil {
		t.Fatal(err)
	}
	if n, err := s.Remove(t.Context(), "x", false); err != nil || n == 0 {
		t.Errorf("%d, %v", n, err)
	}
	damage(t, filepath.Join(s.Path("y"), ManifestName))
	if _, err := s.Remove(t.Context(), "y", false); !errors.Is(err, ErrCorrupt) {
		t.Errorf("error %v", err)
	}
	if _, err := s.Remove(t.Context(), "y", true); err != nil {
		t.Error(err)
	}
	writeFolder(t, filepath.Join(s.Dir(), "mine"), map[string][]byte{"a": nil})
	if _, err := s.Remove(t.Context(), "mine", true); !errors.Is(err, ErrNotFound) {
		t.Errorf("a folder that is no model: %v", err)
	}
	// A download that was cut short goes too.
	writeFolder(t, s.tmp(tmpPull+"org--z@0123456789ab"), map[string][]byte{"a.partial": make([]byte, 7)})
	if n, err := s.Remove(t.Context(), "org/z", false); err != nil || n != 7 {
		t.Errorf("%d, %v", n, err)
	}
	wantClean(t, s)
	if entries, err := os.ReadDir(s.Dir()); err != nil || len(entries) != 2 {
		t.Errorf("left: %v, %v", entries, err)
	}
}

func TestResolve(t *testing.T) {
	s := newStore(t)
	mustImport(t, s, "org/x")
	mustImport(t, s, "y")
	base := t.TempDir()
	writeFolder(t, filepath.Join(base, "y"), map[string][]byte{"config.json": nil})
	writeFolder(t, filepath.Join(base, "models", "z"), map[string][]byte{"config.json": nil})
	if err := os.WriteFile(filepath.Join(base, "m.zip"), nil, 0o666); err != nil {
		t.Fatal(err)
	}
	for ref, want := range map[string]string{
		"org/x": s.Path("org/x"), "x": s.Path("org/x"),
		"y": filepath.Join(base, "y"), "models/z": filepath.Join(base, "models", "z"), "./models/z": filepath.Join(base, "models", "z"),
		filepath.Join(base, "y"): filepath.Join(base, "y"),
	} {
		if got, err := Resolve(t.Context(), ref, base, s.Dir()); got != want || err != nil {
			t.Errorf("%s: %q, %v; want %q", ref, got, err, want)
		}
	}
	for ref, want := range map[string]struct {
		err  error
		says string
	}{
		"org/none":    {ErrNotFound, "`pipeline model pull org/none`"},
		"none":        {ErrNotFound, "`pipeline model import SRC --name none`"},
		"./org/x":     {ErrNotFound, "there is no folder " + filepath.Join(base, "org", "x")},
		"/no/where":   {ErrNotFound, "there is no folder"},
		"models/none": {ErrNotFound, filepath.Join(base, "models", "none")},
		"m.zip":       {ErrNotFound, "`pipeline model import m.zip`"},
		"":            {ErrName, ""},
	} {
		if got, err := Resolve(t.Context(), ref, base, s.Dir()); !errors.Is(err, want.err) || !strings.Contains(err.Error(), want.says) {
			t.Errorf("%q: %q, error %v, want %v that says %q", ref, got, err, want.err, want.says)
		}
	}
	if err := os.Remove(filepath.Join(s.Path("org/x"), "vocab.txt")); err != nil {
		t.Fatal(err)
	}
	if _, err := Resolve(t.Context(), "x", base, s.Dir()); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "pipeline model verify org/x") {
		t.Errorf("error %v", err)
	}
	t.Setenv("PERMAFROST_MODELS", s.Dir())
	if got, err := Resolve(t.Context(), "org/x", base, ""); !errors.Is(err, ErrCorrupt) {
		t.Errorf("by the environment: %q, %v", got, err)
	}
}

func TestLicense(t *testing.T) {
	for text, want := range map[string]string{
		"---\nlicense: mit\n---\n# x": "mit", "---\r\nlicense: mit\r\n---\r\n": "mit", "---\nlicense: [mit, apache-2.0]\n---\n": "mit, apache-2.0",
		"---\nlicense: other\nlicense_name: my-own\n---\n": "my-own", "# x\nlicense: mit": "", "---\nlicense: mit": "", "---\nlicense: {a: b}\n---\n": "",
		"---\n\t:\n---\n": "", "---\nlicense: |\n  a\n  b\n---\n": "a b", "": "",
	} {
		dir := writeFolder(t, t.TempDir(), map[string][]byte{"README.md": []byte(text)})
		if got := license(os.DirFS(dir)); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

// The size of an embedding is that of the last Dense module.
func TestCardOfModules(t *testing.T) {
	dir := writeFolder(t, t.TempDir(), map[string][]byte{
		"modules.json": []byte(`[{"path": "0_Transformer", "type": "sentence_transformers.models.Transformer"}, {"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
			{"path": "2_Dense", "type": "sentence_transformers.models.Dense"}, {"path": "../x", "type": "sentence_transformers.models.Dense"}]`),
		"0_Transformer/config.json":               []byte(`{"model_type": "distilbert", "dim": 768, "architectures": ["DistilBertModel"]}`),
		"0_Transformer/sentence_bert_config.json": []byte(`{"max_seq_length": 256}`),
		"0_Transformer/model.safetensors":         nil,
		"2_Dense/config.json":                     []byte(`{"in_features": 768, "out_features": 512}`),
	})
	c := readCard(os.DirFS(dir))
	if c.Dim != 512 || c.ModelType != "distilbert" || c.MaxLength != 256 || c.Architecture != "DistilBertModel" || !slices.Equal(c.Formats, []string{"safetensors"}) {
		t.Errorf("%+v", c)
	}
}
