package tokenizer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// kind is what the files say that they are.
func (s *settings) kind(dir string) (Kind, error) {
	if !s.isFile {
		return s.kindOfClass(dir)
	}
	m := &s.file.Model
	// Old files leave the type out.
	isMap := bytes.HasPrefix(m.Vocab, []byte("{"))
	switch {
	case m.Type == "BPE":
		return RoBERTa, nil
	case m.Type != "WordPiece" && (m.Type != "" || !isMap):
		return 0, fmt.Errorf("tokenizer.json: the model %q is not supported, there is WordPiece and BPE", m.Type)
	}
	around, err := s.around()
	if err == nil && around[0].text == "<s>" {
		return MPNet, nil
	}
	return BERT, err
}

// kindOfClass finds the kind where there is no tokenizer.json.
func (s *settings) kindOfClass(dir string) (Kind, error) {
	found := false
	for _, name := range []string{"vocab.txt", "vocab.json"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			found = true
		} else if !errors.Is(err, fs.ErrNotExist) {
			return 0, err
		}
	}
	if !found {
		return 0, fmt.Errorf("%s: %w", dir, ErrNone)
	}
	switch strings.TrimSuffix(s.config.Class, "Fast") {
	case "", "BertTokenizer", "DistilBertTokenizer":
		return BERT, nil
	case "MPNetTokenizer":
		return MPNet, nil
	case "RobertaTokenizer":
		return RoBERTa, nil
	}
	return 0, fmt.Errorf("tokenizer_config.json: the class %s is not supported without a tokenizer.json", s.config.Class)
}

// agree checks what only a caller who knows the model can do without: steps
// that a tokenizer.json must have, and that they use the tokens of t.
func (s *settings) agree(t *Tokenizer, kind Kind) error {
	names := s.names(kind)
	if t.pad < 0 {
		return fmt.Errorf("the vocabulary has no %s", names[rolePad].Content)
	}
	if !s.isFile {
		return nil
	}
	f := &s.file
	switch unknown := names[roleUnknown].Content; {
	case kind == RoBERTa:
	case f.Normalizer == nil:
		return errors.New("tokenizer.json: there is no normalizer, want BertNormalizer")
	case f.PreTokenizer == nil:
		return errors.New("tokenizer.json: there is no pre-tokenizer, want BertPreTokenizer")
	case f.Model.Unknown != "" && f.Model.Unknown != unknown:
		return fmt.Errorf("tokenizer.json: the unknown token is %q, not %s", f.Model.Unknown, unknown)
	}
	around, err := s.around()
	if err != nil {
		return err
	}
	want := [2]namedID{{names[roleCLS].Content, t.open}, {names[roleSEP].Content, t.close}}
	if around != want {
		return fmt.Errorf("tokenizer.json: its post-processor puts texts between %v and %v, not %v and %v", around[0], around[1], want[0], want[1])
	}
	return nil
}

// namedID is a token as post-processors have it: an array of text and id.
type namedID struct {
	text string
	id   int32
}

func (n namedID) String() string { return fmt.Sprintf("%s (%d)", n.text, n.id) }

func (n *namedID) UnmarshalJSON(b []byte) error {
	var both [2]json.RawMessage
	if err := json.Unmarshal(b, &both); err != nil {
		return err
	}
	if err := json.Unmarshal(both[0], &n.text); err != nil {
		return err
	}
	return json.Unmarshal(both[1], &n.id)
}

// postProcessor is the step that puts tokens around a text.
type postProcessor struct {
	Type string `json:"type"`
	// Of BertProcessing and RobertaProcessing.
	CLS namedID `json:"cls"`
	SEP namedID `json:"sep"`
	// Of TemplateProcessing.
	Single   []piece `json:"single"`
	Specials map[string]struct {
		IDs []int32 `json:"ids"`
	} `json:"special_tokens"`
}

// piece is a part of a template: a token or the text.
type piece struct{ SpecialToken, Sequence *typed }

// typed is what a part is, and the token type that it gets.
type typed struct {
	ID   string `json:"id"`
	Type int    `json:"type_id"`
}

// token is the token that a part of the template stands for.
func (p *postProcessor) token(part piece) (t namedID, ok bool) {
	s := part.SpecialToken
	if s == nil || s.Type != 0 || len(p.Specials[s.ID].IDs) != 1 {
		return t, false
	}
	return namedID{s.ID, p.Specials[s.ID].IDs[0]}, true
}

// around is the token before a text and that behind it.
func (s *settings) around() (tokens [2]namedID, err error) {
	var p *postProcessor
	if len(s.file.PostProcessor) > 0 {
		if err := json.Unmarshal(s.file.PostProcessor, &p); err != nil {
			return tokens, fmt.Errorf("tokenizer.json: post_processor: %w", err)
		}
	}
	if p == nil {
		return tokens, errors.New("tokenizer.json: there is no post-processor that puts tokens around a text")
	}
	switch one := p.Single; {
	case p.Type == "BertProcessing", p.Type == "RobertaProcessing":
		return [2]namedID{p.CLS, p.SEP}, nil
	case p.Type == "TemplateProcessing" && len(one) == 3 && one[1].Sequence != nil && one[1].Sequence.Type == 0:
		open, okOpen := p.token(one[0])
		end, okEnd := p.token(one[2])
		if okOpen && okEnd {
			return [2]namedID{open, end}, nil
		}
	}
	return tokens, fmt.Errorf("tokenizer.json: the post-processor %s is not supported, there is one token before a text and one behind it", p.Type)
}
