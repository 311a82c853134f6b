package pipeline_test

import (
	"testing"

	"github.com/permafrost-ml/permafrost/encode"
	"github.com/permafrost-ml/permafrost/encode/static"
	"github.com/permafrost-ml/permafrost/pipeline"
	"github.com/permafrost-ml/permafrost/source"
)

// TestByHandWritesTheSame: the pipeline is built of nothing but the stages
// that everybody has.
func TestByHandWritesTheSame(t *testing.T) {
	byHand, whole := t.TempDir(), t.TempDir()
	if _, err := fillByHand(t.Context(), byHand); err != nil {
		t.Fatal(err)
	}
	fill(t, pipeline.Config[faq]{
		Splits:    pipeline.Splits[faq]{"train": source.JSONL[faq](testdata + "faq.jsonl")},
		Sample:    func(r faq) pipeline.Sample { return pipeline.Pair(encode.Text(r.Question), encode.Text(r.Answer)) },
		Encoders:  pipeline.Encoders{"content_encoder": static.Default()},
		Cache:     &pipeline.CacheConfig{SaveDir: whole},
		Allocator: checked(t),
	})
	got := snapshot(t, byHand, ".")
	if len(got) < 6 {
		t.Errorf("only %d files", len(got))
	}
	sameFiles(t, "by hand", got, snapshot(t, whole, "."))
}
