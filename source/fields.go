package source

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
)

// decodeFields reads a JSON object that is valid UTF-8 and begins with a brace.
// It walks the top level only, once encoding/json has found the text valid.
func decodeFields(text []byte) (Fields, error) {
	if !json.Valid(text) {
		return nil, readableJSONError(json.Unmarshal(text, new(json.RawMessage)))
	}
	f := make(Fields, 8)
	s := jsonScanner{text, 1}
	for s.skipSpace() != '}' {
		if s.text[s.at] == ',' {
			s.at++
			s.skipSpace()
		}
		key, err := unquote(s.string())
		if err != nil {
			return nil, err
		}
		s.skipSpace()
		s.at++ // the colon
		s.skipSpace()
		if f[key], err = s.value(); err != nil {
			return nil, fmt.Errorf("field %q: %w", key, err)
		}
	}
	return f, nil
}

// jsonScanner walks over text that is known to be valid JSON.
type jsonScanner struct {
	text []byte
	at   int
}

// skipSpace returns the byte that it stops at.
func (s *jsonScanner) skipSpace() byte {
	for {
		switch c := s.text[s.at]; c {
		case ' ', '\t', '\r', '\n':
			s.at++
		default:
			return c
		}
	}
}

// string returns the string that begins here, with its quotes.
func (s *jsonScanner) string() []byte {
	begin := s.at
	for s.at++; s.text[s.at] != '"'; s.at++ {
		if s.text[s.at] == '\\' {
			s.at++
		}
	}
	s.at++
	return s.text[begin:s.at]
}

// nested returns the object or array that begins here.
func (s *jsonScanner) nested() []byte {
	begin := s.at
	for depth := 0; ; {
		switch s.text[s.at] {
		case '"':
			s.string()
			continue
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		}
		s.at++
		if depth == 0 {
			return s.text[begin:s.at]
		}
	}
}

// literal returns the number or word that begins here.
func (s *jsonScanner) literal() []byte {
	n := bytes.IndexAny(s.text[s.at:], " \t\r\n,}")
	s.at += n
	return s.text[s.at-n : s.at]
}

// value reads the value that begins here as [Fields] holds it.
func (s *jsonScanner) value() (any, error) {
	switch s.text[s.at] {
	case '"':
		return unquote(s.string())
	case '{', '[':
		var compact bytes.Buffer
		if err := json.Compact(&compact, s.nested()); err != nil {
			return nil, err
		}
		return json.RawMessage(compact.Bytes()), nil
	case 't':
		s.literal()
		return true, nil
	case 'f':
		s.literal()
		return false, nil
	case 'n':
		s.literal()
		return nil, nil
	default:
		return number(string(s.literal()))
	}
}

// unquote reads a JSON string with its quotes.
func unquote(quoted []byte) (string, error) {
	if bytes.IndexByte(quoted, '\\') < 0 {
		return string(quoted[1 : len(quoted)-1]), nil
	}
	var s string
	err := json.Unmarshal(quoted, &s)
	return s, err
}

// number returns an int64 for an integer that fits one, else a float64. A
// negative zero is a float64, the only one of the two that has it.
func number(literal string) (any, error) {
	if n, err := strconv.ParseInt(literal, 10, 64); err == nil && literal != "-0" {
		return n, nil
	}
	f, err := strconv.ParseFloat(literal, 64)
	if err != nil {
		return nil, fmt.Errorf("the number %s is out of range", literal)
	}
	return f, nil
}
