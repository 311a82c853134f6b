// Command replay is the module's side of bench/replay/run. With -fill it makes
// a cache of random embeddings; else it replays that cache each time that it
// reads a line, as the line says, and prints the seconds that an epoch took:
//
//	sequential        every byte is summed
//	untouched         batches are handed out and not looked at
//	shuffled WORKERS  batches are gathered
//	open              the cache is opened anew, up to the first batch
//
// A further line of "allocs" prints the allocations a batch of the last epoch.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"iter"
	"log"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"time"
	"unsafe"

	"github.com/permafrost-ml/permafrost/cachesink"
	"github.com/permafrost-ml/permafrost/encode"
	"github.com/permafrost-ml/permafrost/source"
	"github.com/permafrost-ml/permafrost/stage"
)

const batchSize = 256

func main() {
	log.SetFlags(0)
	rows := flag.Int64("fill", 0, "make a cache of so many rows")
	dim := flag.Int("dim", 384, "values a row")
	flag.Parse()
	ctx, dir := context.Background(), flag.Arg(0)
	var err error
	if *rows > 0 {
		err = fill(ctx, dir, *rows, *dim)
	} else {
		err = serve(ctx, dir)
	}
	if err != nil {
		log.Fatal(err)
	}
}

func serve(ctx context.Context, dir string) error {
	o, err := open(ctx, dir)
	if err != nil {
		return err
	}
	defer func() { o.close() }()
	var allocs float64
	var total uint64
	defer func() { runtime.KeepAlive(total) }() // or nothing would be summed
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		start := time.Now()
		what, workers, _ := strings.Cut(lines.Text(), " ")
		switch what {
		case "allocs":
			fmt.Println(allocs)
			continue
		case "open":
			o.close()
			start = time.Now()
			if o, err = open(ctx, dir); err == nil {
				err = o.epoch(ctx, source.ReplayOptions{}, func([]float32) bool { return false })
			}
		case "sequential":
			err = o.epoch(ctx, source.ReplayOptions{Sequential: true}, func(v []float32) bool {
				total += sum(v)
				return true
			})
		case "untouched":
			err = o.epoch(ctx, source.ReplayOptions{Sequential: true}, func([]float32) bool { return true })
		case "shuffled":
			opts := source.ReplayOptions{Seed: uint64(start.UnixNano())}
			if _, err = fmt.Sscan(workers, &opts.Workers); err == nil {
				err = o.epoch(ctx, opts, func([]float32) bool { return true })
			}
		default:
			err = fmt.Errorf("nothing is called %q", what)
		}
		seconds := time.Since(start).Seconds()
		if err != nil {
			return err
		}
		runtime.ReadMemStats(&after)
		allocs = float64(after.Mallocs-before.Mallocs) / float64(o.r.Rows()/batchSize)
		fmt.Println(seconds)
	}
	return nil
}

// sum adds all words of a batch.
func sum(v []float32) uint64 {
	words := unsafe.Slice((*uint64)(unsafe.Pointer(&v[0])), len(v)/2)
	var a, b, c, d uint64
	for ; len(words) >= 8; words = words[8:] {
		a += words[0] + words[4]
		b += words[1] + words[5]
		c += words[2] + words[6]
		d += words[3] + words[7]
	}
	for _, w := range words {
		a += w
	}
	return a + b + c + d
}

// opened is a cache that is replayed: its embeddings alone.
type opened struct {
	tables *cachesink.Tables
	all    *cachesink.SplitReader
	r      *cachesink.SplitReader
}

func open(ctx context.Context, dir string) (*opened, error) {
	c, err := cachesink.Open(ctx, cachesink.Dir(dir), nil)
	if err != nil {
		return nil, err
	}
	o := &opened{tables: &cachesink.Tables{}}
	if o.all, err = c.Read(ctx, &c.Manifest().Splits[0], o.tables); err != nil {
		return nil, err
	}
	o.r, err = o.all.Select("e")
	return o, err
}

func (o *opened) close() {
	o.all.Release()
	o.tables.Release()
}

// epoch calls fn with every batch until that is false.
func (o *opened) epoch(ctx context.Context, opts source.ReplayOptions, fn func([]float32) bool) error {
	opts.BatchSize = batchSize
	replay, err := source.Replay(o.r, opts)
	if err != nil {
		return err
	}
	rows := int64(0)
	for rec, err := range replay.Epoch(ctx, 0) {
		if err != nil {
			return err
		}
		vecs, _, err := cachesink.Vectors(rec.Column(0))
		if err != nil {
			return err
		}
		if rows += rec.NumRows(); !fn(vecs) {
			return nil
		}
	}
	if rows != o.r.Rows() {
		return errors.New("rows are missing")
	}
	return nil
}

// fill runs the stages of a fill over generated objects.
func fill(ctx context.Context, dir string, rows int64, dim int) error {
	c, err := cachesink.Open(ctx, cachesink.Dir(dir), nil)
	if err != nil {
		return err
	}
	f, err := c.Fill(ctx, cachesink.FillOptions{Encoders: []cachesink.Use{{
		Name: "e", Fingerprint: strings.Repeat("0", 64), Dim: dim, Cached: true, FreeKeys: true, BatchInvariant: true,
	}}})
	if err != nil {
		return err
	}
	defer f.Abort()
	g, _ := stage.NewGroup(ctx)
	in := stage.From(g, "generate", func(context.Context) iter.Seq2[encode.Sample, error] {
		return func(yield func(encode.Sample, error) bool) {
			for i := range rows {
				if !yield(encode.GroupSample(encode.Text(fmt.Sprint(i)), i%100), nil) {
					return
				}
			}
		}
	})
	objects := f.Index(g, encode.Samples(g, in, encode.SampleOptions{Split: "train", Uses: []encode.Use{{Name: "e"}}}))
	f.Write(g, "e", encode.Stage(g, objects["e"], "e", model(dim), encode.StageOptions{}))
	if err := g.Wait(); err != nil {
		return err
	}
	_, err = f.Commit(ctx)
	return err
}

// model is an encoder that gives random embeddings of so many values.
type model int

func (m model) Spec(context.Context) (encode.Spec, error) {
	return encode.Spec{Engine: "random", Dim: int(m), Fields: []encode.Field{{Name: "generator", Value: "pcg"}}, BatchInvariant: true}, nil
}

func (m model) Open(context.Context, int) (encode.Encoder, error) { return m, nil }

func (m model) Dim() int { return int(m) }

func (m model) Close() error { return nil }

func (m model) Encode(_ context.Context, batch []encode.Input, dst []float32) error {
	for i, in := range batch {
		var seed uint64
		if _, err := fmt.Sscan(in.Text(), &seed); err != nil {
			return err
		}
		rng := rand.NewPCG(seed, 1)
		for k := range int(m) {
			dst[i*int(m)+k] = float32(rng.Uint64()>>40) / (1 << 24)
		}
	}
	return nil
}
