package cachesink

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"

	"github.com/permafrost-ml/permafrost/encode"
)

// partialOf returns the bytes of a partial file with the given batches of
// rows.
func partialOf(t testing.TB, shard string, dim int, ids [][]byte, vecs [][]float32) []byte {
	t.Helper()
	st := Memory()
	w, err := newPartialWriter(t.Context(), st, "p", shard, dim)
	if err != nil {
		t.Fatal(err)
	}
	for i := range ids {
		if err := w.append(ids[i], vecs[i]); err != nil {
			t.Fatal(err)
		}
	}
	w.close()
	r, err := st.Open(t.Context(), "p")
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, r.Size())
	if _, err := r.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	return b
}

// readPartial returns the rows of all good records.
func readPartial(t testing.TB, content []byte, shard string, dim int) (ids []byte, vecs []float32) {
	t.Helper()
	st := Memory()
	a, err := st.Append(t.Context(), "p")
	if err == nil {
		_, err = a.Write(content)
	}
	if err != nil {
		t.Fatal(err)
	}
	r, err := openPartial(t.Context(), st, "p", shard, dim)
	if err != nil {
		return nil, nil
	}
	defer r.close()
	var rec partialRecord
	for at := int64(partialHead); ; {
		next, err := r.read(&rec, at)
		if err != nil {
			return ids, vecs
		}
		if next <= at || cap(rec.buf) > len(content) || len(rec.vecs)*idBytes != len(rec.ids)*dim {
			t.Fatalf("a record from %d to %d, %d bytes, %d values", at, next, cap(rec.buf), len(rec.vecs))
		}
		ids, vecs, at = append(ids, rec.ids...), append(vecs, rec.vecs...), next
	}
}

func somePartial() (shard string, dim int, ids [][]byte, vecs [][]float32) {
	n := 0
	for _, rows := range []int{3, 1, 2} {
		var i []byte
		var v []float32
		for range rows {
			id := randomID(uint64(n))
			i, v = append(i, id[:]...), append(v, float32(n), float32(-n))
			n++
		}
		ids, vecs = append(ids, i), append(vecs, v)
	}
	return hexSum([]byte("shard")), 2, ids, vecs
}

// TestPartialDamage: whatever is cut, flipped, moved, doubled or swapped, what
// is read of a partial file is what was written to it, up to some record.
func TestPartialDamage(t *testing.T) {
	shard, dim, ids, vecs := somePartial()
	whole := partialOf(t, shard, dim, ids, vecs)
	wantIDs, wantVecs := slices.Concat(ids...), slices.Concat(vecs...)
	if i, v := readPartial(t, whole, shard, dim); !bytes.Equal(i, wantIDs) || !slices.Equal(v, wantVecs) {
		t.Fatal("what was written is not read back")
	}
	check := func(what string, n int, content []byte) {
		t.Helper()
		i, v := readPartial(t, content, shard, dim)
		if !bytes.HasPrefix(wantIDs, i) || !slices.Equal(v, wantVecs[:len(v)]) {
			t.Fatalf("%s %d: wrong rows", what, n)
		}
		if len(i) == len(wantIDs) && len(content) <= len(whole) && !bytes.Equal(content, whole) {
			t.Fatalf("%s %d: it was not noticed", what, n)
		}
	}
	for n := range whole {
		check("cut at", n, whole[:n])
		check("doubled from", n, append(slices.Clone(whole), whole[n:]...))
		check("without byte", n, slices.Delete(slices.Clone(whole), n, n+1))
		for bit := range 8 {
			b := slices.Clone(whole)
			b[n] ^= 1 << bit
			check("flipped in", n, b)
		}
	}
	size := func(rows int) int { return recordHead + rows*(idBytes+4*dim) }
	first, second := whole[partialHead:partialHead+size(3)], whole[partialHead+size(3):partialHead+size(3)+size(1)]
	rest := whole[partialHead+size(3)+size(1):]
	check("swapped", 0, slices.Concat(whole[:partialHead], second, first, rest))
	check("left out", 0, slices.Concat(whole[:partialHead], second, rest))
	check("zeros", 0, append(slices.Clone(whole[:partialHead+size(3)]), make([]byte, 1000)...))
	other := partialOf(t, hexSum([]byte("other")), dim, ids, vecs)
	check("another shard's", 0, other)
	check("another shard's records", 0, slices.Concat(whole[:partialHead], other[partialHead:]))
	check("of another dimension", 0, partialOf(t, shard, 4, ids[1:2], [][]float32{{1, 2, 3, 4}}))
	huge := slices.Clone(whole[:partialHead+recordHead])
	binary.LittleEndian.PutUint32(huge[partialHead:], math.MaxUint32)
	check("huge", 0, huge)
}

