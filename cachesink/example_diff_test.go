package cachesink_test

import (
	"context"
	"fmt"
	"log"

	"github.com/permafrost-ml/permafrost/cachesink"
)

// Two caches are compared by objects, embeddings and rows.
func ExampleDiff() {
	ctx := context.Background()
	a, err := fill(ctx, cachesink.Memory(), "one", "three", "one")
	if err != nil {
		log.Fatal(err)
	}
	b, err := fill(ctx, cachesink.Memory(), "one", "seven")
	if err != nil {
		log.Fatal(err)
	}
	d, err := cachesink.Diff(ctx, a, b, cachesink.DiffOptions{})
	if err != nil {
		log.Fatal(err)
	}
	e, s := d.Encoders[0], d.Splits[0]
	fmt.Println("equal:", d.Equal)
	fmt.Printf("objects: %d in both, %d only in a, %d only in b, %d with another embedding\n",
		e.Both, e.OnlyA.Count, e.OnlyB.Count, e.Unequal.Count)
	fmt.Printf("rows: %d the same, %d removed, %d added\n", s.Same, s.Removed.Count, s.Added.Count)
	// Output:
	// equal: false
	// objects: 1 in both, 1 only in a, 1 only in b, 0 with another embedding
	// rows: 1 the same, 2 removed, 1 added
}

// The fill's key extractor was field:text.
func ExampleCache_Lookup() {
	ctx := context.Background()
	c, err := fill(ctx, cachesink.Memory(), "one", "three", "one")
	if err != nil {
		log.Fatal(err)
	}
	found, total, err := c.Lookup(ctx, "one", cachesink.LookupOptions{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(total, "matches")
	for _, m := range found {
		fmt.Println(m.Split, m.Row.Row, m.Columns["label"], m.Embedding)
	}
	// Output:
	// 2 matches
	// train 0 label [3 1]
	// train 2 label [3 1]
}
