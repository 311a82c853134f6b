package cachesink

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/permafrost-ml/permafrost/encode"
	"github.com/permafrost-ml/permafrost/internal/store"
)

var (
	allDTypes = []DType{Float32, Float16, Int8}
	allCodecs = []Compression{Uncompressed, LZ4, Zstd}
)

// inThirds is a fill whose values every dtype but float32 rounds.
func inThirds(d DType, c Compression) setup {
	return setup{
		splits: map[string][]encode.Sample{"train": groups("t", 50, 23), "val": pairs("v", 30)},
		uses:   []encode.Use{{Name: "e"}, {Name: "other"}},
		models: map[string]hashModel{"e": {dim: 33, seed: thirds + "e"}, "other": {dim: 5, seed: thirds + "o"}},
		dtypes: map[string]DType{"e": d}, codec: c,
	}
}

// TestStorage fills in every dtype and compression: what is replayed is what
// the dtype makes of the embeddings, and the bytes are the same for any
// number of workers and processors.
func TestStorage(t *testing.T) {
	for _, d := range allDTypes {
		for _, codec := range allCodecs {
			t.Run(fmt.Sprint(d, " ", codec), func(t *testing.T) {
				s := inThirds(d, codec)
				s.mem = checked(t)
				dir := t.TempDir()
				c, _ := mustRun(t, s, quickDir(dir))
				checkContent(t, c, s)
				for _, e := range c.Manifest().Encoders {
					for _, sh := range e.Shards {
						if sh.Compression() != codec {
							t.Errorf("%s: compression %s", sh.Name, sh.Compression())
						}
					}
				}
				format := 1
				if d != Float32 || codec != Uncompressed {
					format = 2
				}
				if m := c.Manifest(); m.Format != format {
					t.Errorf("format version %d, want %d", m.Format, format)
				}
				want := files(t, dir)
				for _, procs := range []int{1, 8} {
					old := runtime.GOMAXPROCS(procs)
					again := inThirds(d, codec)
					again.workers, again.regroup = procs, 7
					dir := t.TempDir()
					mustRun(t, again, quickDir(dir))
					runtime.GOMAXPROCS(old)
					sameFiles(t, fmt.Sprint(procs, " processors"), files(t, dir), want)
				}
			})
		}
	}
}

// TestStorageShapesNewShards: compression and the size of record batches
// decide how new shards are written, not what is found.
func TestStorageShapesNewShards(t *testing.T) {
	st := Memory()
	s := inThirds(Float16, Uncompressed)
	mustRun(t, s, st)
	for i, change := range []func(s *setup){
		func(s *setup) { s.codec = Zstd },
		func(s *setup) { s.codec = LZ4 },
		func(s *setup) { s.codec, s.recRows = Uncompressed, 3 },
		func(s *setup) { s.shard = 5 },
	} {
		change(&s)
		_, stats := mustRun(t, s, st)
		if n := stats.Encoders["e"].Encoded; n != 0 {
			t.Errorf("change %d: %d objects were encoded again", i, n)
		}
		s.splits["train"] = append(s.splits["train"], groups(fmt.Sprint("more ", i), 20, 20)...)
		c, stats := mustRun(t, s, st)
		if n := stats.Encoders["e"].Encoded; n != 20 {
			t.Errorf("change %d: %d of 20 new objects were encoded", i, n)
		}
		checkContent(t, c, s)
	}
	c, err := Open(t.Context(), st, nil)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	for _, sh := range c.Manifest().Encoder(EncoderFolder("e", c.Manifest().Encoders[0].Fingerprint, Float16)).Shards {
		got[sh.Storage] = true
	}
	want := map[string]bool{"float16": true, "float16+zstd.1": true, "float16+lz4.1": true, "float16/3": true}
	if !maps.Equal(got, want) {
		t.Errorf("storage of the shards: %v", got)
	}
}

