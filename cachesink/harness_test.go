package cachesink

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/permafrost-ml/permafrost/encode"
	"github.com/permafrost-ml/permafrost/internal/store"
	"github.com/permafrost-ml/permafrost/stage"
)

// hashModel is an encoder whose embeddings are digits of a hash of the
// input: any change of order or content shows in them.
type hashModel struct {
	dim     int
	seed    string
	encoded *atomic.Int64 // objects, nil for not counted
	fail    func(n int64) error
	starts  func()                            // called with each batch
	flaw    func(input string, dst []float32) // of which the spec says nothing
	free    bool                              // it costs nothing: all embeddings are one
	padded  bool                              // embeddings depend on their batch
	log     func(objects int)                 // of each batch, before it is encoded
}

func (m hashModel) Spec(context.Context) (encode.Spec, error) {
	return encode.Spec{Engine: "hash", Dim: m.dim, Fields: []encode.Field{{Name: "seed", Value: m.seed}}, BatchInvariant: !m.padded}, nil
}

func (m hashModel) Open(context.Context, int) (encode.Encoder, error) { return hashEncoder{m}, nil }

type hashEncoder struct{ m hashModel }

func (e hashEncoder) Dim() int     { return e.m.dim }
func (e hashEncoder) Close() error { return nil }

func (e hashEncoder) Encode(_ context.Context, batch []encode.Input, dst []float32) error {
	if e.m.starts != nil {
		e.m.starts()
	}
	if e.m.encoded != nil {
		n := e.m.encoded.Add(int64(len(batch)))
		if e.m.fail != nil {
			if err := e.m.fail(n); err != nil {
				return err
			}
		}
	}
	if e.m.log != nil {
		e.m.log(len(batch))
	}
	seed := e.m.seed
	if e.m.padded {
		for _, in := range batch {
			seed = string(encode.AppendInput([]byte(seed), in))
		}
	}
	for i, in := range batch {
		if e.m.free {
			dst[i*e.m.dim] = 1
			continue
		}
		hashVector(dst[i*e.m.dim:(i+1)*e.m.dim], seed, encode.AppendInput(nil, in))
		if e.m.flaw != nil {
			e.m.flaw(in.Text(), dst[i*e.m.dim:(i+1)*e.m.dim])
		}
	}
	return nil
}

// preparingModel is a hashModel whose inputs are prepared, to themselves.
type preparingModel struct{ hashModel }

func (m preparingModel) Open(context.Context, int) (encode.Encoder, error) {
	return preparedEncoder{hashEncoder{m.hashModel}}, nil
}

func (preparingModel) OpenPreparer(context.Context, int) (encode.Preparer, error) {
	return preparer{}, nil
}

type preparer struct{}

func (preparer) Prepare(dst []byte, in encode.Input) ([]byte, int, error) {
	out := encode.AppendInput(dst, in)
	return out, len(out) - len(dst), nil
}

func (preparer) Close() error { return nil }

type preparedEncoder struct{ hashEncoder }

func (e preparedEncoder) EncodePrepared(ctx context.Context, batch [][]byte, dst []float32) error {
	inputs := make([]encode.Input, len(batch))
	for i, b := range batch {
		var err error
		if inputs[i], err = encode.ParseInput(b); err != nil {
			return err
		}
	}
	return e.Encode(ctx, inputs, dst)
}

// thirds begins the seed of an encoder whose values no short number holds.
const thirds = "/3 "

func hashVector(dst []float32, seed string, input []byte) {
	sum := sha256.Sum256(append([]byte(seed), input...))
	for i := range dst {
		dst[i] = float32(int8(sum[i%32]))/128 + float32(i/32)
		if strings.HasPrefix(seed, thirds) {
			dst[i] /= 3
		}
	}
}

