//go:build unix

package store_test

import (
	"errors"
	"io/fs"
	"os"
	"runtime/debug"
	"testing"
	"time"

	"github.com/permafrost-ml/permafrost/internal/store"
)

func TestMap(t *testing.T) {
	ctx := t.Context()
	d := store.NewDir(t.TempDir(), nil)
	for name, text := range map[string]string{"a/full": "some bytes", "a/empty": ""} {
		if err := store.Put(ctx, d, name, []byte(text), true); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]error{"a/empty": errors.ErrUnsupported, "a/none": fs.ErrNotExist, "../a": fs.ErrInvalid} {
		if _, err := d.Map(ctx, name); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
	}
	m, err := d.Map(ctx, "a/full")
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Unchanged(); string(m.Bytes) != "some bytes" || err != nil {
		t.Errorf("%q, error %v", m.Bytes, err)
	}
	m.Prefetch(3, len(m.Bytes))
	func() {
		defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
		defer func() {
			if recover() == nil {
				t.Error("a mapped file can be written to")
			}
		}()
		m.Bytes[0] = 'S'
	}()
	if err := os.Chtimes(d.Path("a/full"), time.Time{}, time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if m.Unchanged() == nil {
		t.Error("other times are not noticed")
	}
	if err := store.Put(ctx, d, "a/full", []byte("new"), true); err != nil {
		t.Fatal(err)
	}
	if err := m.Unchanged(); err != nil || string(m.Bytes) != "some bytes" {
		t.Errorf("replaced: %q, error %v", m.Bytes, err)
	}
	copied, err := d.Load(ctx, "a/full")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(d.Path("a/full"), 0); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(copied.Unchanged(), copied.Close()); copied.Mapped() || !m.Mapped() || err != nil {
		t.Errorf("a copy is mapped: %v, error %v", copied.Mapped(), err)
	}
	for name, want := range map[string]error{"a/full": errors.ErrUnsupported, "a/none": fs.ErrNotExist, "../a": fs.ErrInvalid} {
		if _, err := d.Load(ctx, name); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
}
