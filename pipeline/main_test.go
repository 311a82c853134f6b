package pipeline_test

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apache/arrow/go/v15/arrow/memory"
	"go.uber.org/goleak"

	"github.com/permafrost-ml/permafrost/encode"
	"github.com/permafrost-ml/permafrost/pipeline"
	"github.com/permafrost-ml/permafrost/pipeline/head"
	"github.com/permafrost-ml/permafrost/pipeline/loss"
	"github.com/permafrost-ml/permafrost/pipeline/train"
	"github.com/permafrost-ml/permafrost/source"
)

// userEnv is the environment that the tests were started in.
var userEnv = os.Environ()

func TestMain(m *testing.M) {
	if job := os.Getenv(childEnv); job != "" {
		os.Exit(child(job))
	}
	cache, err := os.MkdirTemp("", "permafrost-test")
	if err != nil {
		panic(err)
	}
	// What is remembered of files goes to the user's cache folder.
	os.Setenv("XDG_CACHE_HOME", cache)
	os.Setenv("HOME", cache)
	code := m.Run()
	os.RemoveAll(cache)
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// row is a row of the tests' datasets.
type row struct {
	Q string `json:"q"`
	A string `json:"a"`
	C string `json:"c"`
	N int64  `json:"n"`
	S int64  `json:"s"`
}

// topics are what the rows are about: questions of one share words.
var topics = []string{"billing", "login", "shipping", "refunds", "privacy", "printing", "travel"}

// rows makes n rows of a dataset; those of other seeds share no text.
func rows(n int, seed string) []row {
	out := make([]row, n)
	for i := range out {
		topic := topics[i%len(topics)]
		out[i] = row{
			Q: fmt.Sprintf("%04d%s how does %s work for case %d", i, seed, topic, i),
			A: fmt.Sprintf("a%03d%s answer about %s number %d", i, seed, topic, i),
			C: topic, N: int64(i), S: 1,
		}
	}
	return out
}

// pairOf and groupOf are the two ways to make samples of rows.
func pairOf(r row) pipeline.Sample {
	return pipeline.Pair(encode.Text(r.Q), encode.Text(r.A)).With("n", r.N)
}

func groupOf(r row) pipeline.Sample {
	return pipeline.Group(encode.Text(r.Q), r.C).With("n", r.N)
}

// model is an encoder of the tests: a hash of the input. Its fields decide
// its output, its functions do not.
type model struct {
	dim     int
	salt    string
	version int
	variant bool // the output depends on the size of the batch
	opens   *atomic.Int64
	objects *atomic.Int64
	onOpen  func(worker int) error
	onBatch func(ctx context.Context, batch []encode.Input, dst []float32) error
	realDim int // what an opened encoder says, if not dim
}

func newModel(salt string) *model {
	return &model{dim: 6, salt: salt, opens: new(atomic.Int64), objects: new(atomic.Int64)}
}

func (m *model) Spec(context.Context) (encode.Spec, error) {
	return encode.Spec{
		Engine: "test", OutputVersion: m.version, Dim: m.dim, BatchInvariant: !m.variant,
		Fields: []encode.Field{{Name: "salt", Value: m.salt}},
	}, nil
}

func (m *model) Open(_ context.Context, worker int) (encode.Encoder, error) {
	m.opens.Add(1)
	if m.onOpen != nil {
		if err := m.onOpen(worker); err != nil {
			return nil, err
		}
	}
	return &encoder{m}, nil
}

type encoder struct{ m *model }

func (e *encoder) Dim() int {
	if e.m.realDim > 0 {
		return e.m.realDim
	}
	return e.m.dim
}

func (e *encoder) Close() error { return nil }

func (e *encoder) Encode(ctx context.Context, batch []encode.Input, dst []float32) error {
	e.m.objects.Add(int64(len(batch)))
	n := 0
	if e.m.variant {
		n = len(batch)
	}
	for i, in := range batch {
		e.m.vector(in.Text(), n, dst[i*e.m.dim:(i+1)*e.m.dim])
	}
	if e.m.onBatch != nil {
		return e.m.onBatch(ctx, batch, dst)
	}
	return ctx.Err()
}

// vector is the embedding of a text.
func (m *model) vector(text string, batch int, dst []float32) {
	for k := range dst {
		h := sha256.Sum256(fmt.Appendf(nil, "%s|%d|%d|%d|%s", m.salt, m.version, batch, k, text))
		dst[k] = float32(binary.LittleEndian.Uint32(h[:]))/math.MaxUint32 - 0.5
	}
}

// config is a small pipeline over pairs with one encoder, cached in dir, or
// in memory for none. Everything of it may be changed.
func config(t testing.TB, dir string) pipeline.Config[row] {
	return pipeline.Config[row]{
		Splits: pipeline.Splits[row]{
			"train": source.Slice(rows(60, "")),
			"val":   source.Slice(rows(20, "v")),
		},
		Sample:    pairOf,
		Version:   "1",
		Encoders:  pipeline.Encoders{"enc": newModel("a")},
		Cache:     &pipeline.CacheConfig{SaveDir: dir, BatchSize: 8, ShardObjects: 32, NumWorkers: 2},
		Head:      head.SkipConnection{},
		Loss:      loss.MultipleNegativesRanking{Symmetric: true},
		Train:     train.Options{Epochs: 2, BatchSize: 16},
		Logger:    slog.New(slog.DiscardHandler),
		Allocator: checked(t),
	}
}

// checked is an allocator whose memory must all be freed by the test's end.
func checked(t testing.TB) memory.Allocator {
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	if t != nil {
		t.Cleanup(func() {
			if !t.Failed() {
				mem.AssertSize(t, 0)
			}
		})
	}
	return mem
}

func open[R any](t testing.TB, cfg pipeline.Config[R]) *pipeline.Pipeline[R] {
	t.Helper()
	p, err := pipeline.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// fill fills the cache of a config and closes the pipeline.
func fill[R any](t testing.TB, cfg pipeline.Config[R]) *pipeline.FillReport {
	t.Helper()
	p := open(t, cfg)
	r, err := p.Fill(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// fillErr is the error of a fill, of New or of Fill.
func fillErr[R any](t testing.TB, cfg pipeline.Config[R]) error {
	t.Helper()
	p, err := pipeline.New(cfg)
	if err != nil {
		return err
	}
	_, err = p.Fill(t.Context())
	return errors.Join(err, p.Close())
}

// contents is all that training can see of a split, a line a row in the
// split's order: everything but where the embeddings lie.
func contents[R any](t testing.TB, p *pipeline.Pipeline[R], split string) []string {
	t.Helper()
	var out []string
	for b, err := range p.Epoch(t.Context(), split, 0) {
		if err != nil {
			t.Fatal(err)
		}
		for i := range b.Rows() {
			var line []string
			for c, f := range b.Record().Schema().Fields() {
				if !strings.HasSuffix(f.Name, "_pos") {
					line = append(line, fmt.Sprintf("%s=%s (%v)", f.Name, b.Record().Column(c).ValueStr(i), f.Type))
				}
			}
			out = append(out, strings.Join(line, " "))
		}
	}
	return out
}

// everything is the contents of all splits under a config.
func everything[R any](t testing.TB, cfg pipeline.Config[R]) []string {
	t.Helper()
	cfg.Train.Sequential = true
	p := open(t, cfg)
	var out []string
	for _, split := range slices.Sorted(maps.Keys(cfg.Splits)) {
		out = append(out, contents(t, p, split)...)
	}
	return out
}

// snapshot hashes all files under some folders of dir.
func snapshot(t testing.TB, dir string, folders ...string) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, folder := range folders {
		err := filepath.WalkDir(filepath.Join(dir, folder), func(path string, e fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err != nil || !e.Type().IsRegular() {
				return err
			}
			b, err := os.ReadFile(path)
			d := sha256.Sum256(b)
			rel, _ := filepath.Rel(dir, path)
			out[rel] = hex.EncodeToString(d[:8])
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// cached is what of a cache directory must not depend on how it came about.
var cached = []string{"manifests", "splits", "encoders"}

func sameFiles(t testing.TB, what string, got, want map[string]string) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if got[name] != want[name] {
			t.Errorf("%s: %s is %q, want %q", what, name, got[name], want[name])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[name]; !ok {
			t.Errorf("%s: %s should not be there", what, name)
		}
	}
}

func sameLines(t testing.TB, what string, got, want []string) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%s: %d lines, want %d", what, len(got), len(want))
		return
	}
	for i := range got {
		if got[i] != want[i] {
			t.Errorf("%s: line %d is\n%s, want\n%s", what, i, got[i], want[i])
			return
		}
	}
}

func write(t testing.TB, path, text string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// jsonl writes rows to a file.
func jsonl(t testing.TB, path string, rs []row) string {
	t.Helper()
	var sb strings.Builder
	enc := json.NewEncoder(&sb)
	for _, r := range rs {
		if err := enc.Encode(r); err != nil {
			t.Fatal(err)
		}
	}
	return write(t, path, sb.String())
}

// soon ends a test's context when a test hangs, so that it says where.
func soon(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func remove(t testing.TB, paths ...string) {
	t.Helper()
	for _, p := range paths {
		if err := os.RemoveAll(p); err != nil {
			t.Fatal(err)
		}
	}
}