// setup is a fill as a test declares it.
type setup struct {
	splits      map[string][]encode.Sample
	uses        []encode.Use // default: e, reading "text"
	models      map[string]hashModel
	uncached    []string
	dtypes      map[string]DType
	codec       Compression
	recRows     int
	moody       bool // the encoders are declared not to be batch-invariant
	shard       int
	batch       int
	workers     int
	regroup     int // rows of a sample batch, 0 for those of the stage
	dry         bool
	ignoreSpace bool
	forgets     bool                              // it keeps no partial shards
	prepares    bool                              // the models prepare their inputs
	leases      func(Storage, FillOptions) leases // nil for those of the directory
	mem         memory.Allocator
	onProgress  func(FillStats)
}

func (s *setup) defaults() {
	if s.uses == nil {
		s.uses = []encode.Use{{Name: "e"}}
	}
	if s.models == nil {
		s.models = map[string]hashModel{}
	}
	for _, u := range s.uses {
		if _, ok := s.models[u.Name]; !ok {
			s.models[u.Name] = hashModel{dim: 4, seed: u.Name}
		}
	}
	if s.batch == 0 {
		s.batch = 3
	}
	if s.shard == 0 {
		s.shard = 8
	}
	if s.workers == 0 {
		s.workers = 2
	}
	if s.mem == nil {
		s.mem = memory.DefaultAllocator
	}
}

func (s *setup) options(ctx context.Context) (FillOptions, error) {
	opts := FillOptions{
		ShardObjects: s.shard, Compression: s.codec, RecordBatchRows: s.recRows,
		Allocator: s.mem, DryRun: s.dry, IgnoreSpace: s.ignoreSpace, OnProgress: s.onProgress,
	}
	for _, u := range s.uses {
		spec, err := s.models[u.Name].Spec(ctx)
		if err != nil {
			return opts, err
		}
		fields, err := spec.Declared(s.batch)
		if err != nil {
			return opts, err
		}
		declared := map[string]string{}
		for _, f := range fields {
			declared[f.Name] = f.Value
		}
		opts.Encoders = append(opts.Encoders, Use{
			Name: u.Name, Fingerprint: encode.Fingerprint(fields), Spec: declared, Input: u.Reads.String(),
			Dim: spec.Dim, Cached: !slices.Contains(s.uncached, u.Name), BatchSize: s.batch, FreeKeys: u.Key.Free(),
			DType: s.dtypes[u.Name], BatchInvariant: spec.BatchInvariant && !s.moody,
		})
	}
	return opts, nil
}

