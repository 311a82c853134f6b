package pipeline_test

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/permafrost-ml/permafrost/cachesink"
	"github.com/permafrost-ml/permafrost/encode"
	"github.com/permafrost-ml/permafrost/encode/static"
	"github.com/permafrost-ml/permafrost/pipeline"
	"github.com/permafrost-ml/permafrost/source"
)

func reencode(t *testing.T, cfg pipeline.Config[row], opts pipeline.ReencodeOptions) *pipeline.ReencodeReport {
	t.Helper()
	before := snapshot(t, cfg.Cache.SaveDir, ".")
	r, err := open(t, cfg).Reencode(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	sameFiles(t, "after reencode", snapshot(t, cfg.Cache.SaveDir, "."), before)
	return r
}

// lying is the model with wrong values for texts that hold a word.
func lying(m *model, word string, lie func(dst []float32)) *model {
	l := *m
	l.onBatch = func(_ context.Context, batch []encode.Input, dst []float32) error {
		for i, in := range batch {
			if strings.Contains(in.Text(), word) {
				lie(dst[i*l.dim : (i+1)*l.dim])
			}
		}
		return nil
	}
	return &l
}

// mixing is the model with values that depend on all of a batch.
func mixing(m *model) *model {
	x := *m
	x.variant = true
	x.onBatch = func(_ context.Context, batch []encode.Input, dst []float32) error {
		h := fnv.New32()
		for _, in := range batch {
			io.WriteString(h, in.Text())
		}
		for i := range batch {
			dst[i*x.dim] += float32(h.Sum32()) / math.MaxUint32
		}
		return nil
	}
	return &x
}

// TestReencode: a sample of a sound cache is equal to the bit, whatever it is
// stored in, converted or not, with encoders whose output depends on the
// batch, too.
func TestReencode(t *testing.T) {
	for _, variant := range []bool{false, true} {
		for _, d := range []cachesink.DType{cachesink.Float32, cachesink.Float16, cachesink.Int8} {
			for _, converted := range []string{"none", "all", "some"} {
				t.Run(fmt.Sprintf("%v %s %s", variant, d, converted), func(t *testing.T) {
					t.Parallel()
					cfg := config(t, t.TempDir())
					cfg.Cache.BatchSize, cfg.Cache.ShardObjects = 2, 50
					m := newModel("a")
					if variant {
						m = mixing(m)
					}
					cfg.Encoders = pipeline.Encoders{"enc": m}
					if converted != "none" {
						first := cfg
						if converted == "some" {
							first.Splits = pipeline.Splits[row]{"train": source.Slice(rows(45, "")[5:])}
						}
						fill(t, first)
					}
					c := *cfg.Cache
					c.DType = d
					cfg.Cache = &c
					fill(t, cfg)
					r := reencode(t, cfg, pipeline.ReencodeOptions{Sample: 1000})
					e := r.Encoders[0]
					if e.Sampled != 160 || e.Compared != 160 || e.BitEqual != 160 || e.MaxDifference != 0 || r.Err() != nil {
						t.Errorf("all: %+v", e)
					}
					m.objects.Store(0)
					r = reencode(t, cfg, pipeline.ReencodeOptions{Sample: 1, Seed: 3})
					e = r.Encoders[0]
					if most := map[bool]int64{true: 32, false: 1}[variant]; e.Compared != 1 || e.BitEqual != 1 || m.objects.Load() > most {
						t.Errorf("one: %+v, %d encoded", e, m.objects.Load())
					}
				})
			}
		}
	}
}

// TestReencodeLargeInputs: object batches that end early for their bytes are
// made again, too.
func TestReencodeLargeInputs(t *testing.T) {
	rs := rows(40, "")
	for i := range rs {
		rs[i].Q += strings.Repeat(" and more", 10_000*(i%5))
	}
	cfg := config(t, t.TempDir())
	cfg.Cache.BatchSize, cfg.Cache.ShardObjects = 2, 50
	cfg.Splits = pipeline.Splits[row]{"train": source.Slice(rs)}
	m := mixing(newModel("a"))
	cfg.Encoders = pipeline.Encoders{"enc": m}
	fill(t, cfg)
	for seed := range uint64(3) {
		m.objects.Store(0)
		e := reencode(t, cfg, pipeline.ReencodeOptions{Sample: 2, Seed: seed}).Encoders[0]
		if e.Compared != 2 || e.BitEqual != 2 || m.objects.Load() >= 60 {
			t.Errorf("seed %d: %+v, %d encoded", seed, e, m.objects.Load())
		}
	}
}

// TestReencodeStatic: a real encoder.
func TestReencodeStatic(t *testing.T) {
	cfg := config(t, t.TempDir())
	cfg.Encoders = pipeline.Encoders{"enc": static.Default(), "other": newModel("b")}
	fill(t, cfg)
	r := reencode(t, cfg, pipeline.ReencodeOptions{Sample: 20})
	for _, e := range r.Encoders {
		if e.Sampled != 20 || e.BitEqual != 20 {
			t.Errorf("%+v", e)
		}
	}
}

// TestReencodeFindsLies: embeddings that are not the encoder's are found and
// named, though every checksum of the cache holds; what arithmetic may change
// is let pass.
func TestReencodeFindsLies(t *testing.T) {
	for _, variant := range []bool{false, true} {
		for _, d := range []cachesink.DType{cachesink.Float32, cachesink.Float16, cachesink.Int8} {
			for name, c := range map[string]struct {
				lie   func(dst []float32)
				stale bool
			}{
				"another value": {func(dst []float32) { dst[0] += 0.1 }, true},
				"arithmetic":    {func(dst []float32) { dst[0] += 1e-6 }, false},
			} {
				t.Run(fmt.Sprintf("%v %s %s", variant, d, name), func(t *testing.T) {
					t.Parallel()
					cfg := config(t, t.TempDir())
					cfg.Cache.DType = d
					m := newModel("a")
					m.variant = variant
					cfg.Encoders = pipeline.Encoders{"enc": lying(m, "0003 how", c.lie)}
					fill(t, cfg)
					cfg.Encoders = pipeline.Encoders{"enc": m}
					r := reencode(t, cfg, pipeline.ReencodeOptions{Sample: 160})
					e := r.Encoders[0]
					if e.Compared != 160 || e.BitEqual < 159 || (len(e.Stale) == 1) != c.stale || errors.Is(r.Err(), pipeline.ErrStaleEmbeddings) != c.stale {
						t.Fatalf("%+v, %v", e, r.Err())
					}
					if !c.stale {
						return
					}
					o := e.Stale[0]
					if o.Split != "train" || o.Row != 3 || e.MaxDifference != o.Difference || o.Difference < 0.01 || !strings.Contains(r.Err().Error(), o.ID[:12]) {
						t.Errorf("%+v, %v", o, r.Err())
					}
				})
			}
		}
	}
}

// TestReencodeWithoutRows: objects that the dataset has no more are counted,
// with those whose batch went with them, and are no error.
func TestReencodeWithoutRows(t *testing.T) {
	for _, variant := range []bool{false, true} {
		t.Run(fmt.Sprint(variant), func(t *testing.T) {
			cfg := config(t, t.TempDir())
			cfg.Cache.BatchSize, cfg.Cache.ShardObjects = 1, 100
			m := newModel("a")
			m.variant = variant
			cfg.Encoders = pipeline.Encoders{"enc": m}
			fill(t, cfg)
			cfg.Splits = pipeline.Splits[row]{"train": source.Slice(rows(30, ""))}
			e := reencode(t, cfg, pipeline.ReencodeOptions{Sample: 160}).Encoders[0]
			compared := int64(60)
			if variant {
				compared = 48 // whole object batches of 16
			}
			if e.Stored != 160 || e.Gone != 100 || e.Compared != compared || e.BitEqual != compared || e.BatchGone != 60-compared {
				t.Errorf("%+v", e)
			}
		})
	}
}

// TestReencodeSample: the seed alone chooses; another encoder has nothing
// stored, and is not opened.
func TestReencodeSample(t *testing.T) {
	cfg := config(t, t.TempDir())
	fill(t, cfg)
	sample := func(seed uint64) (texts []string) {
		m := newModel("a")
		var mu sync.Mutex
		m.onBatch = func(_ context.Context, batch []encode.Input, _ []float32) error {
			mu.Lock()
			defer mu.Unlock()
			for _, in := range batch {
				texts = append(texts, in.Text())
			}
			return nil
		}
		cfg := cfg
		cfg.Encoders = pipeline.Encoders{"enc": m}
		reencode(t, cfg, pipeline.ReencodeOptions{Sample: 9, Seed: seed})
		slices.Sort(texts)
		return slices.Compact(texts)
	}
	first := sample(1)
	if len(first) != 9 || !slices.Equal(first, sample(1)) || slices.Equal(first, sample(2)) {
		t.Errorf("%q, then %q, with another seed %q", first, sample(1), sample(2))
	}
	other := newModel("b")
	cfg.Encoders = pipeline.Encoders{"enc": other}
	r := reencode(t, cfg, pipeline.ReencodeOptions{Sample: 9})
	if e := r.Encoders[0]; e.Stored != 0 || e.Sampled != 0 || other.opens.Load() != 0 || r.Err() != nil {
		t.Errorf("%+v, %d opened", e, other.opens.Load())
	}
	if _, err := open(t, cfg).Reencode(t.Context(), pipeline.ReencodeOptions{}); err == nil {
		t.Error("a sample of none")
	}
}

// TestReencodeCompacted: what was compacted is compared where the batch does
// not matter; else its batch is gone.
func TestReencodeCompacted(t *testing.T) {
	for _, variant := range []bool{false, true} {
		t.Run(fmt.Sprint(variant), func(t *testing.T) {
			cfg := config(t, t.TempDir())
			cfg.Cache.ShardObjects = 8
			m := newModel("a")
			if variant {
				m = mixing(m)
			}
			cfg.Encoders = pipeline.Encoders{"enc": m}
			fill(t, cfg)
			st, err := cachesink.OpenStorage(t.Context(), cfg.Cache.SaveDir)
			if err != nil {
				t.Fatal(err)
			}
			c, err := cachesink.Open(t.Context(), st, nil)
			if err != nil {
				t.Fatal(err)
			}
			plan, err := c.Garbage(t.Context(), cachesink.GCOptions{Compact: true, ShardObjects: 1000, Grace: -1})
			if err == nil {
				plan, err = c.Collect(t.Context(), plan)
			}
			if err != nil || len(plan.Compact) != 1 {
				t.Fatalf("%+v, %v", plan, err)
			}
			r := reencode(t, cfg, pipeline.ReencodeOptions{Sample: 160})
			if e := r.Encoders[0]; variant && e.BatchGone != 160 || !variant && e.BitEqual != 160 || r.Err() != nil {
				t.Errorf("%+v", e)
			}
		})
	}
}

// TestReencodeFails: an encoder that fails ends it, and nothing is left.
func TestReencodeFails(t *testing.T) {
	cfg := config(t, t.TempDir())
	fill(t, cfg)
	m, boom := newModel("a"), errors.New("boom")
	m.onBatch = func(context.Context, []encode.Input, []float32) error { return boom }
	cfg.Encoders = pipeline.Encoders{"enc": m}
	if _, err := open(t, cfg).Reencode(t.Context(), pipeline.ReencodeOptions{Sample: 100}); !errors.Is(err, boom) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	m.onBatch = func(context.Context, []encode.Input, []float32) error { cancel(); return nil }
	if _, err := open(t, cfg).Reencode(ctx, pipeline.ReencodeOptions{Sample: 100}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
