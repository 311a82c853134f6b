package wordpiece

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode/utf8"
)

// Version names what texts become: it changes when the ids of any text do.
// CasedVersion is that of tokenizers with [Options].Cased.
const (
	Version      = "bert-uncased-wordpiece-1"
	CasedVersion = "bert-cased-wordpiece-1"
)

// maxWord is the longest word, in characters after normalization, that is
// split into pieces; longer ones are unknown.
const maxWord = 100

// Tokenizer turns texts into token ids. It is immutable and safe for
// concurrent use. For BERT's vocabulary of 30,522 tokens it holds about 1 MB.
type Tokenizer struct {
	vocab    vocabulary
	chars    charTable
	ascii    [utf8.RuneSelf]byte
	specials []Special
	starts   string // the first bytes of the specials
	unk      int32
	cls      int32
	sep      int32
}

// Special is a text that becomes a token of its own before anything else is
// done.
type Special struct {
	Text string
	ID   int32
}

// Options are what WordPiece models of one vocabulary differ by.
type Options struct {
	// Cased keeps upper case and accents: the normalizer of the reference
	// with lowercase and strip_accents off. Default: an uncased model.
	Cased bool
	// Unknown is the token of unknown words. Default: "[UNK]".
	Unknown string
	// Specials are the special tokens; they need not be in the vocabulary.
	// At one place the longest is found. Default: those of "[PAD]", "[UNK]",
	// "[CLS]", "[SEP]" and "[MASK]" that the vocabulary has.
	Specials []Special
}

// Codes of ASCII characters that are no part of a word; others have their
// lower case, which is above them.
const (
	asciiDrop = iota
	asciiSpace
	asciiPunct
	asciiCodes
)

// New returns a tokenizer for a vocabulary of an uncased BERT; a token's id is
// its index. A token that continues a word starts with "##". The vocabulary
// must have "[UNK]", and neither an empty token nor one twice.
func New(vocab []string) (*Tokenizer, error) { return NewWith(vocab, Options{}) }

// NewWith is [New] for models with other options.
func NewWith(vocab []string, o Options) (*Tokenizer, error) {
	t := &Tokenizer{unk: -1, cls: -1, sep: -1, specials: slices.Clone(o.Specials)}
	var err error
	if t.vocab, err = newVocabulary(vocab); err != nil {
		return nil, err
	}
	tables := unicodeData
	if o.Cased {
		tables = casedData
	}
	if t.chars, err = newCharTable(tables); err != nil {
		return nil, err
	}
	id := func(text string) int32 {
		if id, ok := t.vocab.find(startSeed, text); ok {
			return id
		}
		return -1
	}
	unknown := cmp.Or(o.Unknown, "[UNK]")
	t.unk, t.cls, t.sep = id(unknown), id("[CLS]"), id("[SEP]")
	if t.unk < 0 {
		return nil, fmt.Errorf("the vocabulary has no %s", unknown)
	}
	if o.Specials == nil {
		for _, text := range []string{"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"} {
			if id := id(text); id >= 0 {
				t.specials = append(t.specials, Special{text, id})
			}
		}
	}
	slices.SortStableFunc(t.specials, func(a, b Special) int { return len(b.Text) - len(a.Text) })
	for _, s := range t.specials {
		if s.Text == "" || s.ID < 0 || s.Text[0] >= utf8.RuneSelf {
			return nil, fmt.Errorf("special token %q of id %d: want a text that begins with an ASCII character, and no id below 0", s.Text, s.ID)
		}
		if strings.IndexByte(t.starts, s.Text[0]) < 0 {
			t.starts += s.Text[:1]
		}
	}
	for c := range t.ascii {
		switch e := t.chars.entry(rune(c)); {
		case e == classWord:
			t.ascii[c] = byte(c)
		case e == classSpace:
			t.ascii[c] = asciiSpace
		case e == classPunct:
			t.ascii[c] = asciiPunct
		case e >= classFirst:
			t.ascii[c] = t.chars.replacement(e)[0]
		default:
			t.ascii[c] = asciiDrop
		}
		if b := t.ascii[c]; b >= asciiCodes && b <= ' ' || b >= utf8.RuneSelf {
			return nil, fmt.Errorf("unicode tables: unexpected entry for %q", rune(c))
		}
	}
	return t, nil
}