// samples is the stream of all splits in name order.
func (s *setup) samples(g *stage.Group) stage.Stream[arrow.Record] {
	var streams []stage.Stream[arrow.Record]
	for _, name := range slices.Sorted(maps.Keys(s.splits)) {
		rows := stage.From(g, "rows", func(context.Context) iter.Seq2[encode.Sample, error] {
			return func(yield func(encode.Sample, error) bool) {
				for _, v := range s.splits[name] {
					if !yield(v, nil) {
						return
					}
				}
			}
		})
		streams = append(streams, encode.Samples(g, rows, encode.SampleOptions{Split: name, Uses: s.uses, Allocator: s.mem}))
	}
	all := stage.Concat(g, streams...)
	if s.regroup == 0 {
		return all
	}
	return stage.Process(g, all, "regroup", func(_ context.Context, in iter.Seq[arrow.Record], emit func(arrow.Record) error) error {
		for rec := range in {
			defer rec.Release()
			for at := int64(0); at < rec.NumRows(); at += int64(s.regroup) {
				if err := emit(rec.NewSlice(at, min(at+int64(s.regroup), rec.NumRows()))); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// stages runs the fill's stages to their end.
func (s *setup) stages(ctx context.Context, c *Cache) (*Fill, error) {
	s.defaults()
	opts, err := s.options(ctx)
	if err != nil {
		return nil, err
	}
	if s.leases != nil {
		opts.leases = s.leases(c.st, opts)
	}
	f, err := c.Fill(ctx, opts)
	if err != nil {
		return nil, err
	}
	g, _ := stage.NewGroup(ctx)
	objects := f.Index(g, s.samples(g))
	for name, in := range objects {
		o := encode.StageOptions{Workers: s.workers, BatchSize: s.batch, Allocator: s.mem}
		if !s.forgets {
			o.Memo = f.Memo(name)
		}
		var m encode.Model = s.models[name]
		if s.prepares {
			m = preparingModel{s.models[name]}
		}
		f.Write(g, name, encode.Stage(g, in, name, m, o))
	}
	return f, g.Wait()
}

// run is a whole fill of a place.
func (s *setup) run(ctx context.Context, st Storage) (*Cache, FillStats, error) {
	s.defaults()
	c, err := Open(ctx, st, s.mem)
	if err != nil {
		return nil, FillStats{}, err
	}
	f, err := s.stages(ctx, c)
	if f != nil {
		defer f.Abort()
	}
	if err != nil {
		return nil, FillStats{}, err
	}
	if s.dry {
		return c, f.Stats(), nil
	}
	_, err = f.Commit(ctx)
	return c, f.Stats(), err
}

func mustRun(t *testing.T, s setup, st Storage) (*Cache, FillStats) {
	t.Helper()
	c, stats, err := s.run(t.Context(), st)
	if err != nil {
		t.Fatal(err)
	}
	return c, stats
}

// groups returns n group samples over the given number of distinct texts.
func groups(prefix string, n, distinct int) []encode.Sample {
	out := make([]encode.Sample, n)
	for i := range out {
		out[i] = encode.GroupSample(encode.Text(fmt.Sprintf("%s %d", prefix, i%distinct)), fmt.Sprint("label ", i%5))
	}
	return out
}

func pairs(prefix string, n int) []encode.Sample {
	out := make([]encode.Sample, n)
	for i := range out {
		out[i] = encode.PairSample(encode.Text(fmt.Sprintf("%s %d", prefix, i)), encode.Text(fmt.Sprintf("%s %d", prefix, i/2)))
	}
	return out
}

// files returns the content of every file under a folder.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		name, _ := filepath.Rel(dir, path)
		out[filepath.ToSlash(name)] = string(b)
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return out
}

func sameFiles(t *testing.T, what string, got, want map[string]string) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if g, ok := got[name]; !ok {
			t.Errorf("%s: %s is missing", what, name)
		} else if g != want[name] {
			t.Errorf("%s: %s differs", what, name)
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("%s: %s should not be there", what, name)
		}
	}
}

// checkContent reads every split of a cache and holds its embeddings to what
// the encoders give for the samples, joined by position and by id.
func checkContent(t *testing.T, c *Cache, s setup) {
	t.Helper()
	s.defaults()
	for found := range c.Verify(t.Context()) {
		if found != nil {
			t.Fatalf("%s: %v", found.File, found.Err)
		}
	}
	for name, samples := range s.splits {
		i := slices.IndexFunc(c.Manifest().Splits, func(sp Split) bool {
			return sp.Name == name && sp.Rows == int64(len(samples)) && !slices.ContainsFunc(sp.Encoders, func(e SplitEncoder) bool {
				return e.Folder != "" && e.Folder != EncoderFolder(e.Name, e.Fingerprint, cmp.Or(s.dtypes[e.Name], Float32))
			})
		})
		if i < 0 {
			t.Fatalf("no split %q of %d rows", name, len(samples))
		}
		checkSplit(t, c, &c.Manifest().Splits[i], samples, s)
	}
}

func checkSplit(t *testing.T, c *Cache, sp *Split, samples []encode.Sample, s setup) {
	t.Helper()
	var tables Tables
	defer tables.Release()
	r, err := c.Read(t.Context(), sp, &tables)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Release()
	rows := make([]int64, len(samples))
	for i := range rows {
		rows[i] = int64(len(rows) - 1 - i)
	}
	rec, err := r.Gather(t.Context(), rows)
	if err != nil {
		t.Fatal(err)
	}
	defer rec.Release()
	checkRows(t, sp, rec, rows, samples, s, func(u encode.Use, d DType) map[string][]float32 {
		return embeddingsByID(t, c, u.Name, s.models[u.Name], d)
	})
}

// checkRows checks gathered rows of a split, also against what byID says of an
// encoder's objects, unless it is nil.
func checkRows(t *testing.T, sp *Split, rec arrow.Record, rows []int64, samples []encode.Sample, s setup,
	byID func(u encode.Use, d DType) map[string][]float32,
) {
	t.Helper()
	for _, u := range s.uses {
		m := s.models[u.Name]
		d := cmp.Or(s.dtypes[u.Name], Float32)
		var stored map[string][]float32
		if byID != nil {
			stored = byID(u, d)
		}
		for k, side := range sp.Kind.Sides() {
			if slices.Contains(s.uncached, u.Name) {
				checkInputs(t, rec, u, side, k, rows, samples)
				continue
			}
			vecs, _, err := Vectors(rec.Column(rec.Schema().FieldIndices(EncoderColumn(u.Name, side, ""))[0]))
			if err != nil {
				t.Fatal(err)
			}
			ids, err := column[*array.FixedSizeBinary](rec, EncoderColumn(u.Name, side, RoleID))
			if err != nil {
				t.Fatal(err)
			}
			want := make([]float32, m.dim)
			for i, row := range rows {
				input := inputOf(t, u, samples[row], k)
				hashVector(want, m.seed, input)
				want = asStored(d, want)
				got := vecs[i*m.dim : (i+1)*m.dim]
				id := encode.Identify(input)
				if !slices.Equal(got, want) || byID != nil && !slices.Equal(stored[string(ids.Value(i))], want) || string(id[:]) != string(ids.Value(i)) {
					t.Fatalf("split %q, row %d, side %q, encoder %q: by position %v, by id %v, want %v",
						sp.Name, row, side, u.Name, got, stored[string(ids.Value(i))], want)
				}
			}
		}
	}
}

func inputOf(t *testing.T, u encode.Use, s encode.Sample, side int) []byte {
	t.Helper()
	in, err := u.Reads.Input([]encode.Object{s.A, s.B}[side])
	if err != nil {
		t.Fatal(err)
	}
	return encode.AppendInput(nil, in)
}

func checkInputs(t *testing.T, rec arrow.Record, u encode.Use, side string, k int, rows []int64, samples []encode.Sample) {
	t.Helper()
	col, err := column[*array.Binary](rec, EncoderColumn(u.Name, side, RoleInput))
	if err != nil {
		t.Fatal(err)
	}
	for i, row := range rows {
		if want := inputOf(t, u, samples[row], k); !bytes.Equal(col.Value(i), want) {
			t.Fatalf("row %d: input %q, want %q", row, col.Value(i), want)
		}
	}
}

// embeddingsByID is what a reader that knows only the files of an encoder
// sees.
func embeddingsByID(t *testing.T, c *Cache, name string, m hashModel, d DType) map[string][]float32 {
	t.Helper()
	out := map[string][]float32{}
	spec, _ := m.Spec(t.Context())
	fields, err := spec.Declared(0)
	if err != nil {
		t.Fatal(err)
	}
	e := c.Manifest().Encoder(EncoderFolder(name, encode.Fingerprint(fields), d))
	if e == nil {
		return nil
	}
	for _, s := range e.Shards {
		err := readFile(t.Context(), c.st, c.mem, s.File, func(rec arrow.Record) error {
			ids, err := idColumn(rec)
			if err != nil {
				return err
			}
			for i := 0; i*idBytes < len(ids); i++ {
				out[string(ids[i*idBytes:(i+1)*idBytes])] = decoded(t, rec, d, i)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// decoded reads one embedding of a shard as the documentation says.
func decoded(t *testing.T, rec arrow.Record, d DType, row int) []float32 {
	t.Helper()
	list := rec.Column(1).(*array.FixedSizeList)
	dim := int(list.DataType().(*arrow.FixedSizeListType).Len())
	out := make([]float32, dim)
	for i := range out {
		switch vals := list.ListValues().(type) {
		case *array.Float32:
			out[i] = vals.Value(row*dim + i)
		case *array.Float16:
			out[i] = vals.Value(row*dim + i).Float32()
		case *array.Int8:
			out[i] = float32(vals.Value(row*dim+i)) * rec.Column(2).(*array.Float32).Value(row)
		}
	}
	return out
}

// asStored is what a dtype makes of an embedding.
func asStored(d DType, v []float32) []float32 {
	out := slices.Clone(v)
	var top float64
	for _, x := range v {
		top = max(top, math.Abs(float64(x)))
	}
	scale := float32(top / 127)
	for i, x := range v {
		switch d {
		case Float16:
			_, exp := math.Frexp(float64(x))
			step := math.Ldexp(1, max(exp-11, -24))
			out[i] = float32(math.RoundToEven(float64(x)/step) * step)
		case Int8:
			if out[i] = 0; scale > 0 {
				out[i] = float32(math.RoundToEven(float64(x/scale))) * scale
			}
		}
	}
	return out
}

// checked returns an allocator that must be empty when the test ends.
func checked(t *testing.T) memory.Allocator {
	t.Helper()
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	t.Cleanup(func() { mem.AssertSize(t, 0) })
	return mem
}

func hexSum(b []byte) string {
	d := sha256.Sum256(b)
	return hex.EncodeToString(d[:])
}

func randomID(n uint64) (id [32]byte) {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], n)
	return sha256.Sum256(b[:])
}

func wantErr(t *testing.T, err, want error, texts ...string) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error %v, want %v", err, want)
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("error %q does not say %q", err, text)
		}
	}
}

// quick is the operating system's filesystem without its waits for the disk.
type quick struct{ store.OS }

type quickFile struct{ store.File }

func (quickFile) Sync() error { return nil }

func (quick) SyncDir(string) error { return nil }

func (q quick) CreateTemp(dir, pattern string) (store.File, error) {
	f, err := q.OS.CreateTemp(dir, pattern)
	return quickFile{f}, err
}

// quickDir is Dir over quick.
func quickDir(path string) Storage { return store.NewDir(path, quick{}) }

// keeping are samples with kept columns of every type, with nulls.
func keeping(n int) []encode.Sample {
	out := groups("k", n, n)
	for i := range out {
		cell := func(name string, v any) encode.KeepColumn {
			if i%3 == len(name)%3 {
				v = nil
			}
			return encode.KeepColumn{Name: name, Value: v}
		}
		out[i].Keep = []encode.KeepColumn{
			cell("whole", int64(i)), cell("half", float64(i)/2), cell("is", i%2 == 0),
			cell("text", strings.Repeat("x", i%40)), cell("bytes", []byte(fmt.Sprint(i))),
			{Name: "full", Value: int64(-i)},
		}
	}
	return out
}

func keepingFill(n int) setup {
	return setup{
		splits: map[string][]encode.Sample{"train": keeping(n)}, shard: 4000, batch: 512,
		uses: []encode.Use{{Name: "e"}, {Name: "raw"}}, uncached: []string{"raw"},
	}
}

// unmapped is a storage whose files are read.
type unmapped struct{ Storage }

func upTo(n int64) []int64 {
	rows := make([]int64, n)
	for i := range rows {
		rows[i] = int64(i)
	}
	return rows
}

func shuffledRows(n int64) []int64 {
	rows := upTo(n)
	rng := rand.New(rand.NewPCG(1, 2))
	rng.Shuffle(len(rows), func(i, j int) { rows[i], rows[j] = rows[j], rows[i] })
	return rows
}

// openedIn reads the first split of a cache. Both are released at the end.
func openedIn(t *testing.T, st Storage, tables *Tables) *SplitReader {
	t.Helper()
	c, err := Open(t.Context(), st, checked(t))
	if err != nil {
		t.Fatal(err)
	}
	return splitOf(t, c, 0, tables)
}

// splitOf reads a split; it and tables are released at the end.
func splitOf(t *testing.T, c *Cache, split int, tables *Tables) *SplitReader {
	t.Helper()
	r, err := c.Read(t.Context(), &c.Manifest().Splits[split], tables)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		r.Release()
		tables.Release()
	})
	return r
}

func gathered(t *testing.T, r *SplitReader, rows []int64) []float32 {
	t.Helper()
	rec, err := r.Gather(t.Context(), rows)
	if err != nil {
		t.Fatal(err)
	}
	defer rec.Release()
	_, v, _ := embeddings(t, rec, "e")
	return slices.Clone(v)
}
