package source_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log"
	"os"
	"path/filepath"

	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/permafrost-ml/permafrost/source"
)

// exampleFile writes a file into a temporary folder, which done removes.
func exampleFile(name, content string) (path string, done func()) {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	path = filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		log.Fatal(err)
	}
	return path, func() { _ = os.RemoveAll(dir) }
}

func ExampleJSONL() {
	path, done := exampleFile("faq.jsonl", `{"question": "What is it?", "answer": "A cache."}
{"question": "How fast?", "answer": "Very."}
`)
	defer done()
	type row struct {
		Question string `json:"question"`
		Answer   string `json:"answer"`
	}
	for row, err := range source.JSONL[row](path).Rows(context.Background()) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(row.Pos.Line, row.Value.Question, row.Value.Answer)
	}
	// Output:
	// 1 What is it? A cache.
	// 2 How fast? Very.
}

func ExampleCSV() {
	path, done := exampleFile("intents.csv", "text,category\n\"hello, you\",greeting\n")
	defer done()
	for row, err := range source.CSV[source.Fields](path).Rows(context.Background()) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(row.Value["category"], row.Value["text"])
	}
	// Output: greeting hello, you
}

func ExampleGuarded() {
	path, done := exampleFile("rows.jsonl", "{\"text\": \"good\"}\n{\"text\": \n")
	defer done()
	guard, err := source.NewGuard(source.Skip, "")
	if err != nil {
		log.Fatal(err)
	}
	for row, err := range source.Guarded(source.JSONL[source.Fields](path).Rows(context.Background()), guard) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(row.Value["text"])
	}
	fmt.Println("left out:", guard.Count())
	// Output:
	// good
	// left out: 1
}

func ExampleSeq() {
	squares := func(yield func(int, error) bool) {
		for i := range 3 {
			if !yield(i*i, nil) {
				return
			}
		}
		yield(0, errors.New("no more"))
	}
	for row, err := range source.Seq("squares", iter.Seq2[int, error](squares)).Rows(context.Background()) {
		if err != nil {
			fmt.Println(err)
			break
		}
		fmt.Println(row.Value)
	}
	// Output:
	// 0
	// 1
	// 4
	// squares:4: no more
}

func ExampleGodoc() {
	for row, err := range source.Limit(source.Godoc[source.GodocRow]("testdata/godoc", source.GodocOptions{}), 3).Rows(context.Background()) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s\n\t%s\n", row.Value.Signature, row.Value.Doc)
	}
	// Output:
	// type Shape interface{ Area() float64; Scale(by float64, origin [2]float64) (Shape, error); ... }
	// 	Shape is anything that has an area.
	// type Square struct{ Side float64; Name string; ... }
	// 	A Square has four equal sides and Square.Area of one squared.
	// func (s *Square) Area() float64
	// 	Area returns the side times itself.
}

func ExampleReplay() {
	table := &numbers{mem: memory.DefaultAllocator, rows: 10}
	replay, err := source.Replay(table, source.ReplayOptions{BatchSize: 4, Seed: 42})
	if err != nil {
		log.Fatal(err)
	}
	for epoch := range 2 {
		for batch, err := range replay.Epoch(context.Background(), epoch) {
			if err != nil {
				log.Fatal(err)
			}
			fmt.Println(epoch, batch.Column(0).(*array.Int64).Int64Values())
		}
	}
	// Output:
	// 0 [7 0 6 5]
	// 0 [2 3 1 4]
	// 0 [8 9]
	// 1 [7 8 0 1]
	// 1 [2 9 4 5]
	// 1 [3 6]
}

// Batches of two groups with two rows each, however large the groups are.
func ExampleGroupBalanced() {
	groups := []int32{0, 0, 0, 0, 0, 0, 0, 1, 2, 2}
	sampler, err := source.GroupBalanced(groups, nil, source.GroupOptions{Groups: 2, Samples: 2, Seed: 42})
	if err != nil {
		log.Fatal(err)
	}
	draw := sampler.Epoch(0)
	for batch := range sampler.Batches(0) {
		fmt.Println(draw(nil, batch))
	}
	// Output:
	// [7 7 4 6]
	// [7 7 2 3]
}

// No row shares a batch with one of the same object.
func ExampleDistinct() {
	objects := []int64{7, 7, 7, 1, 2, 3, 4, 5}
	sampler, err := source.Distinct(source.Shuffled(8, 42), [][]int64{objects}, 3, false)
	if err != nil {
		log.Fatal(err)
	}
	draw := sampler.Epoch(0)
	for batch := range sampler.Batches(0) {
		fmt.Println(draw(nil, batch))
	}
	// Output:
	// [3 5 4]
	// [1 7 6]
	// [2]
	// [0]
}

func ExamplePermutation() {
	order := source.NewPermutation(10, 42, 0)
	fmt.Println(order.At(0), order.At(1), order.At(2))
	// Output: 7 0 6
}
