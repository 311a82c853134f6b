package storetest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/permafrost-ml/permafrost/internal/store"
)

// Run tests that a store keeps the contract of [store.Store]. open returns a
// new, empty store at each call.
func Run(t *testing.T, open func(t *testing.T) store.Store) {
	for _, test := range []struct {
		name string
		fn   func(*testing.T, store.Store)
	}{
		{"files", files},
		{"ranges", ranges},
		{"writer", writer},
		{"one put wins", onePutWins},
		{"top", top},
		{"append", appends},
		{"scratch", scratch},
	} {
		t.Run(test.name, func(t *testing.T) { test.fn(t, open(t)) })
	}
}

func put(t *testing.T, s store.Store, name, data string) {
	t.Helper()
	if err := store.Put(t.Context(), s, name, []byte(data), true); err != nil {
		t.Fatal(err)
	}
}

func files(t *testing.T, s store.Store) {
	ctx := t.Context()
	if got, err := s.List(ctx, "x/"); err != nil || len(got) != 0 {
		t.Fatalf("list of nothing = %v, %v", got, err)
	}
	if _, err := s.Open(ctx, "x/a"); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("open of a missing file: %v", err)
	}
	if err := s.Remove(ctx, "x/a"); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("remove of a missing file: %v", err)
	}
	if err := store.Put(ctx, s, "x/a", []byte("one"), false); err != nil {
		t.Fatal(err)
	}
	if err := store.Put(ctx, s, "x/a", []byte("two"), false); !errors.Is(err, fs.ErrExist) {
		t.Fatalf("second put: %v", err)
	}
	if got, err := store.ReadAll(ctx, s, "x/a", 100); err != nil || string(got) != "one" {
		t.Fatalf("read %q, %v", got, err)
	}
	if _, err := store.ReadAll(ctx, s, "x/a", 2); !errors.Is(err, store.ErrTooLarge) {
		t.Fatalf("a file over the limit: %v", err)
	}
	put(t, s, "x/a", "three")
	if got, err := store.ReadAll(ctx, s, "x/a", 100); err != nil || string(got) != "three" {
		t.Fatalf("read %q after the replacement, %v", got, err)
	}
	put(t, s, "x/y/b", "")
	put(t, s, "xx", "beside the folder")
	got, err := s.List(ctx, "x/")
	got = slices.DeleteFunc(got, func(i store.Info) bool { return strings.HasSuffix(i.Name, store.ClaimSuffix) })
	if err != nil || len(got) != 2 || got[0].Name != "x/a" || got[0].Size != 5 || got[1].Name != "x/y/b" {
		t.Fatalf("list = %v, %v", got, err)
	}
	if info, err := s.Stat(ctx, "x/a"); err != nil || info.Name != "x/a" || info.Size != 5 {
		t.Fatalf("stat = %v, %v", info, err)
	}
	if _, err := s.Stat(ctx, "x"); err == nil {
		if _, err := s.Open(ctx, "x"); err == nil {
			t.Error("a folder was opened")
		}
	}
	if err := s.Remove(ctx, "x/a"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Stat(ctx, "x/a"); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("stat after remove: %v", err)
	}
	for _, bad := range []string{"", ".", "../x", "/etc/x", "a//b", `a\b`} {
		if err := store.Put(ctx, s, bad, nil, true); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("name %q: %v", bad, err)
		}
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if err := store.Put(ended, s, "x/c", nil, false); !errors.Is(err, context.Canceled) {
		t.Errorf("put under an ended context: %v", err)
	}
}

