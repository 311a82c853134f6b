package storetest

import (
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/permafrost-ml/permafrost/internal/store"
)

// TestPutUnderFaults: a file is there whole or not at all, whichever
// operation fails, and no file stays open.
func TestPutUnderFaults(t *testing.T) {
	count := &FS{FS: store.OS{}}
	put := func(f *FS, dir string) error {
		return store.Put(t.Context(), store.NewDir(dir, f), "x/a", []byte("content"), false)
	}
	if err := put(count, filepath.Join(t.TempDir(), "c")); err != nil {
		t.Fatal(err)
	}
	var failed []string
	for k := 1; k <= count.Ops(); k++ {
		dir := filepath.Join(t.TempDir(), "c")
		f := &FS{FS: store.OS{}, FailAt: k, Err: syscall.EIO}
		err := put(f, dir)
		failed = append(failed, f.Failed()...)
		b, e := store.ReadAll(t.Context(), store.NewDir(dir, nil), "x/a", 100)
		switch {
		case err != nil && !errors.Is(err, syscall.EIO):
			t.Errorf("operation %d: %v", k, err)
		case e == nil && string(b) != "content", e != nil && !errors.Is(e, fs.ErrNotExist), err == nil && e != nil:
			t.Errorf("operation %d, error %v: read %q, %v", k, err, b, e)
		case f.OpenFiles() != 0:
			t.Errorf("operation %d: %d files are open", k, f.OpenFiles())
		}
	}
	for _, op := range []string{"mkdir", "create", "write", "sync", "link", "syncdir", "remove", "close"} {
		if !slices.Contains(failed, op) {
			t.Errorf("no %s failed: %q", op, failed)
		}
	}
}
