package stage_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"

	"github.com/reugn/go-streams/flow"

	"github.com/permafrost-ml/permafrost/stage"
)

// words is a source of a few words.
func words(context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for _, w := range []string{"ice", "core", "drill", "thaw", "soil"} {
			if !yield(w, nil) {
				return
			}
		}
	}
}

func Example() {
	g, _ := stage.NewGroup(context.Background())
	in := stage.From(g, "words", words)
	lengths := stage.OrderedMap(g, stage.Batch(g, in, 2), "measure", 4,
		func(_ context.Context, batch []string) (string, error) {
			return fmt.Sprint(batch, len(strings.Join(batch, ""))), nil
		})
	stage.Each(g, lengths, "print", func(_ context.Context, s string) error {
		_, err := fmt.Println(s)
		return err
	})
	fmt.Println(g.Wait())
	// Output:
	// [ice core] 7
	// [drill thaw] 9
	// [soil] 4
	// <nil>
}

// The first error ends all stages and names its own.
func ExampleGroup_Wait() {
	g, _ := stage.NewGroup(context.Background())
	upper := stage.Map(g, stage.From(g, "words", words), "upper", 2,
		func(_ context.Context, w string) (string, error) {
			if w == "thaw" {
				return "", errors.New("too warm")
			}
			return strings.ToUpper(w), nil
		})
	stage.Each(g, upper, "discard", func(context.Context, string) error { return nil })
	fmt.Println(g.Wait())
	// Output: upper: too warm
}

func ExampleProcess() {
	g, _ := stage.NewGroup(context.Background())
	pairs := stage.Process(g, stage.From(g, "words", words), "pairs",
		func(_ context.Context, in iter.Seq[string], emit func(string) error) error {
			last := ""
			for w := range in {
				if last != "" {
					if err := emit(last + " " + w); err != nil {
						return err
					}
				}
				last = w
			}
			return nil
		})
	stage.Each(g, pairs, "print", func(_ context.Context, s string) error {
		_, err := fmt.Println(s)
		return err
	})
	if err := g.Wait(); err != nil {
		fmt.Println(err)
	}
	// Output:
	// ice core
	// core drill
	// drill thaw
	// thaw soil
}

// Each worker has a buffer of its own, which fn may use without a lock.
func ExampleOrderedWorkers() {
	g, _ := stage.NewGroup(context.Background())
	out := stage.OrderedWorkers(g, stage.From(g, "words", words), "reverse", 2,
		func(context.Context, int) (*strings.Builder, error) { return new(strings.Builder), nil },
		func(_ context.Context, b *strings.Builder, w string) (string, error) {
			b.Reset()
			for i := range len(w) {
				b.WriteByte(w[len(w)-1-i])
			}
			return b.String(), nil
		},
		func(*strings.Builder) error { return nil })
	stage.Each(g, out, "print", func(_ context.Context, s string) error {
		_, err := fmt.Println(s)
		return err
	})
	if err := g.Wait(); err != nil {
		fmt.Println(err)
	}
	// Output:
	// eci
	// eroc
	// llird
	// waht
	// lios
}

// Flows of go-streams stand between typed stages.
func ExampleThrough() {
	g, _ := stage.NewGroup(context.Background())
	lengths := stage.Through[string, int](g, stage.From(g, "words", words),
		flow.NewFilter(func(w string) bool { return w != "drill" }, 1),
		flow.NewMap(func(w string) int { return len(w) }, 1))
	stage.Each(g, lengths, "print", func(_ context.Context, n int) error {
		_, err := fmt.Println(n)
		return err
	})
	if err := g.Wait(); err != nil {
		fmt.Println(err)
	}
	// Output:
	// 3
	// 4
	// 4
	// 4
}

// Stages are the ends and a flow of a native graph.
func ExampleAsFlow() {
	g, _ := stage.NewGroup(context.Background())
	batches := stage.AsFlow(g, "batches", func(g *stage.Group, in stage.Stream[string]) stage.Stream[[]string] {
		return stage.Batch(g, in, 3)
	})
	sink := stage.AsSink(g, "sink", func(g *stage.Group, in stage.Stream[string]) {
		stage.Each(g, in, "print", func(_ context.Context, s string) error {
			_, err := fmt.Println(s)
			return err
		})
	})
	stage.AsSource(g, stage.From(g, "words", words)).
		Via(batches).
		Via(flow.NewMap(func(b []string) string { return strings.Join(b, "+") }, 1)).
		To(sink)
	fmt.Println(g.Wait())
	// Output:
	// ice+core+drill
	// thaw+soil
	// <nil>
}
