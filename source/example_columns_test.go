package source_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/permafrost-ml/permafrost/source"
)

func ExampleParquet() {
	type row struct { // the columns that are read
		ID   int64   `json:"id"`
		Text *string `json:"text"`
	}
	rows := source.Parquet[row]("testdata/columns/v1-zstd.parquet")
	for r, err := range source.Limit[row](rows, 2).Rows(context.Background()) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(r.Pos.Line, r.Value.ID, *r.Value.Text)
	}
	// Output:
	// 1 -2 How do I reset it? #0
	// 2 -1 Grüße, 世界 #0
}

func ExampleProject() {
	rows := source.Project(source.Arrow[source.Fields]("testdata/columns/file-lz4.arrow"), "label", "at")
	for r, err := range source.Limit(rows, 2).Rows(context.Background()) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(r.Value)
	}
	// Output:
	// map[at:2024-02-28T23:59:58Z label:billing]
	// map[at:2024-02-29T06:59:58.001Z label:hardware]
}

func ExampleImages() {
	root, err := os.MkdirTemp("", "pets")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(root)
	for _, path := range []string{"dog/rex.jpg", "cat/tom.png", "cat/notes.txt"} {
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			log.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("..."), 0o644); err != nil {
			log.Fatal(err)
		}
	}
	for r, err := range source.Images[source.ImageRow](root).Rows(context.Background()) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(r.Value.Label, r.Value.Path, len(r.Value.Image))
	}
	// Output:
	// cat cat/tom.png 3
	// dog dog/rex.jpg 3
}
