package bert

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/permafrost-ml/permafrost/encode"
	"github.com/permafrost-ml/permafrost/internal/bounded"
)

// copied is a copy of a tiny model with files changed by fix, which gets the
// content of a file and returns its new one; nil takes it away.
func copied(t testing.TB, name string, fix map[string]func(old []byte) []byte) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(filepath.Join("testdata", name))); err != nil {
		t.Fatal(err)
	}
	for file, change := range fix {
		path := filepath.Join(dir, filepath.FromSlash(file))
		old, err := os.ReadFile(path)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		content := change(old)
		if content == nil {
			err = os.Remove(path)
		} else if err = os.MkdirAll(filepath.Dir(path), 0o755); err == nil {
			err = os.WriteFile(path, content, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func gone([]byte) []byte { return nil }

func content(s string) func([]byte) []byte { return func([]byte) []byte { return []byte(s) } }

// replace puts one text in the place of another, which must be there.
func replace(pairs ...string) func([]byte) []byte {
	return func(b []byte) []byte {
		for i := 0; i < len(pairs); i += 2 {
			if !bytes.Contains(b, []byte(pairs[i])) {
				panic(fmt.Sprintf("no %q in %s", pairs[i], b))
			}
			b = bytes.Replace(b, []byte(pairs[i]), []byte(pairs[i+1]), 1)
		}
		return b
	}
}

// header changes the header of a safetensors file.
func header(change func(h map[string]any)) func([]byte) []byte {
	return func(b []byte) []byte {
		n := binary.LittleEndian.Uint64(b)
		var h map[string]any
		if err := json.Unmarshal(b[8:8+n], &h); err != nil {
			panic(err)
		}
		change(h)
		text, err := json.Marshal(h)
		if err != nil {
			panic(err)
		}
		return slices.Concat(binary.LittleEndian.AppendUint64(nil, uint64(len(text))), text, b[8+n:])
	}
}

type edits = map[string]func([]byte) []byte

func TestBadDirectories(t *testing.T) {
	const (
		words = "embeddings.word_embeddings.weight"
		query = "encoder.layer.1.attention.self.query.weight"
	)
	entry := func(h map[string]any, name string) map[string]any { return h[name].(map[string]any) }
	module := func(class string) func([]byte) []byte {
		return replace("sentence_transformers.base.modules.normalize.Normalize", class)
	}
	for _, tc := range []struct {
		name string
		fix  edits
		want string
	}{
		{"no config", edits{"config.json": gone}, "there is no config.json"},
		{"bad JSON", edits{"config.json": content("{")}, "config.json: unexpected end"},
		{"config of another type", edits{"config.json": replace(`"hidden_size": 24`, `"hidden_size": "24"`)}, "config.json: json: cannot unmarshal string"},
		{"huge config", edits{"config.json": content(strings.Repeat(" ", maxConfig+1))}, "more than 1048576 bytes"},
		{"another architecture", edits{"config.json": replace(`"model_type": "bert"`, `"model_type": "electra"`)}, `the architecture (model_type) "electra" is not supported, there is bert`},
		{"no heads", edits{"config.json": replace(`"num_attention_heads": 3`, `"num_attention_heads": 0`)}, "number of heads is 0, want 1"},
		{"heads that do not fit", edits{"config.json": replace(`"num_attention_heads": 3`, `"num_attention_heads": 5`)}, "hidden size of 24 cannot be shared by 5 heads"},
		{"huge sizes", edits{"config.json": replace(`"hidden_size": 24`, `"hidden_size": 1000000000`)}, "hidden size is 1000000000, want"},
		{"many layers", edits{"config.json": replace(`"num_hidden_layers": 2`, `"num_hidden_layers": 16000000`)}, `"encoder.layer.2.attention.self.query.weight" is missing`},
		{"no size", edits{"config.json": replace(`"hidden_size": 24,`, "")}, "it gives no hidden size"},
		{"another activation", edits{"config.json": replace(`"hidden_act": "gelu"`, `"hidden_act": "swish"`)}, `activation "swish" is not supported`},
		{"a decoder", edits{"config.json": replace(`"is_decoder": false`, `"is_decoder": true`)}, "it is a decoder"},
		{"relative positions", edits{"config.json": replace(`"hidden_size"`, `"position_embedding_type": "relative_key", "hidden_size"`)}, `position_embedding_type is "relative_key"`},
		{"larger than the weights", edits{"config.json": replace(`"hidden_size": 24`, `"hidden_size": 48`)}, `tensor "` + words + `" has the shape [206 24], config.json asks for [206 48]`},
		{"smaller vocabulary", edits{"config.json": replace(`"vocab_size": 206`, `"vocab_size": 200`)}, "the tokenizer has the id 205, config.json's vocab_size is 200"},

		{"no weights", edits{"model.safetensors": gone}, "there is no model.safetensors"},
		{"weights cut", edits{"model.safetensors": func(b []byte) []byte { return b[:len(b)-4] }}, "its tensors end at byte"},
		{"weights grown", edits{"model.safetensors": func(b []byte) []byte { return append(b, 0, 0, 0, 0) }}, "its tensors end at byte"},
		{"weights empty", edits{"model.safetensors": content("")}, "it ends within the header's length"},
		{"huge header", edits{"model.safetensors": func(b []byte) []byte { return binary.LittleEndian.AppendUint64(nil, 1<<62) }}, "the header has 4611686018427387904 bytes"},
		{"tensor missing", edits{"model.safetensors": header(func(h map[string]any) {
			h["pooler.x"] = h[query]
			delete(h, query)
		})}, `tensor "` + query + `" is missing`},
		{"tensor too many", edits{"model.safetensors": header(func(h map[string]any) {
			h["encoder.layer.2.x"] = h["pooler.dense.bias"]
			delete(h, "pooler.dense.bias")
		})}, `no place for the tensor "encoder.layer.2.x" of shape [24]`},
		{"tensor of another shape", edits{"model.safetensors": header(func(h map[string]any) { entry(h, query)["shape"] = []int{12, 48} })}, "has the shape [12 48], config.json asks for [24 24]"},
		{"tensor of integers", edits{"model.safetensors": header(func(h map[string]any) { entry(h, query)["dtype"] = "I32" })}, "is of dtype I32"},
		{"tensors that overlap", edits{"model.safetensors": header(func(h map[string]any) {
			entry(h, query)["data_offsets"] = entry(h, "encoder.layer.0.attention.self.query.weight")["data_offsets"]
		})}, "not a valid safetensors file"},
		{"shape that lies", edits{"model.safetensors": header(func(h map[string]any) { entry(h, words)["shape"] = []int{1 << 40, 1 << 40} })}, "not a valid safetensors file"},
		{"index of files elsewhere", edits{
			"model.safetensors": gone, "model.safetensors.index.json": content(`{"weight_map": {"a": "../../secret.safetensors"}}`),
		}, "is no file beside it"},
		{"index of nothing", edits{"model.safetensors": gone, "model.safetensors.index.json": content(`{}`)}, "names 0 files"},

		{"a module of another kind", edits{"modules.json": module("sentence_transformers.models.LSTM")}, `module "sentence_transformers.models.LSTM" at place 2 is not supported`},
		{"a module of somebody else", edits{"modules.json": module("my.Normalize")}, `module "my.Normalize" at place 2`},
		{"no pooling", edits{"modules.json": replace("sentence_transformer.modules.pooling.Pooling", "models.WeightedLayerPooling")}, "want sentence_transformers' Pooling"},
		{"no modules", edits{"modules.json": content("[]")}, "modules.json names 0 modules"},
		{"a module elsewhere", edits{"modules.json": replace("1_Pooling", "../1_Pooling")}, "leads out of the model's directory"},
		{"another pooling", edits{"1_Pooling/config.json": replace(`"mean"`, `"median"`)}, `"median" is none of`},
		{"no config of pooling", edits{"1_Pooling/config.json": gone}, "pooling: it has no config.json"},
		{"prompt not pooled", edits{"1_Pooling/config.json": replace(`"include_prompt": true`, `"include_prompt": false`)}, "include_prompt is false"},
		{"no such default prompt", edits{"config_sentence_transformers.json": content(`{"prompts": {}, "default_prompt_name": "q"}`)}, `no prompt of the name "q"`},
		{"another task", edits{"sentence_bert_config.json": replace("feature-extraction", "fill-mask")}, `transformer_task is "fill-mask"`},
		{"a length of 1", edits{"sentence_bert_config.json": content(`{"max_seq_length": 1}`)}, "max_seq_length is 1"},

		{"no tokenizer", edits{"tokenizer.json": gone}, "there is no tokenizer.json, and no vocab.txt"},
		{"another tokenizer", edits{"tokenizer.json": replace(`"WordPiece"`, `"Unigram"`, `"WordPiece"`, `"Unigram"`)}, `the model "Unigram" is not supported`},
		{"another normalizer", edits{"tokenizer.json": replace("BertNormalizer", "NFC")}, `normalizer "NFC" is not supported`},
		{"another pre-tokenizer", edits{"tokenizer.json": replace("BertPreTokenizer", "Whitespace")}, `pre-tokenizer "Whitespace" is not supported`},
		{"no normal form", edits{"tokenizer_config.json": replace(`"strip_accents": null`, `"strip_accents": false`)}, "do_lower_case true and strip_accents false"},
		{"cut on the left", edits{"tokenizer_config.json": replace(`"strip_accents": null`, `"truncation_side": "left"`)}, `truncation_side "left"`},
		{"ids with a gap", edits{"tokenizer.json": replace(`"[CLS]": 0`, `"[CLS]": 5000`)}, "beyond the 206 tokens"},
		{"a negative id", edits{"tokenizer.json": replace(`"[CLS]": 0`, `"[CLS]": -1`)}, "is there twice or beyond"},
		{"no [SEP]", edits{"tokenizer.json": replace(`"[SEP]": 2`, `"[sep]": 2`, `"content": "[SEP]"`, `"content": "[sep]"`)}, "the vocabulary has no [SEP]"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := Model(copied(t, "bert", tc.fix))
			enc, err := m.Open(t.Context(), 0)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("the error is %v, want one with %q", err, tc.want)
			}
			if enc != nil {
				t.Error("an encoder comes with the error")
			}
		})
	}
	if len(shared.all) != 0 {
		t.Errorf("%d networks are left by directories that failed", len(shared.all))
	}
}

func TestBadBPE(t *testing.T) {
	for _, tc := range []struct {
		name string
		fix  edits
		want string
	}{
		{"roberta", edits{"tokenizer.json": replace(`"type": "BPE"`, `"type": "Unigram"`)}, `the model "Unigram" is not supported`},
		{"roberta", edits{"tokenizer.json": replace(`"normalizer": null`, `"normalizer": {"type": "NFC"}`)}, `the normalizer "NFC" is not supported`},
		{"roberta", edits{"tokenizer.json": replace(`"type": "ByteLevel"`, `"type": "Whitespace"`)}, "there is ByteLevel"},
		{"roberta", edits{"tokenizer.json": replace(`"merges": [`, `"merges": [["a"],`)}, "a merge of 1 tokens"},
		{"roberta", edits{"tokenizer.json": replace(`"<s>": 0`, `"<s>": -3`)}, `the token "<s>" has the id -3`},
		{"roberta", edits{"sentence_bert_config.json": content(`{"do_lower_case": true}`)}, "do_lower_case before a tokenizer that keeps case"},
		{"roberta", edits{"config.json": replace(`"max_position_embeddings": 50`, `"max_position_embeddings": 4`)}, "positions for 2 tokens only"},
		{"roberta-prefix", edits{"vocab.json": gone}, "and no vocab.json"},
		{"roberta-prefix", edits{"merges.txt": gone}, "merges.txt"},
		{"roberta-prefix", edits{"merges.txt": content("#version: 0.2\nab\n")}, `merges.txt, line 2: the merge "ab" has no space`},
		{"roberta-prefix", edits{"merges.txt": content("a nothing\n")}, "merge 0: the vocabulary lacks"},
		{"roberta-prefix", edits{"vocab.json": replace(`"\u0120": 225, `, "")}, "no token for the byte 0x20"},
	} {
		enc, err := Model(copied(t, tc.name, tc.fix)).Open(t.Context(), 0)
		if err == nil || enc != nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: the error is %v, want one with %q", tc.name, err, tc.want)
		}
	}
}

