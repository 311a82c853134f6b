package s3

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/permafrost-ml/permafrost/internal/store"
	"github.com/permafrost-ml/permafrost/internal/store/storetest"
)

func TestStore(t *testing.T) {
	t.Run("prefix", func(t *testing.T) {
		storetest.Run(t, func(t *testing.T) store.Store { return newStore(t) })
	})
	t.Run("whole bucket", func(t *testing.T) {
		storetest.Run(t, func(t *testing.T) store.Store {
			return mustOpen(t, "s3://"+bucket(t), testConfig(t, gateway.url))
		})
	})
	t.Run("no read cache", func(t *testing.T) {
		storetest.Run(t, func(t *testing.T) store.Store {
			c := testConfig(t, gateway.url)
			c.cacheBytes = 0
			return mustOpen(t, "s3://"+bucket(t)+"/p", c)
		})
	})
}

func noise(n int) []byte {
	b := make([]byte, n)
	rng := rand.NewChaCha8([32]byte{1})
	_, _ = rng.Read(b)
	return b
}

func read(t *testing.T, s store.Store, name string) []byte {
	t.Helper()
	b, err := store.ReadAll(t.Context(), s, name, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// small lowers the sizes of uploads for a test. 5 MiB is the protocol's
// least size of a part.
func small(t *testing.T) {
	part, put := partBytes, maxPut
	partBytes, maxPut = 5<<20, 6<<20
	t.Cleanup(func() { partBytes, maxPut = part, put })
}

func TestUploadsInParts(t *testing.T) {
	small(t)
	s := newStore(t)
	want := noise(17<<20 + 5)
	if err := store.Put(t.Context(), s, "encoders/e/a.arrow", want, true); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(read(t, s, "encoders/e/a.arrow"), want) {
		t.Error("other bytes")
	}
	if err := store.Put(t.Context(), s, "encoders/e/a.arrow", want[:7<<20], false); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a name that is taken: %v", err)
	}
	if err := store.Put(t.Context(), s, "encoders/e/a.arrow", want[1:], true); err != nil || !bytes.Equal(read(t, s, "encoders/e/a.arrow"), want[1:]) {
		t.Errorf("replaced: %v", err)
	}
	var wg sync.WaitGroup
	errs := make([]error, 4)
	for i := range errs {
		wg.Go(func() { errs[i] = store.Put(t.Context(), s, "encoders/e/b.arrow", want[i:i+7<<20], false) })
	}
	wg.Wait()
	wins := 0
	for i, err := range errs {
		if err == nil {
			wins++
			if !bytes.Equal(read(t, s, "encoders/e/b.arrow"), want[i:i+7<<20]) {
				t.Error("not the winner's bytes")
			}
		} else if !errors.Is(err, fs.ErrExist) {
			t.Error(err)
		}
	}
	if wins != 1 {
		t.Errorf("%d win: %v", wins, errs)
	}
	if left, _ := filepath.Glob(filepath.Join(s.local.Path("tmp"), "*")); len(left) != 0 {
		t.Errorf("local files are left: %q", left)
	}
	if err := s.Sweep(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestFaults: whatever goes wrong on the way, what was to be done is done,
// once, and what is read is what was written.
func TestFaults(t *testing.T) {
	small(t)
	type op struct {
		name   string
		method string
		faults []fault
		do     func(t *testing.T, s *Store)
	}
	whole, parts := noise(100_000), noise(11<<20)
	puts := []fault{busy, reset, halfSent, lost, late, cut, flipSent}
	gets := []fault{busy, reset, late, cut}
	mustPut := func(name string, data []byte, replace bool) func(*testing.T, *Store) {
		return func(t *testing.T, s *Store) {
			if err := store.Put(t.Context(), s, name, data, replace); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(read(t, s, name), data) {
				t.Error("other bytes")
			}
			if err := store.Put(t.Context(), s, name, data, false); !errors.Is(err, fs.ErrExist) {
				t.Errorf("the same once more: %v", err)
			}
		}
	}
	for _, op := range []op{
		{"put", http.MethodPut, puts, mustPut("manifests/target", whole, false)},
		{"replace", http.MethodPut, puts, mustPut("manifests/target", whole, true)},
		{"parts", http.MethodPut, puts, mustPut("encoders/e/target", parts, true)},
		{"end of parts", http.MethodPost, []fault{busy, reset, lost, late}, mustPut("encoders/e/target", parts, true)},
		{"new in parts", http.MethodPost, []fault{busy, reset, lost, late}, mustPut("encoders/e/target", parts, false)},
		{"read", http.MethodGet, gets, func(t *testing.T, s *Store) {
			if !bytes.Equal(read(t, s, "manifests/there-target"), whole) {
				t.Error("other bytes")
			}
		}},
		{"read data", http.MethodGet, gets, func(t *testing.T, s *Store) {
			if !bytes.Equal(read(t, s, "encoders/there-target"), whole) {
				t.Error("other bytes")
			}
		}},
		{"stat", http.MethodHead, []fault{busy, reset, late}, func(t *testing.T, s *Store) {
			if info, err := s.Stat(t.Context(), "encoders/there-target"); err != nil || info.Size != int64(len(whole)) {
				t.Errorf("%v, %v", info, err)
			}
		}},
		{"remove", http.MethodDelete, []fault{busy, reset, lost, late}, func(t *testing.T, s *Store) {
			if err := s.Remove(t.Context(), "encoders/there-target"); err != nil {
				t.Error(err)
			}
		}},
		{"list", http.MethodGet, gets, func(t *testing.T, s *Store) {
			if list, err := s.List(t.Context(), "encoders/"); err != nil || len(list) != 1 {
				t.Errorf("%v, %v", list, err)
			}
			if top, err := s.Top(t.Context()); err != nil || strings.Join(top, " ") != "encoders manifests" {
				t.Errorf("%v, %v", top, err)
			}
		}},
	} {
		for _, f := range op.faults {
			t.Run(op.name+"/"+f.String(), func(t *testing.T) {
				t.Parallel()
				place := "s3://" + bucket(t) + "/cache"
				p := newProxy(t)
				c := testConfig(t, p.url)
				c.timeout = 8 * time.Second
				s := mustOpen(t, place, c)
				for _, name := range []string{"manifests/there-target", "encoders/there-target"} {
					if err := store.Put(t.Context(), s, name, whole, false); err != nil {
						t.Fatal(err)
					}
				}
				n := 2
				if f == late {
					n = 1 // each takes a quarter of the timeout
				}
				path := "target"
				if op.name == "list" {
					path = ""
				}
				p.set(first(n, f, op.method, path))
				op.do(t, s)
				if p.count(f) != n {
					t.Errorf("%d faults, want %d", p.count(f), n)
				}
			})
		}
	}
}

// TestAnotherPutWins: a put whose answer was lost, and which another one was
// before, is not taken for a success.
func TestAnotherPutWins(t *testing.T) {
	place := "s3://" + bucket(t) + "/cache"
	p := newProxy(t)
	s, other := mustOpen(t, place, testConfig(t, p.url)), mustOpen(t, place, testConfig(t, gateway.url))
	if err := s.conditional(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.set(func(r *http.Request) fault {
		if r.Method != http.MethodPut || !strings.HasSuffix(r.URL.Path, "manifests/1") || p.counts[reset] > 0 {
			return pass
		}
		if err := store.Put(context.Background(), other, "manifests/1", []byte("theirs"), false); err != nil {
			t.Error(err)
		}
		return reset
	})
	if err := store.Put(t.Context(), s, "manifests/1", []byte("ours"), false); !errors.Is(err, fs.ErrExist) {
		t.Errorf("error %v", err)
	}
	if got := read(t, s, "manifests/1"); string(got) != "theirs" {
		t.Errorf("%q", got)
	}
}

// TestGivesUp: a store that never answers ends with an error in its time, and
// a context that ends does so at once.
func TestGivesUp(t *testing.T) {
	place := "s3://" + bucket(t) + "/cache"
	p := newProxy(t)
	c := testConfig(t, p.url)
	c.timeout = 2 * time.Second
	s := mustOpen(t, place, c)
	for _, f := range []fault{busy, reset, late} {
		p.set(nil)
		if _, err := s.List(t.Context(), "manifests/"); err != nil {
			t.Errorf("while it is there: %v", err)
		}
		p.set(func(*http.Request) fault { return f })
		_, err := s.List(t.Context(), "manifests/")
		if err == nil || !strings.Contains(err.Error(), "list "+place+"/manifests") || !strings.Contains(err.Error(), "tried") {
			t.Errorf("%v: %v", f, err)
		}
	}
	before := p.count(late)
	if _, err := s.List(t.Context(), "manifests/"); err == nil || p.count(late) != before+1 {
		t.Errorf("after it was given up: %v, tried %d times", err, p.count(late)-before)
	}
	p.set(nil)
	if _, err := s.List(t.Context(), "manifests/"); err != nil {
		t.Errorf("after it is back: %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("stop")
	p.set(func(*http.Request) fault { cancel(stop); return late })
	s.c.timeout = time.Hour
	if _, err := s.List(ctx, "manifests/"); !errors.Is(err, stop) {
		t.Errorf("an ended context: %v", err)
	}
}

// TestIgnoredConditions: a store that would let two commits succeed is
// refused.
func TestIgnoredConditions(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("ETag", `"d41d8cd98f00b204e9800998ecf8427e"`)
	}))
	defer srv.Close()
	s := mustOpen(t, "s3://bucket/cache", testConfig(t, srv.URL))
	err := store.Put(t.Context(), s, "manifests/1", []byte("x"), false)
	if err == nil || !strings.Contains(err.Error(), "ignores If-None-Match") {
		t.Errorf("error %v", err)
	}
}

func TestClearErrors(t *testing.T) {
	b := bucket(t)
	missing := mustOpen(t, "s3://no-such-bucket/cache", testConfig(t, gateway.url))
	if _, err := missing.List(t.Context(), "manifests/"); err == nil || errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "list s3://no-such-bucket/cache/manifests/: the bucket does not exist at http://") {
		t.Errorf("a missing bucket: %v", err)
	}
	if err := store.Put(t.Context(), missing, "x", nil, true); err == nil || !strings.Contains(err.Error(), "the bucket does not exist") {
		t.Errorf("a put to a missing bucket: %v", err)
	}
	t.Setenv("AWS_SECRET_ACCESS_KEY", "wrong")
	s := mustOpen(t, "s3://"+b, testConfig(t, gateway.url))
	if _, err := s.List(t.Context(), "manifests/"); !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "SignatureDoesNotMatch") {
		t.Errorf("a wrong secret: %v", err)
	}
	t.Setenv("AWS_ACCESS_KEY_ID", "nobody")
	s = mustOpen(t, "s3://"+b, testConfig(t, gateway.url))
	if _, err := s.List(t.Context(), "manifests/"); err == nil || errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "access key") {
		t.Errorf("an unknown key: %v", err)
	}
	s = mustOpen(t, "s3://"+b, testConfig(t, "http://127.0.0.1:1"))
	if _, err := s.List(t.Context(), "manifests/"); err == nil || !strings.Contains(err.Error(), "no answer from http://127.0.0.1:1") {
		t.Errorf("no server: %v", err)
	}
}

