package tokenizer

import (
	"errors"
	"fmt"
)

// Tokenizer turns texts into the ids that a model takes. It is immutable and
// safe for concurrent use.
type Tokenizer struct {
	pieces interface {
		// AppendLimit appends the first limit ids of a text.
		AppendLimit(dst []int32, text string, limit int) []int32
	}
	open, close int32 // before and behind a text
	pad         int32 // -1 for none
	last        int32 // the greatest id
	lowers      bool
	digest      string
}

// Kind is a family of tokenizers. It decides what the files leave out.
type Kind int

const (
	// BERT is WordPiece; a text stands between [CLS] and [SEP].
	BERT Kind = iota
	// MPNet is WordPiece; a text stands between <s> and </s>.
	MPNet
	// RoBERTa is byte-level BPE; a text stands between <s> and </s>.
	RoBERTa
)

// Load reads the tokenizer of a directory, which is known to be of that kind.
func Load(dir string, kind Kind) (*Tokenizer, error) {
	s, err := readSettings(dir)
	if err != nil {
		return nil, err
	}
	return s.build(dir, kind)
}

// ErrNone is returned by [Find] for a directory that has no tokenizer.
var ErrNone = errors.New("there is no tokenizer.json, no vocab.txt and no vocab.json")

// Find reads the tokenizer of a directory, whose kind its files must say: the
// model and the post-processor of tokenizer.json, else the class that
// tokenizer_config.json names (none stands for BERT's). All of it must agree,
// and there must be a token for padding.
func Find(dir string) (*Tokenizer, error) {
	s, err := readSettings(dir)
	if err != nil {
		return nil, fmt.Errorf("tokenizer: %w", err)
	}
	kind, err := s.kind(dir)
	if err != nil {
		return nil, fmt.Errorf("tokenizer: %w", err)
	}
	t, err := s.build(dir, kind)
	if err != nil {
		return nil, err
	}
	if err := s.agree(t, kind); err != nil {
		return nil, fmt.Errorf("tokenizer: %w", err)
	}
	return t, nil
}

// Lowers reports whether the tokenizer of a directory takes capital letters
// for small ones. It reads no vocabulary.
func Lowers(dir string, kind Kind) (bool, error) {
	if kind == RoBERTa {
		return false, nil
	}
	s, err := readSettings(dir)
	if err != nil {
		return false, err
	}
	cased, err := s.cased()
	return !cased, err
}

// build makes the tokenizer.
func (s *settings) build(dir string, kind Kind) (*Tokenizer, error) {
	names := s.names(kind)
	t, d := &Tokenizer{pad: -1}, newDigest()
	var specials []special
	var err error
	if kind == RoBERTa {
		specials, err = s.byteLevel(t, d, dir, names)
	} else {
		specials, err = s.wordPiece(t, d, dir, names)
	}
	if err != nil {
		return nil, fmt.Errorf("tokenizer: %w", err)
	}
	for _, sp := range specials {
		t.last = max(t.last, sp.ID)
		if sp.Content == names[rolePad].Content {
			t.pad = sp.ID
		}
	}
	if t.open, err = idOf(specials, names[roleCLS].Content); err != nil {
		return nil, err
	}
	if t.close, err = idOf(specials, names[roleSEP].Content); err != nil {
		return nil, err
	}
	t.digest = d.sum(t)
	return t, nil
}

func idOf(specials []special, text string) (int32, error) {
	for _, s := range specials {
		if s.Content == text {
			return s.ID, nil
		}
	}
	return 0, fmt.Errorf("tokenizer: the vocabulary has no %s", text)
}

// Digest identifies what texts become: SHA-256 over the rules' version, the
// vocabulary and the special tokens, the same from any spelling of the files.
func (t *Tokenizer) Digest() string { return t.digest }

// Last returns the greatest id that there is.
func (t *Tokenizer) Last() int32 { return t.last }

// Pad returns the id that fills the rows of a batch of unequal texts, -1 if
// there is none.
func (t *Tokenizer) Pad() int32 { return t.pad }

// Lowers reports whether capital letters are taken for small ones.
func (t *Tokenizer) Lowers() bool { return t.lowers }

// Append appends the ids of a text's tokens to dst, with the one before and
// the one behind a text, at most limit ids in all, which must be 2 at least:
// as the reference truncates, the last tokens of a long text are left out and
// the one behind is kept.
func (t *Tokenizer) Append(dst []int32, text string, limit int) []int32 {
	dst = append(dst, t.open)
	return append(t.pieces.AppendLimit(dst, text, limit-2), t.close)
}
