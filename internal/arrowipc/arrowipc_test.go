package arrowipc

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/ipc"
	"github.com/apache/arrow/go/v15/arrow/memory"
)

// samples are files by pyarrow and Polars, see tools/columns.
func samples(t testing.TB) map[string][]byte {
	t.Helper()
	dir := "../../source/testdata/columns"
	paths, err := filepath.Glob(dir + "/*.arrow")
	if err != nil || len(paths) < 10 {
		t.Fatal(paths, err)
	}
	out := map[string][]byte{}
	for _, p := range append(paths, dir+"/feather.feather") {
		if out[filepath.Base(p)], err = os.ReadFile(p); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// readAll reads the values of every column, the first most rows of each batch.
func readAll(b []byte, most int64) (rows int64, err error) {
	d, err := Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return 0, err
	}
	all := make([]int, len(d.Fields))
	for i := range all {
		all[i] = i
	}
	if err := d.Want(all); err != nil {
		return 0, err
	}
	for {
		arrays, n, err := d.Next()
		if errors.Is(err, io.EOF) {
			return rows, nil
		}
		if err != nil {
			return rows, err
		}
		rows += n
		for _, a := range arrays {
			left := most
			for i := range min(n, most) {
				if err := touch(a, i, &left); err != nil {
					return rows, err
				}
			}
		}
	}
}

// touch reads a value with all below it, at most left of them.
func touch(a *Array, i int64, left *int64) error {
	*left--
	if *left < 0 || a.IsNull(i) {
		return nil
	}
	a, i, err := a.Resolve(i)
	if err != nil || a.IsNull(i) {
		return err
	}
	switch a.Field.Type {
	case Bool:
		a.Bool(i)
	case Int, Float, Date, Time, Timestamp, Duration:
		a.Int(i)
	case Struct:
		for _, c := range a.Children {
			if err := touch(c, i, left); err != nil {
				return err
			}
		}
	case List, LargeList, FixedList, Map, ListView, LargeListView:
		child, from, to, err := a.Elements(i)
		if err != nil {
			return err
		}
		for ; from < to && *left > 0; from++ {
			if err := touch(child, from, left); err != nil {
				return err
			}
		}
	default:
		_, err := a.Bytes(i)
		return err
	}
	return nil
}

func allocated(fn func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	fn()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// TestDamage changes bytes of files: reading must end, soon, without a panic
// and without much memory. Arrow's own reader panics on many of these, and on
// some it ends the process.
func TestDamage(t *testing.T) {
	rounds := 40
	if testing.Short() {
		rounds = 40
	}
	wrong := 0
	for name, orig := range samples(t) {
		if rows, err := readAll(orig, 1<<20); err != nil || rows != 40 && name != "empty.arrow" {
			t.Fatalf("%s: %d rows, %v", name, rows, err)
		}
		rnd := rand.New(rand.NewSource(1))
		for round := range rounds {
			b := bytes.Clone(orig)
			for range 1 + rnd.Intn(3) {
				at := rnd.Intn(len(b))
				switch round % 4 {
				case 0: // the footer, or a stream's last batch
					at = len(b) - 1 - rnd.Intn(min(len(b), 1500))
				case 1: // the schema
					at = rnd.Intn(min(len(b), 2500))
				}
				b[at] = byte(rnd.Intn(256))
			}
			begin := time.Now()
			grown := allocated(func() {
				if _, err := readAll(b, 1<<12); err != nil {
					wrong++
				}
			})
			if took := time.Since(begin); took > 5*time.Second || grown > 100<<20 {
				t.Errorf("%s, round %d: %v and %d bytes", name, round, took, grown)
			}
		}
	}
	if wrong == 0 {
		t.Error("no damage was found")
	}
}

// TestOneByteOfTheFooter changes every byte of footers, alone: the lengths in
// them are what ends the process of other readers.
func TestOneByteOfTheFooter(t *testing.T) {
	for _, name := range []string{"file-none.arrow", "dictionaries.arrow", "polars-zstd.arrow"} {
		orig := samples(t)[name]
		from := max(0, len(orig)-1500)
		for at := from; at < len(orig); at += 2 {
			for _, v := range []byte{0x7f, 0xff, orig[at] + 1} {
				b := bytes.Clone(orig)
				b[at] = v
				if grown := allocated(func() { _, _ = readAll(b, 100) }); grown > 100<<20 {
					t.Errorf("%s, byte %d as %#x: %d bytes", name, at, v, grown)
				}
			}
		}
	}
}

func FuzzRead(f *testing.F) {
	for _, b := range samples(f) {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if grown := allocated(func() { _, _ = readAll(b, 1<<10) }); grown > 1<<30 {
			t.Errorf("%d bytes for a file of %d", grown, len(b))
		}
	})
}

// TestCut cuts files and streams anywhere: every cut is an error, that between
// two record batches of a stream too.
func TestCut(t *testing.T) {
	for _, name := range []string{"file-zstd.arrow", "stream-none.arrow", "polars-stream.arrow", "dictionaries.arrow", "empty.arrow"} {
		orig := samples(t)[name]
		for n := range orig {
			if n%31 != 0 && n < len(orig)-200 {
				continue
			}
			if rows, err := readAll(orig[:n], 100); err == nil {
				t.Errorf("%s cut to %d of %d bytes has %d rows", name, n, len(orig), rows)
			}
		}
	}
	stream := samples(t)["stream-none.arrow"]
	if _, err := readAll(stream[:len(stream)-8], 100); !errors.Is(err, errCut) {
		t.Errorf("a stream without its end gives %v", err)
	}
	if _, err := readAll(append(bytes.Clone(stream), stream...), 100); err == nil || !strings.Contains(err.Error(), "behind the end of the stream") {
		t.Errorf("two streams in a file give %v", err)
	}
}

// TestBombs has buffers and dictionaries that are much larger than the file.
func TestBombs(t *testing.T) {
	var b bytes.Buffer
	schema := arrow.NewSchema([]arrow.Field{{Name: "text", Type: arrow.BinaryTypes.String}}, nil)
	w := ipc.NewWriter(&b, ipc.WithSchema(schema), ipc.WithZstd())
	rb := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	defer rb.Release()
	rb.Field(0).(*array.StringBuilder).Append(strings.Repeat("x", 64<<20))
	rec := rb.NewRecord()
	defer rec.Release()
	if err := errors.Join(w.Write(rec), w.Close()); err != nil {
		t.Fatal(err)
	}
	whole := b.Bytes()
	if rows, err := readAll(whole, 10); rows != 1 || err != nil {
		t.Fatal(rows, err)
	}
	// The length before the compressed content says more than there is.
	lying := bytes.Clone(whole)
	at := bytes.Index(lying, binary.LittleEndian.AppendUint64(nil, 64<<20))
	if at < 0 {
		t.Fatal("no length is found")
	}
	for _, n := range []uint64{64<<20 + 1, MaxBuffer, MaxBuffer + 1, 1 << 40, 1<<63 - 1, 1 << 63} {
		binary.LittleEndian.PutUint64(lying[at:], n)
		grown := allocated(func() {
			if _, err := readAll(lying, 10); err == nil {
				t.Errorf("a length of %d is no error", n)
			}
		})
		if grown > 512<<20 {
			t.Errorf("%d bytes for a length of %d", grown, n)
		}
	}
}

// TestHostileSchemas has flatbuffers that lead to themselves.
func TestHostileSchemas(t *testing.T) {
	for name, b := range map[string][]byte{
		"empty":       {},
		"no root":     {0xff, 0xff, 0xff, 0x7f},
		"itself":      {4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
		"back":        {4, 0, 0, 0, 0xf0, 0xff, 0xff, 0x7f, 0, 0, 0, 0},
		"many fields": {8, 0, 0, 0, 6, 0, 0, 0, 4, 0, 0, 0, 0xff, 0xff, 0xff, 0x7f},
	} {
		t0 := root(b)
		for slot := range 8 {
			t0.i64(slot)
			t0.text(slot)
			t0.table(slot).table(slot).text(slot)
		}
		if _, err := readSchema(root(b)); err == nil && name != "itself" {
			t.Errorf("%s: no error", name)
		}
	}
	// Sixty levels of fields, each with the next one as a child twice: a few
	// bytes that stand for 2^60 fields.
	const levels, vtable, size = 60, 4, 24
	shared := make([]byte, 24+levels*size+size)
	put := func(at, v int) { binary.LittleEndian.PutUint32(shared[at:], uint32(v)) }
	put(0, 24)
	binary.LittleEndian.PutUint16(shared[vtable:], 16)
	for _, slot := range []int{1, 5} { // a schema's fields, a field's children
		binary.LittleEndian.PutUint16(shared[vtable+4+2*slot:], 4)
	}
	binary.LittleEndian.PutUint16(shared[vtable+4+2*2:], 20) // a field's type
	for level := range levels + 1 {
		at := 24 + level*size
		put(at, at-vtable)
		put(at+4, 4) // the vector follows
		put(at+8, 2*min(1, levels-level))
		put(at+12, at+size-(at+12))
		put(at+16, at+size-(at+16))
		put(at+20, int(Struct))
	}
	begin := time.Now()
	if _, err := readSchema(root(shared)); !errors.Is(err, errFlat) || time.Since(begin) > time.Second {
		t.Errorf("a schema of shared fields gives %v after %v", err, time.Since(begin))
	}
}