// TestReplacedWhileRead: bytes of two versions are never mixed.
func TestReplacedWhileRead(t *testing.T) {
	s := newStore(t)
	if err := store.Put(t.Context(), s, "encoders/a", noise(9<<20), true); err != nil {
		t.Fatal(err)
	}
	r, err := s.Open(t.Context(), "encoders/a")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.ReadAt(make([]byte, 10), 0); err != nil {
		t.Fatal(err)
	}
	if err := store.Put(t.Context(), s, "encoders/a", make([]byte, 9<<20), true); err != nil {
		t.Fatal(err)
	}
	if _, err := r.ReadAt(make([]byte, 10), 8<<20); err == nil || !strings.Contains(err.Error(), "replaced") {
		t.Errorf("error %v", err)
	}
	if b := read(t, s, "encoders/a"); b[0] != 0 || b[8<<20] != 0 {
		t.Error("an old version is read")
	}
}

// TestManyNames: a listing of more than a page.
func TestManyNames(t *testing.T) {
	s := newStore(t)
	if err := store.Put(t.Context(), s, "sources/a", nil, true); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(gateway.dir, s.bucket, "some/cache/sources")
	for i := range 2*pageKeys + 3 {
		if err := os.WriteFile(filepath.Join(dir, "f"+strings.Repeat("x", i%7)+string(rune('a'+i%26))+time.Duration(i).String()), nil, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	list, err := s.List(t.Context(), "sources/")
	if err != nil || len(list) != 2*pageKeys+4 {
		t.Fatalf("%d names, %v", len(list), err)
	}
}
