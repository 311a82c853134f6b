package bert

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/permafrost-ml/permafrost/internal/wordpiece"
)

// tokenizer turns a text into ids, with one id before and one behind.
type tokenizer struct {
	pieces interface {
		// AppendLimit appends the first limit ids of a text.
		AppendLimit(dst []int32, text string, limit int) []int32
	}
	open, close int32
	last        int32 // the greatest id
}

// append appends a text's sequence of at most limit ids.
func (t *tokenizer) append(dst []int32, text string, limit int) []int32 {
	dst = append(dst, t.open)
	return append(t.pieces.AppendLimit(dst, text, limit-2), t.close)
}

// tokenText is a special token in a config: a text, or an object that has it.
type tokenText string

func (t *tokenText) UnmarshalJSON(b []byte) error {
	var object struct {
		Content string `json:"content"`
	}
	if len(b) > 0 && b[0] == '{' {
		err := json.Unmarshal(b, &object)
		*t = tokenText(object.Content)
		return err
	}
	return json.Unmarshal(b, (*string)(t))
}

// addedToken is an entry of tokenizer.json's added_tokens, or of
// tokenizer_config.json's added_tokens_decoder.
type addedToken struct {
	ID         *int32 `json:"id"`
	Content    string `json:"content"`
	SingleWord bool   `json:"single_word"`
	Normalized bool   `json:"normalized"`
	Special    bool   `json:"special"`
}

// tokenizerConfig is tokenizer_config.json.
type tokenizerConfig struct {
	Class         string                `json:"tokenizer_class"`
	Lower         *bool                 `json:"do_lower_case"`
	StripAccents  *bool                 `json:"strip_accents"`
	Chinese       *bool                 `json:"tokenize_chinese_chars"`
	Basic         *bool                 `json:"do_basic_tokenize"`
	TruncateSide  string                `json:"truncation_side"`
	AddedTokens   map[string]addedToken `json:"added_tokens_decoder"`
	SplitSpecials bool                  `json:"split_special_tokens"`
	namedTokens
}

// namedTokens are the special tokens that have a role.
type namedTokens struct {
	Unknown *tokenText `json:"unk_token"`
	CLS     *tokenText `json:"cls_token"`
	SEP     *tokenText `json:"sep_token"`
	Pad     *tokenText `json:"pad_token"`
	Mask    *tokenText `json:"mask_token"`
}

// tokenizerFile is tokenizer.json, as far as it decides tokens.
type tokenizerFile struct {
	AddedTokens []addedToken `json:"added_tokens"`
	Normalizer  *struct {
		Type         string `json:"type"`
		CleanText    *bool  `json:"clean_text"`
		Chinese      *bool  `json:"handle_chinese_chars"`
		StripAccents *bool  `json:"strip_accents"`
		Lower        *bool  `json:"lowercase"`
	} `json:"normalizer"`
	PreTokenizer *struct {
		Type string `json:"type"`
	} `json:"pre_tokenizer"`
	Model struct {
		Type     string           `json:"type"`
		Unknown  *string          `json:"unk_token"`
		Prefix   *string          `json:"continuing_subword_prefix"`
		MaxChars *int             `json:"max_input_chars_per_word"`
		Vocab    map[string]int32 `json:"vocab"`
	} `json:"model"`
}

