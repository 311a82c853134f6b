package parquet

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// samples are files by pyarrow and Polars, see tools/columns.
func samples(t testing.TB) map[string][]byte {
	t.Helper()
	paths, err := filepath.Glob("../../source/testdata/columns/*.parquet")
	if err != nil || len(paths) < 10 {
		t.Fatal(paths, err)
	}
	out := map[string][]byte{}
	for _, p := range paths {
		if out[filepath.Base(p)], err = os.ReadFile(p); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// readAll reads every cell of a file, at most most of them.
func readAll(b []byte, most int) (cells int, err error) {
	f, err := Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return 0, err
	}
	for g := range f.Groups() {
		for i := range f.leaves {
			c := f.Column(g, i)
			var cell Cell
			for c.Next(&cell) {
				if cells++; cells > most {
					return cells, errors.New("too many cells")
				}
			}
			err = errors.Join(err, c.Err())
		}
	}
	return cells, err
}

// TestDamage changes bytes of files: reading must end, soon, without a panic
// and without much memory.
func TestDamage(t *testing.T) {
	rounds := 100
	if testing.Short() {
		rounds = 30
	}
	wrong := 0
	for name, orig := range samples(t) {
		if cells, err := readAll(orig, 1<<20); err != nil || cells == 0 && name != "empty.parquet" {
			t.Fatalf("%s: %d cells, %v", name, cells, err)
		}
		rnd := rand.New(rand.NewSource(1))
		for round := range rounds {
			b := bytes.Clone(orig)
			for range 1 + rnd.Intn(3) {
				at := rnd.Intn(len(b))
				if round%2 == 0 { // near the footer, where most is decided
					at = len(b) - 1 - rnd.Intn(min(len(b), 4000))
				}
				b[at] = byte(rnd.Intn(256))
			}
			if round%10 == 9 {
				b = b[:rnd.Intn(len(b))]
			}
			begin := time.Now()
			grown := allocated(func() {
				if _, err := readAll(b, 1<<20); err != nil {
					wrong++
				}
			})
			if took := time.Since(begin); took > 5*time.Second || grown > 300<<20 {
				t.Errorf("%s, round %d: %v and %d bytes", name, round, took, grown)
			}
		}
	}
	if wrong == 0 {
		t.Error("no damage was found")
	}
}

// allocated returns how much memory a call asks for in all.
func allocated(fn func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	fn()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func FuzzRead(f *testing.F) {
	for _, b := range samples(f) {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if grown := allocated(func() { _, _ = readAll(b, 1<<16) }); grown > 1<<30 {
			t.Errorf("%d bytes for a file of %d", grown, len(b))
		}
	})
}

// TestLyingSizes has counts and sizes that nothing stands behind.
func TestLyingSizes(t *testing.T) {
	file := func(footer string) []byte {
		b := append([]byte(magic), footer...)
		b = binary.LittleEndian.AppendUint32(b, uint32(len(footer)))
		return append(b, magic...)
	}
	for name, b := range map[string][]byte{
		"nothing":            {},
		"a footer too long":  append([]byte("PAR1xxxx"), "\xff\xff\xff\xffPAR1"...),
		"a list too long":    file("\x29\xfc\xff\xff\xff\xff\x07"),
		"a name too long":    file("\x29\x1c\x48\xff\xff\xff\xff\x0f"),
		"nested without end": file(strings.Repeat("\x1c", 1000)),
		"many children":      file("\x29\x1c\x55\xfe\xff\xff\xff\x0f\x00\x00"),
		"lists of lists":     file("\x19" + strings.Repeat("\x19", 1000)),
		"a map of nothing":   file("\x1b\xff\xff\xff\xff\x0f\x00"),
		"no schema":          file("\x00"),
		"encrypted":          []byte("PARE" + "\x00\x00\x00\x00" + "\x00\x00\x00\x00" + "PARE"),
	} {
		grown := allocated(func() {
			if _, err := readAll(b, 1000); err == nil {
				t.Errorf("%s: no error", name)
			}
		})
		if grown > 1<<20 {
			t.Errorf("%s: %d bytes", name, grown)
		}
	}
}

// TestRunsAreNotSpread has runs of two billion values in a few bytes.
func TestRunsAreNotSpread(t *testing.T) {
	run := binary.AppendUvarint(nil, 1<<31<<1)
	h := &hybrid{b: append(run, 7), width: 3}
	grown := allocated(func() {
		for range 1000 {
			if v, err := h.next(); v != 7 || err != nil {
				t.Fatal(v, err)
			}
		}
	})
	if grown > 1<<16 {
		t.Errorf("%d bytes", grown)
	}
	big := binary.AppendUvarint(nil, 128)
	big = binary.AppendUvarint(big, 4)
	big = binary.AppendUvarint(big, 1<<40)
	big = append(big, 0)
	if _, err := newDelta(big, 1<<20); err == nil {
		t.Error("more values than the page has are read")
	}
}

func TestHybrid(t *testing.T) {
	rnd := rand.New(rand.NewSource(3))
	for width := uint(0); width <= 32; width++ {
		mask := uint64(1)<<width - 1
		var b []byte
		var want []uint32
		for range 20 {
			if n := 1 + rnd.Intn(5); rnd.Intn(2) == 0 {
				v := uint32(rnd.Uint64() & mask)
				b = binary.AppendUvarint(b, uint64(n)<<1)
				for i := range (width + 7) / 8 {
					b = append(b, byte(v>>(8*i)))
				}
				for range n {
					want = append(want, v)
				}
			} else {
				b = binary.AppendUvarint(b, uint64(n)<<1|1)
				packed := make([]byte, n*int(width))
				for i := range n * 8 {
					v := uint32(rnd.Uint64() & mask)
					want = append(want, v)
					for k := range width {
						at := uint(i)*width + k
						packed[at/8] |= byte(v>>k&1) << (at % 8)
					}
				}
				b = append(b, packed...)
			}
		}
		h := &hybrid{b: b, width: width}
		for i, v := range want {
			if got, err := h.next(); got != v || err != nil {
				t.Fatalf("width %d, value %d: %d, %v, want %d", width, i, got, err, v)
			}
		}
		if _, err := h.next(); err == nil {
			t.Errorf("width %d: a value behind the end", width)
		}
	}
}

// TestDelta packs blocks of every width, with values that wrap around.
func TestDelta(t *testing.T) {
	rnd := rand.New(rand.NewSource(4))
	const block, minis = 64, 2
	for count := range 200 {
		want := make([]int64, count)
		for i := range want {
			want[i] = int64(rnd.Uint64()) >> rnd.Intn(64)
		}
		b := binary.AppendUvarint(nil, block)
		b = binary.AppendUvarint(b, minis)
		b = binary.AppendUvarint(b, uint64(count))
		first := int64(0)
		if count > 0 {
			first = want[0]
		}
		b = binary.AppendVarint(b, first)
		for at := 1; at < count; at += block {
			least := int64(rnd.Intn(100)) - 50
			b = binary.AppendVarint(b, least)
			head := len(b)
			b = append(b, make([]byte, minis)...)
			for m := range minis {
				from, to := min(at+m*block/minis, count), min(at+(m+1)*block/minis, count)
				if from == to {
					break
				}
				width := uint(0)
				for i := from; i < to; i++ {
					width = max(width, bitsOf64(uint64(want[i]-want[i-1]-least)))
				}
				packed := make([]byte, block/minis*width/8)
				for i := from; i < to; i++ {
					for k := range width {
						p := uint(i-from)*width + k
						packed[p/8] |= byte(uint64(want[i]-want[i-1]-least)>>k&1) << (p % 8)
					}
				}
				b[head+m] = byte(width)
				b = append(b, packed...)
			}
		}
		d, err := newDelta(append(b, "rest"...), int32(count))
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range want {
			if got, err := d.next(); got != v || err != nil {
				t.Fatalf("%d values, %d: %d, %v, want %d", count, i, got, err, v)
			}
		}
		if rest, err := d.rest(); string(rest) != "rest" || err != nil {
			t.Fatalf("%d values: the rest is %q, %v", count, rest, err)
		}
	}
}

func bitsOf64(u uint64) (n uint) {
	for ; u > 0; u >>= 1 {
		n++
	}
	return n
}

func TestCodecs(t *testing.T) {
	want := []byte(strings.Repeat("a text that repeats itself, ", 200))
	block := make([]byte, lz4.CompressBlockBound(len(want)))
	n, err := lz4.CompressBlock(want, block, nil)
	if err != nil {
		t.Fatal(err)
	}
	block = block[:n]
	z, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	framed := binary.BigEndian.AppendUint32(nil, uint32(len(want)))
	framed = append(binary.BigEndian.AppendUint32(framed, uint32(n)), block...)
	for name, c := range map[string]struct {
		codec int32
		b     []byte
	}{
		"none": {codecNone, want}, "snappy": {codecSnappy, snappy.Encode(nil, want)}, "zstd": {codecZstd, z.EncodeAll(want, nil)},
		"lz4 raw": {codecLZ4Raw, block}, "lz4 of Hadoop": {codecLZ4, framed}, "lz4 bare": {codecLZ4, block},
	} {
		if got, err := decompress(c.codec, c.b, len(want)); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
		for _, size := range []int{0, len(want) - 1, len(want) + 1, MaxPage} {
			grown := allocated(func() {
				if _, err := decompress(c.codec, c.b, size); err == nil {
					t.Errorf("%s: no error for the size %d", name, size)
				}
			})
			if grown > 64<<20 {
				t.Errorf("%s: %d bytes for the size %d", name, grown, size)
			}
		}
	}
	for _, codec := range []int32{codecBrotli, codecLZO, 99} {
		if _, err := decompress(codec, want, 1); err == nil {
			t.Errorf("codec %d is read", codec)
		}
	}
}