// TestRecordBatchRows counts the rows of the record batches of a shard.
func TestRecordBatchRows(t *testing.T) {
	for _, tc := range []struct {
		l    layout
		dim  int
		want int
	}{
		{layout{dtype: Float32}, 384, 16 << 20 / (4*384 + 32)},
		{layout{dtype: Float16}, 384, 16 << 20 / (2*384 + 32)},
		{layout{dtype: Int8}, 384, 16 << 20 / (384 + 36)},
		{layout{dtype: Int8}, 4, 65536},
		{layout{dtype: Float32}, 1 << 23, 1},
		{layout{dtype: Float32, rows: 100}, 384, 100},
		{layout{dtype: Float32, rows: 1 << 20}, 384, 64 << 20 / (4*384 + 32)},
		{layout{dtype: Float32, rows: 5}, 1 << 24, 1},
	} {
		if got := tc.l.batchRows(tc.dim); got != tc.want {
			t.Errorf("%v of dimension %d: %d rows, want %d", tc.l, tc.dim, got, tc.want)
		}
	}
	s := inThirds(Int8, LZ4)
	s.recRows = 3
	c, _ := mustRun(t, s, Memory())
	checkContent(t, c, s)
	e := c.Manifest().Encoder(EncoderFolder("e", c.Manifest().Splits[0].Encoders[0].Fingerprint, Int8))
	var rows []int64
	if err := readShard(t.Context(), c.st, c.mem, e, e.Shards[0].File, func(rec arrow.Record) error {
		rows = append(rows, rec.NumRows())
		return nil
	}); err != nil || fmt.Sprint(rows) != "[3 3 2]" {
		t.Errorf("record batches of %v rows; %v", rows, err)
	}
}

// TestTooLarge: a value that a dtype has no finite number for is an error
// that names the object, and the nearest below is stored.
func TestTooLarge(t *testing.T) {
	id := strings.Repeat("ab", idBytes)
	ids, _ := hex.DecodeString(id)
	below := func(f float32) float32 { return math.Nextafter32(f, 0) }
	for _, tc := range []struct {
		d     DType
		value float32
		want  float32 // 0 for an error
	}{
		{Float32, math.MaxFloat32, math.MaxFloat32},
		{Float32, float32(math.Inf(-1)), 0},
		{Float16, 65504, 65504},
		{Float16, -below(65520), -65504},
		{Float16, 65520, 0},
		{Float16, -1e9, 0},
		{Float16, float32(math.NaN()), 0},
		{Int8, below(0x1p127), below(0x1p127) / 127 * 127},
		{Int8, -0x1p127, 0},
		{Int8, float32(math.Inf(1)), 0},
	} {
		b := &block{layout: layout{dtype: tc.d}, dim: 2}
		defer b.free()
		if err := b.reserve(1); err != nil {
			t.Fatal(err)
		}
		_, err := b.append(ids, []float32{1, tc.value})
		if tc.want == 0 {
			wantErr(t, err, ErrEmbeddings, id, "value 1", fmt.Sprint(tc.value))
			continue
		}
		if err != nil {
			t.Errorf("%v as %s: %v", tc.value, tc.d, err)
			continue
		}
		e := &Encoder{Dim: 2, DType: tc.d}
		rec := b.record(shardSchema(e, "{}", b.layout, 1))
		if got := decoded(t, rec, tc.d, 0)[1]; got != tc.want {
			t.Errorf("%v as %s became %v", tc.value, tc.d, got)
		}
		rec.Release()
	}
}

func encoderFiles(all map[string]string, folder string) map[string]string {
	out := map[string]string{}
	for name, b := range all {
		if strings.HasPrefix(name, folder+"/") {
			out[name] = b
		}
	}
	return out
}

