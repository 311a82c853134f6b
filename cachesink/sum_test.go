package cachesink

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/permafrost-ml/permafrost/internal/store"
)

// summed stores n bytes with their checksums.
func summed(t *testing.T, n int) (*store.Mem, []byte, File) {
	t.Helper()
	rng := rand.New(rand.NewPCG(3, uint64(n)))
	data := make([]byte, n)
	for i := range data {
		data[i] = byte(rng.Uint32())
	}
	var out bytes.Buffer
	w := sumWriter{w: &out}
	for rest := data; len(rest) > 0; {
		k := min(len(rest), 1+rng.IntN(100_000))
		if _, err := w.Write(rest[:k]); err != nil {
			t.Fatal(err)
		}
		rest = rest[k:]
	}
	sums := w.finish()
	if !bytes.Equal(out.Bytes(), data) || w.size != int64(n) || len(sums) != (n+sumBlock-1)/sumBlock*4 {
		t.Fatalf("%d bytes: %d passed on, %d of checksums", n, out.Len(), len(sums))
	}
	st := store.NewMem()
	for name, b := range map[string][]byte{"f": data, "f" + sumSuffix: sums} {
		if err := store.Put(t.Context(), st, name, b, false); err != nil {
			t.Fatal(err)
		}
	}
	return st, data, File{Name: "f", Bytes: int64(n), Sum: sumDigest(sums)}
}

// TestSumVector holds the checksums to CRC32C of known data (RFC 3720, B.4:
// 32 bytes of zeros), little-endian.
func TestSumVector(t *testing.T) {
	w := sumWriter{w: io.Discard}
	if _, err := w.Write(make([]byte, 32)); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprintf("%x", w.finish()); got != "aa36918a" {
		t.Errorf("checksum %s", got)
	}
}

func TestCheckedReaderAtAnyOffset(t *testing.T) {
	for _, n := range []int{0, 1, sumBlock - 1, sumBlock, sumBlock + 1, 3*sumBlock + 777} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			st, data, f := summed(t, n)
			r, err := openChecked(t.Context(), st, f)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			rng := rand.New(rand.NewPCG(4, uint64(n)))
			for range 300 {
				off := rng.IntN(n + 1)
				buf := make([]byte, rng.IntN(n+100))
				got, err := r.ReadAt(buf, int64(off))
				want := min(len(buf), n-off)
				if got != want || !bytes.Equal(buf[:got], data[off:off+want]) || (err != nil) != (want < len(buf)) || err != nil && err != io.EOF {
					t.Fatalf("%d bytes at %d: %d, %v", len(buf), off, got, err)
				}
			}
			if _, err := r.Seek(0, io.SeekStart); err != nil {
				t.Fatal(err)
			}
			if all, err := io.ReadAll(r); err != nil || !bytes.Equal(all, data) {
				t.Fatalf("read %d bytes, %v", len(all), err)
			}
			if at, err := r.Seek(-int64(min(n, 5)), io.SeekEnd); err != nil || at != int64(n-min(n, 5)) {
				t.Fatalf("at %d, %v", at, err)
			}
			for _, off := range []int64{-1, int64(n) + 1} {
				if _, err := r.ReadAt(make([]byte, 1), off); err == nil {
					t.Errorf("read at %d", off)
				}
			}
			if _, err := r.Seek(-1, io.SeekStart); err == nil {
				t.Error("a place before the start")
			}
		})
	}
}

// TestCheckedReaderStopsAtDamage: blocks before it can be read, it cannot,
// whichever way it is come to.
func TestCheckedReaderStopsAtDamage(t *testing.T) {
	st, data, f := summed(t, 3*sumBlock+100)
	bad := bytes.Clone(data)
	bad[2*sumBlock+5] ^= 0x10
	if err := store.Put(t.Context(), st, "f", bad, true); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		off, n int
		ok     bool
	}{{0, 2 * sumBlock, true}, {100, sumBlock, true}, {3 * sumBlock, 100, true}, {2 * sumBlock, 1, false}, {3*sumBlock - 1, 2, false}, {0, 3*sumBlock + 100, false}, {sumBlock + 1, 2 * sumBlock, false}} {
		r, err := openChecked(t.Context(), st, f)
		if err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, tc.n)
		_, err = r.ReadAt(buf, int64(tc.off))
		if tc.ok && (err != nil || !bytes.Equal(buf, data[tc.off:tc.off+tc.n])) {
			t.Errorf("%d at %d: %v", tc.n, tc.off, err)
		}
		if !tc.ok && (!errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "block 2")) {
			t.Errorf("%d at %d: error %v", tc.n, tc.off, err)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
