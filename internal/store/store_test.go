package store

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// noLink is a filesystem without hard links.
type noLink struct{ OS }

func (noLink) Link(string, string) error { return &os.LinkError{Op: "link", Err: syscall.EPERM} }

func stores(t *testing.T) map[string]Store {
	return map[string]Store{
		"dir":         NewDir(filepath.Join(t.TempDir(), "a", "b"), nil),
		"dir no link": NewDir(filepath.Join(t.TempDir(), "c"), noLink{}),
		"mem":         NewMem(),
	}
}

func TestStore(t *testing.T) {
	for kind, s := range stores(t) {
		t.Run(kind, func(t *testing.T) {
			ctx := t.Context()
			if got, err := s.List(ctx, "x/"); err != nil || len(got) != 0 {
				t.Fatalf("list of nothing = %v, %v", got, err)
			}
			if _, err := s.Open(ctx, "x/a"); !errors.Is(err, fs.ErrNotExist) {
				t.Fatalf("open of a missing file: %v", err)
			}
			if err := Put(ctx, s, "x/a", []byte("one"), false); err != nil {
				t.Fatal(err)
			}
			if err := Put(ctx, s, "x/a", []byte("two"), false); !errors.Is(err, fs.ErrExist) {
				t.Fatalf("second put: %v", err)
			}
			if got, err := ReadAll(ctx, s, "x/a", 100); err != nil || string(got) != "one" {
				t.Fatalf("read %q, %v", got, err)
			}
			if _, err := ReadAll(ctx, s, "x/a", 2); err == nil {
				t.Fatal("a file over the limit was read")
			}
			if err := Put(ctx, s, "x/a", []byte("three"), true); err != nil {
				t.Fatal(err)
			}
			if err := Put(ctx, s, "x/y/b", nil, true); err != nil {
				t.Fatal(err)
			}
			got, err := s.List(ctx, "x/")
			got = slices.DeleteFunc(got, func(i Info) bool { return strings.HasSuffix(i.Name, ClaimSuffix) })
			if err != nil || len(got) != 2 || got[0] != (Info{"x/a", 5}) || got[1].Name != "x/y/b" {
				t.Fatalf("list = %v, %v", got, err)
			}
			if info, err := s.Stat(ctx, "x/a"); err != nil || info.Size != 5 {
				t.Fatalf("stat = %v, %v", info, err)
			}
			if err := s.Remove(ctx, "x/a"); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Stat(ctx, "x/a"); !errors.Is(err, fs.ErrNotExist) {
				t.Fatalf("stat after remove: %v", err)
			}
			for _, bad := range []string{"", ".", "../x", "/etc/x", "a//b", `a\b`} {
				if err := Put(ctx, s, bad, nil, true); !errors.Is(err, fs.ErrInvalid) {
					t.Errorf("name %q: %v", bad, err)
				}
			}
			ended, cancel := context.WithCancel(ctx)
			cancel()
			if err := Put(ended, s, "x/c", nil, false); !errors.Is(err, context.Canceled) {
				t.Errorf("put under an ended context: %v", err)
			}
		})
	}
}

func TestWriterReadsBackAndAborts(t *testing.T) {
	for kind, s := range stores(t) {
		t.Run(kind, func(t *testing.T) {
			w, err := s.Create(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			want := bytes.Repeat([]byte("0123456789"), 1000)
			if _, err := w.Write(want); err != nil {
				t.Fatal(err)
			}
			got := make([]byte, 10)
			if _, err := w.ReadAt(got, 500); err != nil || string(got) != "0123456789" {
				t.Fatalf("read back %q, %v", got, err)
			}
			if _, err := w.ReadAt(got, int64(len(want))-3); err != io.EOF {
				t.Fatalf("read past the end: %v", err)
			}
			if err := w.Abort(); err != nil {
				t.Fatal(err)
			}
			if got, err := s.List(t.Context(), "tmp"); err != nil || len(got) != 0 {
				t.Fatalf("left after abort: %v, %v", got, err)
			}
		})
	}
}

// TestOnePutWins is the commit's footing: of many writers of one name one
// succeeds, and its bytes stay.
func TestOnePutWins(t *testing.T) {
	for kind, s := range stores(t) {
		t.Run(kind, func(t *testing.T) {
			var wins atomic.Int32
			var wg sync.WaitGroup
			var winner atomic.Int32
			for i := range 8 {
				wg.Go(func() {
					err := Put(t.Context(), s, "m/1", []byte{byte(i)}, false)
					switch {
					case err == nil:
						wins.Add(1)
						winner.Store(int32(i))
					case !errors.Is(err, fs.ErrExist):
						t.Error(err)
					}
				})
			}
			wg.Wait()
			got, err := ReadAll(t.Context(), s, "m/1", 10)
			if wins.Load() != 1 || err != nil || got[0] != byte(winner.Load()) {
				t.Fatalf("%d wins, winner %d, content %v, %v", wins.Load(), winner.Load(), got, err)
			}
		})
	}
}

func TestSweepTakesOldTemporariesOnly(t *testing.T) {
	root := t.TempDir()
	d := NewDir(root, nil)
	w, err := d.Create(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	old := filepath.Join(root, tmpDir, "new-old")
	if err := os.WriteFile(old, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	past := time.Now().Add(-tmpAge - time.Hour)
	if err := os.Chtimes(old, past, past); err != nil {
		t.Fatal(err)
	}
	if err := d.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, err := d.List(t.Context(), "tmp/"); err != nil || len(got) != 1 {
		t.Fatalf("after the sweep: %v, %v", got, err)
	}
}