// TestConvert fills a cache that has the same embeddings in float32, all of
// them or some in between: what is there is converted and not encoded, and
// the shards have the bytes of a fill that encodes everything.
func TestConvert(t *testing.T) {
	t.Parallel()
	some := groups("t", 50, 23)
	mixed := append(groups("new", 13, 13), some[:7]...)
	mixed = append(mixed, append(groups("newer", 20, 20), some...)...)
	for _, tc := range []struct {
		name      string
		samples   []encode.Sample
		converted int64
	}{
		{"the same", some, 23},
		{"a part", some[:11], 11},
		{"backwards", backwards(some), 23},
		{"between new ones", mixed, 23},
		{"new ones first", append(groups("new", 16, 16), some...), 23},
	} {
		for _, d := range []DType{Float16, Int8} {
			for _, codec := range []Compression{Uncompressed, Zstd} {
				t.Run(fmt.Sprint(tc.name, " ", d, " ", codec), func(t *testing.T) {
					var encoded atomic.Int64
					s := setup{
						splits: map[string][]encode.Sample{"train": some}, recRows: 3, shard: 10,
						models: map[string]hashModel{"e": {dim: 33, seed: thirds + "e", encoded: &encoded}},
					}
					dir, direct := t.TempDir(), t.TempDir()
					mustRun(t, s, quickDir(dir))
					s.mem, s.shard, s.codec = checked(t), 8, codec
					s.splits = map[string][]encode.Sample{"train": tc.samples}
					s.dtypes = map[string]DType{"e": d}
					want, stats := mustRun(t, s, quickDir(direct))
					objects := stats.Encoders["e"].Objects

					dry := s
					dry.dry = true
					encoded.Store(0)
					_, stats = mustRun(t, dry, quickDir(dir))
					plan := stats.Splits["train"].Encoders["e"]
					if plan.Objects != objects || plan.Hits != tc.converted || plan.Converted != tc.converted || plan.ToEncode != objects-tc.converted {
						t.Errorf("plan: %+v, of %d objects", plan, objects)
					}
					c, stats := mustRun(t, s, quickDir(dir))
					if n := encoded.Load(); n != objects-tc.converted {
						t.Errorf("%d objects were encoded of %d", n, objects)
					}
					e := stats.Encoders["e"]
					if e.Objects != objects || e.Converted != tc.converted || e.Encoded != objects-tc.converted {
						t.Errorf("counts: %+v, of %d objects", e, objects)
					}
					checkContent(t, c, s)
					folder := want.Manifest().Encoders[0].Folder
					sameFiles(t, "converted", encoderFiles(files(t, dir), folder), encoderFiles(files(t, direct), folder))

					_, stats = mustRun(t, s, quickDir(dir))
					if e := stats.Encoders["e"]; e.Encoded != 0 || e.Converted != 0 || e.Reused != objects {
						t.Errorf("again: %+v", e)
					}
				})
			}
		}
	}
}

func backwards(s []encode.Sample) []encode.Sample {
	out := make([]encode.Sample, len(s))
	for i := range s {
		out[len(s)-1-i] = s[i]
	}
	return out
}

// TestConvertOnlyFromFloat32: what is stored with less precision is encoded
// again, and so is what would be rounded twice.
func TestConvertOnlyFromFloat32(t *testing.T) {
	for _, tc := range []struct{ have, want DType }{{Int8, Float16}, {Int8, Float32}, {Float16, Float32}, {Float16, Int8}} {
		t.Run(fmt.Sprint(tc.have, " to ", tc.want), func(t *testing.T) {
			st := Memory()
			mustRun(t, inThirds(tc.have, Uncompressed), st)
			s := inThirds(tc.want, Uncompressed)
			c, stats := mustRun(t, s, st)
			if e := stats.Encoders["e"]; e.Encoded != e.Objects || e.Converted != 0 {
				t.Errorf("%+v", e)
			}
			if e := stats.Encoders["other"]; e.Encoded != 0 {
				t.Errorf("the other encoder, which did not change: %+v", e)
			}
			checkContent(t, c, s)
			checkContent(t, c, inThirds(tc.have, Uncompressed)) // stays
		})
	}
}

// TestConvertMarks: where an embedding may depend on its batch, a shard with
// converted embeddings has an id of its own that tells which they are.
func TestConvertMarks(t *testing.T) {
	part := groups("t", 12, 12)
	whole := append(groups("new", 4, 4), part...)
	ids := map[string]string{}
	for name, before := range map[string][]encode.Sample{"none": nil, "some": part[:1], "others": part[1:2], "all": whole} {
		st := Memory()
		s := setup{moody: true, shard: 16}
		if before != nil {
			s.splits = map[string][]encode.Sample{"before": before}
			mustRun(t, s, st)
		}
		s.splits, s.dtypes = map[string][]encode.Sample{"train": whole}, map[string]DType{"e": Int8}
		c, _ := mustRun(t, s, st)
		checkContent(t, c, s)
		sh := c.Manifest().Encoder(EncoderFolder("e", c.Manifest().Encoders[0].Fingerprint, Int8)).Shards[0]
		for other, id := range ids {
			if id == sh.ID {
				t.Errorf("%s has the shard of %s", name, other)
			}
		}
		ids[name] = sh.ID
		if marked := strings.Contains(sh.Storage, "<"); marked != (before != nil) {
			t.Errorf("%s: storage %q", name, sh.Storage)
		}
	}
}

