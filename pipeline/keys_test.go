package pipeline_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/permafrost-ml/permafrost/cachesink"
	"github.com/permafrost-ml/permafrost/encode"
	"github.com/permafrost-ml/permafrost/pipeline"
	"github.com/permafrost-ml/permafrost/source"
)

// TestLabelsAreCached with any number of workers and any key extractor: a
// later run trains without the dataset.
func TestLabelsAreCached(t *testing.T) {
	for keys, extractor := range keyKinds(t) {
		for workers, kind := range map[int]string{1: "groups", 2: "pairs", 8: "groups"} {
			cfg := config(t, t.TempDir())
			cfg.Sample = func(r row) pipeline.Sample {
				topic := encode.TextValue(r.C)
				a, b := encode.Text(r.Q).With("topic", topic), encode.Text(r.A).With("topic", topic)
				if kind == "groups" {
					return pipeline.Group(a, r.C)
				}
				s := pipeline.Pair(a, b)
				s.Score, s.Subgroup = float32(r.N), r.C
				return s
			}
			cfg.Cache.KeyExtractors, cfg.Cache.NumWorkers = extractor, workers
			fill(t, cfg)
			got := strings.Join(everything(t, seal(cfg)), "\n")
			for _, r := range rows(60, "") {
				want := "label=" + r.C + " (utf8)"
				if kind == "pairs" {
					want = fmt.Sprintf("score=%d (float32) subgroup=%s (utf8)", r.N, r.C)
				}
				if !strings.Contains(got, fmt.Sprintf("row=%d (int64) %s ", r.N, want)) {
					t.Fatalf("keys %s, %d workers, %s: no %q in\n%s", keys, workers, kind, want, got)
				}
			}
		}
	}
}

// TestKeys: what the key extractors give stands in the rows.
func TestKeys(t *testing.T) {
	k := func(spec string) encode.Key {
		key, err := encode.ParseKey(spec)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	cfg := config(t, "")
	delete(cfg.Splits, "val")
	cfg.Encoders["other"] = newModel("b")
	cfg.Cache.KeyExtractors = pipeline.Keys(map[string]encode.Key{"enc": k("index"), "other": k("prefix:text:4")})
	first := everything(t, cfg)[0]
	for _, want := range []string{"enc_a_key=train:0:a", "enc_b_key=train:0:b", "other_a_key=0000", "other_b_key=a000"} {
		if !strings.Contains(first, want+" (utf8)") {
			t.Errorf("no %s in %s", want, first)
		}
	}
}

// TestKeyConflict: one key with two contents is an error that names both
// rows, also where the rows of one are stored already.
func TestKeyConflict(t *testing.T) {
	cfg := config(t, t.TempDir())
	cfg.Cache.KeyExtractors = pipeline.Key(func(o encode.Object) string {
		if strings.HasPrefix(o.Text(), "0003") || strings.HasPrefix(o.Text(), "a005") {
			return "the same"
		}
		return o.Text()
	})
	err := fillErr(t, cfg)
	if !errors.Is(err, cachesink.ErrKeyConflict) {
		t.Fatalf("got %v", err)
	}
	for _, want := range []string{`row 3 of split "train", side a`, `row 5 of split "train", side b`, `"the same"`, `"enc"`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in %v", want, err)
		}
	}

	dir := t.TempDir()
	cfg = config(t, t.TempDir())
	cfg.Cache.KeyExtractors = pipeline.Key(func(o encode.Object) string { return o.Text()[:5] })
	save := func(train, val string) {
		cfg.Splits = pipeline.Splits[row]{
			"train": source.JSONL[row](write(t, filepath.Join(dir, "train.jsonl"), train)),
			"val":   source.JSONL[row](write(t, filepath.Join(dir, "val.jsonl"), val)),
		}
	}
	const one, two = `{"q":"equal start","a":"other start"}`, `{"q":"equal end","a":"yet another"}`
	save(one, one)
	fill(t, cfg)
	save(one, two) // train is stored and need not be read, but for its keys
	if err := fillErr(t, cfg); !errors.Is(err, cachesink.ErrKeyConflict) || !strings.Contains(err.Error(), `split "val"`) {
		t.Errorf("a conflict with stored rows gives %v", err)
	}
}
