package wordpiece

import (
	"fmt"
	"math"
	"strings"
)

// vocabulary finds tokens by their text: an open-addressing hash table whose
// hash can be taken of all prefixes of a word in one pass. Each slot is 8
// bytes and at most half of them are used.
type vocabulary struct {
	slots   []slot
	ends    []uint32 // where a token's text ends in texts, by id
	texts   string   // spelled without "##"
	rests   []uint64 // a bit per id: continues a word
	longest int      // bytes
}

type slot struct {
	hash uint32
	id   int32 // id+1, 0 where the slot is free
}

// A token that starts a word and one that continues it differ by the seed of
// their hash (FNV-1a, 64 bits, folded to 32).
const (
	startSeed = 14695981039346656037
	restSeed  = startSeed ^ 0x9E3779B97F4A7C15
	fnvPrime  = 1099511628211
)

func step(h uint64, b byte) uint64 { return (h ^ uint64(b)) * fnvPrime }

func fold(h uint64) uint32 { return uint32(h>>32) ^ uint32(h) }

// spelling returns the seed and text under which a token is stored.
func spelling(token string) (seed uint64, text string) {
	if rest, ok := strings.CutPrefix(token, "##"); ok && rest != "" {
		return restSeed, rest
	}
	return startSeed, token
}

func newVocabulary(tokens []string) (vocabulary, error) {
	if len(tokens) > math.MaxInt32/4 {
		return vocabulary{}, fmt.Errorf("a vocabulary of %d tokens", len(tokens))
	}
	size := 2
	for size < 2*len(tokens) {
		size *= 2
	}
	v := vocabulary{slots: make([]slot, size), ends: make([]uint32, 0, len(tokens)), rests: make([]uint64, (len(tokens)+63)/64)}
	var texts strings.Builder
	for _, token := range tokens {
		_, text := spelling(token)
		texts.WriteString(text)
		if uint64(texts.Len()) > math.MaxUint32 {
			return vocabulary{}, fmt.Errorf("a vocabulary of more than %d bytes", uint32(math.MaxUint32))
		}
		v.ends = append(v.ends, uint32(texts.Len()))
		v.longest = max(v.longest, len(text))
	}
	v.texts = texts.String()
	for id, token := range tokens {
		seed, text := spelling(token)
		if text == "" {
			return vocabulary{}, fmt.Errorf("token %d is empty", id)
		}
		if first, ok := v.find(seed, text); ok {
			return vocabulary{}, fmt.Errorf("token %d is token %d again: %q", id, first, token)
		}
		if seed == restSeed {
			v.rests[id/64] |= 1 << (id % 64)
		}
		h := hash(seed, text)
		at := int(h) & (size - 1)
		for v.slots[at].id != 0 {
			at = (at + 1) & (size - 1)
		}
		v.slots[at] = slot{h, int32(id) + 1}
	}
	return v, nil
}

func (v *vocabulary) len() int { return len(v.ends) }

func hash(seed uint64, text string) uint32 {
	for i := range len(text) {
		seed = step(seed, text[i])
	}
	return fold(seed)
}

func (v *vocabulary) find(seed uint64, text string) (int32, bool) {
	return v.lookup(hash(seed, text), seed, []byte(text))
}

// lookup returns the id of the token with that hash, seed and text.
func (v *vocabulary) lookup(h uint32, seed uint64, text []byte) (int32, bool) {
	mask := uint32(len(v.slots) - 1)
	for at := h & mask; ; at = (at + 1) & mask {
		s := v.slots[at]
		if s.id == 0 {
			return 0, false
		}
		if s.hash != h {
			continue
		}
		id := s.id - 1
		start := uint32(0)
		if id > 0 {
			start = v.ends[id-1]
		}
		rest := v.rests[id/64]>>(id%64)&1 == 1
		if v.texts[start:v.ends[id]] == string(text) && rest == (seed == restSeed) {
			return id, true
		}
	}
}
