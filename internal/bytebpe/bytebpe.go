package bytebpe

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode/utf8"
)

// Version names what texts become: it changes when the ids of any text do.
const Version = "byte-level-bpe-1"

// Special is a text that becomes a token of its own before anything else is
// done.
type Special struct {
	Text string
	ID   int32
	// Left and Right take in the spaces on that side.
	Left, Right bool
}

// Options describe a tokenizer.
type Options struct {
	// Vocab has the id of every token, spelled as GPT-2 spells bytes, those of
	// all single bytes among them.
	Vocab map[string]int32
	// Merges are the pairs of tokens that become one, the first ones first.
	Merges [][2]string
	// Specials are the special tokens. At one place the longest is found.
	Specials []Special
	// PrefixSpace puts a space before a text that begins without.
	PrefixSpace bool
}

// Tokenizer turns texts into token ids. It is immutable and safe for
// concurrent use.
type Tokenizer struct {
	bytes    [256]int32
	merges   map[pair]merge
	specials []Special
	prefix   bool
	// free is scratch memory between calls. A sync.Pool would lose it to
	// garbage collections.
	free chan *symbols
}

// maxFree is how much scratch memory is kept: that of so many calls at once,
// each of words up to so many bytes.
const (
	maxFree     = 64
	maxFreeWord = 1 << 16
)

type pair struct{ left, right int32 }

type merge struct{ rank, id int32 }

// New returns a tokenizer.
func New(o Options) (*Tokenizer, error) {
	t := &Tokenizer{merges: make(map[pair]merge, len(o.Merges)), prefix: o.PrefixSpace, specials: slices.Clone(o.Specials), free: make(chan *symbols, maxFree)}
	for b, r := range spelling() {
		id, ok := o.Vocab[string(r)]
		if !ok {
			return nil, fmt.Errorf("the vocabulary has no token for the byte %#02x, %q", b, r)
		}
		t.bytes[b] = id
	}
	if len(o.Merges) > math.MaxInt32 {
		return nil, fmt.Errorf("there are %d merges", len(o.Merges))
	}
	for rank, m := range o.Merges {
		left, okLeft := o.Vocab[m[0]]
		right, okRight := o.Vocab[m[1]]
		id, ok := o.Vocab[m[0]+m[1]]
		if !okLeft || !okRight || !ok {
			return nil, fmt.Errorf("merge %d: the vocabulary lacks %q, %q or both as one", rank, m[0], m[1])
		}
		// A pair that is there twice has its last rank, as in the reference.
		t.merges[pair{left, right}] = merge{int32(rank), id}
	}
	for _, s := range t.specials {
		if s.Text == "" || s.ID < 0 {
			return nil, fmt.Errorf("special token %q of id %d: want a text, and no id below 0", s.Text, s.ID)
		}
	}
	slices.SortStableFunc(t.specials, func(a, b Special) int { return len(b.Text) - len(a.Text) })
	return t, nil
}

// spelling is the character that stands for each byte: itself where it can be
// seen, else one from U+0100 on.
func spelling() (out [256]rune) {
	hidden := rune(256)
	for b := range out {
		if r := rune(b); r >= '!' && r <= '~' || r >= 0xA1 && r <= 0xAC || r >= 0xAE {
			out[b] = r
			continue
		}
		out[b] = hidden
		hidden++
	}
	return out
}

// AppendLimit appends the first limit ids of a text's tokens to dst, without
// any around them. It reads no more words of the text than it needs.
func (t *Tokenizer) AppendLimit(dst []int32, text string, limit int) []int32 {
	end := len(dst) + max(0, min(limit, math.MaxInt-len(dst)))
	w := t.take()
	defer t.give(w)
	text = toValid(text)
	for len(dst) < end && text != "" {
		at, found := len(text), Special{}
		for _, s := range t.specials {
			if i := strings.Index(text[:min(len(text), at+len(s.Text))], s.Text); i >= 0 && i < at {
				at, found = i, s
			}
		}
		plain := text[:at]
		if found.Left {
			plain = trimRight(plain)
		}
		dst = t.appendPlain(dst, w, plain, end)
		if found.Text == "" {
			break
		}
		if len(dst) < end {
			dst = append(dst, found.ID)
		}
		text = text[at+len(found.Text):]
		for found.Right {
			c, n := next(text)
			if n == 0 || c != space {
				break
			}
			text = text[n:]
		}
	}
	return dst
}

func (t *Tokenizer) take() *symbols {
	select {
	case w := <-t.free:
		return w
	default:
		return new(symbols)
	}
}

func (t *Tokenizer) give(w *symbols) {
	if cap(w.list) > maxFreeWord {
		return
	}
	select {
	case t.free <- w:
	default:
	}
}

func trimRight(s string) string {
	for s != "" {
		r, n := utf8.DecodeLastRuneInString(s)
		if class(r) != space {
			break
		}
		s = s[:len(s)-n]
	}
	return s
}

// appendPlain appends the tokens of a text without specials until dst has end.
func (t *Tokenizer) appendPlain(dst []int32, w *symbols, s string, end int) []int32 {
	if s == "" {
		return dst
	}
	if t.prefix && s[0] != ' ' {
		s = " " + s
	}
	for s != "" && len(dst) < end {
		n := word(s)
		dst = t.appendWord(dst, w, s[:n])
		s = s[n:]
	}
	return dst[:min(len(dst), end)]
}
