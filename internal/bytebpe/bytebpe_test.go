package bytebpe

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

type vectors struct {
	CodePoints string           `json:"code_points"`
	Vocab      map[string]int32 `json:"vocab"`
	Merges     [][2]string      `json:"merges"`
	Cases      []struct {
		Text []byte  `json:"text"`
		IDs  []int32 `json:"ids"`
	} `json:"cases"`
}

// reference is the small tokenizer of the test vectors.
func reference(t testing.TB) (*Tokenizer, vectors) {
	t.Helper()
	var v vectors
	b, err := os.ReadFile("testdata/vectors.json")
	if err == nil {
		err = json.Unmarshal(b, &v)
	}
	if err != nil {
		t.Fatal(err)
	}
	tok, err := New(options(v))
	if err != nil {
		t.Fatal(err)
	}
	return tok, v
}

func options(v vectors) Options {
	o := Options{Vocab: v.Vocab, Merges: v.Merges}
	for id, text := range []string{"<s>", "<pad>", "</s>", "<unk>", "<mask>"} {
		o.Specials = append(o.Specials, Special{Text: text, ID: int32(id), Left: text == "<mask>"})
	}
	return o
}

const all = 1 << 30

func TestEqualsReference(t *testing.T) {
	tok, v := reference(t)
	if len(v.Cases) < 250 {
		t.Fatalf("only %d cases", len(v.Cases))
	}
	for _, c := range v.Cases {
		if got := tok.AppendLimit([]int32{-7}, string(c.Text), all); got[0] != -7 || !slices.Equal(got[1:], c.IDs) {
			t.Errorf("%+q:\n got %v\nwant %v", c.Text, got[1:], c.IDs)
		}
	}
}

func TestEqualsReferenceOnEveryCodePoint(t *testing.T) {
	tok, v := reference(t)
	h := sha256.New()
	var ids []int32
	var raw []byte
	for r := rune(0); r <= utf8.MaxRune; r++ {
		if !utf8.ValidRune(r) {
			continue
		}
		c := string(r)
		ids = tok.AppendLimit(ids[:0], "a"+c+" 1"+c+"!"+c+c+"b", all)
		raw = raw[:0]
		for _, id := range ids {
			raw = binary.LittleEndian.AppendUint32(raw, uint32(id))
		}
		h.Write(raw)
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != v.CodePoints {
		t.Errorf("the digest is %s, want %s", got, v.CodePoints)
	}
}

func TestLimitIsAPrefix(t *testing.T) {
	tok, v := reference(t)
	for _, c := range v.Cases {
		for _, n := range []int{0, 1, 2, 5, len(c.IDs)} {
			if got := tok.AppendLimit(nil, string(c.Text), n); !slices.Equal(got, c.IDs[:min(n, len(c.IDs))]) {
				t.Errorf("%+q: the first %d are %v of %v", c.Text, n, got, c.IDs)
			}
		}
	}
}

// TestLongWords: a word of a megabyte takes a fraction of a second.
func TestLongWords(t *testing.T) {
	tok, _ := reference(t)
	got := tok.AppendLimit(nil, strings.Repeat("ab", 1<<19), all)
	if len(got) == 0 || len(got) > 1<<20 {
		t.Errorf("%d tokens", len(got))
	}
}

func TestSpacesAroundSpecials(t *testing.T) {
	base, v := reference(t)
	o := options(v)
	o.Specials = []Special{{Text: "<l>", ID: 1000, Left: true}, {Text: "<r>", ID: 1001, Right: true}, {Text: "<r>x", ID: 1002}}
	o.PrefixSpace = true
	tok, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	a, blank := base.AppendLimit(nil, " a", all), base.AppendLimit(nil, " ", all)
	for text, want := range map[string][][]int32{
		"a \u3000<l>":  {a, {1000}},
		"<r> \n a":     {{1001}, a},
		"<r>x<l>":      {{1002, 1000}},
		" <l> ":        {{1000}, blank},
		"<r>  ":        {{1001}},
		"":             nil,
		"a<l>a <r> a ": {a, {1000}, a, blank, {1001}, a, blank},
	} {
		want := slices.Concat(want...)
		if got := tok.AppendLimit(nil, text, all); !slices.Equal(got, want) {
			t.Errorf("%q gives %v, want %v", text, got, want)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	_, v := reference(t)
	for name, change := range map[string]func(o *Options){
		"a byte is missing":    func(o *Options) { delete(o.Vocab, "Ġ") },
		"a merge of nothing":   func(o *Options) { o.Merges = append(o.Merges, [2]string{"a", "no such"}) },
		"a merge to nothing":   func(o *Options) { o.Merges = append(o.Merges, [2]string{"Ń", "Ń"}) },
		"an empty special":     func(o *Options) { o.Specials = []Special{{ID: 1}} },
		"a special without id": func(o *Options) { o.Specials = []Special{{Text: "x", ID: -1}} },
	} {
		o := options(v)
		o.Vocab = map[string]int32{}
		for k, id := range v.Vocab {
			o.Vocab[k] = id
		}
		change(&o)
		if _, err := New(o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func FuzzAppend(f *testing.F) {
	tok, v := reference(f)
	for _, c := range v.Cases {
		f.Add(string(c.Text))
	}
	tokens := make(map[int32]string, len(v.Vocab))
	for token, id := range v.Vocab {
		tokens[id] = token
	}
	bytes := map[rune]byte{}
	for b, r := range spelling() {
		bytes[r] = byte(b)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Contains(text, "<") {
			return // specials take spaces with them
		}
		var back []byte
		for _, id := range tok.AppendLimit(nil, text, all) {
			for _, r := range tokens[id] {
				back = append(back, bytes[r])
			}
		}
		if string(back) != toValid(text) || !utf8.Valid(back) {
			t.Fatalf("%+q comes back as %+q", text, back)
		}
	})
}
