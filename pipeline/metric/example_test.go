package metric_test

import (
	"context"
	"fmt"
	"log"

	"gorgonia.org/tensor"

	"github.com/permafrost-ml/permafrost/pipeline/metric"
)

func ExampleEvaluate() {
	x := tensor.New(tensor.WithShape(4, 2), tensor.WithBacking([]float32{
		1, 0,
		1, 0.1,
		0, 1,
		1, 0.9,
	}))
	report, err := metric.Evaluate(context.Background(), x, metric.ByLabel([]int32{0, 0, 1, 1}),
		metric.RetrievalPrecision{K: 1}, metric.ReciprocalRank{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(report.Queries, "queries")
	fmt.Println(report.Values)
	// Output:
	// 4 queries
	// map[reciprocal_rank:0.8333333333333334 retrieval_precision@1:0.75]
}

func ExampleSpearman() {
	x := tensor.New(tensor.WithShape(4, 2), tensor.WithBacking([]float32{1, 0, 1, 0.1, 0, 1, 1, 0.9}))
	pairs, err := metric.ByPairs(4, []int32{0, 0, 0}, []int32{1, 2, 3}, []float32{5, 1, 2.5})
	if err != nil {
		log.Fatal(err)
	}
	report, err := metric.Evaluate(context.Background(), x, pairs, metric.Spearman{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(report.Values["spearman"])
	// Output: 1
}