// TestEqualDirectories are other spellings of one model.
func TestEqualDirectories(t *testing.T) {
	inputs := readTexts(t, "testdata/texts.json")
	want := embed(t, open(t, tinyModel("bert").Model()), inputs)
	vocabulary := func() string {
		var file struct {
			Model struct{ Vocab map[string]int }
		}
		if _, err := bounded.JSON("testdata/bert/tokenizer.json", maxConfig, &file); err != nil {
			t.Fatal(err)
		}
		vocab := make([]string, len(file.Model.Vocab))
		for token, id := range file.Model.Vocab {
			vocab[id] = token
		}
		return strings.Join(vocab, "\r\n") + "\r\n"
	}
	renamed := func(rename func(string) string) func([]byte) []byte {
		return header(func(h map[string]any) {
			for name, v := range maps.Clone(h) {
				if name != "__metadata__" {
					delete(h, name)
					h[rename(name)] = v
				}
			}
		})
	}
	old := strings.NewReplacer("LayerNorm.weight", "LayerNorm.gamma", "LayerNorm.bias", "LayerNorm.beta")
	for name, fix := range map[string]edits{
		"vocab.txt with the line ends of Windows": {"tokenizer.json": gone, "vocab.txt": content(vocabulary())},
		"a prefix":        {"model.safetensors": renamed(func(s string) string { return "bert." + s })},
		"names of old":    {"model.safetensors": renamed(old.Replace)},
		"a buffer":        {"model.safetensors": renamed(func(s string) string { return strings.Replace(s, "pooler.dense.bias", "embeddings.position_ids", 1) })},
		"names of 2019":   {"modules.json": replace("sentence_transformers.base.modules.transformer.Transformer", "sentence_transformers.models.Transformer")},
		"pooling of 2019": {"1_Pooling/config.json": content(`{"word_embedding_dimension": 24, "pooling_mode_cls_token": false, "pooling_mode_mean_tokens": true}`)},
		"length elsewhere": {
			"sentence_bert_config.json": content(`{"max_seq_length": 32, "do_lower_case": true}`),
			"tokenizer_config.json":     replace(`"model_max_length": 32`, `"model_max_length": 1000000000000000019884624838656`),
		},
	} {
		if got := embed(t, open(t, Model(copied(t, "bert", fix))), inputs); !sameBits(got, want) {
			t.Errorf("%s: other embeddings", name)
		}
	}
}

