package s3

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/permafrost-ml/permafrost/cachesink"
	"github.com/permafrost-ml/permafrost/encode"
	"github.com/permafrost-ml/permafrost/pipeline"
	"github.com/permafrost-ml/permafrost/source"
)

func init() { cachesink.RegisterStorage("s3", Open) }

type row struct{ Q, A string }

func rows(from, to int) []row {
	var out []row
	for i := from; i < to; i++ {
		out = append(out, row{fmt.Sprintf("question %d", i), fmt.Sprintf("answer %d", i%50)})
	}
	return out
}

// model is an encoder of the tests: a hash of the input.
type model struct {
	objects atomic.Int64
	batch   func(n int64) // called with the objects so far
}

func (m *model) Spec(context.Context) (encode.Spec, error) {
	return encode.Spec{Engine: "test", Dim: 64, BatchInvariant: true, Fields: []encode.Field{{Name: "salt", Value: "x"}}}, nil
}

func (m *model) Open(context.Context, int) (encode.Encoder, error) { return m, nil }
func (m *model) Dim() int                                          { return 64 }
func (m *model) Close() error                                      { return nil }

func (m *model) Encode(_ context.Context, batch []encode.Input, dst []float32) error {
	for i, in := range batch {
		h := sha256.Sum256([]byte(in.Text()))
		for k := range 64 {
			dst[i*64+k] = float32(h[k%32]) + float32(k)
		}
	}
	if n := m.objects.Add(int64(len(batch))); m.batch != nil {
		m.batch(n)
	}
	return nil
}

// config is a pipeline with its cache at a place, of rows up to n.
func fillConfig(t *testing.T, place string, n int, m *model) pipeline.Config[row] {
	mem := memory.Allocator(memory.DefaultAllocator)
	if t != nil {
		checked := memory.NewCheckedAllocator(mem)
		t.Cleanup(func() {
			if !t.Failed() {
				checked.AssertSize(t, 0)
			}
		})
		mem = checked
	}
	return pipeline.Config[row]{
		Splits:    pipeline.Splits[row]{"train": source.Slice(rows(0, n)), "val": source.Slice(rows(n, n+20))},
		Sample:    func(r row) pipeline.Sample { return pipeline.Pair(encode.Text(r.Q), encode.Text(r.A)) },
		Version:   "1",
		Encoders:  pipeline.Encoders{"enc": m},
		Cache:     &pipeline.CacheConfig{SaveDir: place, BatchSize: 8, ShardObjects: 64, NumWorkers: 2},
		Logger:    slog.New(slog.DiscardHandler),
		Allocator: mem,
	}
}

func open1(t *testing.T, place string, n int, m *model) *pipeline.Pipeline[row] {
	t.Helper()
	p, err := pipeline.New(fillConfig(t, place, n, m))
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

// fill fills a cache, and returns how many objects were encoded.
func fill(t *testing.T, place string, n int) int64 {
	t.Helper()
	m := &model{}
	if _, err := open1(t, place, n, m).Fill(t.Context()); err != nil {
		t.Fatal(err)
	}
	return m.objects.Load()
}

// replay returns all embeddings of an epoch.
func replay(t *testing.T, place string, n int) (out []float32) {
	t.Helper()
	for b, err := range open1(t, place, n, &model{}).Epoch(t.Context(), "train", 0) {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, b.A("enc").Data().([]float32)...)
		out = append(out, b.B("enc").Data().([]float32)...)
	}
	return out
}

// useGateway makes s3 places those of a server, with a local folder of their
// own.
func useGateway(t *testing.T, url string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	t.Setenv("AWS_ENDPOINT_URL_S3", url)
	t.Setenv("PERMAFROST_S3_DIR", dir)
	return dir
}

