// Command pipeline encodes a dataset once with frozen encoders, keeps the
// embeddings in a cache and trains small heads on them.
package main

import "github.com/permafrost-ml/permafrost/cmd/internal/cli"

func main() { cli.Main() }
