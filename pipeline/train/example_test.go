package train_test

import (
	"context"
	"fmt"
	"log"

	"github.com/permafrost-ml/permafrost/pipeline/head"
	"github.com/permafrost-ml/permafrost/pipeline/loss"
	"github.com/permafrost-ml/permafrost/pipeline/metric"
	"github.com/permafrost-ml/permafrost/pipeline/train"
)

func ExampleFit() {
	ctx := context.Background()
	data := toyPairs(300, 24, 128) // any train.Data
	res, err := train.Fit(ctx, data, head.SkipConnection{}, loss.MultipleNegativesRanking{Symmetric: true},
		train.Options{Epochs: 30, Seed: 42, Optimizer: train.Adam{LR: 0.03}})
	if err != nil {
		log.Fatal(err)
	}
	raw, err := head.Empty{}.New(data.Dim(), nil)
	if err != nil {
		log.Fatal(err)
	}
	const precision = "retrieval_precision@1"
	before, err := train.Evaluate(ctx, data, raw.Freeze(), metric.RetrievalPrecision{})
	if err != nil {
		log.Fatal(err)
	}
	after, err := train.Evaluate(ctx, data, res.Head.Freeze(), metric.RetrievalPrecision{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("loss fell:", res.FinalLoss() < res.FirstLoss())
	fmt.Println("precision rose:", after.Values[precision] > before.Values[precision])
	// Output:
	// loss fell: true
	// precision rose: true
}