// ranges reads parts of a file, of a length that no block divides.
func ranges(t *testing.T, s store.Store) {
	want := make([]byte, 300_007)
	for i := range want {
		want[i] = byte(i * i >> 3)
	}
	put(t, s, "encoders/e/f.arrow", string(want))
	r, err := s.Open(t.Context(), "encoders/e/f.arrow")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if r.Size() != int64(len(want)) {
		t.Fatalf("size %d", r.Size())
	}
	var wg sync.WaitGroup
	for _, off := range []int{0, 1, 65535, 65536, 131072, 299_000, 300_000, 300_006} {
		wg.Go(func() {
			for _, n := range []int{1, 7, 65536, 150_000} {
				b := make([]byte, n)
				k, err := r.ReadAt(b, int64(off))
				left := min(n, len(want)-off)
				if k != left || !bytes.Equal(b[:k], want[off:off+k]) || (k < n) != (err == io.EOF) || err != nil && err != io.EOF {
					t.Errorf("%d bytes at %d: %d, %v", n, off, k, err)
				}
			}
		})
	}
	wg.Wait()
	for _, off := range []int64{300_007, 400_000} {
		if n, err := r.ReadAt(make([]byte, 1), off); n != 0 || err != io.EOF {
			t.Errorf("read at %d: %d, %v", off, n, err)
		}
	}
}

func writer(t *testing.T, s store.Store) {
	w, err := s.Create(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := bytes.Repeat([]byte("0123456789"), 1000)
	if _, err := w.Write(want); err != nil {
		t.Fatal(err)
	}
	if w.Size() != int64(len(want)) {
		t.Errorf("size %d", w.Size())
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
}

// onePutWins is the commit's footing: of many writers of one name one
// succeeds, and its bytes stay.
func onePutWins(t *testing.T, s store.Store) {
	var wins, winner atomic.Int32
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			err := store.Put(t.Context(), s, "m/1", []byte{byte(i)}, false)
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
	got, err := store.ReadAll(t.Context(), s, "m/1", 10)
	if wins.Load() != 1 || err != nil || got[0] != byte(winner.Load()) {
		t.Fatalf("%d wins, winner %d, content %v, %v", wins.Load(), winner.Load(), got, err)
	}
}

func top(t *testing.T, s store.Store) {
	if got, err := s.Top(t.Context()); err != nil || len(got) != 0 {
		t.Fatalf("of nothing: %v, %v", got, err)
	}
	for _, name := range []string{"b/x", "b/y/z", "a"} {
		put(t, s, name, "")
	}
	got, err := s.Top(t.Context())
	got = slices.DeleteFunc(got, func(n string) bool { return n == "tmp" })
	if err != nil || !slices.Equal(got, []string{"a", "b"}) {
		t.Fatalf("top %v, %v", got, err)
	}
}

// appends: a growing file is there from the start, belongs to one writer,
// and stays as it is when its writer ends.
func appends(t *testing.T, s store.Store) {
	for _, name := range []string{"x/y/log", "encoders/e/s.partial"} {
		a, err := s.Append(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		if info, err := s.Stat(t.Context(), name); err != nil || info.Size != 0 {
			t.Errorf("%s at its start: %+v, %v", name, info, err)
		}
		if _, err := s.Append(t.Context(), name); !errors.Is(err, fs.ErrExist) {
			t.Errorf("a second one: %v", err)
		}
		for i, want := range []string{"one", "onetwo", "onetwothree"} {
			if _, err := a.Write([]byte([]string{"one", "two", "three"}[i])); err != nil {
				t.Fatal(err)
			}
			if got, err := store.ReadAll(t.Context(), s, name, 100); err != nil || string(got) != want {
				t.Fatalf("read %q, %v", got, err)
			}
			if err := a.Sync(); err != nil {
				t.Fatal(err)
			}
		}
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		list, err := s.List(t.Context(), name[:1+strings.IndexByte(name, '/')])
		if err != nil || len(list) != 1 || list[0].Name != name || list[0].Size != 11 ||
			!list[0].ModTime.IsZero() && time.Since(list[0].ModTime) > time.Hour {
			t.Errorf("list %+v, %v", list, err)
		}
		if err := s.Remove(t.Context(), name); err != nil {
			t.Error(err)
		}
		if list, err := s.List(t.Context(), name[:1+strings.IndexByte(name, '/')]); err != nil || len(list) != 0 {
			t.Errorf("list %+v, %v after the removal", list, err)
		}
	}
	if _, err := s.Append(t.Context(), "../log"); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("a name outside: %v", err)
	}
}

func scratch(t *testing.T, s store.Store) {
	f, err := s.Scratch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte("abc")); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 2)
	if _, err := f.ReadAt(b, 1); err != nil || string(b) != "bc" {
		t.Errorf("%q, %v", b, err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}
