package tokenizer

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const vocabulary = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nhello\nworld\n##s\n!\n"

// asJSON is a tokenizer.json of the vocabulary; change edits it.
func asJSON(t testing.TB, change func(map[string]any)) []byte {
	t.Helper()
	vocab := map[string]any{}
	var added []any
	for i, token := range lines([]byte(vocabulary)) {
		vocab[token] = i
		if i < 5 {
			added = append(added, map[string]any{"id": i, "content": token, "special": true})
		}
	}
	special := func(s string) any { return map[string]any{"SpecialToken": map[string]any{"id": s, "type_id": 0}} }
	doc := map[string]any{
		"version":       "1.0",
		"truncation":    map[string]any{"max_length": 3},
		"added_tokens":  added,
		"normalizer":    map[string]any{"type": "BertNormalizer", "lowercase": true, "strip_accents": nil, "clean_text": true, "handle_chinese_chars": true},
		"pre_tokenizer": map[string]any{"type": "BertPreTokenizer"},
		"post_processor": map[string]any{"type": "TemplateProcessing", "single": []any{
			special("[CLS]"), map[string]any{"Sequence": map[string]any{"id": "A", "type_id": 0}}, special("[SEP]"),
		}},
		"model": map[string]any{"type": "WordPiece", "unk_token": "[UNK]", "vocab": vocab, "max_input_chars_per_word": 100},
	}
	if change != nil {
		change(doc)
	}
	b, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func write(t testing.TB, files map[string][]byte) string {
	t.Helper()
	dir := t.TempDir()
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestLoad(t *testing.T) {
	dirs := map[string]string{
		"json":      write(t, map[string][]byte{"tokenizer.json": asJSON(t, nil)}),
		"vocab":     write(t, map[string][]byte{"vocab.txt": []byte(vocabulary)}),
		"crlf":      write(t, map[string][]byte{"vocab.txt": []byte(strings.ReplaceAll(vocabulary, "\n", "\r\n"))}),
		"config":    write(t, map[string][]byte{"vocab.txt": []byte(vocabulary), "tokenizer_config.json": []byte(`{"do_lower_case": true, "tokenizer_class": "BertTokenizerFast", "strip_accents": null}`)}),
		"json wins": write(t, map[string][]byte{"tokenizer.json": asJSON(t, nil), "vocab.txt": []byte("a\nb\n")}),
	}
	digests := map[string]bool{}
	for name, dir := range dirs {
		tok, err := Load(dir)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		digests[tok.Digest()] = true
		if got, want := tok.Append(nil, "Héllo worlds!", 16), []int32{2, 5, 6, 7, 8, 3}; !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
		if tok.Len() != 9 || tok.Pad() != 0 {
			t.Errorf("%s: %d tokens, padding %d", name, tok.Len(), tok.Pad())
		}
	}
	if len(digests) != 1 {
		t.Errorf("one vocabulary has %d digests", len(digests))
	}
}

func TestDigestFollowsTheVocabulary(t *testing.T) {
	a, err := Load(write(t, map[string][]byte{"vocab.txt": []byte(vocabulary)}))
	if err != nil {
		t.Fatal(err)
	}
	b, err := Load(write(t, map[string][]byte{"vocab.txt": []byte(strings.Replace(vocabulary, "hello\nworld", "world\nhello", 1))}))
	if err != nil {
		t.Fatal(err)
	}
	if a.Digest() == b.Digest() {
		t.Error("two orders of the vocabulary have one digest")
	}
}

func TestAppendTruncates(t *testing.T) {
	tok, err := Load(write(t, map[string][]byte{"vocab.txt": []byte(vocabulary)}))
	if err != nil {
		t.Fatal(err)
	}
	for limit, want := range map[int][]int32{
		0: {9, 2, 3}, 2: {9, 2, 3}, 3: {9, 2, 5, 3}, 4: {9, 2, 5, 6, 3}, 5: {9, 2, 5, 6, 7, 3}, 6: {9, 2, 5, 6, 7, 3},
	} {
		if got := tok.Append([]int32{9}, "hello worlds", limit); !slices.Equal(got, want) {
			t.Errorf("limit %d: %v, want %v", limit, got, want)
		}
	}
	if got := tok.Append(nil, "", 8); !slices.Equal(got, []int32{2, 3}) {
		t.Errorf("no text: %v", got)
	}
}

func TestOtherTokenizersAreRefused(t *testing.T) {
	at := func(path ...string) func(any) func(map[string]any) {
		return func(v any) func(map[string]any) {
			return func(m map[string]any) {
				for _, key := range path[:len(path)-1] {
					m = m[key].(map[string]any)
				}
				m[path[len(path)-1]] = v
			}
		}
	}
	for name, tc := range map[string]struct {
		change func(map[string]any)
		want   string
	}{
		"bpe":         {at("model")(map[string]any{"type": "BPE", "vocab": map[string]any{}}), `model "BPE"`},
		"unigram":     {at("model")(map[string]any{"type": "Unigram", "vocab": []any{[]any{"<s>", 0.5}}}), `model "Unigram"`},
		"cased":       {at("normalizer", "lowercase")(false), "keeps case"},
		"accents":     {at("normalizer", "strip_accents")(false), "keeps accents"},
		"normalizer":  {at("normalizer", "type")("NFKC"), "BertNormalizer"},
		"none":        {at("normalizer")(nil), "BertNormalizer"},
		"chinese":     {at("normalizer", "handle_chinese_chars")(false), "handle_chinese_chars"},
		"whitespace":  {at("pre_tokenizer", "type")("Whitespace"), "BertPreTokenizer"},
		"roberta":     {at("post_processor", "type")("RobertaProcessing"), "RobertaProcessing"},
		"no brackets": {at("post_processor")(nil), "post-processor"},
		"unknown":     {at("model", "unk_token")("<unk>"), "<unk>"},
		"prefix":      {at("model", "continuing_subword_prefix")("@@"), "@@"},
		"words":       {at("model", "max_input_chars_per_word")(200), "200"},
		"gap":         {at("model", "vocab", "hello")(1 << 40), "not 0 to 8"},
		"negative":    {at("model", "vocab", "hello")(-1), "not 0 to 8"},
		"twice":       {at("model", "vocab", "hello")(6), "not 0 to 8"},
		"added":       {at("added_tokens")([]any{map[string]any{"id": 5, "content": "hello"}}), `"hello"`},
		"added id":    {at("added_tokens")([]any{map[string]any{"id": 1, "content": "[CLS]"}}), `"[CLS]"`},
	} {
		_, err := Load(write(t, map[string][]byte{"tokenizer.json": asJSON(t, tc.change)}))
		if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), "tokenizer.json") {
			t.Errorf("%s: error %v, want one with %q", name, err, tc.want)
		}
	}
	for name, files := range map[string]map[string][]byte{
		"cased":   {"vocab.txt": []byte(vocabulary), "tokenizer_config.json": []byte(`{"do_lower_case": false}`)},
		"class":   {"vocab.txt": []byte(vocabulary), "tokenizer_config.json": []byte(`{"tokenizer_class": "RobertaTokenizer"}`)},
		"no cls":  {"vocab.txt": []byte("[UNK]\n[PAD]\n[SEP]\nhello\n")},
		"no unk":  {"vocab.txt": []byte("[CLS]\n[PAD]\n[SEP]\nhello\n")},
		"blank":   {"vocab.txt": []byte("[UNK]\n\n[PAD]\n[CLS]\n[SEP]")},
		"nothing": {"vocab.txt": nil},
		"cut":     {"tokenizer.json": asJSON(t, nil)[:200]},
	} {
		if _, err := Load(write(t, files)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := Load(t.TempDir()); !errors.Is(err, ErrNone) {
		t.Errorf("an empty directory: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(asJSON(f, nil))
	f.Add([]byte(`{"model":{"type":"WordPiece","vocab":{"a":0}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		vocab, err := parse(data)
		if err != nil {
			return
		}
		if tok, err := build(vocab); err == nil {
			for _, id := range tok.Append(nil, "Hello [MASK] world", 8) {
				if id < 0 || int(id) >= tok.Len() {
					t.Errorf("id %d of %d", id, tok.Len())
				}
			}
		}
	})
}
