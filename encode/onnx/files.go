package onnx

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/permafrost-ml/permafrost/internal/bounded"
	"github.com/permafrost-ml/permafrost/internal/tokenizer"
)

// files are a model's files and when they were read.
type files struct {
	graphFile string
	dir       string // of the tokenizer and the configs
	stamps    []stamp
}

// stamp is a file as it was when it was read; size is -1 for none.
type stamp struct {
	file string
	size int64
	mod  time.Time
}

func stampOf(file string) stamp {
	info, err := os.Stat(file)
	if err != nil {
		return stamp{file, -1, time.Time{}}
	}
	return stamp{file, info.Size(), info.ModTime()}
}

// note remembers a file as it is now, before it is read.
func (f *files) note(file string) string {
	f.stamps = append(f.stamps, stampOf(file))
	return file
}

// current reports whether no file has changed since it was read.
func (f *files) current() bool {
	for _, s := range f.stamps {
		if now := stampOf(s.file); now.size != s.size || !now.mod.Equal(s.mod) {
			return false
		}
	}
	return true
}

// beside are the files that lie with a model.
var beside = slices.Concat(tokenizer.Files, lengthFiles, []string{"config.json", "preprocessor_config.json", "modules.json"})

// lengthFiles are the names that sentence-transformers has had for the config
// of a transformer; the first that is there counts.
var lengthFiles = []string{
	"sentence_bert_config.json", "sentence_roberta_config.json", "sentence_distilbert_config.json",
	"sentence_camembert_config.json", "sentence_albert_config.json", "sentence_xlm-roberta_config.json", "sentence_xlnet_config.json",
}

// locate finds the graph of a path, and the folder of the other files.
func (f *files) locate(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	f.graphFile = path
	if info.IsDir() {
		f.graphFile = ""
		for _, name := range []string{"model.onnx", "onnx/model.onnx"} {
			file := filepath.Join(path, filepath.FromSlash(name))
			if _, err := os.Stat(file); err == nil {
				f.graphFile = file
				break
			}
		}
		if f.graphFile == "" {
			return errors.New("the directory has neither model.onnx nor onnx/model.onnx")
		}
	}
	f.dir = filepath.Dir(f.graphFile)
	if filepath.Base(f.dir) == "onnx" && !f.has("tokenizer.json", "vocab.txt", "vocab.json", "preprocessor_config.json") {
		f.dir = filepath.Dir(f.dir)
	}
	for _, name := range beside {
		f.note(filepath.Join(f.dir, name))
	}
	f.note(f.graphFile)
	return nil
}

// has reports whether one of the files is in the folder.
func (f *files) has(names ...string) bool {
	for _, name := range names {
		if _, err := os.Stat(filepath.Join(f.dir, name)); err == nil {
			return true
		}
	}
	return false
}

func (f *files) readGraph() (graph, error) {
	file, err := os.Open(f.graphFile)
	if err != nil {
		return graph{}, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return graph{}, err
	}
	return readGraph(file, info.Size())
}

// digest is the SHA-256 of the graph's file; where weights lie in files of
// their own, that over the names and digests of all.
func (f *files) digest(ctx context.Context, others []string) (string, error) {
	sum, err := sha256Of(ctx, f.graphFile)
	if err != nil || len(others) == 0 {
		return sum, err
	}
	all := sha256.New()
	fmt.Fprintf(all, "%s\n", sum)
	for _, name := range others {
		if !filepath.IsLocal(filepath.FromSlash(name)) {
			return "", fmt.Errorf("the graph has weights in %q, outside of its folder", name)
		}
		file := f.note(filepath.Join(filepath.Dir(f.graphFile), filepath.FromSlash(name)))
		if sum, err = sha256Of(ctx, file); err != nil {
			return "", err
		}
		fmt.Fprintf(all, "%d:%s %s\n", len(name), name, sum)
	}
	return hex.EncodeToString(all.Sum(nil)), nil
}

func sha256Of(ctx context.Context, name string) (string, error) {
	file, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer file.Close()
	h, buf := sha256.New(), make([]byte, 1<<20)
	for {
		n, err := file.Read(buf)
		h.Write(buf[:n])
		if errors.Is(err, io.EOF) {
			return hex.EncodeToString(h.Sum(nil)), nil
		}
		if err := cmp.Or(err, ctx.Err()); err != nil {
			return "", err
		}
	}
}

