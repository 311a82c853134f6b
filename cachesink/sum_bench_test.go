//go:build linux

package cachesink

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/permafrost-ml/permafrost/encode"
	"github.com/permafrost-ml/permafrost/stage"
)

// idleModel is an encoder that does nothing: every embedding is 0.
type idleModel struct{ dim int }

func (m idleModel) Spec(context.Context) (encode.Spec, error) {
	return encode.Spec{Engine: "idle", Dim: m.dim, Fields: []encode.Field{{Name: "v", Value: "1"}}, BatchInvariant: true}, nil
}
func (m idleModel) Open(context.Context, int) (encode.Encoder, error)             { return m, nil }
func (m idleModel) Dim() int                                                      { return m.dim }
func (m idleModel) Encode(_ context.Context, _ []encode.Input, _ []float32) error { return nil }
func (m idleModel) Close() error                                                  { return nil }

// checksummedObjects and checksummedDim are the size of the benchmarks'
// caches: 154 MB of embeddings.
const checksummedObjects, checksummedDim = 100_000, 384

// idleFill fills a directory with the embeddings of an encoder that does
// nothing.
func idleFill(b *testing.B, dir string) *Cache {
	samples := make([]encode.Sample, checksummedObjects)
	for i := range samples {
		samples[i] = encode.GroupSample(encode.Text(fmt.Sprint("text ", i)), "label")
	}
	s := setup{splits: map[string][]encode.Sample{"train": samples}, models: map[string]hashModel{"e": {dim: checksummedDim, seed: "e"}}, batch: 256, shard: 1 << 16}
	s.defaults()
	c, err := Open(b.Context(), quickDir(dir), nil)
	if err != nil {
		b.Fatal(err)
	}
	opts, err := s.options(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	f, err := c.Fill(b.Context(), opts)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Abort()
	g, _ := stage.NewGroup(b.Context())
	for name, in := range f.Index(g, s.samples(g)) {
		f.Write(g, name, encode.Stage(g, in, name, idleModel{checksummedDim}, encode.StageOptions{Workers: 2, BatchSize: s.batch}))
	}
	if err := g.Wait(); err != nil {
		b.Fatal(err)
	}
	if _, err := f.Commit(b.Context()); err != nil {
		b.Fatal(err)
	}
	return c
}

// firstRead copies every embedding out of the cache, none of which was looked
// at before.
func firstRead(b *testing.B, c *Cache) {
	tables := Tables{VerifyAlways: true}
	defer tables.Release()
	all, err := c.Read(b.Context(), &c.Manifest().Splits[0], &tables)
	if err != nil {
		b.Fatal(err)
	}
	defer all.Release()
	r, err := all.Select("e")
	if err != nil {
		b.Fatal(err)
	}
	const batch = 1000
	rows, buf := make([]int64, batch), make([]float32, batch*checksummedDim)
	for first := range checksummedObjects / batch {
		for i := range rows {
			rows[i] = int64(first*batch + i)
		}
		rec, err := r.Gather(b.Context(), rows)
		if err != nil {
			b.Fatal(err)
		}
		vecs, _, err := Vectors(rec.Column(rec.Schema().FieldIndices("e")[0]))
		if err != nil {
			b.Fatal(err)
		}
		copy(buf, vecs)
		rec.Release()
	}
}

// processorTime is what the process has used, of all cores.
func processorTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// forget writes the files of a folder to the disk and drops them from memory,
// so that the next read is a first one.
func forget(b *testing.B, dir string) {
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		return errors.Join(f.Sync(), unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED))
	})
	if err != nil {
		b.Fatal(err)
	}
}

// BenchmarkChecksums measures the processor time of a fill with an encoder
// that does nothing, and the wall time of the first read of what it stored,
// from the disk, with checksums and without: the metrics are the median with
// over the median without, less 1. Other work on the machine changes processor
// time less than wall time, in which a read waits for the disk.
func BenchmarkChecksums(b *testing.B) {
	with := updateSum
	defer func() { updateSum = with }()
	var times [2][2][]time.Duration // fill, read; without, with
	for range b.N {
		for on, update := range []func(uint32, []byte) uint32{func(uint32, []byte) uint32 { return 0 }, with} {
			updateSum = update
			dir := b.TempDir()
			runtime.GC()
			start := processorTime(b)
			c := idleFill(b, dir)
			times[0][on] = append(times[0][on], processorTime(b)-start)
			runtime.GC()
			forget(b, dir)
			begin := time.Now()
			firstRead(b, c)
			times[1][on] = append(times[1][on], time.Since(begin))
			if err := os.RemoveAll(dir); err != nil { // before the disk is busy with it
				b.Fatal(err)
			}
		}
	}
	for i, name := range []string{"fill", "read"} {
		var median [2]float64
		for on, list := range times[i] {
			slices.Sort(list)
			median[on] = list[len(list)/2].Seconds()
		}
		b.ReportMetric(median[1]/median[0]-1, name+"-cost")
	}
}

// BenchmarkVerify verifies a cache whose files are warm; run it with -cpu 1
// for the rate of a core.
func BenchmarkVerify(b *testing.B) {
	c := idleFill(b, b.TempDir())
	b.SetBytes(c.Manifest().Bytes())
	for b.Loop() {
		for f := range c.Verify(b.Context()) {
			if f != nil {
				b.Fatal(f.Err)
			}
		}
	}
}
