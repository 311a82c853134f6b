package pipeline

import "github.com/permafrost-ml/permafrost/cachesink"

// SetStorage has a pipeline that opened nothing yet keep its cache elsewhere.
func SetStorage[Row any](p *Pipeline[Row], st cachesink.Storage) { p.storage = st }

// LeastJSON is the fewest bytes of a JSON object with a sample.
func LeastJSON[Row any](c Config[Row]) int64 { return c.leastJSON }
