package models

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Card is what the files of a model say of it; what they do not say is the
// zero value.
type Card struct {
	Architecture string // such as BertModel
	ModelType    string // such as bert
	// Dim is the size of an embedding: of the last Dense module if there is
	// one, else the model's hidden size.
	Dim       int
	MaxLength int // tokens, as sentence-transformers uses it
	// Formats are safetensors, onnx.
	Formats []string
}

// cardLimit bounds what is read of a file for the card.
const cardLimit = 1 << 20

// readCard reads the files of a model. One that cannot be read says nothing.
func readCard(model fs.FS) (c Card) {
	var config struct {
		Architectures []string `json:"architectures"`
		ModelType     string   `json:"model_type"`
		HiddenSize    int      `json:"hidden_size"`
		DModel        int      `json:"d_model"`
		Dim           int      `json:"dim"`
	}
	var modules []struct {
		Path string `json:"path"`
		Type string `json:"type"`
	}
	var transformer struct {
		MaxSeqLength int `json:"max_seq_length"`
	}
	readJSON(model, "modules.json", &modules)
	inner := ""
	for _, m := range modules {
		if strings.HasSuffix(m.Type, ".Transformer") && fs.ValidPath(m.Path) {
			inner = m.Path
		}
	}
	readJSON(model, path.Join(inner, "config.json"), &config)
	readJSON(model, path.Join(inner, "sentence_bert_config.json"), &transformer)
	if len(config.Architectures) > 0 {
		c.Architecture = config.Architectures[0]
	}
	c.ModelType = config.ModelType
	c.Dim = cmp.Or(config.HiddenSize, config.DModel, config.Dim)
	c.MaxLength = transformer.MaxSeqLength
	for _, m := range modules {
		var dense struct {
			Out int `json:"out_features"`
		}
		if strings.HasSuffix(m.Type, ".Dense") && fs.ValidPath(m.Path) {
			readJSON(model, path.Join(m.Path, "config.json"), &dense)
			c.Dim = cmp.Or(dense.Out, c.Dim)
		}
	}
	for _, f := range []struct{ name, pattern string }{{"safetensors", "*.safetensors"}, {"onnx", "*.onnx"}} {
		for _, dir := range []string{"", "onnx", inner} {
			if found, _ := fs.Glob(model, path.Join(dir, f.pattern)); len(found) > 0 {
				c.Formats = append(c.Formats, f.name)
				break
			}
		}
	}
	return c
}

// readJSON leaves v alone where the file cannot be read.
func readJSON(model fs.FS, name string, v any) {
	if data, err := head(model, name); err == nil {
		_ = json.Unmarshal(data, v)
	}
}

// head reads a regular file, at most cardLimit bytes of it.
func head(model fs.FS, name string) ([]byte, error) {
	f, err := model.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", name)
	}
	return io.ReadAll(io.LimitReader(f, cardLimit))
}

// license is what the front matter of the model card names, on one line.
func license(model fs.FS) string {
	data, err := head(model, "README.md")
	if err != nil {
		return ""
	}
	rest, ok := bytes.CutPrefix(bytes.TrimPrefix(bytes.ReplaceAll(data, []byte("\r\n"), []byte("\n")), []byte("\ufeff")), []byte("---\n"))
	matter, _, closed := bytes.Cut(rest, []byte("\n---"))
	var card struct {
		License any    `yaml:"license"`
		Name    string `yaml:"license_name"`
	}
	if !ok || !closed || yaml.Unmarshal(matter, &card) != nil {
		return ""
	}
	names := []string{}
	switch l := card.License.(type) {
	case string:
		names = append(names, l)
	case []any:
		for _, v := range l {
			names = append(names, fmt.Sprint(v))
		}
	}
	text := strings.Join(names, ", ")
	if text == "other" && card.Name != "" {
		text = card.Name
	}
	text = strings.Join(strings.Fields(text), " ")
	return text[:min(len(text), 200)]
}