// TestPlainTransformer is a directory without modules.json: mean pooling.
func TestPlainTransformer(t *testing.T) {
	no := false
	o := tinyModel("bert")
	o.Normalize = &no
	text := readTexts(t, "testdata/texts.json")
	want := embed(t, open(t, o.Model()), text)
	if got := embed(t, open(t, Model(copied(t, "bert", edits{"modules.json": gone}))), text); !sameBits(got, want) {
		t.Error("other embeddings than without the Normalize module")
	}
}

// TestDefaultPrompt is what sentence-transformers does without being asked.
func TestDefaultPrompt(t *testing.T) {
	prompt := content(`{"prompts": {"query": "keep "}, "default_prompt_name": "query"}`)
	m := Model(copied(t, "bert", edits{"config_sentence_transformers.json": prompt}))
	got := embed(t, open(t, m), []encode.Input{{encode.TextValue("the cache")}})
	want := embed(t, open(t, tinyModel("bert").Model()), []encode.Input{{encode.TextValue("keep the cache")}})
	if !sameBits(got, want) {
		t.Error("the prompt is not there")
	}
	spec, err := m.Spec(t.Context())
	if err != nil || !slices.Contains(spec.Fields, encode.Field{Name: "default_prompt", Value: "keep "}) {
		t.Errorf("the fields are %v, %v", spec.Fields, err)
	}
}

