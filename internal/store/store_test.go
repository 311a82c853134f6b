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
			if err != nil || len(got) != 2 || got[0].Name != "x/a" || got[0].Size != 5 || got[1].Name != "x/y/b" {
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

func TestTop(t *testing.T) {
	for kind, s := range stores(t) {
		t.Run(kind, func(t *testing.T) {
			if got, err := s.Top(t.Context()); err != nil || len(got) != 0 {
				t.Fatalf("of nothing: %v, %v", got, err)
			}
			for _, name := range []string{"b/x", "b/y/z", "a"} {
				if err := Put(t.Context(), s, name, nil, true); err != nil {
					t.Fatal(err)
				}
			}
			got, err := s.Top(t.Context())
			got = slices.DeleteFunc(got, func(n string) bool { return n == tmpDir })
			if err != nil || !slices.Equal(got, []string{"a", "b"}) {
				t.Fatalf("top %v, %v", got, err)
			}
		})
	}
}

// TestOthersMayRead: files have the permissions that the umask leaves, as
// any file that a program makes.
func TestOthersMayRead(t *testing.T) {
	root := t.TempDir()
	d := NewDir(filepath.Join(root, "cache"), nil)
	if err := Put(t.Context(), d, "x/a", []byte("one"), false); err != nil {
		t.Fatal(err)
	}
	plain := filepath.Join(root, "plain")
	f, err := os.Create(plain)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	want, err := os.Stat(plain)
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.Stat(d.Path("x/a"))
	if err != nil || got.Mode() != want.Mode() {
		t.Errorf("mode %v, %v, want %v", got.Mode(), err, want.Mode())
	}
}

// short is a filesystem whose files end earlier than their size says: cut
// between Stat and the read.
type short struct{ OS }

type shortFile struct{ File }

func (short) Open(name string) (File, error) {
	f, err := OS{}.Open(name)
	return shortFile{f}, err
}

func (f shortFile) ReadAt(b []byte, off int64) (int, error) {
	n, err := f.File.ReadAt(b[:len(b)-1], off)
	return n, errors.Join(err, io.EOF)
}

func TestReadAllOfACutFile(t *testing.T) {
	d := NewDir(t.TempDir(), short{})
	if err := Put(t.Context(), d, "a", []byte("abc"), false); err != nil {
		t.Fatal(err)
	}
	if b, err := ReadAll(t.Context(), d, "a", 10); err == nil {
		t.Fatalf("read %q", b)
	}
	if _, err := ReadAll(t.Context(), d, "a", 2); !errors.Is(err, ErrTooLarge) {
		t.Fatalf("error %v", err)
	}
}

// syncs notes which folders were synced.
type syncs struct {
	OS
	dirs []string
}

func (s *syncs) SyncDir(dir string) error {
	s.dirs = append(s.dirs, dir)
	return s.OS.SyncDir(dir)
}

// TestNamesAreDurable: every folder that a new name depends on was synced
// after the name was there, up to the first that was there before.
func TestNamesAreDurable(t *testing.T) {
	base := t.TempDir()
	fsys := &syncs{}
	d := NewDir(filepath.Join(base, "p", "q"), fsys)
	if err := Put(t.Context(), d, "x/y/a", nil, false); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"", "p", "p/q", "p/q/x", "p/q/x/y"} {
		if !slices.Contains(fsys.dirs, filepath.Join(base, dir)) {
			t.Errorf("%q was not synced: %q", dir, fsys.dirs)
		}
	}
	// Another process may have made the folders, and not synced them.
	fsys.dirs = nil
	if err := Put(t.Context(), d, "x/y/b", nil, true); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"p/q", "p/q/x", "p/q/x/y"} {
		if !slices.Contains(fsys.dirs, filepath.Join(base, dir)) {
			t.Errorf("%q was not synced again: %q", dir, fsys.dirs)
		}
	}
}

func TestRelativeRoot(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, root := range []string{".", "c", "c/d"} {
		d := NewDir(root, nil)
		if err := Put(t.Context(), d, "x/a", []byte("v"), false); err != nil {
			t.Fatalf("%s: %v", root, err)
		}
		if b, err := ReadAll(t.Context(), d, "x/a", 10); err != nil || string(b) != "v" {
			t.Fatalf("%s: %q, %v", root, b, err)
		}
	}
}

// dying is a filesystem without hard links whose process ends between the
// claim of a name and its file.
type dying struct{ noLink }

func (dying) Rename(string, string) error { return errors.New("killed") }

func TestClaimWithoutItsFile(t *testing.T) {
	root := t.TempDir()
	if err := Put(t.Context(), NewDir(root, dying{}), "m/1", []byte("one"), false); err == nil {
		t.Fatal("the process lives")
	}
	d := NewDir(root, noLink{})
	if err := Put(t.Context(), d, "m/1", []byte("two"), false); !errors.Is(err, fs.ErrExist) {
		t.Fatalf("a claimed name: %v", err)
	}
	if _, err := d.Stat(t.Context(), "m/1"); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("stat: %v", err)
	}
	got, err := d.List(t.Context(), "m/")
	if err != nil || len(got) != 1 || got[0].Name != "m/1"+ClaimSuffix {
		t.Fatalf("list %v, %v: a reader cannot see the claim", got, err)
	}
	if left, err := d.List(t.Context(), "tmp/"); err != nil || len(left) != 0 {
		t.Errorf("left %v, %v", left, err)
	}
}

// TestAppend: a growing file is there from the start, belongs to one writer,
// and stays as it is when its writer ends.
func TestAppend(t *testing.T) {
	for kind, s := range stores(t) {
		t.Run(kind, func(t *testing.T) {
			a, err := s.Append(t.Context(), "x/y/log")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Append(t.Context(), "x/y/log"); !errors.Is(err, fs.ErrExist) {
				t.Errorf("a second one: %v", err)
			}
			for i, want := range []string{"one", "onetwo", "onetwothree"} {
				if _, err := a.Write([]byte([]string{"one", "two", "three"}[i])); err != nil {
					t.Fatal(err)
				}
				if got, err := ReadAll(t.Context(), s, "x/y/log", 100); err != nil || string(got) != want {
					t.Fatalf("read %q, %v", got, err)
				}
				if err := a.Sync(); err != nil {
					t.Fatal(err)
				}
			}
			if err := a.Close(); err != nil {
				t.Fatal(err)
			}
			info, err := s.Stat(t.Context(), "x/y/log")
			if err != nil || info.Size != 11 || kind != "mem" && time.Since(info.ModTime) > time.Hour {
				t.Errorf("%+v, %v", info, err)
			}
			if _, err := s.Append(t.Context(), "../log"); !errors.Is(err, fs.ErrInvalid) {
				t.Errorf("a name outside: %v", err)
			}
		})
	}
}