// Len returns the size of the vocabulary; ids are below it.
func (t *Tokenizer) Len() int { return t.vocab.len() }

// ID returns the id of a token as the vocabulary spells it ("##ing").
func (t *Tokenizer) ID(token string) (int32, bool) {
	seed, text := spelling(token)
	return t.vocab.find(seed, text)
}

// Append appends the ids of text's tokens to dst, without [CLS] and [SEP]
// around them. It allocates nothing but what dst needs to grow.
func (t *Tokenizer) Append(dst []int32, text string) []int32 {
	return t.AppendLimit(dst, text, math.MaxInt)
}

// AppendLimit is Append for the first limit tokens. It reads no more of the
// text than it needs.
func (t *Tokenizer) AppendLimit(dst []int32, text string, limit int) []int32 {
	end := len(dst) + max(0, min(limit, math.MaxInt-len(dst)))
	for len(dst) < end && strings.ContainsAny(text, t.starts) {
		at, found := len(text), Special{}
		for _, s := range t.specials {
			if i := strings.Index(text[:min(len(text), at+len(s.Text))], s.Text); i >= 0 && i < at {
				at, found = i, s
			}
		}
		if found.Text == "" {
			break
		}
		if dst = t.appendPlain(dst, text[:at], end); len(dst) < end {
			dst = append(dst, found.ID)
		}
		text = text[at+len(found.Text):]
	}
	return t.appendPlain(dst, text, end)
}

// AppendBracketed appends [CLS], the ids of text's tokens, [SEP].
// ErrNoBrackets is returned where the vocabulary lacks one of them.
func (t *Tokenizer) AppendBracketed(dst []int32, text string) ([]int32, error) {
	if t.cls < 0 || t.sep < 0 {
		return dst, ErrNoBrackets
	}
	return append(t.Append(append(dst, t.cls), text), t.sep), nil
}

// ErrNoBrackets is returned when a vocabulary without [CLS] or [SEP] is asked
// for them.
var ErrNoBrackets = errors.New("the vocabulary has no [CLS] or no [SEP]")

// word is a word under construction.
type word struct {
	n     int // bytes in buf
	runes int
	// fence is where the current run of marks starts at the earliest, see mark.
	fence  int
	buf    [maxWord * utf8.UTFMax]byte
	hashes [maxWord*utf8.UTFMax + 1]uint32 // of prefixes, used by pieces
}

func (w *word) reset() { w.n, w.runes, w.fence = 0, 0, 0 }

// appendPlain appends the tokens of a text without specials until dst has end.
func (t *Tokenizer) appendPlain(dst []int32, s string, end int) []int32 {
	var w word
	for i := 0; i < len(s); {
		if len(dst) >= end { // what is in dst is of finished words
			return dst[:end]
		}
		c := s[i]
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(s[i:])
			i += size
			dst = t.appendRune(dst, &w, r)
			continue
		}
		i++
		switch a := t.ascii[c]; a {
		case asciiDrop:
		case asciiSpace:
			dst = t.flush(dst, &w)
		case asciiPunct:
			dst = t.alone(dst, &w, rune(c))
		default:
			if w.runes < maxWord {
				w.buf[w.n] = a
				w.n++
			}
			w.runes++
		}
	}
	dst = t.flush(dst, &w)
	return dst[:min(len(dst), end)]
}

