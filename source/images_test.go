package source_test

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/permafrost-ml/permafrost/source"
)

// imageFolder makes a folder of files; their content is their path.
func imageFolder(t *testing.T, paths ...string) string {
	t.Helper()
	root := t.TempDir()
	for _, p := range paths {
		writeUnder(t, root, p, "content of "+p)
	}
	return root
}

func writeUnder(t *testing.T, root, path, content string) {
	t.Helper()
	full := filepath.Join(root, filepath.FromSlash(path))
	if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(full, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestImages(t *testing.T) {
	root := imageFolder(t, "dog/b.JPG", "dog/a.png", "cat/x/deep.webp", "cat/z.gif", "top.bmp", "cat/y.jpeg",
		"cat/notes.txt", "cat/.hidden.png", ".git/a.png", "cat/.x/a.png", "dog/png", "dog/c.tiff")
	rows, bad, err := collect(source.Images[source.ImageRow](root).Rows(t.Context()))
	if err != nil || len(bad) > 0 {
		t.Fatal(bad, err)
	}
	var got []string
	for _, r := range rows {
		v := r.Value
		got = append(got, v.Label+" "+v.Path+" "+v.Filename)
		if string(v.Image) != "content of "+v.Path || r.Pos != (source.Pos{Name: filepath.Join(root, v.Path), Line: 1}) {
			t.Errorf("%v: %q", r.Pos, v.Image)
		}
	}
	want := []string{"cat cat/x/deep.webp deep.webp", "cat cat/y.jpeg y.jpeg", "cat cat/z.gif z.gif", "dog dog/a.png a.png", "dog dog/b.JPG b.JPG", " top.bmp top.bmp"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
	fields, _, err := collect(source.Images[source.Fields](root).Rows(t.Context()))
	if err != nil || len(fields) != 6 {
		t.Fatal(fields, err)
	}
	if f := fields[0].Value; len(f) != 4 || f["label"] != "cat" || f["path"] != "cat/x/deep.webp" || f["filename"] != "deep.webp" || !bytes.Equal(f["image"].([]byte), []byte("content of cat/x/deep.webp")) {
		t.Errorf("fields %v", f)
	}
	if label, ok := fields[5].Value["label"]; label != nil || !ok {
		t.Errorf("an image in the root has the label %v", label)
	}
	labels, _, err := collect(source.Images[struct{ Label string }](root).Rows(t.Context()))
	if err != nil || len(labels) != 6 || labels[4].Value.Label != "dog" {
		t.Errorf("a struct of the caller: %v, %v", labels, err)
	}
	limited, _, err := collect(source.Limit[source.Fields](source.Images[source.Fields](root), 2).Rows(t.Context()))
	if err != nil || len(limited) != 2 {
		t.Errorf("a limit of 2 gives %d rows, %v", len(limited), err)
	}
}

func TestImagesThatCannotBeRead(t *testing.T) {
	root := imageFolder(t, "cat/a.png", "cat/b.png")
	writeUnder(t, root, "cat/large.png", strings.Repeat("x", 100))
	if err := os.Symlink("nowhere", filepath.Join(root, "cat", "c.png")); err != nil {
		t.Skip("no links here:", err)
	}
	rows, bad, err := collect(source.Images[source.Fields](root).With(source.FileOptions{MaxLine: 50}).Rows(t.Context()))
	if err != nil || len(rows) != 2 || len(bad) != 2 {
		t.Fatal(len(rows), bad, err)
	}
	for i, want := range []string{"c.png:1: stat", "large.png:1: 100 bytes, larger than MaxLine, 50 bytes"} {
		if !strings.Contains(bad[i].Error(), want) {
			t.Errorf("bad row %v, want %q", bad[i], want)
		}
	}
	for _, root := range []string{"", filepath.Join(root, "none"), filepath.Join(root, "cat", "a.png")} {
		if _, _, err := collect(source.Images[source.Fields](root).Rows(t.Context())); err == nil {
			t.Errorf("%q is no folder", root)
		}
		if _, err := source.Images[source.Fields](root).Identity(t.Context()); err == nil {
			t.Errorf("%q has an identity", root)
		}
	}
	if runtime.GOOS == "windows" || os.Getuid() == 0 {
		return // everything can be read
	}
	if err := os.Chmod(filepath.Join(root, "cat"), 0); err != nil {
		t.Fatal(err)
	}
	_, bad, err = collect(source.Images[source.Fields](root).Rows(t.Context()))
	_ = os.Chmod(filepath.Join(root, "cat"), 0o755)
	if err != nil || len(bad) != 1 {
		t.Errorf("a folder that cannot be read gives %v, %v", bad, err)
	}
}

func TestImagesFollowLinks(t *testing.T) {
	root := imageFolder(t, "cat/a.png", "elsewhere/b.png")
	linked := filepath.Join(t.TempDir(), "root")
	for link, target := range map[string]string{
		linked: root, filepath.Join(root, "cat", "b.png"): filepath.Join("..", "elsewhere", "b.png"),
		filepath.Join(root, "cat", "loop"): "..", filepath.Join(root, "cat", "dir.png"): "..",
	} {
		if err := os.Symlink(target, link); err != nil {
			t.Skip("no links here:", err)
		}
	}
	rows, bad, err := collect(source.Images[source.ImageRow](linked).Rows(t.Context()))
	if err != nil || len(bad) > 0 || len(rows) != 3 || rows[1].Value.Path != "cat/b.png" || string(rows[1].Value.Image) != "content of elsewhere/b.png" {
		t.Errorf("%v, %v, %v", rows, bad, err)
	}
}

func TestImagesIdentity(t *testing.T) {
	root := imageFolder(t, "cat/a.png", "dog/b.png", "dog/c.txt")
	hints := t.TempDir()
	s := source.Images[source.Fields](root).With(source.FileOptions{HintDir: hints})
	first, err := s.Identity(t.Context())
	if err != nil || !strings.HasPrefix(first, "sha256:") {
		t.Fatal(first, err)
	}
	moved := imageFolder(t, "cat/a.png", "dog/b.png")
	if id, err := source.Images[source.Fields](moved).With(source.FileOptions{NoHints: true}).Identity(t.Context()); err != nil || id != first {
		t.Errorf("the same images elsewhere are %q, not %q, %v", id, first, err)
	}
	seen := map[string]string{first: "at first"}
	for _, change := range []struct {
		what string
		do   func()
	}{
		{"another content", func() { writeUnder(t, root, "cat/a.png", "CONTENT of cat/a.png") }},
		{"a further image", func() { writeUnder(t, root, "dog/d.png", "content of dog/b.png") }},
		{"another label", func() { must(t, os.Rename(filepath.Join(root, "dog", "d.png"), filepath.Join(root, "cat", "d.png"))) }},
	} {
		change.do()
		id, err := s.Identity(t.Context())
		if err != nil || seen[id] != "" {
			t.Errorf("%s has the identity of %s, %v", change.what, seen[id], err)
		}
		seen[id] = change.what
	}
	writeUnder(t, root, "dog/c.txt", "no image")
	if id, _ := s.Identity(t.Context()); seen[id] != "another label" {
		t.Error("a file that is no image changes the identity")
	}
}

// TestImagesIdentityIsRemembered forges what is remembered: only a hint can
// answer with what is in it.
func TestImagesIdentityIsRemembered(t *testing.T) {
	if runtime.GOOS != "linux" && runtime.GOOS != "darwin" {
		t.Skip("there are no hints on this system")
	}
	t.Parallel()
	root := imageFolder(t, "cat/a.png", "cat/b.png")
	path := filepath.Join(root, "cat", "b.png")
	opts := source.FileOptions{HintDir: t.TempDir()}
	s := source.Images[source.Fields](root).With(opts)
	id := identity(t, s)
	if found := hintFiles(t, opts.HintDir); len(found) != 0 {
		t.Fatalf("files just written left the hints %v", found)
	}
	age(t, path)
	if identity(t, s) != id {
		t.Fatal("the identity changed with time")
	}
	hints := hintFiles(t, opts.HintDir)
	if len(hints) != 1 {
		t.Fatalf("hints %v, want one for the folder", hints)
	}
	text, err := os.ReadFile(hints[0])
	must(t, err)
	if at := len(text) - len(`0"}`); text[at] != '0' {
		text[at] = '0'
	} else {
		text[at] = '1'
	}
	must(t, os.WriteFile(hints[0], text, 0o600))
	if identity(t, s) == id {
		t.Error("the files were read although there is a hint")
	}
	opts.CheckSources = true
	if identity(t, s.With(opts)) != id {
		t.Error("CheckSources believes a hint")
	}
	opts.CheckSources = false
	must(t, os.WriteFile(hints[0], text, 0o600))
	writeUnder(t, root, "cat/b.png", "CONTENT of cat/b.png")
	if changed := identity(t, s); changed == id {
		t.Error("a changed file is not seen")
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
