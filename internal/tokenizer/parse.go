package tokenizer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// file is what of a tokenizer.json decides the ids; truncation and padding
// are the engine's.
type file struct {
	AddedTokens []struct {
		ID         int    `json:"id"`
		Content    string `json:"content"`
		SingleWord bool   `json:"single_word"`
		LStrip     bool   `json:"lstrip"`
		RStrip     bool   `json:"rstrip"`
		Normalized bool   `json:"normalized"`
	} `json:"added_tokens"`
	Normalizer *struct {
		Type         string `json:"type"`
		CleanText    *bool  `json:"clean_text"`
		Chinese      *bool  `json:"handle_chinese_chars"`
		StripAccents *bool  `json:"strip_accents"`
		Lowercase    *bool  `json:"lowercase"`
	} `json:"normalizer"`
	PreTokenizer *struct {
		Type string `json:"type"`
	} `json:"pre_tokenizer"`
	PostProcessor *struct {
		Type   string `json:"type"`
		Single []struct {
			SpecialToken *struct {
				ID string `json:"id"`
			} `json:"SpecialToken"`
			Sequence *struct{} `json:"Sequence"`
		} `json:"single"`
	} `json:"post_processor"`
	Model struct {
		Type     string         `json:"type"`
		Unknown  string         `json:"unk_token"`
		Prefix   *string        `json:"continuing_subword_prefix"`
		MaxChars *int           `json:"max_input_chars_per_word"`
		Vocab    map[string]int `json:"vocab"`
	} `json:"model"`
}

// specials are the tokens that package wordpiece finds in texts.
var specials = []string{"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"}

// parse returns the vocabulary of a tokenizer.json, by id, if its rules are
// those that package wordpiece has.
func parse(data []byte) ([]string, error) {
	// Models of other kinds have a vocabulary of another form: the kind first.
	var kind struct {
		Model struct {
			Type  string          `json:"type"`
			Vocab json.RawMessage `json:"vocab"`
		} `json:"model"`
	}
	if err := json.Unmarshal(data, &kind); err != nil {
		return nil, err
	}
	if t := kind.Model.Type; t != "WordPiece" && (t != "" || !bytes.HasPrefix(kind.Model.Vocab, []byte("{"))) {
		return nil, fmt.Errorf("model %q: only WordPiece is known", t)
	}
	var f file
	if err := json.Unmarshal(data, &f); err != nil {
		return nil, err
	}
	if err := f.check(); err != nil {
		return nil, err
	}
	vocab := make([]string, len(f.Model.Vocab))
	for token, id := range f.Model.Vocab {
		if id < 0 || id >= len(vocab) || vocab[id] != "" {
			return nil, fmt.Errorf("the ids of the vocabulary are not 0 to %d, each once: %q has %d", len(vocab)-1, token, id)
		}
		vocab[id] = token
	}
	for _, a := range f.AddedTokens {
		known := a.ID >= 0 && a.ID < len(vocab) && vocab[a.ID] == a.Content
		if !known || !slices.Contains(specials, a.Content) || a.SingleWord || a.LStrip || a.RStrip || a.Normalized {
			return nil, fmt.Errorf("added token %q (id %d): only %s, as the vocabulary has them, are known", a.Content, a.ID, strings.Join(specials, ", "))
		}
	}
	return vocab, nil
}

// off: a switch is on by default.
func off(b *bool) bool { return b != nil && !*b }

// check reports the first rule of the file that is another than wordpiece's.
func (f *file) check() error {
	n := f.Normalizer
	switch {
	case n == nil || n.Type != "BertNormalizer":
		return errors.New("the normalizer is not BertNormalizer")
	case off(n.Lowercase):
		return errors.New("the tokenizer keeps case (lowercase: false), only uncased ones are known")
	case off(n.StripAccents):
		return errors.New("the tokenizer keeps accents (strip_accents: false)")
	case off(n.CleanText), off(n.Chinese):
		return errors.New("the normalizer has clean_text or handle_chinese_chars off")
	case f.PreTokenizer == nil || f.PreTokenizer.Type != "BertPreTokenizer":
		return errors.New("the pre-tokenizer is not BertPreTokenizer")
	}
	m := &f.Model
	switch {
	case m.Unknown != "" && m.Unknown != "[UNK]":
		return fmt.Errorf("the unknown token is %q, not [UNK]", m.Unknown)
	case m.Prefix != nil && *m.Prefix != "##":
		return fmt.Errorf("the prefix of continuations is %q, not ##", *m.Prefix)
	case m.MaxChars != nil && *m.MaxChars != 100:
		return fmt.Errorf("words have at most %d characters, not 100", *m.MaxChars)
	}
	return f.checkPost()
}

// checkPost: texts stand between [CLS] and [SEP].
func (f *file) checkPost() error {
	p := f.PostProcessor
	if p == nil {
		return errors.New("there is no post-processor that adds [CLS] and [SEP]")
	}
	if p.Type == "BertProcessing" {
		return nil
	}
	var around []string
	for _, s := range p.Single {
		switch {
		case s.SpecialToken != nil:
			around = append(around, s.SpecialToken.ID)
		case s.Sequence != nil:
			around = append(around, "")
		}
	}
	if p.Type != "TemplateProcessing" || !slices.Equal(around, []string{"[CLS]", "", "[SEP]"}) {
		return fmt.Errorf("post-processor %s: only [CLS] text [SEP] is known", p.Type)
	}
	return nil
}

// checkConfig checks the rules of a tokenizer_config.json that stands beside
// a vocab.txt; no data is the defaults.
func checkConfig(data []byte) error {
	if data == nil {
		return nil
	}
	var c struct {
		Class        string `json:"tokenizer_class"`
		LowerCase    *bool  `json:"do_lower_case"`
		StripAccents *bool  `json:"strip_accents"`
		Chinese      *bool  `json:"tokenize_chinese_chars"`
	}
	if err := json.Unmarshal(data, &c); err != nil {
		return err
	}
	known := []string{"", "BertTokenizer", "DistilBertTokenizer"}
	switch {
	case !slices.Contains(known, strings.TrimSuffix(c.Class, "Fast")):
		return fmt.Errorf("tokenizer class %s is not known without a tokenizer.json", c.Class)
	case off(c.LowerCase):
		return errors.New("the tokenizer keeps case (do_lower_case: false), only uncased ones are known")
	case off(c.StripAccents):
		return errors.New("the tokenizer keeps accents (strip_accents: false)")
	case off(c.Chinese):
		return errors.New("tokenize_chinese_chars is off")
	}
	return nil
}

// lines are the tokens of a vocab.txt: one a line, its number the id.
func lines(data []byte) []string {
	text := strings.TrimSuffix(strings.ReplaceAll(string(data), "\r\n", "\n"), "\n")
	return strings.Split(text, "\n")
}