// TestPartialLargeBatch: a batch that is larger than a record is cut.
func TestPartialLargeBatch(t *testing.T) {
	const dim = 1 << 18
	rows := 2*recordRows(dim) + 1
	ids, vecs := make([]byte, rows*idBytes), make([]float32, rows*dim)
	for i := range vecs {
		vecs[i] = float32(i)
	}
	shard := hexSum(nil)
	i, v := readPartial(t, partialOf(t, shard, dim, [][]byte{ids}, [][]float32{vecs}), shard, dim)
	if !bytes.Equal(i, ids) || !slices.Equal(v, vecs) {
		t.Error("not read back")
	}
}

func FuzzPartial(f *testing.F) {
	shard, dim, ids, vecs := somePartial()
	whole := partialOf(f, shard, dim, ids, vecs)
	f.Add(whole, false)
	f.Add(whole[:len(whole)-1], true)
	f.Add(whole[:partialHead], true)
	f.Add([]byte(partialMagic), false)
	f.Fuzz(func(t *testing.T, b []byte, sign bool) {
		if sign && len(b) >= partialHead+recordHead { // gets past the checksum
			head, seed, _ := partialHeader(shard, dim)
			copy(b, head)
			rec := b[partialHead:]
			rows := int(binary.LittleEndian.Uint32(rec))
			if n := recordHead + rows*(idBytes+4*dim); rows > 0 && rows < 1<<20 && n <= len(rec) {
				binary.LittleEndian.PutUint32(rec[4:], recordSum(seed, partialHead, rec[:n]))
			}
		}
		readPartial(t, b, shard, dim)
	})
}

// oneShard is a fill of one shard, whose partial file a test makes.
func oneShard(encoded *atomic.Int64) setup {
	return setup{
		splits: map[string][]encode.Sample{"train": groups("a", 8, 8)}, workers: 1,
		models: map[string]hashModel{"e": {dim: 4, seed: "e", encoded: encoded}},
	}
}

// TestForeignPartials gives a fill partial files as others may have left
// them, in the directory.
func TestForeignPartials(t *testing.T) {
	whole := t.TempDir()
	c, _ := mustRun(t, oneShard(new(atomic.Int64)), quickDir(whole))
	want := files(t, whole)
	e := c.Manifest().Encoders[0]
	var ids []byte
	var vecs []float32
	for rec, err := range c.Objects(t.Context(), &e) {
		if err != nil {
			t.Fatal(err)
		}
		i, err := idColumn(rec)
		if err != nil {
			t.Fatal(err)
		}
		v, _, err := Vectors(rec.Column(1))
		if err != nil {
			t.Fatal(err)
		}
		ids, vecs = append(ids, i...), append(vecs, v...)
		rec.Release()
	}
	id := e.Shards[0].ID
	part := func(shard string, dim, from, to int) []byte {
		return partialOf(t, shard, dim, [][]byte{ids[from*idBytes : to*idBytes]}, [][]float32{vecs[from*4 : to*4]})
	}
	nan := slices.Clone(vecs)
	nan[5] = float32(math.NaN())
	strange := slices.Clone(ids)
	strange[0] ^= 1
	for name, tc := range map[string]struct {
		files   map[string][]byte
		encoded int64
	}{
		"all":                   {map[string][]byte{"a": part(id, 4, 0, 8)}, 0},
		"in two files":          {map[string][]byte{"a": part(id, 4, 0, 3), "b": part(id, 4, 3, 8)}, 0},
		"a batch in two files":  {map[string][]byte{"a": part(id, 4, 0, 4), "b": part(id, 4, 4, 8)}, 0},
		"twice":                 {map[string][]byte{"a": part(id, 4, 0, 8), "b": part(id, 4, 0, 8)}, 0},
		"one batch":             {map[string][]byte{"a": part(id, 4, 3, 6)}, 5},
		"half a batch":          {map[string][]byte{"a": part(id, 4, 0, 2)}, 8},
		"torn, then whole":      {map[string][]byte{"a": part(id, 4, 0, 8)[:100], "b": part(id, 4, 0, 8)}, 0},
		"of another shard":      {map[string][]byte{"a": part(hexSum(nil), 4, 0, 8)}, 8},
		"of another dimension":  {map[string][]byte{"a": partialOf(t, id, 2, [][]byte{ids}, [][]float32{vecs[:16]})}, 8},
		"not a number":          {map[string][]byte{"a": partialOf(t, id, 4, [][]byte{ids}, [][]float32{nan})}, 3},
		"an object of no shard": {map[string][]byte{"a": partialOf(t, id, 4, [][]byte{strange}, [][]float32{vecs})}, 3},
		"empty and not one":     {map[string][]byte{"a": nil, "b": []byte("text")}, 8},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.MkdirAll(filepath.Join(dir, e.Folder), 0o755); err != nil {
				t.Fatal(err)
			}
			for nonce, b := range tc.files {
				if err := os.WriteFile(filepath.Join(dir, partialName(e.Folder, id, nonce)), b, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			var encoded atomic.Int64
			s := oneShard(&encoded)
			s.mem = checked(t)
			_, stats := mustRun(t, s, quickDir(dir))
			sameFiles(t, "after the fill", files(t, dir), want)
			if got := stats.Encoders["e"]; encoded.Load() != tc.encoded || got.Encoded != tc.encoded || got.Resumed != 8-tc.encoded {
				t.Errorf("encoded %d, %+v", encoded.Load(), got)
			}
		})
	}
	// A file of a shard that the manifest has is of no use any more.
	left := filepath.Join(whole, partialName(e.Folder, id, "x"))
	if err := os.WriteFile(left, part(id, 4, 0, 8), 0o600); err != nil {
		t.Fatal(err)
	}
	more := oneShard(new(atomic.Int64))
	more.splits["train"] = append(more.splits["train"], groups("b", 1, 1)...)
	mustRun(t, more, quickDir(whole))
	for name := range files(t, whole) {
		if strings.HasSuffix(name, partialSuffix) {
			t.Errorf("%s is left", name)
		}
	}
}

