package pipeline_test

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/permafrost-ml/permafrost/encode"
	"github.com/permafrost-ml/permafrost/encode/static"
	"github.com/permafrost-ml/permafrost/pipeline"
	"github.com/permafrost-ml/permafrost/pipeline/head"
	"github.com/permafrost-ml/permafrost/pipeline/loss"
	"github.com/permafrost-ml/permafrost/pipeline/train"
	"github.com/permafrost-ml/permafrost/source"
)

// A pipeline declared as a whole: questions and answers from JSONL files, one
// frozen encoder whose embeddings are computed once, a small trained head.
func Example() {
	type row struct{ Question, Answer string }
	dir, _ := os.MkdirTemp("", "permafrost")
	defer os.RemoveAll(dir)
	p, err := pipeline.New(pipeline.Config[row]{
		Splits: pipeline.Splits[row]{
			"train": source.JSONL[row]("../testdata/faq.jsonl"),
			"val":   source.JSONL[row]("../testdata/faq_val.jsonl"),
		},
		Sample:   func(r row) pipeline.Sample { return pipeline.Pair(encode.Text(r.Question), encode.Text(r.Answer)) },
		Encoders: pipeline.Encoders{"content_encoder": static.Default()},
		Cache:    &pipeline.CacheConfig{SaveDir: dir},
		Head:     head.SkipConnection{},
		Loss:     loss.MultipleNegativesRanking{Symmetric: true},
		Train:    train.Options{Epochs: 20, Optimizer: train.Adam{LR: 3e-3}},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer p.Close()
	r, err := p.Run(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("encoded %d objects once, trained %d epochs\n", r.Fill.Encoded, r.Train.Epochs)
	fmt.Println("the loss fell:", r.Train.FinalLoss < r.Train.FirstLoss)
	// Output:
	// encoded 120 objects once, trained 20 epochs
	// the loss fell: true
}
