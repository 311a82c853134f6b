package source_test

import (
	"bytes"
	"context"
	"iter"
	"math/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/permafrost-ml/permafrost/source"
)

// columnRows reads a file of columns, whichever it is.
func columnRows(ctx context.Context, path string) iter.Seq2[source.Row[source.Fields], error] {
	o := source.FileOptions{MaxLine: 1 << 16}
	if strings.HasSuffix(path, ".parquet") {
		return source.Parquet[source.Fields](path).With(o).Rows(ctx)
	}
	return source.Arrow[source.Fields](path).With(o).Rows(ctx)
}

// mostRows is how many rows the tests take of a damaged file: nulls need no
// bytes, so that one may say that it has very many.
const mostRows = 10_000

// TestDamagedColumns changes bytes of files: their rows end, with an error or
// without, and each error names the file.
func TestDamagedColumns(t *testing.T) {
	rounds := 12
	if testing.Short() {
		rounds = 6
	}
	paths := append(files(t, "*.parquet", 10), files(t, "*.arrow", 10)...)
	dir := t.TempDir()
	bad, failed := 0, 0
	for _, path := range paths {
		orig, err := os.ReadFile(path)
		must(t, err)
		damaged := filepath.Join(dir, filepath.Base(path))
		rnd := rand.New(rand.NewSource(7))
		for range rounds {
			b := bytes.Clone(orig)
			for range 1 + rnd.Intn(4) {
				b[rnd.Intn(len(b))] = byte(rnd.Intn(256))
			}
			must(t, os.WriteFile(damaged, b, 0o644))
			n := 0
			for _, err := range columnRows(t.Context(), damaged) {
				if n++; n > mostRows {
					break
				}
				if err == nil {
					continue
				}
				if !strings.Contains(err.Error(), damaged) {
					t.Errorf("the error %q does not name the file", err)
				}
				if _, ok := err.(*source.RowError); ok {
					bad++
				} else {
					failed++
				}
			}
		}
	}
	if bad == 0 || failed == 0 {
		t.Errorf("%d bad rows and %d failures in all", bad, failed)
	}
}

func fuzzColumns(f *testing.F, pattern, ext string) {
	paths, err := filepath.Glob(columnsDir + pattern)
	if err != nil || len(paths) == 0 {
		f.Fatal(paths, err)
	}
	for _, p := range paths {
		b, err := os.ReadFile(p)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	path := filepath.Join(f.TempDir(), "fuzzed"+ext)
	f.Fuzz(func(t *testing.T, b []byte) {
		must(t, os.WriteFile(path, b, 0o644))
		n := 0
		for _, err := range columnRows(t.Context(), path) {
			if n++; n > mostRows {
				return
			}
			if err != nil && !strings.Contains(err.Error(), path) {
				t.Errorf("the error %q does not name the file", err)
			}
		}
	})
}

func FuzzParquet(f *testing.F) { fuzzColumns(f, "*.parquet", ".parquet") }

func FuzzArrow(f *testing.F) { fuzzColumns(f, "*.arrow", ".arrow") }
