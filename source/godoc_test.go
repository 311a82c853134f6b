package source_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/permafrost-ml/permafrost/source"
)

const tree = "testdata/godoc"

func godoc(root string, o source.GodocOptions) *source.GodocSource[source.GodocRow] {
	return source.Godoc[source.GodocRow](root, o)
}

func TestGodoc(t *testing.T) {
	want := []source.GodocRow{
		{"Shape is anything that has an area.", "type Shape interface{ Area() float64; Scale(by float64, origin [2]float64) (Shape, error); ... }", "shapes", "Shape"},
		{"A Square has four equal sides and Square.Area of one squared.", "type Square struct{ Side float64; Name string; ... }", "shapes", "Square"},
		{"Area returns the side times itself.", "func (s *Square) Area() float64", "shapes", "Square.Area"},
		{"Sides returns the number of sides of any polygon that is drawn in the plane, e.g. a triangle.", "func Sides[S ~[]E, E Shape](polygon S, strict bool) (n int)", "shapes", "Sides"},
		{"Opaque keeps all of its fields to itself.", "type Opaque struct{...}", "shapes", "Opaque"},
		{"Pair holds two values of one type.", "type Pair[T any] struct{ A, B T }", "shapes", "Pair"},
		{"Swap returns the pair with its values exchanged.", "func (p Pair[T]) Swap() Pair[T]", "shapes", "Pair.Swap"},
		{"System returns the name of this system for Linux.", "func System() string", "shapes", "System"},
		{"MaxSides is the largest number of sides there can be.", "const MaxSides = 1 << 10", "shapes", "MaxSides"},
		{"ErrFlat is returned for shapes without any area.", "var ErrFlat error = errFlat{}", "shapes", "ErrFlat"},
		{"Handler is called for every shape in turn.", "type Handler func(s Shape, attributes struct{ Colour, Line string }) error", "shapes", "Handler"},
		{"Number is what sides are counted in here.", "type Number = int", "shapes", "Number"},
	}
	got := values(t, godoc(tree, source.GodocOptions{}))
	for i := range max(len(got), len(want)) {
		switch {
		case i >= len(got):
			t.Errorf("no row %+v", want[i])
		case i >= len(want):
			t.Errorf("a row too many, %+v", got[i])
		case got[i] != want[i]:
			t.Errorf("row %d:\n got %+v\nwant %+v", i, got[i], want[i])
		}
	}
	train := values(t, godoc(tree, source.GodocOptions{Split: "train", ValPercent: 50}))
	val := values(t, godoc(tree, source.GodocOptions{Split: "val", ValPercent: 50}))
	if len(train) == 0 || len(val) == 0 || len(train)+len(val) != len(got) {
		t.Errorf("%d rows are split into %d and %d", len(got), len(train), len(val))
	}
	if all := values(t, godoc(tree, source.GodocOptions{Split: "val", ValPercent: 100})); len(all) != len(got) {
		t.Errorf("with ValPercent 100 there are %d rows to validate", len(all))
	}
	fields := values(t, source.Godoc[source.Fields](tree, source.GodocOptions{}))
	w := want[0]
	if f := (source.Fields{"doc": w.Doc, "signature": w.Signature, "package": w.Package, "name": w.Name}); !reflect.DeepEqual(fields[0], f) {
		t.Errorf("as fields the first row is %v", fields[0])
	}
}

func TestGodocTree(t *testing.T) {
	dir := t.TempDir()
	put := func(name, content string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	fn := func(name string) string {
		return "package p\n\n// " + name + " does what its name says.\nfunc " + name + "() {}\n"
	}
	put("go.mod", "// A module.\nmodule example.org/m // its path\n")
	put("root.go", fn("Root"))
	put("b/b.go", fn("B"))
	put("a-b/c.go", fn("C"))
	put("b/broken.go", "package p\n\nfunc (\n")
	put("nested/go.mod", "module example.org/nested\n")
	put("nested/n.go", fn("N"))
	good, bad, err := collect(godoc(dir, source.GodocOptions{}).Rows(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, row := range good {
		names = append(names, row.Value.Package+"."+row.Value.Name)
	}
	if got := strings.Join(names, " "); got != "example.org/m.Root example.org/m/a-b.C example.org/m/b.B" {
		t.Errorf("rows %s", got)
	}
	if len(good) > 0 && !strings.HasSuffix(good[0].Pos.String(), "root.go:4") {
		t.Errorf("the first row is at %s", good[0].Pos)
	}
	if len(bad) != 1 || !strings.Contains(bad[0].Error(), "broken.go:") {
		t.Errorf("bad rows %v", bad)
	}

	before := identity(t, godoc(dir, source.GodocOptions{}))
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err == nil && identity(t, godoc(link, source.GodocOptions{})) != before {
		t.Error("the identity depends on where the tree is")
	}
	put("nested/n.go", fn("M"))
	if identity(t, godoc(dir, source.GodocOptions{})) != before {
		t.Error("a file that is not read changes the identity")
	}
	put("b/b.go", fn("D"))
	after := identity(t, godoc(dir, source.GodocOptions{}))
	if after == before {
		t.Error("an edit does not change the identity")
	}
	for _, o := range []source.GodocOptions{{Split: "val"}, {Split: "train"}, {Split: "train", ValPercent: 30}} {
		id := identity(t, godoc(dir, o))
		if id == after {
			t.Errorf("%+v does not change the identity", o)
		}
		after = id
	}
}

func TestGodocFailures(t *testing.T) {
	for name, s := range map[string]*source.GodocSource[source.GodocRow]{
		"missing":   godoc(filepath.Join(t.TempDir(), "absent"), source.GodocOptions{}),
		"empty":     godoc(t.TempDir(), source.GodocOptions{}),
		"split":     godoc(tree, source.GodocOptions{Split: "test"}),
		"percent":   godoc(tree, source.GodocOptions{ValPercent: 101}),
		"percent 2": godoc(tree, source.GodocOptions{ValPercent: -1}),
	} {
		_, _, err := collect(s.Rows(t.Context()))
		if _, idErr := s.Identity(t.Context()); err == nil || idErr == nil {
			t.Errorf("%s: rows give %v, the identity %v", name, err, idErr)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := collect(godoc(tree, source.GodocOptions{}).Rows(ctx)); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled pass ends with %v", err)
	}
}

func TestGodocWithoutGo(t *testing.T) {
	t.Setenv("GOROOT", "")
	t.Setenv("PATH", "")
	if _, _, err := collect(godoc("", source.GodocOptions{}).Rows(t.Context())); err == nil || !strings.Contains(err.Error(), "set GOROOT") {
		t.Errorf("without Go the error is %v", err)
	}
}

func TestGodocOfTheStandardLibrary(t *testing.T) {
	t.Parallel()
	train := values(t, godoc("", source.GodocOptions{Split: "train"}))
	val := values(t, godoc("", source.GodocOptions{Split: "val"}))
	n := len(train) + len(val)
	if share := float64(len(val)) / float64(n); n < 3000 || share < 0.17 || share > 0.23 {
		t.Errorf("of %d pairs %.2f are for validation", n, share)
	}
	texts := make(map[string]bool)
	for _, row := range append(train, val...) {
		for _, text := range []string{row.Doc, row.Signature} {
			if texts[text] || text == "" || strings.ContainsAny(text, "\n\t") {
				t.Fatalf("the text %q is there twice, or is not one line", text)
			}
			texts[text] = true
		}
	}
	for range godoc("", source.GodocOptions{}).Rows(t.Context()) {
		break // TestMain finds what is still parsing
	}
}