// maxConfig is how large a config may be.
const maxConfig = 1 << 20

// config reads a JSON file of the directory into c, which it leaves as it is
// where there is none; ok says whether there is.
func (f *files) config(name string, c any) (ok bool, err error) {
	return bounded.JSON(filepath.Join(f.dir, filepath.FromSlash(name)), maxConfig, c)
}

// limits are what the configs of a text model say; sizes are 0 where none does.
type limits struct {
	length, positions, vocabulary int
	lower                         bool // texts are lowered before they are tokenized
}

func (f *files) limits() (l limits, err error) {
	var tok struct {
		Length *float64 `json:"model_max_length"` // 1e30 stands for none
	}
	var c struct {
		Kind       string `json:"model_type"`
		Positions  int    `json:"max_position_embeddings"`
		Vocabulary int    `json:"vocab_size"`
		Padding    *int   `json:"pad_token_id"`
	}
	if _, err := bounded.JSON(filepath.Join(f.dir, "tokenizer_config.json"), tokenizer.MaxFile, &tok); err != nil {
		return l, err
	}
	if _, err := f.config("config.json", &c); err != nil {
		return l, err
	}
	const most = 1 << 20
	l.length = 512
	l.positions, l.vocabulary = c.Positions, c.Vocabulary
	switch c.Kind {
	case "roberta", "xlm-roberta", "camembert", "mpnet":
		// Their positions begin behind that of the padding.
		padding := 1
		if c.Padding != nil && c.Kind != "mpnet" { // whose is fixed
			padding = *c.Padding
		}
		if l.positions > 0 {
			if padding < 0 || padding >= l.positions-1 {
				return l, fmt.Errorf("config.json: pad_token_id %d leaves no token of the %d positions", padding, l.positions)
			}
			l.positions -= padding + 1
		}
	}
	if l.positions > 0 {
		l.length = l.positions
	}
	if tok.Length != nil && *tok.Length >= 1 && *tok.Length < most {
		l.length = int(*tok.Length)
	}
	for _, name := range lengthFiles {
		var st struct {
			Length *int `json:"max_seq_length"`
			Lower  bool `json:"do_lower_case"`
		}
		ok, err := f.config(name, &st)
		if err != nil {
			return l, err
		}
		if ok {
			if st.Length != nil && *st.Length > 0 && *st.Length < most {
				l.length = *st.Length
			}
			l.lower = st.Lower
			break
		}
	}
	return l, nil
}

// modules is what a sentence-transformers directory does with the vectors of
// the tokens.
type modules struct {
	pooling   string
	normalize bool
	unknown   string // a module that is not applied here
}

func (f *files) modules() (m modules, err error) {
	var list []struct{ Path, Type string }
	ok, err := f.config("modules.json", &list)
	if err != nil {
		return m, err
	}
	if !ok {
		m.pooling, err = f.poolingMode("1_Pooling")
		return m, err
	}
	for _, one := range list {
		switch kind := one.Type[strings.LastIndex(one.Type, ".")+1:]; kind {
		case "Transformer":
		case "Pooling":
			if !filepath.IsLocal(one.Path) {
				return m, fmt.Errorf("modules.json: the path %q", one.Path)
			}
			if m.pooling, err = f.poolingMode(one.Path); err != nil {
				return m, err
			}
		case "Normalize":
			m.normalize = true
		default:
			m.unknown = kind
		}
	}
	return m, nil
}

// poolingMode reads the config of a pooling module; no file is no mode.
func (f *files) poolingMode(dir string) (string, error) {
	name := dir + "/config.json"
	f.note(filepath.Join(f.dir, filepath.FromSlash(name)))
	c := map[string]any{}
	if ok, err := f.config(name, &c); !ok || err != nil {
		return "", err
	}
	mode := ""
	for key, on := range c {
		if on != true || !strings.HasPrefix(key, "pooling_mode_") {
			continue
		}
		short, known := map[string]string{"cls_token": "cls", "mean_tokens": "mean", "max_tokens": "max"}[strings.TrimPrefix(key, "pooling_mode_")]
		if !known || mode != "" {
			return "", fmt.Errorf("%s: %s: only one of cls, mean and max is known", name, key)
		}
		mode = short
	}
	if mode == "" {
		mode, _ = c["pooling_mode"].(string)
	}
	return mode, nil
}
