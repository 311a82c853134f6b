package cachesink

import (
	"fmt"
	"testing"

	"github.com/permafrost-ml/permafrost/encode"
)

// BenchmarkFill fills a directory with an encoder that does next to nothing,
// with and without partial shards and leases.
func BenchmarkFill(b *testing.B) {
	const objects = 200_000
	samples := make([]encode.Sample, objects)
	for i := range samples {
		samples[i] = encode.GroupSample(encode.Text(fmt.Sprint("text ", i)), "label")
	}
	for _, dim := range []int{64, 384} {
		for _, forgets := range []bool{true, false} {
			b.Run(fmt.Sprintf("dim=%d/memo=%v", dim, !forgets), func(b *testing.B) {
				for range b.N {
					s := setup{
						splits: map[string][]encode.Sample{"train": samples}, shard: DefaultShardObjects, batch: 32,
						models: map[string]hashModel{"e": {dim: dim, free: true}}, forgets: forgets,
					}
					if _, _, err := s.run(b.Context(), Dir(b.TempDir())); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(b.N)*objects/b.Elapsed().Seconds(), "rows/s")
			})
		}
	}
}
