package cachesink

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/permafrost-ml/permafrost/encode"
)

// BenchmarkGather gathers shuffled batches out of host memory, by the dtype
// that the embeddings are stored in.
func BenchmarkGather(b *testing.B) {
	const objects, batch = 20_000, 1024
	samples := make([]encode.Sample, objects)
	for i := range samples {
		samples[i] = encode.GroupSample(encode.Text(fmt.Sprint("text ", i)), "label")
	}
	for _, d := range allDTypes {
		b.Run(string(d), func(b *testing.B) {
			s := setup{
				splits: map[string][]encode.Sample{"train": samples}, shard: objects, batch: 256,
				models: map[string]hashModel{"e": {dim: 384, seed: "e"}}, dtypes: map[string]DType{"e": d},
			}
			c, _, err := s.run(b.Context(), Memory())
			if err != nil {
				b.Fatal(err)
			}
			var tables Tables
			defer tables.Release()
			all, err := c.Read(b.Context(), &c.Manifest().Splits[0], &tables)
			if err != nil {
				b.Fatal(err)
			}
			defer all.Release()
			r, err := all.Select("e") // embeddings alone
			if err != nil {
				b.Fatal(err)
			}
			rng := rand.New(rand.NewPCG(1, 2))
			order := make([]int64, objects)
			for i, p := range rng.Perm(objects) {
				order[i] = int64(p)
			}
			at := 0
			b.ReportAllocs()
			b.ResetTimer()
			for range b.N {
				if at+batch > objects {
					at = 0
				}
				rec, err := r.Gather(b.Context(), order[at:at+batch])
				if err != nil {
					b.Fatal(err)
				}
				rec.Release()
				at += batch
			}
			b.ReportMetric(float64(b.N)*batch/b.Elapsed().Seconds(), "rows/s")
		})
	}
}
