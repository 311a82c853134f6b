package stage_test

import (
	"context"
	"iter"
	"runtime"
	"testing"

	"github.com/reugn/go-streams/flow"

	"github.com/permafrost-ml/permafrost/stage"
)

// benchmark reports the cost of one item through a graph whose stages build
// adds between a source and a last stage, which are part of it.
func benchmark[Out any](b *testing.B, build func(*stage.Group, stage.Stream[int]) stage.Stream[Out]) {
	const items = 10_000
	b.ReportAllocs()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for b.Loop() {
		g, _ := stage.NewGroup(b.Context())
		in := stage.From(g, "source", func(context.Context) iter.Seq2[int, error] {
			return func(yield func(int, error) bool) {
				for i := range items {
					if !yield(i, nil) {
						return
					}
				}
			}
		})
		stage.Each(g, build(g, in), "sink", func(context.Context, Out) error { return nil })
		if err := g.Wait(); err != nil {
			b.Fatal(err)
		}
	}
	runtime.ReadMemStats(&after)
	n := float64(b.N) * items
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/n, "ns/item")
	b.ReportMetric(float64(after.Mallocs-before.Mallocs)/n, "allocs/item")
}

func BenchmarkStage(b *testing.B) {
	type ints = stage.Stream[int]
	id := func(_ context.Context, v int) (int, error) { return v, nil }
	for _, bb := range []struct {
		name  string
		build func(*stage.Group, ints) ints
	}{
		{"none", func(_ *stage.Group, in ints) ints { return in }},
		{"map1", func(g *stage.Group, in ints) ints { return stage.Map(g, in, "map", 1, id) }},
		{"map4", func(g *stage.Group, in ints) ints { return stage.Map(g, in, "map", 4, id) }},
		{"ordered1", func(g *stage.Group, in ints) ints { return stage.OrderedMap(g, in, "map", 1, id) }},
		{"ordered4", func(g *stage.Group, in ints) ints { return stage.OrderedMap(g, in, "map", 4, id) }},
		{"prefetch64", func(g *stage.Group, in ints) ints { return stage.Prefetch(g, in, 64) }},
		{"batch32", func(g *stage.Group, in ints) ints { return stage.Unbatch(g, stage.Batch(g, in, 32)) }},
		{"tee2merge", func(g *stage.Group, in ints) ints { return stage.Merge(g, stage.Tee(g, in, 2)...) }},
		{"native", func(g *stage.Group, in ints) ints {
			return stage.Through[int, int](g, in, flow.NewMap(func(v int) int { return v }, 1))
		}},
		{"asflow", func(g *stage.Group, in ints) ints {
			return stage.Through[int, int](g, in, stage.AsFlow(g, "flow", func(_ *stage.Group, in ints) ints { return in }))
		}},
	} {
		b.Run(bb.name, func(b *testing.B) { benchmark(b, bb.build) })
	}
}

// BenchmarkNative is the library by itself, to compare with.
func BenchmarkNative(b *testing.B) {
	const items = 10_000
	for b.Loop() {
		in := flow.NewPassThrough()
		go func() {
			defer close(in.In())
			for i := range items {
				in.In() <- i
			}
		}()
		out := in.Via(flow.NewMap(func(v int) int { return v }, 1))
		for range out.Out() { //nolint:revive // the elements are what is measured
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/(float64(b.N)*items), "ns/item")
}
