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
	for i, token := range strings.Fields(vocabulary) {
		vocab[token] = i
		if i < 5 {
			added = append(added, map[string]any{"id": i, "content": token, "special": true})
		}
	}
	doc := map[string]any{
		"version":       "1.0",
		"truncation":    map[string]any{"max_length": 3},
		"added_tokens":  added,
		"normalizer":    map[string]any{"type": "BertNormalizer", "lowercase": true, "strip_accents": nil, "clean_text": true, "handle_chinese_chars": true},
		"pre_tokenizer": map[string]any{"type": "BertPreTokenizer"},
		"post_processor": map[string]any{"type": "TemplateProcessing", "single": []any{
			part("[CLS]"), map[string]any{"Sequence": map[string]any{"id": "A", "type_id": 0}}, part("[SEP]"),
		}, "special_tokens": map[string]any{
			"[CLS]": map[string]any{"ids": []int{2}}, "[SEP]": map[string]any{"ids": []int{3}},
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

func part(s string) any {
	return map[string]any{"SpecialToken": map[string]any{"id": s, "type_id": 0}}
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

func TestFind(t *testing.T) {
	dirs := map[string]string{
		"json":      write(t, map[string][]byte{"tokenizer.json": asJSON(t, nil)}),
		"vocab":     write(t, map[string][]byte{"vocab.txt": []byte(vocabulary)}),
		"crlf":      write(t, map[string][]byte{"vocab.txt": []byte(strings.ReplaceAll(vocabulary, "\n", "\r\n"))}),
		"config":    write(t, map[string][]byte{"vocab.txt": []byte(vocabulary), "tokenizer_config.json": []byte(`{"do_lower_case": true, "tokenizer_class": "BertTokenizerFast", "strip_accents": null}`)}),
		"json wins": write(t, map[string][]byte{"tokenizer.json": asJSON(t, nil), "vocab.txt": []byte("a\nb\n")}),
	}
	digests := map[string]bool{}
	for name, dir := range dirs {
		tok, err := Find(dir)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		digests[tok.Digest()] = true
		if got, want := tok.Append(nil, "Héllo worlds!", 16), []int32{2, 5, 6, 7, 8, 3}; !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
		if tok.Last() != 8 || tok.Pad() != 0 || !tok.Lowers() {
			t.Errorf("%s: last id %d, padding %d, lowers %t", name, tok.Last(), tok.Pad(), tok.Lowers())
		}
	}
	if len(digests) != 1 {
		t.Errorf("one vocabulary has %d digests", len(digests))
	}
}

func TestDigestFollowsTheVocabulary(t *testing.T) {
	a, err := Find(write(t, map[string][]byte{"vocab.txt": []byte(vocabulary)}))
	if err != nil {
		t.Fatal(err)
	}
	b, err := Find(write(t, map[string][]byte{"vocab.txt": []byte(strings.Replace(vocabulary, "hello\nworld", "world\nhello", 1))}))
	if err != nil {
		t.Fatal(err)
	}
	if a.Digest() == b.Digest() {
		t.Error("two orders of the vocabulary have one digest")
	}
}

func TestAppendTruncates(t *testing.T) {
	tok, err := Find(write(t, map[string][]byte{"vocab.txt": []byte(vocabulary)}))
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
	brackets := func(open, close string) any {
		return map[string]any{"type": "BertProcessing", "cls": []any{open, 2}, "sep": []any{close, 3}}
	}
	for name, tc := range map[string]struct {
		change func(map[string]any)
		want   string
	}{
		"bpe":           {at("model", "type")("BPE"), `the normalizer "BertNormalizer" is not supported`},
		"unigram":       {at("model")(map[string]any{"type": "Unigram", "vocab": []any{[]any{"<s>", 0.5}}}), `model "Unigram"`},
		"no type":       {at("model")(map[string]any{"vocab": []any{[]any{"<s>", 0.5}}}), `model ""`},
		"accents":       {at("normalizer", "strip_accents")(false), "do_lower_case true and strip_accents false"},
		"normalizer":    {at("normalizer", "type")("NFKC"), "BertNormalizer"},
		"none":          {at("normalizer")(nil), "BertNormalizer"},
		"chinese":       {at("normalizer", "handle_chinese_chars")(false), "tokenize_chinese_chars"},
		"control":       {at("normalizer", "clean_text")(false), "clean_text"},
		"whitespace":    {at("pre_tokenizer", "type")("Whitespace"), "BertPreTokenizer"},
		"no words":      {at("pre_tokenizer")(nil), "BertPreTokenizer"},
		"post-process":  {at("post_processor", "type")("ByteLevel"), "post-processor ByteLevel"},
		"no brackets":   {at("post_processor")(nil), "no post-processor"},
		"bad brackets":  {at("post_processor")(map[string]any{"type": "BertProcessing", "cls": 7}), "post_processor"},
		"one bracket":   {at("post_processor", "single")([]any{part("[CLS]"), map[string]any{"Sequence": map[string]any{"id": "A"}}}), "post-processor"},
		"other bracket": {at("post_processor", "special_tokens", "[CLS]")(map[string]any{"ids": []int{4}}), "between [CLS] (4)"},
		"two for one":   {at("post_processor", "special_tokens", "[CLS]")(map[string]any{"ids": []int{4, 4}}), "post-processor"},
		"mask":          {at("post_processor")(brackets("[MASK]", "[SEP]")), "between [MASK] (2)"},
		"mpnet":         {at("post_processor")(brackets("<s>", "</s>")), "the vocabulary has no <s>"},
		"unknown":       {at("model", "unk_token")("hello"), `unknown token is "hello"`},
		"prefix":        {at("model", "continuing_subword_prefix")("@@"), "the prefix ##"},
		"words":         {at("model", "max_input_chars_per_word")(200), "at most 100 characters"},
		"huge":          {at("model", "vocab", "hello")(1 << 40), "cannot unmarshal"},
		"gap":           {at("model", "vocab", "hello")(1 << 20), "beyond the 9 tokens"},
		"negative":      {at("model", "vocab", "hello")(-1), "beyond the 9 tokens"},
		"twice":         {at("model", "vocab", "hello")(6), "there twice"},
		"added":         {at("added_tokens")([]any{map[string]any{"id": 5, "content": "hello", "single_word": true}}), `"hello"`},
		"added twice":   {at("added_tokens")([]any{map[string]any{"id": 5, "content": "x"}, map[string]any{"id": 6, "content": "x"}}), "the ids 5 and 6"},
	} {
		_, err := Find(write(t, map[string][]byte{"tokenizer.json": asJSON(t, tc.change)}))
		if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.HasPrefix(err.Error(), "tokenizer: ") {
			t.Errorf("%s: error %v, want one with %q", name, err, tc.want)
		}
	}
	for name, tc := range map[string]struct {
		files map[string]string
		want  string
	}{
		"class":     {map[string]string{"vocab.txt": vocabulary, "tokenizer_config.json": `{"tokenizer_class": "XLNetTokenizer"}`}, "the class XLNetTokenizer"},
		"roberta":   {map[string]string{"vocab.txt": vocabulary, "tokenizer_config.json": `{"tokenizer_class": "RobertaTokenizer"}`}, "no vocab.json"},
		"no class":  {map[string]string{"vocab.json": `{}`, "merges.txt": ""}, "no vocab.txt"},
		"no pad":    {map[string]string{"vocab.txt": "[UNK]\n[CLS]\n[SEP]\nhello\n"}, "no [PAD]"},
		"no cls":    {map[string]string{"vocab.txt": "[UNK]\n[PAD]\n[SEP]\nhello\n"}, "no [CLS]"},
		"no unk":    {map[string]string{"vocab.txt": "[CLS]\n[PAD]\n[SEP]\nhello\n"}, "no [UNK]"},
		"blank":     {map[string]string{"vocab.txt": "[UNK]\n\n[PAD]\n[CLS]\n[SEP]"}, "token 1 is empty"},
		"nothing":   {map[string]string{"vocab.txt": ""}, "no [UNK]"},
		"cut":       {map[string]string{"tokenizer.json": string(asJSON(t, nil)[:200])}, "tokenizer.json: unexpected end"},
		"directory": {nil, ErrNone.Error()},
	} {
		files := map[string][]byte{}
		for file, content := range tc.files {
			files[file] = []byte(content)
		}
		if _, err := Find(write(t, files)); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: error %v, want one with %q", name, err, tc.want)
		}
	}
	if _, err := Find(t.TempDir()); !errors.Is(err, ErrNone) {
		t.Errorf("an empty directory: %v", err)
	}
}
