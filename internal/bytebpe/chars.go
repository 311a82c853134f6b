package bytebpe

import (
	_ "embed"
	"encoding/binary"
	"sort"
	"strings"
	"unicode/utf8"
)

// charRuns are the classes of all code points: for each run of one class its
// first code point times 4 plus the class, uint32 little endian, ascending.
// tools/reference/bytebpe.py writes it.
//
//go:embed chars.bin
var charRuns string

// Classes of characters.
const (
	other = iota
	letter
	number
	space
)

var asciiClass = func() (t [utf8.RuneSelf]byte) {
	for c := range t {
		t[c] = search(rune(c))
	}
	return t
}()

func run(i int) uint32 { return binary.LittleEndian.Uint32([]byte(charRuns[4*i : 4*i+4])) }

func search(r rune) byte {
	i := sort.Search(len(charRuns)/4, func(i int) bool { return run(i)>>2 > uint32(r) })
	return byte(run(i-1) & 3)
}

func class(r rune) byte {
	if r < utf8.RuneSelf {
		return asciiClass[r]
	}
	return search(r)
}

// next returns the class of the first character of s and its length, 0 at
// the end.
func next(s string) (byte, int) {
	if s == "" {
		return space, 0
	}
	if s[0] < utf8.RuneSelf {
		return asciiClass[s[0]], 1
	}
	r, n := utf8.DecodeRuneInString(s)
	return class(r), n
}

// word returns the length of the first word of s, which is not empty, by the
// pattern
//
//	's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
func word(s string) int {
	if s[0] == '\'' {
		for _, suffix := range [...]string{"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"} {
			if strings.HasPrefix(s, suffix) {
				return len(suffix)
			}
		}
	}
	at := 0
	if s[0] == ' ' {
		at = 1
	}
	if c, n := next(s[at:]); n > 0 && c != space {
		for at += n; ; at += n {
			var d byte
			if d, n = next(s[at:]); n == 0 || d != c {
				return at
			}
		}
	}
	// Spaces: the last one goes to what follows, unless it is the only one.
	last := 0
	for at = 0; ; {
		c, n := next(s[at:])
		if n == 0 {
			return at
		}
		if c != space {
			break
		}
		last, at = at, at+n
	}
	if last == 0 {
		return at
	}
	return last
}

// toValid replaces what is no UTF-8 by U+FFFD, one for each longest beginning
// of a character (the W3C's practice).
func toValid(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	var sb strings.Builder
	for s != "" {
		r, n := utf8.DecodeRuneInString(s)
		if r == utf8.RuneError && n == 1 {
			n = beginning(s)
		}
		sb.WriteRune(r)
		s = s[n:]
	}
	return sb.String()
}

// beginning is the length of the longest beginning of a character that s,
// which does not begin with a character, begins with, at least 1.
func beginning(s string) int {
	lo, hi, length := byte(0x80), byte(0xBF), 0
	switch c := s[0]; {
	case c >= 0xC2 && c <= 0xDF:
		length = 2
	case c >= 0xE0 && c <= 0xEF:
		length = 3
	case c >= 0xF0 && c <= 0xF4:
		length = 4
	}
	switch s[0] {
	case 0xE0:
		lo = 0xA0
	case 0xED:
		hi = 0x9F
	case 0xF0:
		lo = 0x90
	case 0xF4:
		hi = 0x8F
	}
	n := 1
	for n < length && n < len(s) && s[n] >= lo && s[n] <= hi {
		lo, hi = 0x80, 0xBF
		n++
	}
	return n
}
