package export_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/permafrost-ml/permafrost/cachesink"
	"github.com/permafrost-ml/permafrost/pipeline/export"
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
