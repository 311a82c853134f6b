// Command pipeline-s3 is the command pipeline with caches in object stores:
// save_dir may be s3://bucket/prefix. Package cachesink/s3 says how it is
// configured.
package main

import (
	"github.com/permafrost-ml/permafrost/cachesink"
	"github.com/permafrost-ml/permafrost/cachesink/s3"
	"github.com/permafrost-ml/permafrost/cmd/internal/cli"
)

func main() {
	cachesink.RegisterStorage("s3", s3.Open)
	cli.Main()
}
