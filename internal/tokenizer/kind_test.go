package tokenizer

import (
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// models are directories that sentence-transformers wrote, of every kind.
const models = "../../encode/bert/testdata"

var kinds = map[string]Kind{
	"bert": BERT, "bert-cased-head": BERT, "bert-all-poolings": BERT, "distilbert-dense": BERT, "distilbert-max": BERT,
	"mpnet": MPNet, "roberta": RoBERTa, "roberta-prefix": RoBERTa,
}

// TestFindsTheKind: the files alone say what a model's architecture says.
func TestFindsTheKind(t *testing.T) {
	texts := []string{"", "The cache keeps Héllo, wörld!  two  spaces", " <mask> [MASK]", "</s>[SEP]", "猫 cat\u00a0\n", strings.Repeat("again ", 40)}
	digests := map[string][]string{}
	for name, kind := range kinds {
		dir := filepath.Join(models, name)
		want, err := Load(dir, kind)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Find(dir)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, text := range texts {
			for _, limit := range []int{2, 3, 7, 48} {
				if got, want := got.Append(nil, text, limit), want.Append(nil, text, limit); !slices.Equal(got, want) || len(got) > limit {
					t.Errorf("%s: %q gives %v, want %v", name, text, got, want)
				}
			}
		}
		if got.Digest() != want.Digest() || got.Last() != want.Last() || got.Pad() != 1 || got.Pad() != want.Pad() {
			t.Errorf("%s: padding %d, last id %d", name, got.Pad(), got.Last())
		}
		if lowers, err := Lowers(dir, kind); err != nil || lowers != got.Lowers() || lowers == slices.Contains([]string{"bert-cased-head", "roberta", "roberta-prefix"}, name) {
			t.Errorf("%s: lowers %t, %t, %v", name, got.Lowers(), lowers, err)
		}
		digests[got.Digest()] = append(digests[got.Digest()], name)
	}
	// The three uncased BERTs have one vocabulary, the others one each.
	for _, names := range digests {
		if len(names) > 1 && slices.ContainsFunc(names, func(name string) bool { return kinds[name] != BERT || name == "bert-cased-head" }) {
			t.Errorf("%v have one digest", names)
		}
	}
}

// TestDigestSeesSettings: what changes the ids changes the digest.
func TestDigestSeesSettings(t *testing.T) {
	for name, tc := range map[string]struct{ model, old, with string }{
		"lower":   {"bert", `"do_lower_case": true`, `"do_lower_case": false`},
		"space":   {"roberta", `"add_prefix_space": false`, `"add_prefix_space": true`},
		"special": {"bert", `"mask_token": "[MASK]"`, `"added_tokens_decoder": {"9": {"content": "wow", "special": true}}`},
		"padding": {"roberta-prefix", `"pad_token": "<pad>"`, `"pad_token": "<mask>"`},
	} {
		dir := t.TempDir()
		if err := os.CopyFS(dir, os.DirFS(filepath.Join(models, tc.model))); err != nil {
			t.Fatal(err)
		}
		before, err := Find(dir)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, "tokenizer_config.json")
		b, err := os.ReadFile(file)
		if err != nil || !strings.Contains(string(b), tc.old) {
			t.Fatalf("%s: %s, %v", name, b, err)
		}
		if err := os.WriteFile(file, []byte(strings.Replace(string(b), tc.old, tc.with, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		after, err := Find(dir)
		if err != nil || after.Digest() == before.Digest() {
			t.Errorf("%s: the digest stays (%v)", name, err)
		}
	}
}

// FuzzFind reads the tokenizers of arbitrary files.
func FuzzFind(f *testing.F) {
	read := func(dir, name string) []byte {
		b, _ := os.ReadFile(filepath.Join(models, dir, name)) // not all have all
		return b
	}
	for name := range kinds {
		vocab := read(name, "vocab.txt")
		if vocab == nil {
			vocab = read(name, "vocab.json")
		}
		f.Add(read(name, "tokenizer.json"), vocab, read(name, "merges.txt"), read(name, "tokenizer_config.json"), "a text [SEP] <mask>")
	}
	f.Add(asJSON(f, nil), []byte(nil), []byte(nil), []byte("{}"), "hello worlds")
	f.Add([]byte(`{"model":{"type":"WordPiece","vocab":{"a":0}}}`), []byte(nil), []byte(nil), []byte("{}"), "a")
	f.Fuzz(func(t *testing.T, file, vocab, merges, config []byte, text string) {
		files := map[string][]byte{"vocab.txt": vocab, "vocab.json": vocab, "merges.txt": merges, "tokenizer_config.json": config}
		if len(file) > 0 {
			files["tokenizer.json"] = file
		}
		dir := write(t, files)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		tok, err := Find(dir)
		runtime.ReadMemStats(&after)
		if got, size := after.TotalAlloc-before.TotalAlloc, len(file)+2*len(vocab)+len(merges)+len(config); got > uint64(16<<20+200*size) {
			t.Errorf("%d bytes are allocated for files of %d", got, size)
		}
		if err != nil {
			return
		}
		ids := tok.Append(nil, text, 16)
		if len(ids) < 2 || len(ids) > 16 || slices.ContainsFunc(append(ids, tok.Pad()), func(id int32) bool { return id < 0 || id > tok.Last() }) {
			t.Errorf("ids %v, the last is %d", ids, tok.Last())
		}
	})
}
