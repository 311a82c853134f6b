package models

import (
	"errors"
	"io"
	"io/fs"
	"iter"
	"net/http"
	"net/http/httptest"
	"os"
	"syscall"
	"testing"
)

// newServer answers every request with the same document.
func newServer(t *testing.T, answer string) string {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, answer) }))
	t.Cleanup(srv.Close)
	return srv.URL
}

// walk yields the paths of the files below a folder.
func walk(t *testing.T, dir string) iter.Seq[string] {
	return func(yield func(string) bool) {
		err := fs.WalkDir(os.DirFS(dir), ".", func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			if !yield(name) {
				return fs.SkipAll
			}
			return nil
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
	}
}

func noRoom(err error) bool { return errors.Is(err, syscall.ENOSPC) }