// appendRune handles a character as the normalizer meets it. Invalid UTF-8
// comes as U+FFFD, which is dropped.
func (t *Tokenizer) appendRune(dst []int32, w *word, r rune) []int32 {
	e := t.chars.entry(r)
	switch e {
	case classHangul:
		return t.hangul(dst, w, r)
	case classDrop:
		return dst
	case classBreak:
		w.fence = w.n
		return dst
	}
	if e < classFirst {
		return t.appendNormal(dst, w, r, e)
	}
	if e&setOff != 0 {
		dst = t.flush(dst, w)
	}
	for _, n := range t.chars.replacement(e) {
		dst = t.appendNormal(dst, w, n, t.chars.entry(n))
	}
	if e&setOff != 0 {
		dst = t.flush(dst, w)
	}
	return dst
}

// appendNormal handles a character that the normalizer leaves as it is.
func (t *Tokenizer) appendNormal(dst []int32, w *word, r rune, class uint16) []int32 {
	switch class {
	case classSpace:
		return t.flush(dst, w)
	case classPunct, classAlone:
		return t.alone(dst, w, r)
	case classMark:
		t.mark(w, r)
	default:
		w.add(r)
	}
	return dst
}

// hangul decomposes a syllable, by the rule of chapter 3.12 of the Unicode
// Standard.
func (t *Tokenizer) hangul(dst []int32, w *word, r rune) []int32 {
	const vowels, tails = 21, 28
	s := r - 0xAC00
	w.add(0x1100 + s/(vowels*tails))
	w.add(0x1161 + s/tails%vowels)
	if tail := s % tails; tail > 0 {
		w.add(0x11A7 + tail)
	}
	return dst
}

// add appends a character to the word.
func (w *word) add(r rune) {
	if w.runes < maxWord {
		w.n += utf8.EncodeRune(w.buf[w.n:], r)
	}
	w.runes++
}

// mark adds a mark that is kept, in canonical order: behind marks of its own
// or a lower class, before those of a higher one.
func (t *Tokenizer) mark(w *word, r rune) {
	if w.runes >= maxWord {
		w.runes++
		return
	}
	class, at := t.chars.combining(r), w.n
	for at > w.fence {
		prev, size := utf8.DecodeLastRune(w.buf[:at])
		if t.chars.entry(prev) != classMark || t.chars.combining(prev) <= class {
			break
		}
		at -= size
	}
	size := utf8.RuneLen(r)
	copy(w.buf[at+size:], w.buf[at:w.n])
	utf8.EncodeRune(w.buf[at:], r)
	w.n += size
	w.runes++
}

// alone ends the word and adds a word of one character.
func (t *Tokenizer) alone(dst []int32, w *word, r rune) []int32 {
	dst = t.flush(dst, w)
	w.add(r)
	return t.flush(dst, w)
}

// flush ends the word: it appends its pieces.
func (t *Tokenizer) flush(dst []int32, w *word) []int32 {
	switch {
	case w.runes == 0:
		w.fence = 0
		return dst
	case w.runes > maxWord:
		dst = append(dst, t.unk)
	default:
		dst = t.appendPieces(dst, w)
	}
	w.reset()
	return dst
}

// appendPieces appends the longest known prefix, then the longest known
// continuation, and so on; a word that has a part with none is unknown.
func (t *Tokenizer) appendPieces(dst []int32, w *word) []int32 {
	mark, rest, seed := len(dst), w.buf[:w.n], uint64(startSeed)
	for len(rest) > 0 {
		limit := min(len(rest), t.vocab.longest)
		h := seed
		for i, b := range rest[:limit] {
			h = step(h, b)
			w.hashes[i+1] = fold(h)
		}
		id, n, ok := int32(0), limit, false
		for ; n > 0; n-- {
			if n < len(rest) && !utf8.RuneStart(rest[n]) {
				continue
			}
			if id, ok = t.vocab.lookup(w.hashes[n], seed, rest[:n]); ok {
				break
			}
		}
		if !ok {
			return append(dst[:mark], t.unk)
		}
		dst = append(dst, id)
		rest, seed = rest[n:], restSeed
	}
	return dst
}
