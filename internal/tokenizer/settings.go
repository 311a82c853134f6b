package tokenizer

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/permafrost-ml/permafrost/internal/bounded"
)

// namedToken is a special token in a config: a text, or an object.
type namedToken struct{ addedToken }

func (t *namedToken) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '{' {
		return json.Unmarshal(b, &t.addedToken)
	}
	return json.Unmarshal(b, &t.Content)
}

// addedToken is an entry of tokenizer.json's added_tokens, or of
// tokenizer_config.json's added_tokens_decoder.
type addedToken struct {
	ID         *int32 `json:"id"`
	Content    string `json:"content"`
	SingleWord bool   `json:"single_word"`
	Left       bool   `json:"lstrip"`
	Right      bool   `json:"rstrip"`
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
	PrefixSpace   *bool                 `json:"add_prefix_space"`
	TruncateSide  string                `json:"truncation_side"`
	AddedTokens   map[string]addedToken `json:"added_tokens_decoder"`
	SplitSpecials bool                  `json:"split_special_tokens"`
	namedTokens
}

// namedTokens are the special tokens that have a role.
type namedTokens struct {
	Unknown *namedToken `json:"unk_token"`
	CLS     *namedToken `json:"cls_token"`
	SEP     *namedToken `json:"sep_token"`
	Pad     *namedToken `json:"pad_token"`
	Mask    *namedToken `json:"mask_token"`
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
	PostProcessor json.RawMessage `json:"post_processor"`
	PreTokenizer  *struct {
		Type        string `json:"type"`
		PrefixSpace *bool  `json:"add_prefix_space"`
		Pattern     *bool  `json:"use_regex"`
	} `json:"pre_tokenizer"`
	Model struct {
		Type         string          `json:"type"`
		Unknown      string          `json:"unk_token"`
		Prefix       *string         `json:"continuing_subword_prefix"`
		Suffix       *string         `json:"end_of_word_suffix"`
		MaxChars     *int            `json:"max_input_chars_per_word"`
		IgnoreMerges bool            `json:"ignore_merges"`
		Vocab        json.RawMessage `json:"vocab"`
		Merges       []mergedPair    `json:"merges"`
	} `json:"model"`
}

// Files are the files that decide tokens, as far as there are any.
var Files = []string{
	"tokenizer.json", "vocab.txt", "vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json",
}

// MaxFile is how large a file of a tokenizer may be: those of BERT are below
// 1 MB, the largest vocabularies in use about 20 MB.
const MaxFile = 64 << 20

// settings are what the files of a tokenizer say.
type settings struct {
	file   tokenizerFile
	config tokenizerConfig
	isFile bool // there is a tokenizer.json
}

// readSettings reads the files of a tokenizer, but no vocabularies of their
// own. Where the files differ, tokenizer_config.json wins, as in the
// reference.
func readSettings(dir string) (*settings, error) {
	s := &settings{}
	var err error
	if s.isFile, err = bounded.JSON(filepath.Join(dir, "tokenizer.json"), MaxFile, &s.file); err != nil {
		return nil, err
	}
	if _, err = bounded.JSON(filepath.Join(dir, "special_tokens_map.json"), MaxFile, &s.config.namedTokens); err != nil {
		return nil, err
	}
	if _, err = bounded.JSON(filepath.Join(dir, "tokenizer_config.json"), MaxFile, &s.config); err != nil {
		return nil, err
	}
	switch {
	case s.config.TruncateSide != "" && s.config.TruncateSide != "right":
		return nil, fmt.Errorf("truncation_side %q is not supported", s.config.TruncateSide)
	case s.config.SplitSpecials:
		return nil, errors.New("a tokenizer with split_special_tokens is not supported")
	}
	return s, nil
}

func set[T any](dst *T, v *T) {
	if v != nil {
		*dst = *v
	}
}

// names are the special tokens that have a role: the kind's own, unless the
// files name others.
func (s *settings) names(kind Kind) roles {
	names := namesOf("[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]")
	switch kind {
	case RoBERTa:
		names = namesOf("<unk>", "<s>", "</s>", "<pad>", "<mask>")
	case MPNet:
		names = namesOf("[UNK]", "<s>", "</s>", "<pad>", "<mask>")
	}
	for i, token := range []*namedToken{s.config.Unknown, s.config.CLS, s.config.SEP, s.config.Pad, s.config.Mask} {
		if token != nil && token.Content != "" {
			names[i] = token.addedToken
		}
	}
	return names
}

// roles are the special tokens that have a role: for the unknown, before and
// behind a text, for padding and for a mask.
type roles [5]addedToken

const (
	roleUnknown = iota
	roleCLS
	roleSEP
	rolePad
)

func namesOf(texts ...string) (r roles) {
	for i, text := range texts {
		r[i].Content = text
	}
	return r
}

// special is a special token with the id that it has, and with every token of
// a vocabulary that is one of them.
type special struct {
	addedToken
	ID int32
}

// specials lists the special tokens: those that have a role, which find looks
// up in the vocabulary, and those that the files add to it.
func (s *settings) specials(names roles, find func(text string) (int32, bool)) ([]special, error) {
	found := map[string]special{}
	add := func(a addedToken, id int32) error {
		if a.SingleWord || a.Normalized && !a.Special {
			return fmt.Errorf("the added token %q with single_word or normalized is not supported", a.Content)
		}
		if first, ok := found[a.Content]; ok && first.ID != id {
			return fmt.Errorf("the added token %q has the ids %d and %d", a.Content, first.ID, id)
		}
		found[a.Content] = special{a, id}
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
	for _, a := range names {
		if _, ok := found[a.Content]; ok {
			continue
		}
		if id, ok := find(a.Content); ok {
			found[a.Content] = special{a, id}
		}
	}
	out := make([]special, 0, len(found))
	for _, sp := range found {
		out = append(out, sp)
	}
	slices.SortFunc(out, func(a, b special) int { return strings.Compare(a.Content, b.Content) })
	return out, nil
}