// filesOf returns the files of a folder that a cache consists of.
func filesOf(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	for _, top := range []string{"manifests", "encoders", "splits", "inputs", "sources", "MANIFEST.json", "leases"} {
		err := filepath.WalkDir(filepath.Join(dir, top), func(path string, e fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err != nil || e.IsDir() {
				return err
			}
			name, err := filepath.Rel(dir, path)
			if err == nil {
				out[filepath.ToSlash(name)], err = os.ReadFile(path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// same compares the objects of a place, as the server has them, with a cache
// in a folder.
func same(t *testing.T, place, dir string) {
	t.Helper()
	got := filesOf(t, filepath.Join(gateway.dir, strings.TrimPrefix(place, "s3://")))
	want := filesOf(t, dir)
	for name := range want {
		if !bytes.Equal(got[name], want[name]) {
			t.Errorf("%s: %d bytes, want %d", name, len(got[name]), len(want[name]))
		}
		delete(got, name)
	}
	if len(got) > 0 || len(want) < 6 {
		t.Errorf("%d files; objects that no folder has: %d", len(want), len(got))
		for name := range got {
			t.Log(name)
		}
	}
}

// TestFill: a fill, a second one that has nothing to do, one with new rows
// and a replay give what they give in a folder, byte for byte.
func TestFill(t *testing.T) {
	place := "s3://" + bucket(t) + "/team/cache"
	p := newProxy(t)
	dir := useGateway(t, p.url)
	local := filepath.Join(t.TempDir(), "cache")
	for i, step := range []struct {
		rows    int
		encoded int64
	}{{200, 270}, {200, 0}, {230, 30}} {
		want := fill(t, local, step.rows)
		if n := fill(t, place, step.rows); n != want || n != step.encoded {
			t.Errorf("step %d: encoded %d, in a folder %d, want %d", i, n, want, step.encoded)
		}
		same(t, place, local)
	}
	want := replay(t, local, 230)
	if got := replay(t, place, 230); len(want) == 0 || !slices.Equal(got, want) {
		t.Error("other embeddings")
	}
	// The replays of this machine fetch nothing more of the data.
	var data atomic.Int64
	p.set(func(r *http.Request) fault {
		if r.Method == http.MethodGet && (strings.Contains(r.URL.Path, "/encoders/") || strings.Contains(r.URL.Path, "/splits/")) {
			data.Add(1)
		}
		return pass
	})
	if got := replay(t, place, 230); !slices.Equal(got, want) || data.Load() != 0 {
		t.Errorf("second replay: %d gets of data", data.Load())
	}
	// A wrong byte of a kept block, and of a body on the way.
	_, names := kept(t, filepath.Join(dir, "blocks"))
	damageBlocks(t, names)
	if got := replay(t, place, 230); !slices.Equal(got, want) {
		t.Error("other embeddings after damage in the read cache")
	}
	if err := os.RemoveAll(filepath.Join(dir, "blocks")); err != nil {
		t.Fatal(err)
	}
	flips := map[string]bool{}
	p.set(func(r *http.Request) fault {
		if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/cache/") && !flips[r.URL.Path] {
			flips[r.URL.Path] = true
			return flip
		}
		return pass
	})
	if got := replay(t, place, 230); !slices.Equal(got, want) || p.count(flip) < 5 {
		t.Errorf("other embeddings after %d flipped bytes", p.count(flip))
	}
}

// TestVerifyReadsObjects, not the copies of them that this machine has.
func TestVerifyReadsObjects(t *testing.T) {
	place := "s3://" + bucket(t) + "/cache"
	useGateway(t, gateway.url)
	fill(t, place, 200)
	want := replay(t, place, 200)
	damaged := ""
	verify := func() (findings []string) {
		st, err := cachesink.OpenStorage(t.Context(), place)
		if err != nil {
			t.Fatal(err)
		}
		c, err := cachesink.Open(t.Context(), st, nil)
		if err != nil {
			t.Fatal(err)
		}
		damaged = c.Manifest().Encoders[0].Shards[1].Name
		for f := range c.Verify(t.Context()) {
			if f != nil && errors.Is(f.Err, cachesink.ErrCorrupt) {
				findings = append(findings, f.File)
			}
		}
		return findings
	}
	if got := verify(); len(got) != 0 {
		t.Errorf("findings %q", got)
	}
	f, err := os.OpenFile(filepath.Join(gateway.dir, strings.TrimPrefix(place, "s3://"), damaged), os.O_RDWR, 0)
	if err == nil {
		_, err = f.WriteAt([]byte("damage"), 5000)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	if got := verify(); !slices.Equal(got, []string{damaged}) {
		t.Errorf("findings %q, want %s", got, damaged)
	}
	if got := replay(t, place, 200); !slices.Equal(got, want) {
		t.Error("the replay from the read cache has other embeddings")
	}
}

// TestFillUnderFaults: a fill over a bad line ends as one over a good one.
func TestFillUnderFaults(t *testing.T) {
	place := "s3://" + bucket(t) + "/cache"
	p := newProxy(t)
	useGateway(t, p.url)
	n := 0
	p.set(func(r *http.Request) fault {
		n++
		if n%5 != 0 {
			return pass
		}
		f := []fault{busy, reset, halfSent, lost, cut, flipSent}[n/5%6]
		if r.Method == http.MethodGet && f == lost {
			return reset
		}
		return f
	})
	local := filepath.Join(t.TempDir(), "cache")
	fill(t, local, 200)
	fill(t, place, 200)
	p.set(nil)
	same(t, place, local)
}

// TestTwoFills at once, of other rows: the cache holds both.
func TestTwoFills(t *testing.T) {
	place := "s3://" + bucket(t) + "/cache"
	useGateway(t, gateway.url)
	var wg sync.WaitGroup
	for _, n := range []int{100, 150, 200} {
		p := open1(t, place, n, &model{})
		wg.Go(func() {
			if _, err := p.Fill(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	local := filepath.Join(t.TempDir(), "cache")
	for _, n := range []int{100, 150, 200} {
		if again := fill(t, place, n); again != 0 {
			t.Errorf("%d rows: encoded %d again", n, again)
		}
		fill(t, local, n)
		if got, want := replay(t, place, n), replay(t, local, n); !slices.Equal(got, want) {
			t.Errorf("%d rows: other embeddings", n)
		}
	}
}

// jobEnv makes the test program a fill that is to be killed.
const jobEnv = "PERMAFROST_TEST_S3_FILL"

type job struct {
	Place string
	Rows  int
	Kill  int64 // in the batch in which so many objects are encoded
}

func child(text string) int {
	var j job
	if err := json.Unmarshal([]byte(text), &j); err != nil {
		panic(err)
	}
	m := &model{batch: func(n int64) {
		if n < j.Kill || j.Kill == 0 {
			return
		}
		if p, err := os.FindProcess(os.Getpid()); err != nil || p.Kill() != nil {
			panic("not killed")
		}
		select {}
	}}
	p, err := pipeline.New(fillConfig(nil, j.Place, j.Rows, m))
	if err == nil {
		_, err = p.Fill(context.Background())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// TestKilled: what a killed fill has finished is not encoded again, and the
// cache has the bytes of a fill that nobody killed.
func TestKilled(t *testing.T) {
	place := "s3://" + bucket(t) + "/cache"
	useGateway(t, gateway.url)
	text, err := json.Marshal(job{place, 200, 200})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), jobEnv+"="+string(text))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	err = cmd.Run()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != -1 {
		t.Fatalf("the fill was not killed: %v %s", err, stderr.String())
	}
	const workers, batch = 2, 8
	if n := fill(t, place, 200); n > 270-200+workers*batch || n == 0 {
		t.Errorf("encoded %d after the kill", n)
	}
	local := filepath.Join(t.TempDir(), "cache")
	fill(t, local, 200)
	same(t, place, local)
}
