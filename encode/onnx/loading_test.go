//go:build cgo

package onnx

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const cgoOn = true

// A process loads one library, so each case has a process of its own: this
// test's program again, with the libraries to open in a variable.
const loadVariable = "PERMAFROST_TEST_LOAD"

func TestLoad(t *testing.T) {
	if list := os.Getenv(loadVariable); list != "" {
		for _, file := range filepath.SplitList(list) {
			_, err := load(file)
			t.Logf("loaded: %v", err)
			if err != nil && !errors.Is(err, ErrNoLibrary) && !strings.Contains(err.Error(), "already") {
				t.Errorf("not ErrNoLibrary")
			}
		}
		return
	}
	good := testLibrary(t)
	dir := t.TempDir()
	link, other, text := filepath.Join(dir, "link.so"), filepath.Join(dir, "other.so"), filepath.Join(dir, "text.so")
	if err := errors.Join(os.Symlink(good, link), os.WriteFile(text, bytes.Repeat([]byte("no library\n"), 100), 0o600)); err != nil {
		t.Skip(err)
	}
	if err := os.Link(good, other); err != nil { // the same library by another name will do
		b, err := os.ReadFile(good)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(other, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	foreign, _ := filepath.Glob("/lib/*/libm.so.6")
	cases := map[string]struct {
		libraries []string
		want      []string
	}{
		"twice":           {[]string{good, good, link}, []string{"<nil>", "<nil>", "<nil>"}},
		"another":         {[]string{good, other, good}, []string{"<nil>", "cannot load", "<nil>"}},
		"text":            {[]string{text, good}, []string{"text.so", "<nil>"}},
		"missing":         {[]string{filepath.Join(dir, "no.so"), good}, []string{"no such file", "<nil>"}},
		"no ONNX Runtime": {append(foreign, good), []string{"OrtGetApiBase", "<nil>"}},
	}
	if old := os.Getenv("PERMAFROST_TEST_OLD_ONNXRUNTIME"); old != "" {
		cases["too old"] = struct{ libraries, want []string }{[]string{old, good}, []string{"too old", "<nil>"}}
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if len(tc.libraries) < len(tc.want) {
				t.Skip("there is no such library here")
			}
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestLoad$", "-test.v")
			cmd.Env = append(os.Environ(), loadVariable+"="+strings.Join(tc.libraries, string(filepath.ListSeparator)))
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			var got []string
			for line := range strings.Lines(string(out)) {
				if _, result, ok := strings.Cut(line, "loaded: "); ok {
					got = append(got, strings.TrimSpace(result))
				}
			}
			if len(got) != len(tc.want) {
				t.Fatalf("%d results\n%s", len(got), out)
			}
			for i, want := range tc.want {
				if !strings.Contains(got[i], want) {
					t.Errorf("library %d gives %q, want %q", i, got[i], want)
				}
			}
		})
	}
}
