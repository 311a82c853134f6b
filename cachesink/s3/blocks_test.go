package s3

import (
	"bytes"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/permafrost-ml/permafrost/internal/store"
)

// kept returns the bytes that a folder of blocks takes, and its files.
func kept(t *testing.T, dir string) (n int64, names []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err == nil {
			n += info.Size()
			names = append(names, path)
		}
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return n, names
}

func TestBlockCache(t *testing.T) {
	dir := t.TempDir()
	const limit, size = 1000, 90
	c := newBlockCache(dir, limit)
	fetched := 0
	get := func(id string) {
		b := make([]byte, 10)
		err := c.read(b, 5, id, 3, size, func(block []byte) error {
			fetched++
			for i := range block {
				block[i] = id[2] + byte(i)
			}
			return nil
		})
		if err != nil || b[0] != id[2]+5 || b[9] != id[2]+14 {
			t.Fatalf("%s: %v, %v", id, b, err)
		}
		if n, _ := kept(t, dir); n > limit {
			t.Fatalf("%d bytes are kept", n)
		}
	}
	for i := range 26 {
		get("aa" + string(rune('a'+i)))
		get("aaa") // is read all the time, and stays
	}
	if fetched != 26 {
		t.Errorf("fetched %d times", fetched)
	}
	if n, _ := kept(t, dir); n < limit/2 {
		t.Errorf("only %d bytes are kept", n)
	}
	// Others of the folder count too.
	if err := os.WriteFile(filepath.Join(dir, "aa", "other"), make([]byte, 700), 0o666); err != nil {
		t.Fatal(err)
	}
	past := time.Now().Add(-time.Hour)
	if err := os.Chtimes(filepath.Join(dir, "aa", "other"), past, past); err != nil {
		t.Fatal(err)
	}
	c = newBlockCache(dir, limit)
	get("zzz")
	// A block that was cut, one that was dropped, one that cannot be fetched.
	fetched = 0
	if err := os.Truncate(c.path("zzz", 3), 20); err != nil {
		t.Fatal(err)
	}
	get("zzz")
	c.drop("zzz", 3)
	get("zzz")
	if fetched != 2 {
		t.Errorf("fetched %d times", fetched)
	}
	errFetch := errors.New("no")
	if err := c.read(make([]byte, 1), 0, "yyy", 0, 10, func([]byte) error { return errFetch }); !errors.Is(err, errFetch) {
		t.Errorf("error %v", err)
	}
	// Blocks over the limit, and a folder that takes none, are no errors.
	if err := c.read(make([]byte, 1), 0, "yyy", 0, limit+1, func([]byte) error { return nil }); err != nil {
		t.Error(err)
	}
	c = newBlockCache(filepath.Join(dir, "aa", "other", "x"), limit)
	if err := c.read(make([]byte, 1), 0, "yyy", 0, 10, func([]byte) error { return nil }); err != nil {
		t.Error(err)
	}
}

// TestBlocksAreFetchedOnce, by many readers at once.
func TestBlocksAreFetchedOnce(t *testing.T) {
	c := newBlockCache(t.TempDir(), 1<<20)
	var mu sync.Mutex
	fetched := 0
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			err := c.read(make([]byte, 10), 0, "abc", 0, 1000, func([]byte) error {
				mu.Lock()
				defer mu.Unlock()
				fetched++
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if fetched != 1 {
		t.Errorf("fetched %d times", fetched)
	}
}

// TestReadCache: what was read once is not fetched again, by another process
// either; wrong bytes in it are.
func TestReadCache(t *testing.T) {
	place := "s3://" + bucket(t) + "/cache"
	p := newProxy(t)
	c := testConfig(t, p.url)
	want := noise(9<<20 + 77)
	gets := func(s *Store) int {
		t.Helper()
		p.set(func(r *http.Request) fault { return pass })
		count := 0
		p.set(func(r *http.Request) fault {
			if r.Method == http.MethodGet {
				count++
			}
			return pass
		})
		if !bytes.Equal(read(t, s, "splits/s/0.arrow"), want) {
			t.Error("other bytes")
		}
		return count
	}
	s := mustOpen(t, place, c)
	if err := store.Put(t.Context(), s, "splits/s/0.arrow", want, true); err != nil {
		t.Fatal(err)
	}
	if n := gets(s); n != 3 {
		t.Errorf("%d gets at first", n)
	}
	if n := gets(s); n != 0 {
		t.Errorf("%d gets again", n)
	}
	if n := gets(mustOpen(t, place, c)); n != 0 {
		t.Errorf("%d gets by another", n)
	}
	// A wrong byte in a block: who checks the content gets the right one.
	_, names := kept(t, filepath.Join(c.dir, "blocks"))
	damageBlocks(t, names)
	got, err := store.ReadFunc(t.Context(), s, "splits/s/0.arrow", 1<<30, func(b []byte) error {
		if !bytes.Equal(b, want) {
			return errors.New("wrong")
		}
		return nil
	})
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("damaged blocks: %v", err)
	}
	if n := gets(s); n != 0 {
		t.Errorf("%d gets after the repair", n)
	}
	// A new version of the file is another file.
	want = noise(5 << 20)
	if err := store.Put(t.Context(), s, "splits/s/0.arrow", want, true); err != nil {
		t.Fatal(err)
	}
	if n := gets(s); n != 2 {
		t.Errorf("%d gets of the new version", n)
	}
}

// damageBlocks damages files in their middle.
func damageBlocks(t *testing.T, names []string) {
	t.Helper()
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		b[len(b)/2] ^= 1
		if err := os.WriteFile(name, b, 0o666); err != nil {
			t.Fatal(err)
		}
	}
}
