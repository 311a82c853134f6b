package pipeline_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"

	"github.com/reugn/go-streams/flow"

	"github.com/permafrost-ml/permafrost/cachesink"
	"github.com/permafrost-ml/permafrost/encode"
	"github.com/permafrost-ml/permafrost/encode/static"
	"github.com/permafrost-ml/permafrost/source"
	"github.com/permafrost-ml/permafrost/stage"
)

// fillByHand does what a pipeline's Fill does, with the same stages and a
// flow of go-streams between them. It returns the objects encoded.
func fillByHand(ctx context.Context, dir string) (int64, error) {
	model := static.Default()
	spec, err := model.Spec(ctx)
	if err != nil {
		return 0, err
	}
	use := cachesink.Use{Name: "content_encoder", Dim: spec.Dim, Input: encode.Reads{}.String(), Cached: true, FreeKeys: true}
	if use.Fingerprint, use.Spec, err = spec.Declaration(cachesink.DefaultBatchSize); err != nil {
		return 0, err
	}
	cache, err := cachesink.Open(ctx, cachesink.Dir(dir), nil)
	if err != nil {
		return 0, err
	}
	fill, err := cache.Fill(ctx, cachesink.FillOptions{Encoders: []cachesink.Use{use}})
	if err != nil {
		return 0, err
	}
	g, _ := stage.NewGroup(ctx)
	rows := stage.From(g, "read", source.JSONL[faq]("../testdata/faq.jsonl").Rows)
	samples := stage.Through[source.Row[faq], encode.Sample](g, rows, flow.NewMap(func(r source.Row[faq]) encode.Sample {
		return encode.PairSample(encode.Text(r.Value.Question), encode.Text(r.Value.Answer))
	}, 1))
	batches := encode.Samples(g, samples, encode.SampleOptions{Split: "train", Uses: []encode.Use{{Name: use.Name}}})
	objects := fill.Index(g, batches)[use.Name]
	fill.Write(g, use.Name, encode.Stage(g, objects, use.Name, model, encode.StageOptions{Workers: 2, Memo: fill.Memo(use.Name)}))
	if err := g.Wait(); err != nil {
		return 0, errors.Join(err, fill.Abort())
	}
	_, err = fill.Commit(ctx)
	return fill.Stats().Encoders[use.Name].Encoded, err
}

// A fill composed by hand writes the same files as a pipeline declared as a
// whole.
func Example_byHand() {
	dir, err := os.MkdirTemp("", "permafrost")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	for range 2 {
		encoded, err := fillByHand(context.Background(), dir)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println("encoded", encoded, "objects")
	}
	// Output:
	// encoded 96 objects
	// encoded 0 objects
}
