package export_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"

	"github.com/permafrost-ml/permafrost/cachesink"
	"github.com/permafrost-ml/permafrost/pipeline/export"
	"github.com/permafrost-ml/permafrost/pipeline/head"
)

// All splits of a cache as a folder that load_dataset opens.
func ExampleFile() {
	ctx := context.Background()
	c, err := cachesink.Open(ctx, cachesink.Dir("../../cachesink/testdata/golden/v1"), nil)
	if err != nil {
		panic(err)
	}
	opts := export.Options{Format: export.HF}
	for i := range c.Manifest().Splits {
		opts.Splits = append(opts.Splits, &c.Manifest().Splits[i])
	}
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	res, err := export.File(ctx, c, opts, filepath.Join(dir, "dataset"), false)
	if err != nil {
		panic(err)
	}
	for _, f := range res.Files {
		fmt.Println(filepath.Base(f.Path), f.Rows)
	}
	// Output:
	// train-00000-of-00001.parquet 3
	// val-00000-of-00001.parquet 2
	// README.md 0
}

// A head as an ONNX model; of an output folder, pipeline.LoadHead reads it.
func ExampleHeadONNX() {
	h, err := head.SkipConnection{}.New(384, rand.New(rand.NewPCG(1, 1)))
	if err != nil {
		panic(err)
	}
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	res, err := export.HeadONNX(h, filepath.Join(dir, "head.onnx"), false)
	if err != nil {
		panic(err)
	}
	fmt.Println(res.In, "values to", res.Out)
	// Output:
	// 384 values to 384
}
