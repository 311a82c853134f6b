package wordpiece

import (
	"bufio"
	"compress/gzip"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"
)

func bertVocab(t testing.TB) []string {
	t.Helper()
	f, err := os.Open("testdata/vocab.txt.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	zr, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var vocab []string
	for sc := bufio.NewScanner(zr); sc.Scan(); {
		vocab = append(vocab, sc.Text())
	}
	return vocab
}

func bert(t testing.TB) *Tokenizer {
	t.Helper()
	tok, err := New(bertVocab(t))
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

type vectors struct {
	CodePoints string `json:"code_points"`
	Cases      []struct {
		Text []byte  `json:"text"`
		IDs  []int32 `json:"ids"`
	} `json:"cases"`
}

func readVectors(t testing.TB) vectors {
	t.Helper()
	b, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var v vectors
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// bracketed is AppendBracketed for a vocabulary that has the brackets.
func bracketed(t testing.TB, tok *Tokenizer, dst []int32, text string) []int32 {
	t.Helper()
	ids, err := tok.AppendBracketed(dst, text)
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

func TestEqualsReference(t *testing.T) {
	tok, vec := bert(t), readVectors(t)
	if len(vec.Cases) < 300 {
		t.Fatalf("%d cases, want 300 or more", len(vec.Cases))
	}
	for i, c := range vec.Cases {
		text := string(c.Text)
		if got := bracketed(t, tok, nil, text); !slices.Equal(got, c.IDs) {
			t.Errorf("case %d, %+q:\n got %v\nwant %v", i, text, got, c.IDs)
		}
		if got, want := tok.Append([]int32{-7}, text), c.IDs[1:len(c.IDs)-1]; !slices.Equal(got[1:], want) || got[0] != -7 {
			t.Errorf("case %d, %+q: Append gives %v, want -7 and %v", i, text, got, want)
		}
	}
}

func TestEqualsReferenceOnEveryCodePoint(t *testing.T) {
	tok, h := bert(t), sha256.New()
	var ids []int32
	var raw []byte
	for r := rune(0); r <= utf8.MaxRune; r++ {
		if !utf8.ValidRune(r) {
			continue
		}
		ids = bracketed(t, tok, ids[:0], "a"+string(r)+"B")
		raw = raw[:0]
		for _, id := range ids {
			raw = binary.LittleEndian.AppendUint32(raw, uint32(id))
		}
		h.Write(raw)
	}
	if got, want := hex.EncodeToString(h.Sum(nil)), readVectors(t).CodePoints; got != want {
		t.Errorf("digest %s, want %s", got, want)
	}
}

func TestConcurrentUseGivesTheSame(t *testing.T) {
	tok, vec := bert(t), readVectors(t)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			var ids []int32
			for _, c := range vec.Cases {
				if ids = tok.Append(ids[:0], string(c.Text)); !slices.Equal(ids, c.IDs[1:len(c.IDs)-1]) {
					t.Errorf("%+q: got %v", c.Text, ids)
				}
			}
		})
	}
	wg.Wait()
}

func TestAllocatesNothing(t *testing.T) {
	tok, vec := bert(t), readVectors(t)
	texts := make([]string, len(vec.Cases))
	for i, c := range vec.Cases {
		texts[i] = string(c.Text)
	}
	ids := make([]int32, 0, 1<<16)
	n := testing.AllocsPerRun(10, func() {
		for _, text := range texts {
			ids = tok.Append(ids[:0], text)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

func TestNewRefuses(t *testing.T) {
	for _, tc := range []struct {
		name  string
		vocab []string
		want  string
	}{
		{"nothing", nil, "[UNK]"},
		{"no unknown", []string{"a", "b"}, "[UNK]"},
		{"a token twice", []string{"[UNK]", "a", "##a", "a"}, "token 3 is token 1 again"},
		{"a continuation twice", []string{"[UNK]", "##a", "a", "##a"}, "token 3 is token 1 again"},
		{"an empty token", []string{"[UNK]", ""}, "token 1 is empty"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if _, err := New(tc.vocab); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want one with %q", err, tc.want)
			}
		})
	}
}

func TestSmallVocabulary(t *testing.T) {
	tok, err := New([]string{"[UNK]", "un", "##a", "##aff", "##able", "a", "##", "á"})
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		text string
		want []int32
	}{
		{"", nil},
		{"unaffable", []int32{1, 3, 4}},
		{"una", []int32{1, 2}},
		{"unb a", []int32{0, 5}},
		{"á", []int32{5}}, // the accent goes before the vocabulary is asked
		{"[CLS]", []int32{0, 0, 0}},
		{"[UNK]a", []int32{0, 5}},
	} {
		if got := tok.Append(nil, tc.text); !slices.Equal(got, tc.want) {
			t.Errorf("%q gives %v, want %v", tc.text, got, tc.want)
		}
	}
	if _, err := tok.AppendBracketed(nil, "a"); err != ErrNoBrackets {
		t.Errorf("AppendBracketed gives %v, want ErrNoBrackets", err)
	}
	if id, ok := tok.ID("##able"); id != 4 || !ok {
		t.Errorf("ID gives %d, %v", id, ok)
	}
	if _, ok := tok.ID("able"); ok {
		t.Error("ID finds a token that only continues words")
	}
}

func TestDamagedTablesAreRefused(t *testing.T) {
	for _, data := range []string{"", unicodeData[:19], unicodeData[:len(unicodeData)-1], unicodeData + "x"} {
		if _, err := newCharTable(data); err == nil {
			t.Errorf("tables of %d bytes are taken", len(data))
		}
	}
}

func FuzzAppend(f *testing.F) {
	for _, c := range readVectors(f).Cases {
		f.Add(string(c.Text))
	}
	tok := bert(f)
	f.Fuzz(func(t *testing.T, text string) {
		ids := tok.Append(nil, text)
		for _, id := range ids {
			if id < 0 || int(id) >= tok.Len() {
				t.Fatalf("id %d of %d", id, tok.Len())
			}
		}
		// Invalid bytes are dropped, which is what replacing them comes to.
		valid := strings.ToValidUTF8(text, "\ufffd")
		if again := tok.Append(nil, valid); !slices.Equal(ids, again) {
			t.Fatalf("%+q: %v, as valid UTF-8 %v", text, ids, again)
		}
		// A space ends a word, whatever is around it.
		double := tok.Append(nil, text+" "+text)
		if strings.Contains(text, "[") || strings.Contains(text, "]") {
			return
		}
		if !slices.Equal(double, append(slices.Clone(ids), ids...)) {
			t.Fatalf("%+q: twice gives %v, once %v", text, double, ids)
		}
	})
}

func BenchmarkAppend(b *testing.B) {
	tok := bert(b)
	for _, bc := range []struct{ name, text string }{
		{"english20", "How do I rotate the access keys of a service account without any downtime for the running application servers?"},
		{"russian", "Быстрая коричневая лиса перепрыгнула через ленивую собаку."},
		{"chinese", "敏捷的棕色狐狸跳过懒狗。中文，测试！"},
		{"longword", strings.Repeat("q", 100)},
	} {
		b.Run(bc.name, func(b *testing.B) {
			var ids []int32
			b.ReportAllocs()
			b.SetBytes(int64(len(bc.text)))
			for b.Loop() {
				ids = tok.Append(ids[:0], bc.text)
			}
			b.ReportMetric(float64(len(ids)), "tokens")
		})
	}
}
