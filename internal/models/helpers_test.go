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

	"go.uber.org/goleak"

	"github.com/permafrost-ml/permafrost/internal/store"
)

// TestMain sees to it that no goroutine is left.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// unsynced is the operating system's filesystem without the wait for the
// disk, for tests that write very often.
type unsynced struct{ store.OS }

type unsyncedFile struct{ store.File }

func (unsyncedFile) Sync() error { return nil }

func (unsynced) SyncDir(string) error { return nil }

func (u unsynced) CreateExclusive(name string) (store.File, error) {
	f, err := u.OS.CreateExclusive(name)
	if err != nil {
		return nil, err
	}
	return unsyncedFile{f}, nil
}

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
