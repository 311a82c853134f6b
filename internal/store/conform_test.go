package store_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/permafrost-ml/permafrost/internal/store"
	"github.com/permafrost-ml/permafrost/internal/store/storetest"
)

// noLink is a filesystem without hard links.
type noLink struct{ store.OS }

func (noLink) Link(string, string) error { return &os.LinkError{Op: "link", Err: syscall.EPERM} }

func TestStores(t *testing.T) {
	for kind, open := range map[string]func(*testing.T) store.Store{
		"dir": func(t *testing.T) store.Store { return store.NewDir(filepath.Join(t.TempDir(), "a", "b"), nil) },
		"dir no link": func(t *testing.T) store.Store {
			return store.NewDir(filepath.Join(t.TempDir(), "c"), noLink{})
		},
		"mem": func(*testing.T) store.Store { return store.NewMem() },
	} {
		t.Run(kind, func(t *testing.T) { storetest.Run(t, open) })
	}
}
