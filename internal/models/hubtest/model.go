package hubtest

import (
	"math/rand/v2"
)

// Model returns the files of a small model, as a hub has them: weights of
// random bytes, the files around them, and files that nothing here reads.
func Model(seed uint64, weights int) map[string][]byte {
	random := func(n int) []byte {
		rng := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(n), byte(n >> 8), byte(n >> 16)})
		b := make([]byte, n)
		_, _ = rng.Read(b)
		return b
	}
	return map[string][]byte{
		"README.md":                   []byte("---\nlicense: apache-2.0\ntags: [test]\n---\n# A model\n"),
		"config.json":                 []byte(`{"architectures": ["BertModel"], "model_type": "bert", "hidden_size": 32}`),
		"modules.json":                []byte(`[{"path": "", "type": "sentence_transformers.models.Transformer"}, {"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}]`),
		"sentence_bert_config.json":   []byte(`{"max_seq_length": 128}`),
		"1_Pooling/config.json":       []byte(`{"pooling_mode_mean_tokens": true}`),
		"tokenizer.json":              random(100_000),
		"vocab.txt":                   []byte("[PAD]\n[UNK]\n"),
		"empty.txt":                   {},
		"model.safetensors":           random(weights),
		"pytorch_model.bin":           random(80_000),
		"onnx/model.onnx":             random(90_000),
		"onnx/model_O3.onnx":          random(90_001),
		"openvino/openvino_model.xml": []byte("<xml/>"),
		".gitattributes":              []byte("*.safetensors filter=lfs\n"),
	}
}
