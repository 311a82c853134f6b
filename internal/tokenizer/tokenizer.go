package tokenizer

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/permafrost-ml/permafrost/internal/wordpiece"
)

// maxFile is how large a file of a tokenizer may be: BERT's are below 1 MB,
// the largest vocabularies in use about 20 MB.
const maxFile = 64 << 20

// Tokenizer turns texts into the ids that a model takes. It is immutable and
// safe for concurrent use.
type Tokenizer struct {
	pieces        *wordpiece.Tokenizer
	cls, sep, pad int32
	digest        string
}

// ErrNone is returned for a directory that has no tokenizer.
var ErrNone = errors.New("there is no tokenizer.json and no vocab.txt")

// Load reads the tokenizer of a model directory: tokenizer.json if there is
// one, else vocab.txt.
func Load(dir string) (*Tokenizer, error) {
	data, err := read(filepath.Join(dir, "tokenizer.json"))
	if err == nil {
		vocab, err := parse(data)
		if err != nil {
			return nil, fmt.Errorf("tokenizer %s: %w", filepath.Join(dir, "tokenizer.json"), err)
		}
		return build(vocab)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	list, err := read(filepath.Join(dir, "vocab.txt"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", dir, ErrNone)
	}
	if err != nil {
		return nil, err
	}
	config, err := read(filepath.Join(dir, "tokenizer_config.json"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err := checkConfig(config); err != nil {
		return nil, fmt.Errorf("tokenizer %s: %w", filepath.Join(dir, "tokenizer_config.json"), err)
	}
	t, err := build(lines(list))
	if err != nil {
		return nil, fmt.Errorf("vocabulary %s: %w", filepath.Join(dir, "vocab.txt"), err)
	}
	return t, nil
}

// read reads a file of at most maxFile bytes.
func read(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("%s: more than %d bytes", file, maxFile)
	}
	return data, nil
}

func build(vocab []string) (*Tokenizer, error) {
	pieces, err := wordpiece.New(vocab)
	if err != nil {
		return nil, err
	}
	t := &Tokenizer{pieces: pieces}
	for text, id := range map[string]*int32{"[CLS]": &t.cls, "[SEP]": &t.sep, "[PAD]": &t.pad} {
		var ok bool
		if *id, ok = pieces.ID(text); !ok {
			return nil, fmt.Errorf("the vocabulary has no %s", text)
		}
	}
	h := sha256.New()
	fmt.Fprintf(h, "%s\n", wordpiece.Version)
	for _, token := range vocab {
		fmt.Fprintf(h, "%d:%s", len(token), token)
	}
	t.digest = hex.EncodeToString(h.Sum(nil))
	return t, nil
}

// Digest identifies what texts become: SHA-256 over the rules' version and
// the vocabulary, the same from either kind of file.
func (t *Tokenizer) Digest() string { return t.digest }

// Len returns the size of the vocabulary; ids are below it.
func (t *Tokenizer) Len() int { return t.pieces.Len() }

// Pad returns the id that fills the rows of a batch of unequal texts.
func (t *Tokenizer) Pad() int32 { return t.pad }

// Append appends [CLS], the ids of text's tokens and [SEP] to dst, at most
// limit ids in all, which must be 2 at least: as the reference truncates, the
// last tokens of a long text are left out and [SEP] is kept.
func (t *Tokenizer) Append(dst []int32, text string, limit int) []int32 {
	start := len(dst)
	dst = t.pieces.Append(append(dst, t.cls), text)
	dst = dst[:min(len(dst), start+max(limit, 2)-1)]
	return append(dst, t.sep)
}