// TestPartialSync: records become durable in time, a failure of that ends the
// fill's writing, and a file that is closed is left alone.
func TestPartialSync(t *testing.T) {
	file := &slowFile{}
	w := &partialWriter{file: file, dim: 1, size: partialHead}
	id := make([]byte, idBytes)
	w.sync(0)
	if file.syncs != 0 {
		t.Error("nothing was synced")
	}
	if err := w.append(id, []float32{1}); err != nil {
		t.Fatal(err)
	}
	w.sync(1 << 60)
	if file.syncs != 0 {
		t.Error("synced too early")
	}
	w.sync(0)
	w.sync(0)
	if file.syncs != 1 {
		t.Errorf("%d syncs", file.syncs)
	}
	if err := w.append(id, []float32{1}); err != nil {
		t.Fatal(err)
	}
	file.err = os.ErrPermission
	w.sync(0)
	wantErr(t, w.append(id, []float32{1}), os.ErrPermission)
	w.close()
	w.sync(0)
	if file.syncs != 2 {
		t.Errorf("%d syncs", file.syncs)
	}
}

// slowFile is a file whose syncs are counted, and fail on demand.
type slowFile struct {
	bytes.Buffer
	syncs int
	err   error
}

func (f *slowFile) Sync() error {
	f.syncs++
	return f.err
}

func (f *slowFile) Close() error { return nil }

// TestPartialLayout holds the format to what is documented.
func TestPartialLayout(t *testing.T) {
	shard, dim, ids, vecs := somePartial()
	b := partialOf(t, shard, dim, ids[:1], vecs[:1])
	le := binary.LittleEndian
	table := crc32.MakeTable(crc32.Castagnoli)
	if string(b[:16]) != "permafrost.part\n" || le.Uint32(b[16:]) != 1 || le.Uint32(b[20:]) != 2 || le.Uint32(b[60:]) != crc32.Checksum(b[:60], table) {
		t.Errorf("header %q", b[:64])
	}
	rec := b[64:]
	sum := slices.Concat(b[:64], le.AppendUint64(nil, 64), rec[:4], rec[8:])
	if le.Uint32(rec) != 3 || le.Uint32(rec[4:]) != crc32.Checksum(sum, table) || !bytes.Equal(rec[8:8+96], ids[0]) ||
		!bytes.Equal(rec[8+96:], arrow.Float32Traits.CastToBytes(vecs[0])) {
		t.Errorf("record %q", rec)
	}
}
