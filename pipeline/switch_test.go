package pipeline_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v15/arrow/array"

	"github.com/permafrost-ml/permafrost/encode"
	"github.com/permafrost-ml/permafrost/encode/static"
	"github.com/permafrost-ml/permafrost/pipeline"
)

// switchYAML has an encoder that reads questions and documents differently.
const switchYAML = `version: 1
dataset:
  splits: {train: {jsonl: rows.jsonl}}
  group: {object: {kind: kind, text: t, body: b}, label: l}
  on_error: skip
encoders:
  enc:
    type: switch
    by: kind
    options:
      question: {type: static, input: text}
      document: {type: static, template: "passage: {body}"}
cache: {save_dir: cache, batch_size: 4}
head: {type: empty}
loss: {type: softmax}
train: {epochs: 1, batch_size: 8}
output: out
`

// switchRows writes rows of both kinds, and one of neither.
func switchRows(t *testing.T, dir string) {
	t.Helper()
	var b strings.Builder
	for i := range 20 {
		kind := []string{"question", "document"}[i*7%5%2]
		if i == 13 {
			kind = "song"
		}
		line, err := json.Marshal(map[string]any{"kind": kind, "t": fmt.Sprint("what is ", i), "b": fmt.Sprint("it is ", i), "l": i % 3})
		if err != nil {
			t.Fatal(err)
		}
		b.Write(append(line, '\n'))
	}
	if err := os.WriteFile(filepath.Join(dir, "rows.jsonl"), []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

// embedStatic is the embedding of a text by the default encoder.
func embedStatic(t *testing.T, text string) []float32 {
	t.Helper()
	enc, err := static.Default().Open(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer enc.Close()
	out := make([]float32, static.Dim)
	if err := enc.Encode(t.Context(), []encode.Input{{encode.TextValue(text)}}, out); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestSwitch runs a config with a switch: rows are routed, the choice is a
// column, a row that chooses no option is a bad row, and the output opens.
func TestSwitch(t *testing.T) {
	dir := t.TempDir()
	switchRows(t, dir)
	cfg, err := pipeline.ParseConfig(filepath.Join(dir, "c.yaml"), []byte(switchYAML))
	if err != nil {
		t.Fatal(err)
	}
	p := open(t, cfg)
	res, err := p.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if res.Fill.Rows != 19 || res.Fill.Encoded != 19 || res.Fill.Quarantined != 1 {
		t.Errorf("the fill is %+v", res.Fill)
	}
	embed := func(text string) []float32 { return embedStatic(t, text) }
	seen := 0
	for b, err := range p.Epoch(t.Context(), "train", 0) {
		if err != nil {
			t.Fatal(err)
		}
		rec := b.Record()
		at := rec.Schema().FieldIndices("enc_option")
		if len(at) != 1 {
			t.Fatalf("no column enc_option in %v", rec.Schema())
		}
		rows := rec.Column(rec.Schema().FieldIndices("row")[0]).(*array.Int64)
		for i := range int(rec.NumRows()) {
			n := rows.Value(i)
			if n >= 13 {
				n++ // the row that is left out
			}
			kind := []string{"question", "document"}[n*7%5%2]
			if got := rec.Column(at[0]).(*array.String).Value(i); got != kind {
				t.Errorf("row %d chose %q, want %q", n, got, kind)
			}
			want := embed(fmt.Sprint("what is ", n))
			if kind == "document" {
				want = embed(fmt.Sprint("passage: it is ", n))
			}
			if got := b.A("enc").Data().([]float32)[i*static.Dim : (i+1)*static.Dim]; !slices.Equal(got, want) {
				t.Errorf("row %d has another embedding than its option gives", n)
			}
			seen++
		}
	}
	if seen != 19 {
		t.Errorf("%d rows in an epoch", seen)
	}

	m := loadModel(t, filepath.Join(dir, "out"))
	object := func(kind string) encode.Object {
		return encode.Record(map[string]encode.Value{"kind": encode.TextValue(kind), "text": encode.TextValue("one"), "body": encode.TextValue("two")})
	}
	got, err := m.Encode(t.Context(), []encode.Object{object("document"), object("question")})
	if err != nil || !slices.Equal(got[0], embed("passage: two")) || !slices.Equal(got[1], embed("one")) {
		t.Errorf("the output gives other embeddings, %v", err)
	}
	if _, err := m.Encode(t.Context(), []encode.Object{object("song")}); err == nil || !strings.Contains(err.Error(), `"song" is none of the options document, question`) {
		t.Errorf("an unknown option gives %v", err)
	}

	// A second run finds everything; another prompt encodes its option alone.
	again := open(t, cfg)
	if rep, err := again.Fill(t.Context()); err != nil || rep.Encoded != 0 {
		t.Errorf("the second fill is %+v, %v", rep, err)
	}
	other, err := pipeline.ParseConfig(filepath.Join(dir, "c.yaml"), []byte(strings.Replace(switchYAML, "passage: ", "text: ", 1)))
	if err != nil {
		t.Fatal(err)
	}
	documents := 0
	for n := range 20 {
		if n != 13 && n*7%5%2 == 1 {
			documents++
		}
	}
	if rep, err := open(t, other).Fill(t.Context()); err != nil || rep.Encoded != int64(documents) {
		t.Errorf("a changed template encodes %d objects, want %d, %v", rep.Encoded, documents, err)
	}
}

// TestSwitchProblems: the sections of options are as strict as others.
func TestSwitchProblems(t *testing.T) {
	for _, c := range []struct{ from, to, want string }{
		{"by: kind", "by: knd", `c.yaml:9:9: encoders.enc.by: it reads field "knd": field is missing`},
		{"    by: kind\n", "", `c.yaml:8:5: encoders.enc.by: name the field that chooses the option`},
		{"question: {type: static, input: text}", "question: {type: statc}", `c.yaml:11:24: encoders.enc.options.question.type: unknown type "statc"`},
		{"question: {type: static, input: text}", "question: {type: static, inptu: text}", `c.yaml:11:32: unknown key "encoders.enc.options.question.inptu"; did you mean "input"?`},
		{"question: {type: static, input: text}", "question: {type: static, input: title}", `encoders.enc.options.question: it reads field "title": field is missing`},
		{"question: {type: static, input: text}", "question: {type: switch, by: kind}", `encoders.enc.options.question.options: name the options`},
		{"by: kind", "by: kind\n    input: text", `c.yaml:10:5: unknown key "encoders.enc.input"`},
		{"head: {type: empty}", "head: {type: sequential, heads: [{type: gated}, {type: gate}]}", `c.yaml:14:56: head.heads.1: unknown head type "gate"`},
		{"head: {type: empty}", "head: {type: switch, options: {question: {type: gated, dropuot: 1}}}", `c.yaml:14:31: head.options: head switch: option "question": head gated: json: unknown field "dropuot"`},
		{"by: kind", "by: kind\n    option: {}", `c.yaml:10:5: unknown key "encoders.enc.option"; did you mean "options"?`},
	} {
		text := strings.Replace(switchYAML, c.from, c.to, 1)
		if _, err := pipeline.ParseConfig("c.yaml", []byte(text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q gives\n%v, want\n%s", c.to, err, c.want)
		}
	}
}

// switchHead routes the rows of switchYAML: those of questions alone are
// trained.
const switchHead = `head:
  type: sequential
  heads: [{type: empty}, {type: switch, options: {question: {type: gated}, document: {type: empty}}}]
`

// TestSwitchHead trains a head for each option of a switch encoder, on groups
// and on pairs: rows reach the head of their option in training, evaluation
// and in the output that is opened again.
func TestSwitchHead(t *testing.T) {
	for name, kind := range map[string]string{
		"groups": "",
		"pairs": `  pair: {a: {kind: kind, text: t, body: b}, b: {kind: kind, text: b, body: t}}
`,
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			switchRows(t, dir)
			text := strings.Replace(switchYAML, "head: {type: empty}\n", switchHead+"metrics: [{type: reciprocal_rank}]\n", 1)
			text = strings.Replace(text, "{train: {jsonl: rows.jsonl}}", "{train: {jsonl: rows.jsonl}, val: {jsonl: rows.jsonl}}", 1)
			if kind != "" {
				text = strings.Replace(text, "  group: {object: {kind: kind, text: t, body: b}, label: l}\n", kind, 1)
				text = strings.Replace(text, "loss: {type: softmax}", "loss: {type: multiple_negatives_ranking}", 1)
			}
			cfg, err := pipeline.ParseConfig(filepath.Join(dir, "c.yaml"), []byte(text))
			if err != nil {
				t.Fatal(err)
			}
			res, err := open(t, cfg).Run(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if res.Eval == nil || len(res.Eval.Tuned) != 1 {
				t.Errorf("the evaluation is %+v", res.Eval)
			}
			m := loadModel(t, filepath.Join(dir, "out"))
			object := func(kind string) encode.Object {
				return encode.Record(map[string]encode.Value{"kind": encode.TextValue(kind), "text": encode.TextValue("one"), "body": encode.TextValue("two")})
			}
			got, err := m.Encode(t.Context(), []encode.Object{object("document"), object("question"), object("document")})
			if err != nil {
				t.Fatal(err)
			}
			if want := embedStatic(t, "passage: two"); !slices.Equal(got[0], want) || !slices.Equal(got[2], want) {
				t.Error("a document's embedding went through another head than its own")
			}
			for i, v := range embedStatic(t, "one") {
				// Gates begin at 2, and move in one step.
				if v != 0 && (got[1][i] == v || math.Abs(float64(got[1][i]/v)-math.Tanh(2)) > 0.1) {
					t.Fatalf("value %d of a question is %v of %v", i, got[1][i], v)
				}
			}
		})
	}
}

// TestSwitchHeadProblems are found before anything is encoded.
func TestSwitchHeadProblems(t *testing.T) {
	for _, c := range []struct{ from, to, want string }{
		{"options: {question: {type: gated}, document: {type: empty}}", "options: {question: {type: gated}}", `heads[1]: there is no head for the choice "document"`},
		{"document: {type: empty}}", "document: {type: empty}, song: {type: empty}}", `no object can choose the option "song"`},
		{"options: {question: {type: gated}, document: {type: empty}}", "options: {}", "name the options"},
		{"    type: switch\n    by: kind\n    options:\n      question: {type: static, input: text}\n      document: {type: static, template: \"passage: {body}\"}\n", "    type: static\n", "needs the choices of one switch encoder"},
	} {
		dir := t.TempDir()
		switchRows(t, dir)
		text := strings.Replace(strings.Replace(switchYAML, "head: {type: empty}\n", switchHead, 1), c.from, c.to, 1)
		cfg, err := pipeline.ParseConfig(filepath.Join(dir, "c.yaml"), []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := open(t, cfg).Run(t.Context()); !errors.Is(err, pipeline.ErrConfig) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q gives %v, want %q", c.to, err, c.want)
		}
		if _, err := os.Stat(filepath.Join(dir, "cache")); err == nil {
			t.Errorf("%q: the cache was begun", c.to)
		}
	}
}
