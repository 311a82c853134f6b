package loss

import (
	"math/rand/v2"
	"testing"

	"github.com/permafrost-ml/permafrost/pipeline/train/nn"
)

// BenchmarkCompute is one step's loss with gradients: 1024 samples of 384
// values, of 100 classes.
func BenchmarkCompute(b *testing.B) {
	const n, dim, classes = 1024, 384, 100
	rng := rand.New(rand.NewPCG(1, 1))
	groups, pairs := &Batch{A: nn.Wrap(drawn(rng, n, dim, 0))}, &Batch{A: nn.Wrap(drawn(rng, n, dim, 0)), B: nn.Wrap(drawn(rng, n, dim, 0))}
	for range n {
		groups.Labels = append(groups.Labels, int32(rng.IntN(classes)))
	}
	for _, c := range []struct {
		name   string
		config Config
	}{
		{"mnr", MultipleNegativesRanking{Symmetric: true}},
		{"mnr_euclidean", MultipleNegativesRanking{Symmetric: true, Distance: Euclidean}},
		{"mnr_manhattan", MultipleNegativesRanking{Symmetric: true, Distance: Manhattan}},
		{"mnr_xbm", MultipleNegativesRanking{XBM: &XBM{Size: 4096}}},
		{"contrastive", Contrastive{}},
		{"cosent", CoSENT{}},
		{"triplet_hard", Triplet{}},
		{"triplet_hard_euclidean", Triplet{Distance: Euclidean}},
		{"triplet_all", Triplet{Mining: MiningAll}},
		{"triplet_semi_hard", Triplet{Mining: MiningSemiHard}},
		{"online_contrastive", OnlineContrastive{Mining: MiningAll}},
		{"circle", Circle{}},
		{"fast_ap", FastAP{}},
		{"softmax", Softmax{}},
		{"arc_face", ArcFace{}},
		{"center", Center{}},
	} {
		b.Run(c.name, func(b *testing.B) {
			l, err := c.config.New(dim, classes, rand.New(rand.NewPCG(0, 0)))
			if err != nil {
				b.Fatal(err)
			}
			batch := groups
			if c.config.Kind() == Pairs {
				batch = pairs
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := l.Compute(batch, true); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