// TestFingerprintSeesFiles: a file that is replaced gives another fingerprint
// and other weights, while the old ones serve who opened them.
func TestFingerprintSeesFiles(t *testing.T) {
	dir := copied(t, "bert", nil)
	text := []encode.Input{{encode.TextValue("the cache")}}
	m := Model(dir)
	print := func() string {
		spec, err := m.Spec(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		sum, _, err := spec.Declaration(1)
		if err != nil {
			t.Fatal(err)
		}
		return sum
	}
	first, old := print(), open(t, m)
	before := embed(t, old, text)
	path := filepath.Join(dir, "model.safetensors")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)-1] ^= 0x40
	b[len(b)-30] ^= 1
	for i := len(b) - 24*24*4; i < len(b); i += 4 {
		b[i+3] ^= 0x80
	}
	if err := os.WriteFile(path+".new", b, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	if print() == first {
		t.Error("other weights have the same fingerprint")
	}
	if !sameBits(embed(t, old, text), before) {
		t.Error("an open encoder has changed")
	}
	if enc := open(t, m); enc.(*encoder).net == old.(*encoder).net {
		t.Error("a new encoder has the old weights")
	}
	second := print()
	if err := os.WriteFile(filepath.Join(dir, "tokenizer_config.json"), []byte(`{"model_max_length": 32}`), 0o644); err != nil {
		t.Fatal(err)
	}
	if print() == second {
		t.Error("another tokenizer has the same fingerprint")
	}
}

