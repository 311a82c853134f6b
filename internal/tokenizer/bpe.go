package tokenizer

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/permafrost-ml/permafrost/internal/bounded"
	"github.com/permafrost-ml/permafrost/internal/bytebpe"
)

// mergedPair is a merge as tokenizer.json spells it: a text with a space
// between the two, or an array of both.
type mergedPair [2]string

func (p *mergedPair) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '[' {
		var both []string
		if err := json.Unmarshal(b, &both); err != nil {
			return err
		}
		if len(both) != 2 {
			return fmt.Errorf("a merge of %d tokens", len(both))
		}
		*p = mergedPair(both)
		return nil
	}
	var text string
	if err := json.Unmarshal(b, &text); err != nil {
		return err
	}
	return p.parse(text)
}

func (p *mergedPair) parse(text string) error {
	left, right, ok := strings.Cut(text, " ")
	if !ok {
		return fmt.Errorf("the merge %q has no space", text)
	}
	*p = mergedPair{left, right}
	return nil
}

// byteLevel makes t a byte-level BPE tokenizer, and lists its special tokens.
func (s *settings) byteLevel(t *Tokenizer, d digest, dir string, names roles) ([]special, error) {
	o := bytebpe.Options{}
	if s.isFile {
		m := &s.file.Model
		if m.Type != "" && m.Type != "BPE" {
			return nil, fmt.Errorf("tokenizer.json: the model %q is not supported here, there is BPE", m.Type)
		}
		if m.Prefix != nil && *m.Prefix != "" || m.Suffix != nil && *m.Suffix != "" || m.IgnoreMerges {
			return nil, errors.New("tokenizer.json: a BPE model with a prefix, a suffix or ignore_merges is not supported")
		}
		if n := s.file.Normalizer; n != nil {
			return nil, fmt.Errorf("tokenizer.json: the normalizer %q is not supported here", n.Type)
		}
		if p := s.file.PreTokenizer; p == nil || p.Type != "ByteLevel" || p.Pattern != nil && !*p.Pattern {
			return nil, errors.New("tokenizer.json: the pre-tokenizer is not supported here, there is ByteLevel with use_regex")
		}
		set(&o.PrefixSpace, s.file.PreTokenizer.PrefixSpace)
		if err := json.Unmarshal(m.Vocab, &o.Vocab); err != nil {
			return nil, fmt.Errorf("tokenizer.json: model.vocab: %w", err)
		}
		for _, p := range m.Merges {
			o.Merges = append(o.Merges, p)
		}
	} else if err := readMerges(dir, &o); err != nil {
		return nil, err
	}
	set(&o.PrefixSpace, s.config.PrefixSpace)
	specials, err := s.specials(names, func(text string) (int32, bool) {
		id, ok := o.Vocab[text]
		return id, ok
	})
	if err != nil {
		return nil, err
	}
	for _, sp := range specials {
		o.Specials = append(o.Specials, bytebpe.Special{Text: sp.Content, ID: sp.ID, Left: sp.Left, Right: sp.Right})
	}
	for token, id := range o.Vocab {
		if id < 0 {
			return nil, fmt.Errorf("the token %q has the id %d", token, id)
		}
		t.last = max(t.last, id)
	}
	d.byteLevel(o)
	t.pieces, err = bytebpe.New(o)
	return specials, err
}

// readMerges reads vocab.json and merges.txt.
func readMerges(dir string, o *bytebpe.Options) error {
	there, err := bounded.JSON(filepath.Join(dir, "vocab.json"), MaxFile, &o.Vocab)
	if err != nil {
		return err
	}
	if !there {
		return errors.New("there is no tokenizer.json, and no vocab.json")
	}
	b, err := bounded.Read(filepath.Join(dir, "merges.txt"), MaxFile)
	if err != nil {
		return err
	}
	for i, line := range strings.Split(strings.ReplaceAll(string(b), "\r\n", "\n"), "\n") {
		if line == "" || i == 0 && strings.HasPrefix(line, "#version") {
			continue
		}
		var p mergedPair
		if err := p.parse(line); err != nil {
			return fmt.Errorf("merges.txt, line %d: %w", i+1, err)
		}
		o.Merges = append(o.Merges, p)
	}
	return nil
}