// TestConvertDamage: what is damaged is not converted.
func TestConvertDamage(t *testing.T) {
	st := store.NewMem()
	s := inThirds(Float32, Uncompressed)
	c, _ := mustRun(t, s, st)
	sh := c.Manifest().Encoders[0].Shards[1]
	b, err := store.ReadAll(t.Context(), st, sh.Name, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	b = bytes.Clone(b)
	b[len(b)/2] ^= 1
	if err := store.Put(t.Context(), st, sh.Name, b, true); err != nil {
		t.Fatal(err)
	}
	s = inThirds(Int8, Uncompressed)
	s.dtypes["other"] = Int8
	s.mem = checked(t)
	_, _, err = s.run(t.Context(), st)
	wantErr(t, err, ErrCorrupt, sh.Name)
}

// TestStorageResumes takes up finished shards of a fill that was not
// committed, unless they are stored in another way.
func TestStorageResumes(t *testing.T) {
	for _, codec := range allCodecs {
		st := Memory()
		s := inThirds(Int8, codec)
		c, err := Open(t.Context(), st, nil)
		if err != nil {
			t.Fatal(err)
		}
		f, err := s.stages(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Abort(); err != nil {
			t.Fatal(err)
		}
		other := inThirds(Int8, codec)
		other.recRows = 2
		for _, s := range []setup{other, s} {
			c, err := Open(t.Context(), st, nil)
			if err != nil {
				t.Fatal(err)
			}
			f, err := s.stages(t.Context(), c)
			if err != nil {
				t.Fatal(err)
			}
			e := f.Stats().Encoders["e"]
			if same := s.recRows == 0; same && e.Resumed != e.Objects || !same && e.Resumed != 0 {
				t.Errorf("%s, record batches of %d rows: %+v", codec, s.recRows, e)
			}
			if err := f.Abort(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestCodecOutput holds the compression libraries to the bytes that stand
// behind codecOutput. If it fails after an upgrade, bump that.
func TestCodecOutput(t *testing.T) {
	want := map[Compression]string{
		LZ4:  "f11430a933ad44ab805370d66a5d3b173ca336626e3e12167d5f78ab63b05550",
		Zstd: "ce57959596b08b981ca762eb02e995ce51a0132815fb99d5afe95d6a30b4950c",
	}
	rng := rand.New(rand.NewPCG(1, 2))
	s := &shardPlan{rows: 3000, ids: make([]byte, 3000*idBytes)}
	for i := range s.ids {
		s.ids[i] = byte(rng.Uint32())
	}
	vecs := make([]float32, 3000*100)
	for i := range vecs {
		vecs[i] = float32(rng.IntN(2001)-1000) / 1000
	}
	for codec, sum := range want {
		all := sha256.New()
		for _, d := range allDTypes {
			s.layout = layout{dtype: d, codec: codec, output: codecOutput[codec]}
			st := store.NewMem()
			e := &Encoder{Name: "e", Dim: 100, DType: d}
			w, err := newShardWriter(st, memory.DefaultAllocator, e, 1)
			if err != nil {
				t.Fatal(err)
			}
			s.name = "shard"
			if err := w.open(t.Context(), s); err != nil {
				t.Fatal(err)
			}
			if err := w.append(s.ids, vecs); err != nil {
				t.Fatal(err)
			}
			if _, err := w.close(t.Context(), s); err != nil {
				t.Fatal(err)
			}
			if err := w.drop(); err != nil {
				t.Fatal(err)
			}
			b, err := store.ReadAll(t.Context(), st, "shard", 1<<24)
			if err != nil {
				t.Fatal(err)
			}
			all.Write(b)
		}
		if got := hex.EncodeToString(all.Sum(nil)); got != sum {
			t.Errorf("%s: the shards hash to %s, not %s", codec, got, sum)
		}
	}
}

// TestHostileSizes has compressed shards whose buffers say that they are
// larger than their rows: no such memory is taken.
func TestHostileSizes(t *testing.T) {
	for _, codec := range []Compression{LZ4, Zstd} {
		st := store.NewMem()
		s := setup{
			splits: map[string][]encode.Sample{"train": groups("a", 8, 8)}, codec: codec,
			models: map[string]hashModel{"e": {dim: 64, seed: "e"}},
		}
		c, _ := mustRun(t, s, st)
		e := &c.Manifest().Encoders[0]
		f := e.Shards[0].File
		b, err := store.ReadAll(t.Context(), st, f.Name, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		size := binary.LittleEndian.AppendUint64(nil, 8*64*4)
		at := bytes.Index(b, size) // of the values; before it comes the metadata
		for bytes.Contains(b[at+8:], size) {
			at += 8 + bytes.Index(b[at+8:], size)
		}
		for _, n := range []uint64{8*64*4 + 1<<21, 1 << 30, 1 << 40, 1 << 62, 1<<63 - 1, 1 << 63, 1<<64 - 2, 0} {
			hostile := bytes.Clone(b)
			binary.LittleEndian.PutUint64(hostile[at:], n)
			var sums sumWriter
			sums.w = &bytes.Buffer{}
			if _, err := sums.Write(hostile); err != nil {
				t.Fatal(err)
			}
			done := sums.finish()
			for name, b := range map[string][]byte{"x": hostile, "x.sum": done} {
				if err := store.Put(t.Context(), st, name, b, true); err != nil {
					t.Fatal(err)
				}
			}
			x := File{Name: "x", Rows: f.Rows, Bytes: f.Bytes, Sum: sumDigest(done)}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			err := readShard(t.Context(), st, memory.DefaultAllocator, e, x, func(rec arrow.Record) error {
				_, err := storedColumns(rec, e.DType, e.Dim)
				return err
			})
			runtime.ReadMemStats(&after)
			if err == nil {
				t.Errorf("%s: a buffer of %d bytes was read", codec, n)
			}
			if took := after.TotalAlloc - before.TotalAlloc; took > 64<<20 {
				t.Errorf("%s: a buffer of %d bytes took %d bytes", codec, n, took)
			}
		}
	}
}

// TestMoreRowsThanSaid ends the reading of a file at the first row too many.
func TestMoreRowsThanSaid(t *testing.T) {
	st := store.NewMem()
	s := setup{splits: map[string][]encode.Sample{"train": groups("a", 8, 8)}, recRows: 2}
	c, _ := mustRun(t, s, st)
	f := c.Manifest().Encoders[0].Shards[0].File
	f.Rows = 5
	n := 0
	err := readFile(t.Context(), st, memory.DefaultAllocator, f, func(arrow.Record) error { n++; return nil })
	wantErr(t, err, ErrCorrupt, f.Name, "more rows than the 5")
	if n != 2 {
		t.Errorf("%d record batches were served", n)
	}
}

// TestVerifyStorage: values that no fill writes, and a shard that is not
// stored as the manifest says, are found though the checksums hold.
func TestVerifyStorage(t *testing.T) {
	le := binary.LittleEndian
	for name, tc := range map[string]struct {
		d     DType
		edit  func(b *block)
		said  string // storage of the manifest, if not the shard's
		wants string // of the finding, "" for none
	}{
		"good float16": {Float16, func(*block) {}, "", ""},
		"good int8":    {Int8, func(*block) {}, "", ""},
		"infinite":     {Float16, func(b *block) { le.PutUint16(b.values()[2:], 0xfc00) }, "", "value 1 of row 0"},
		"no number":    {Float16, func(b *block) { le.PutUint16(b.values()[10:], 0x7e00) }, "", "value 2 of row 1"},
		"scale NaN":    {Int8, func(b *block) { le.PutUint32(b.scales()[4:], 0x7fc00000) }, "", "scale of row 1"},
		"scale < 0":    {Int8, func(b *block) { le.PutUint32(b.scales(), 0xbf800000) }, "", "scale of row 0"},
		"scale huge":   {Int8, func(b *block) { le.PutUint32(b.scales(), math.Float32bits(math.MaxFloat32)) }, "", "scale of row 0"},
		"other codec":  {Int8, func(*block) {}, "int8+zstd.1", `storage "int8"`},
		"other rows":   {Float16, func(*block) {}, "float16/9", `storage "float16"`},
	} {
		t.Run(name, func(t *testing.T) {
			st := store.NewMem()
			e := &Encoder{Name: "e", Fingerprint: strings.Repeat("ab", 32), Dim: 3, DType: tc.d}
			p := &shardPlan{name: "s.arrow", rows: 2, ids: make([]byte, 2*idBytes), layout: layout{dtype: tc.d, codec: Uncompressed}}
			p.id = shardID(e.Fingerprint, p.layout, 5, p.ids)
			w, err := newShardWriter(st, checked(t), e, 5)
			if err != nil {
				t.Fatal(err)
			}
			defer w.drop()
			if err := w.open(t.Context(), p); err != nil {
				t.Fatal(err)
			}
			if _, err := w.rows.append(p.ids, []float32{1, 2, 3, 4, 5, 6}); err != nil {
				t.Fatal(err)
			}
			tc.edit(&w.rows)
			s, err := w.close(t.Context(), p)
			if err != nil {
				t.Fatal(err)
			}
			if tc.said != "" {
				s.Storage = tc.said
			}
			c := &Cache{st: st, mem: checked(t)}
			err = c.verifyShard(t.Context(), c.mem, e, s)
			if tc.wants == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			wantErr(t, err, ErrCorrupt, tc.wants)
		})
	}
}
