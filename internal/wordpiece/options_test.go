package wordpiece

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// TestCasedEqualsReference hashes the ids of all strings and code points.
func TestCasedEqualsReference(t *testing.T) {
	var want struct {
		Vocab      []string `json:"vocab"`
		CodePoints string   `json:"code_points"`
		Cases      string   `json:"cases"`
	}
	b, err := os.ReadFile("testdata/cased.json")
	if err == nil {
		err = json.Unmarshal(b, &want)
	}
	if err != nil {
		t.Fatal(err)
	}
	tok, err := NewWith(want.Vocab, Options{Cased: true})
	if err != nil {
		t.Fatal(err)
	}
	var ids []int32
	add := func(h io.Writer, text string) {
		ids = bracketed(t, tok, ids[:0], text)
		var raw []byte
		for _, id := range ids {
			raw = binary.LittleEndian.AppendUint32(raw, uint32(id))
		}
		h.Write(raw)
	}
	cases, points := sha256.New(), sha256.New()
	for _, c := range readVectors(t).Cases {
		add(cases, string(c.Text))
	}
	for r := rune(0); r <= utf8.MaxRune; r++ {
		if utf8.ValidRune(r) {
			add(points, "a"+string(r)+"B")
		}
	}
	if got := hex.EncodeToString(cases.Sum(nil)); got != want.Cases {
		t.Errorf("the strings have the digest %s, want %s", got, want.Cases)
	}
	if got := hex.EncodeToString(points.Sum(nil)); got != want.CodePoints {
		t.Errorf("the code points have the digest %s, want %s", got, want.CodePoints)
	}
	if got := tok.Append(nil, "É"); len(got) != 1 || got[0] == tok.unk {
		t.Errorf("É becomes %v, its own token is known", got)
	}
}

// TestLimitIsAPrefix: the first ids of a text, whatever they are of.
func TestLimitIsAPrefix(t *testing.T) {
	tok := bert(t)
	for _, c := range readVectors(t).Cases {
		text := string(c.Text)
		all := tok.Append(nil, text)
		for _, n := range []int{0, 1, 2, 3, len(all) - 1, len(all), len(all) + 1, 1 << 30} {
			n = max(n, 0)
			if got, want := tok.AppendLimit([]int32{-7}, text, n), all[:min(n, len(all))]; got[0] != -7 || !slices.Equal(got[1:], want) {
				t.Errorf("%+q: the first %d are %v, want %v", text, n, got[1:], want)
			}
		}
	}
	long := strings.Repeat("unaffable ", 1<<20)
	if n := testing.AllocsPerRun(1, func() { tok.AppendLimit(make([]int32, 0, 64), long, 3) }); n > 1 {
		t.Errorf("3 ids of a long text take %v allocations", n)
	}
}

func TestOptions(t *testing.T) {
	vocab := []string{"<s>", "<pad>", "<unk>", "s", "a", "<", ">", "</s>"}
	tok, err := NewWith(vocab, Options{Unknown: "<unk>", Specials: []Special{{"<s>", 0}, {"<s>a", 40}, {"new", 41}, {"</s>", 7}}})
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string][]int32{
		"a<s>":    {4, 0},
		"<s><s>a": {0, 40},
		"a new a": {4, 41, 4},
		"<pad>":   {5, 2, 6},
		"[UNK]":   {2, 2, 2},
		"a</s>":   {4, 7},
	} {
		if got := tok.Append(nil, text); !slices.Equal(got, want) {
			t.Errorf("%q gives %v, want %v", text, got, want)
		}
	}
	for name, o := range map[string]Options{
		"unknown not there": {Unknown: "[UNK]"},
		"empty special":     {Unknown: "<unk>", Specials: []Special{{"", 1}}},
		"negative id":       {Unknown: "<unk>", Specials: []Special{{"x", -1}}},
	} {
		if _, err := NewWith(vocab, o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