// tokenizerFiles are the files that decide tokens, those that there are.
func tokenizerFiles() []string {
	return []string{"tokenizer.json", "vocab.txt", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"}
}

// wordpieceSettings is how a WordPiece tokenizer differs from others.
type wordpieceSettings struct {
	file   tokenizerFile
	config tokenizerConfig
	isFile bool // there is a tokenizer.json
	cased  bool
}

// readSettings reads the settings of a tokenizer; where the files differ,
// tokenizer_config.json wins, as in the reference.
func readSettings(folder string) (*wordpieceSettings, error) {
	s := &wordpieceSettings{}
	var err error
	if s.isFile, err = readJSON(filepath.Join(folder, "tokenizer.json"), maxTokenizer, &s.file); err != nil {
		return nil, err
	}
	if _, err = readJSON(filepath.Join(folder, "special_tokens_map.json"), maxTokenizer, &s.config.namedTokens); err != nil {
		return nil, err
	}
	if _, err = readJSON(filepath.Join(folder, "tokenizer_config.json"), maxTokenizer, &s.config); err != nil {
		return nil, err
	}
	lower, chinese, strip := true, true, (*bool)(nil)
	if s.isFile {
		m := &s.file.Model
		// Old files leave the type out.
		if m.Type != "" && m.Type != "WordPiece" {
			return nil, fmt.Errorf("tokenizer.json: the model %q is not supported here, there is WordPiece", m.Type)
		}
		if m.Prefix != nil && *m.Prefix != "##" || m.MaxChars != nil && *m.MaxChars != 100 {
			return nil, errors.New("tokenizer.json: want the prefix ## and at most 100 characters a word")
		}
		if p := s.file.PreTokenizer; p != nil && p.Type != "BertPreTokenizer" {
			return nil, fmt.Errorf("tokenizer.json: the pre-tokenizer %q is not supported here, there is BertPreTokenizer", p.Type)
		}
		if n := s.file.Normalizer; n != nil {
			if n.Type != "BertNormalizer" || n.CleanText != nil && !*n.CleanText {
				return nil, fmt.Errorf("tokenizer.json: the normalizer %q is not supported here, there is BertNormalizer with clean_text", n.Type)
			}
			set(&lower, n.Lower)
			set(&chinese, n.Chinese)
			strip = n.StripAccents
		}
	}
	set(&lower, s.config.Lower)
	set(&chinese, s.config.Chinese)
	if s.config.StripAccents != nil {
		strip = s.config.StripAccents
	}
	basic := true
	set(&basic, s.config.Basic)
	switch {
	case strip != nil && *strip != lower:
		return nil, fmt.Errorf("a tokenizer with do_lower_case %t and strip_accents %t is not supported: want both or neither", lower, *strip)
	case !chinese:
		return nil, errors.New("a tokenizer with tokenize_chinese_chars false is not supported")
	case !basic:
		return nil, errors.New("a tokenizer with do_basic_tokenize false is not supported")
	case s.config.TruncateSide != "" && s.config.TruncateSide != "right":
		return nil, fmt.Errorf("truncation_side %q is not supported", s.config.TruncateSide)
	case s.config.SplitSpecials:
		return nil, errors.New("a tokenizer with split_special_tokens is not supported")
	}
	s.cased = !lower
	return s, nil
}

func set[T any](dst *T, v *T) {
	if v != nil {
		*dst = *v
	}
}

// isCased reports whether a tokenizer keeps upper case.
func isCased(folder string) (bool, error) {
	s, err := readSettings(folder)
	if err != nil {
		return false, err
	}
	return s.cased, nil
}

// readTokenizer makes the tokenizer of a transformer's folder.
func readTokenizer(folder string, fam family) (*tokenizer, error) {
	s, err := readSettings(folder)
	if err != nil {
		return nil, err
	}
	vocab, err := s.vocabulary(folder)
	if err != nil {
		return nil, err
	}
	names := map[string]string{"unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "pad": "[PAD]", "mask": "[MASK]"}
	if fam.relative {
		names = map[string]string{"unk": "[UNK]", "cls": "<s>", "sep": "</s>", "pad": "<pad>", "mask": "<mask>"}
	}
	for role, text := range map[string]*tokenText{
		"unk": s.config.Unknown, "cls": s.config.CLS, "sep": s.config.SEP, "pad": s.config.Pad, "mask": s.config.Mask,
	} {
		if text != nil && *text != "" {
			names[role] = string(*text)
		}
	}
	specials, err := s.specials(vocab, names)
	if err != nil {
		return nil, err
	}
	t := &tokenizer{last: int32(len(vocab)) - 1}
	find := func(role string) (int32, error) {
		for _, sp := range specials {
			if sp.Text == names[role] {
				return sp.ID, nil
			}
		}
		return 0, fmt.Errorf("the vocabulary has no %s", names[role])
	}
	if t.open, err = find("cls"); err != nil {
		return nil, err
	}
	if t.close, err = find("sep"); err != nil {
		return nil, err
	}
	for _, sp := range specials {
		t.last = max(t.last, sp.ID)
	}
	t.pieces, err = wordpiece.NewWith(vocab, wordpiece.Options{Cased: s.cased, Unknown: names["unk"], Specials: specials})
	if err != nil {
		return nil, fmt.Errorf("tokenizer: %w", err)
	}
	return t, nil
}

// vocabulary lists the tokens by id.
func (s *wordpieceSettings) vocabulary(folder string) ([]string, error) {
	if s.isFile {
		vocab := make([]string, len(s.file.Model.Vocab))
		for token, id := range s.file.Model.Vocab {
			if id < 0 || int(id) >= len(vocab) || vocab[id] != "" {
				return nil, fmt.Errorf("tokenizer.json: the id %d of %q is there twice or beyond the %d tokens", id, token, len(vocab))
			}
			vocab[id] = token
		}
		return vocab, nil
	}
	b, err := readBounded(filepath.Join(folder, "vocab.txt"), maxTokenizer)
	if err != nil {
		return nil, fmt.Errorf("there is no tokenizer.json, and no vocab.txt: %w", err)
	}
	lines := strings.Split(strings.ReplaceAll(string(b), "\r\n", "\n"), "\n")
	if n := len(lines); lines[n-1] == "" {
		lines = lines[:n-1]
	}
	return lines, nil
}

// specials lists the special tokens: those that have a role, and those that
// the files add to the vocabulary.
func (s *wordpieceSettings) specials(vocab []string, names map[string]string) ([]wordpiece.Special, error) {
	found := map[string]int32{}
	add := func(a addedToken, id int32) error {
		if a.SingleWord || a.Normalized && !a.Special {
			return fmt.Errorf("the added token %q with single_word or normalized is not supported", a.Content)
		}
		if first, ok := found[a.Content]; ok && first != id {
			return fmt.Errorf("the added token %q has the ids %d and %d", a.Content, first, id)
		}
		found[a.Content] = id
		return nil
	}
	for _, a := range s.file.AddedTokens {
		if a.ID == nil {
			return nil, fmt.Errorf("tokenizer.json: the added token %q has no id", a.Content)
		}
		if err := add(a, *a.ID); err != nil {
			return nil, fmt.Errorf("tokenizer.json: %w", err)
		}
	}
	for key, a := range s.config.AddedTokens {
		var id int32
		if err := json.Unmarshal([]byte(key), &id); err != nil {
			return nil, fmt.Errorf("tokenizer_config.json: added_tokens_decoder: %q is no id", key)
		}
		if err := add(a, id); err != nil {
			return nil, fmt.Errorf("tokenizer_config.json: %w", err)
		}
	}
	for _, text := range names {
		if _, ok := found[text]; ok {
			continue
		}
		if id := slices.Index(vocab, text); id >= 0 {
			found[text] = int32(id)
		}
	}
	out := make([]wordpiece.Special, 0, len(found))
	for text, id := range found {
		out = append(out, wordpiece.Special{Text: text, ID: id})
	}
	slices.SortFunc(out, func(a, b wordpiece.Special) int { return strings.Compare(a.Text, b.Text) })
	return out, nil
}
