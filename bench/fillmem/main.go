// Command fillmem measures the peak memory of fills of different numbers of
// distinct objects. Each size is filled by a process of its own, which runs
// the stages of a fill over generated texts with an encoder that costs
// nothing, into a directory, and reports the kernel's high-water mark.
//
//	go run ./bench/fillmem [-keys] [10000 1000000]
//
// It fails if a size needs more than the smallest one and 64 bytes for each
// further object (128 with -keys, where the keys are held, too).
package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"iter"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/permafrost-ml/permafrost/cachesink"
	"github.com/permafrost-ml/permafrost/encode"
	"github.com/permafrost-ml/permafrost/stage"
)

const dim = 256

func main() {
	var o options
	flag.BoolVar(&o.keys, "keys", false, "name the objects by a key that must be checked")
	flag.IntVar(&o.runs, "runs", 3, "processes a size; the largest peak counts")
	child := flag.String("fill", "", "fill this directory and report (used by the command itself)")
	flag.Parse()
	if err := run(o, *child, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

type options struct {
	keys bool
	runs int
}

func run(o options, child string, args []string) error {
	if len(args) == 0 {
		args = []string{"10000", "1000000"}
	}
	var sizes []int64
	for _, a := range args {
		n, err := strconv.ParseInt(a, 10, 64)
		if err != nil || n < 1 {
			return fmt.Errorf("number of objects %q", a)
		}
		sizes = append(sizes, n)
	}
	if child != "" {
		if err := fill(context.Background(), child, sizes[0], o.keys); err != nil {
			return err
		}
		peak, err := highWater()
		fmt.Println(peak)
		return err
	}
	return compare(o, sizes)
}

// compare fills every size and holds it to the smallest.
func compare(o options, sizes []int64) error {
	limit := 64.0
	if o.keys {
		limit = 128
	}
	var first int64
	var errs []error
	for i, n := range sizes {
		var peak int64
		start := time.Now()
		for range o.runs {
			p, err := spawn(o, n)
			if err != nil {
				return err
			}
			peak = max(peak, p)
		}
		seconds := time.Since(start).Seconds() / float64(o.runs)
		fmt.Printf("%10d objects: peak %6.1f MiB, %.0f objects/s", n, float64(peak)/(1<<20), float64(n)/seconds)
		if i == 0 {
			first = peak
			fmt.Println()
			continue
		}
		each := float64(peak-first) / float64(n-sizes[0])
		fmt.Printf(", %+.1f bytes an object more than at %d\n", each, sizes[0])
		if each > limit {
			errs = append(errs, fmt.Errorf("%d objects: %.1f bytes an object, at most %.0f are allowed", n, each, limit))
		}
	}
	return errors.Join(errs...)
}

// spawn fills a directory in a new process and returns its peak memory.
func spawn(o options, n int64) (int64, error) {
	dir, err := os.MkdirTemp("", "fillmem-*")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	cmd := exec.Command(os.Args[0], fmt.Sprintf("-keys=%v", o.keys), "-fill", dir, fmt.Sprint(n))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return 0, fmt.Errorf("fill %d objects: %w", n, err)
	}
	return strconv.ParseInt(strings.TrimSpace(string(out)), 10, 64)
}

// highWater returns the largest resident memory that this process had.
func highWater() (int64, error) {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kb, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return kb << 10, err
		}
	}
	return 0, errors.New("the kernel reports no VmHWM")
}

// fill stores n distinct texts of about 20 words.
func fill(ctx context.Context, dir string, n int64, keys bool) error {
	c, err := cachesink.Open(ctx, cachesink.Dir(dir), nil)
	if err != nil {
		return err
	}
	use := encode.Use{Name: "e"}
	if keys {
		if use.Key, err = encode.ParseKey("field:text"); err != nil {
			return err
		}
	}
	f, err := c.Fill(ctx, cachesink.FillOptions{Encoders: []cachesink.Use{{
		Name: "e", Fingerprint: strings.Repeat("0", 64), Dim: dim, Cached: true, FreeKeys: !keys,
	}}})
	if err != nil {
		return err
	}
	defer f.Abort()
	g, _ := stage.NewGroup(ctx)
	rows := stage.From(g, "generate", func(context.Context) iter.Seq2[encode.Sample, error] { return samples(n) })
	objects := f.Index(g, encode.Samples(g, rows, encode.SampleOptions{Split: "train", Uses: []encode.Use{use}}))
	vecs := encode.Stage(g, objects["e"], "e", model{}, encode.StageOptions{Workers: 2})
	f.Write(g, "e", vecs)
	if err := g.Wait(); err != nil {
		return err
	}
	_, err = f.Commit(ctx)
	return err
}

func samples(n int64) iter.Seq2[encode.Sample, error] {
	return func(yield func(encode.Sample, error) bool) {
		for i := range n {
			text := fmt.Sprintf("text number %d of the words that nobody reads but which a fill must carry all the same, up to %d of them", i, n)
			if !yield(encode.GroupSample(encode.Text(text), i%100), nil) {
				return
			}
		}
	}
}

// model is an encoder that hashes: it must not be what takes the time.
type model struct{}

func (model) Spec(context.Context) (encode.Spec, error) {
	return encode.Spec{Engine: "hash", Dim: dim, Fields: []encode.Field{{Name: "hash", Value: "sha256"}}, BatchInvariant: true}, nil
}

func (model) Open(context.Context, int) (encode.Encoder, error) { return model{}, nil }

func (model) Dim() int { return dim }

func (model) Close() error { return nil }

func (model) Encode(_ context.Context, batch []encode.Input, dst []float32) error {
	for i, in := range batch {
		sum := sha256.Sum256([]byte(in.Text()))
		for k := range dim {
			dst[i*dim+k] = float32(sum[k%32])
		}
	}
	return nil
}