// TestEncodeEnds: a context that ends while layers run ends Encode soon.
func TestEncodeEnds(t *testing.T) {
	enc := open(t, tinyModel("bert").Model())
	var inputs []encode.Input
	for range 200 {
		inputs = append(inputs, readTexts(t, "testdata/texts.json")...)
	}
	ctx := &countdown{Context: t.Context(), left: 500}
	err := enc.Encode(ctx, inputs, make([]float32, len(inputs)*enc.Dim()))
	if !errors.Is(err, context.Canceled) || ctx.left < -1 {
		t.Errorf("Encode gives %v, and asked %d times more", err, -ctx.left)
	}
}

// countdown is a context that ends after it has been asked a number of times.
type countdown struct {
	context.Context
	left int
}

func (c *countdown) Err() error {
	if c.left--; c.left < 0 {
		return context.Canceled
	}
	return nil
}

// FuzzDirectory opens directories of arbitrary files, and encodes with those
// that open. Memory is bounded by the size of the files.
func FuzzDirectory(f *testing.F) {
	names := []string{"config.json", "modules.json", "tokenizer.json", "tokenizer_config.json", "1_Pooling/config.json", "model.safetensors"}
	read := func(dir, name string) []byte {
		b, err := os.ReadFile(filepath.Join("testdata", dir, filepath.FromSlash(name)))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			f.Fatal(err)
		}
		return b
	}
	for _, dir := range tiny {
		f.Add(read(dir, names[0]), read(dir, names[1]), read(dir, names[2]), read(dir, names[3]), read(dir, names[4]), read(dir, names[5]), "a text [SEP]")
	}
	f.Fuzz(func(t *testing.T, config, modules, tokenizer, tokenizerConfig, pooling, weights []byte, text string) {
		dir := t.TempDir()
		if err := os.Mkdir(filepath.Join(dir, "1_Pooling"), 0o755); err != nil {
			t.Fatal(err)
		}
		size := 0
		for i, b := range [][]byte{config, modules, tokenizer, tokenizerConfig, pooling, weights} {
			size += len(b)
			if err := os.WriteFile(filepath.Join(dir, filepath.FromSlash(names[i])), b, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		m := Model(dir)
		spec, specErr := m.Spec(t.Context())
		enc, err := m.Open(t.Context(), 0)
		if err == nil {
			if specErr != nil || spec.Dim != enc.Dim() {
				t.Errorf("it opens with the dimension %d, and the spec is %d, %v", enc.Dim(), spec.Dim, specErr)
			}
			err = enc.Encode(t.Context(), []encode.Input{{encode.TextValue(text)}}, make([]float32, enc.Dim()))
			if err := errors.Join(err, enc.Close()); err != nil {
				t.Error(err)
			}
		}
		runtime.ReadMemStats(&after)
		if got := after.TotalAlloc - before.TotalAlloc; got > uint64(16<<20+200*size) {
			t.Errorf("%d bytes are allocated for files of %d", got, size)
		}
	})
}
