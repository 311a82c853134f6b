package cli

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/permafrost-ml/permafrost/pipeline"
)

func TestGuess(t *testing.T) {
	text := func(name string, distinct, length int) column {
		return column{Name: name, Type: "text", Distinct: distinct, Rows: 100, length: 100 * length}
	}
	tests := map[string]struct {
		cols []column
		want sample
	}{
		"names of a pair":         {[]column{text("Answer", 90, 50), text("Question", 100, 20), text("category", 5, 8)}, sample{Kind: "pair", A: "Question", B: "Answer"}},
		"pair with a score":       {[]column{text("sentence1", 90, 50), text("sentence2", 90, 50), {Name: "score", Type: "number", Rows: 100}}, sample{Kind: "pair", A: "sentence1", B: "sentence2", Score: "score"}},
		"names of a group":        {[]column{{Name: "label", Type: "integer", Distinct: 77, Rows: 100}, text("text", 100, 40)}, sample{Kind: "group", A: "text", Label: "label"}},
		"label, unnamed text":     {[]column{text("intent", 9, 9), text("phrase", 100, 40), text("lang", 1, 2)}, sample{Kind: "group", A: "phrase", Label: "intent"}},
		"text, unnamed label":     {[]column{text("text", 100, 40), text("team", 4, 6), {Name: "n", Type: "integer", Distinct: 100, Rows: 100}}, sample{Kind: "group", A: "text", Label: "team"}},
		"two texts":               {[]column{text("de", 100, 40), text("en", 100, 40)}, sample{Kind: "pair", A: "de", B: "en"}},
		"godoc":                   {[]column{text("doc", 100, 40), text("name", 100, 9), text("package", 9, 9), text("signature", 100, 40)}, sample{Kind: "pair", A: "doc", B: "signature"}},
		"one text":                {[]column{text("text", 100, 40)}, sample{}},
		"no text":                 {[]column{{Name: "x", Type: "number", Rows: 100}}, sample{}},
		"three texts, no repeats": {[]column{text("p", 100, 40), text("q", 100, 41), text("r", 100, 42)}, sample{}},
	}
	for name, test := range tests {
		got, ok := guess(test.cols)
		if got != test.want || ok != (test.want != sample{}) {
			t.Errorf("%s: %+v, %v", name, got, ok)
		}
	}
}

// Whatever columns and files are called, the config loads and means them.
func TestConfigTextLoads(t *testing.T) {
	odd := []string{"text", "yes", "null", "1", "1e3", "a b", "a: b", "a,b", "{x}", "#x", "'", `"`, "${HOME}", "$", "~", "-", "日本", "a\tb", "\u2028", ".inf", "@x", "%y", "a#b", "!t", "&a", "*a"}
	dir := t.TempDir()
	for _, a := range odd {
		for _, kind := range []string{"pair", "group"} {
			s := sample{Kind: kind, A: a, B: "b" + a, Label: "b" + a}
			cols := []column{{Name: a, Type: "text"}, {Name: "b" + a, Type: "text"}, {Name: "c" + a, Type: "integer"}}
			file := filepath.Join(dir, "x"+a+".jsonl")
			if err := os.WriteFile(file, nil, 0o644); err != nil {
				t.Fatal(err)
			}
			d := &dataset{splits: map[string]files{"train": {"jsonl", []string{file}, []string{file}}}}
			text := configText(file, d, cols, s)
			cfg, err := pipeline.ParseConfig("config.yaml", []byte(text))
			if err != nil {
				t.Fatalf("%q: %v\n%s", a, err, text)
			}
			if got := cfg.Splits["train"].Name(); got != file {
				t.Errorf("%q: the file is %q, want %q", a, got, file)
			}
			if _, err := pipeline.New(cfg); err != nil {
				t.Errorf("%q: %v", a, err)
			}
			row := map[string]any{a: "first", "b" + a: "second"}
			got := cfg.Sample(row)
			if got.A.Text() != "first" || kind == "pair" && got.B.Text() != "second" {
				t.Errorf("%q: the sample is %+v", a, got)
			}
		}
	}
}

func TestFindData(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"train-00000.jsonl", "train-00001.jsonl.gz", "faq.dev.jsonl", "test.JSONL.zst", "other.jsonl", "notes.txt", ".train.jsonl"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	d, err := findData(dir, filepath.Join(dir, "configs", "x.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]string{
		"train": {"../train-00000.jsonl", "../train-00001.jsonl.gz"}, "val": {"../faq.dev.jsonl"}, "test": {"../test.JSONL.zst"},
	}
	if len(d.splits) != len(want) {
		t.Errorf("splits %v", d.splits)
	}
	for split, names := range want {
		got := d.splits[split].names
		if len(got) != len(names) {
			t.Errorf("%s: %q, want %q", split, got, names)
			continue
		}
		for i := range names {
			if got[i] != names[i] {
				t.Errorf("%s: %q, want %q", split, got, names)
			}
		}
	}
}
