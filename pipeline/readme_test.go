package pipeline_test

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestReadmeShowsTheExamples: the Go programs of the README are the tested
// Examples of this package, line by line.
func TestReadmeShowsTheExamples(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	var examples string
	for _, name := range []string{"example_test.go", "example_compose_test.go"} {
		code, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		examples += dedent(string(code))
	}
	blocks := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(string(readme), -1)
	if len(blocks) != 2 {
		t.Fatalf("%d Go programs in the README, want 2", len(blocks))
	}
	for _, b := range blocks {
		if !strings.Contains(examples, dedent(b[1])) {
			t.Errorf("the README shows what no Example runs:\n%s", b[1])
		}
	}
}

// dedent drops the indentation, which the README has less of.
func dedent(code string) string {
	lines := strings.Split(code, "\n")
	for i, l := range lines {
		lines[i] = strings.TrimLeft(l, "\t")
	}
	return strings.Join(lines, "\n")
}
