package store

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"
)

// noLink is a filesystem without hard links.
type noLink struct{ OS }

func (noLink) Link(string, string) error { return &os.LinkError{Op: "link", Err: syscall.EPERM} }

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
