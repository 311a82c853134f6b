package tokenizer

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/permafrost-ml/permafrost/internal/bounded"
	"github.com/permafrost-ml/permafrost/internal/wordpiece"
)

// wordPiece makes t a WordPiece tokenizer, and lists its special tokens.
func (s *settings) wordPiece(t *Tokenizer, d digest, dir string, names roles) ([]special, error) {
	cased, err := s.cased()
	if err != nil {
		return nil, err
	}
	vocab, err := s.vocabulary(dir)
	if err != nil {
		return nil, err
	}
	specials, err := s.specials(names, func(text string) (int32, bool) {
		id := slices.Index(vocab, text)
		return int32(id), id >= 0
	})
	if err != nil {
		return nil, err
	}
	o := wordpiece.Options{Cased: cased, Unknown: names[roleUnknown].Content, Specials: []wordpiece.Special{}}
	for _, sp := range specials {
		// Spaces beside a special token are none of its words anyway.
		o.Specials = append(o.Specials, wordpiece.Special{Text: sp.Content, ID: sp.ID})
	}
	t.last = int32(len(vocab)) - 1
	t.lowers = !cased
	d.wordPiece(vocab, o)
	t.pieces, err = wordpiece.NewWith(vocab, o)
	return specials, err
}

// cased checks the settings of a WordPiece tokenizer, and reports whether it
// keeps case and accents.
func (s *settings) cased() (bool, error) {
	lower, chinese, basic, strip := true, true, true, (*bool)(nil)
	if s.isFile {
		m := &s.file.Model
		// Old files leave the type out.
		if m.Type != "" && m.Type != "WordPiece" {
			return false, fmt.Errorf("tokenizer.json: the model %q is not supported here, there is WordPiece", m.Type)
		}
		if m.Prefix != nil && *m.Prefix != "##" || m.MaxChars != nil && *m.MaxChars != 100 {
			return false, errors.New("tokenizer.json: want the prefix ## and at most 100 characters a word")
		}
		if p := s.file.PreTokenizer; p != nil && p.Type != "BertPreTokenizer" {
			return false, fmt.Errorf("tokenizer.json: the pre-tokenizer %q is not supported here, there is BertPreTokenizer", p.Type)
		}
		if n := s.file.Normalizer; n != nil {
			if n.Type != "BertNormalizer" || n.CleanText != nil && !*n.CleanText {
				return false, fmt.Errorf("tokenizer.json: the normalizer %q is not supported here, there is BertNormalizer with clean_text", n.Type)
			}
			set(&lower, n.Lower)
			set(&chinese, n.Chinese)
			strip = n.StripAccents
		}
	}
	set(&lower, s.config.Lower)
	set(&chinese, s.config.Chinese)
	set(&basic, s.config.Basic)
	if s.config.StripAccents != nil {
		strip = s.config.StripAccents
	}
	switch {
	case strip != nil && *strip != lower:
		return false, fmt.Errorf("a tokenizer with do_lower_case %t and strip_accents %t is not supported: want both or neither", lower, *strip)
	case !chinese:
		return false, errors.New("a tokenizer with tokenize_chinese_chars false is not supported")
	case !basic:
		return false, errors.New("a tokenizer with do_basic_tokenize false is not supported")
	}
	return !lower, nil
}

// vocabulary lists the tokens by id.
func (s *settings) vocabulary(dir string) ([]string, error) {
	if s.isFile {
		var ids map[string]int32
		if err := json.Unmarshal(s.file.Model.Vocab, &ids); err != nil {
			return nil, fmt.Errorf("tokenizer.json: model.vocab: %w", err)
		}
		vocab := make([]string, len(ids))
		for token, id := range ids {
			if id < 0 || int(id) >= len(vocab) || vocab[id] != "" {
				return nil, fmt.Errorf("tokenizer.json: the id %d of %q is there twice or beyond the %d tokens", id, token, len(vocab))
			}
			vocab[id] = token
		}
		return vocab, nil
	}
	b, err := bounded.Read(filepath.Join(dir, "vocab.txt"), MaxFile)
	if err != nil {
		return nil, fmt.Errorf("there is no tokenizer.json, and no vocab.txt: %w", err)
	}
	lines := strings.Split(strings.ReplaceAll(string(b), "\r\n", "\n"), "\n")
	if n := len(lines); lines[n-1] == "" {
		lines = lines[:n-1]
	}
	return lines, nil
}
