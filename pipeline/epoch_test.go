package pipeline_test

import (
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v15/arrow/array"
	"go.uber.org/goleak"
	"gorgonia.org/tensor"

	"github.com/permafrost-ml/permafrost/cachesink"
	"github.com/permafrost-ml/permafrost/pipeline"
	"github.com/permafrost-ml/permafrost/pipeline/train/nn"
	"github.com/permafrost-ml/permafrost/source"
)

// order is the rows of an epoch in the order in which they came.
func order(t testing.TB, p *pipeline.Pipeline[row], epoch int) (out []int64) {
	t.Helper()
	for b, err := range p.Epoch(t.Context(), "train", epoch) {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, column[*array.Int64](t, b, "row").Int64Values()...)
	}
	return out
}

func column[A any](t testing.TB, b *pipeline.Batch, name string) A {
	t.Helper()
	at := b.Record().Schema().FieldIndices(name)
	if len(at) != 1 {
		t.Fatalf("%d columns %q", len(at), name)
	}
	return b.Record().Column(at[0]).(any).(A)
}

// TestEpochFrom goes on in the middle of an epoch, with other numbers of ranks.
func TestEpochFrom(t *testing.T) {
	cfg := config(t, t.TempDir())
	cfg.Train.BatchSize = 3
	p := open(t, cfg)
	whole := order(t, p, 1)
	batches := (len(whole) + 2) / 3
	for world := 1; world <= 4; world++ {
		for done := range batches + 1 {
			got := map[int][]int64{}
			for rank := range world {
				at := done + rank
				for b, err := range p.EpochFrom(t.Context(), "train", 1, pipeline.EpochOptions{Rank: rank, World: world, Done: int64(done), Workers: 2}) {
					if err != nil {
						t.Fatal(err)
					}
					got[at] = slices.Clone(column[*array.Int64](t, b, "row").Int64Values())
					at += world
				}
			}
			var rows []int64
			for at := done; at < batches; at++ {
				rows = append(rows, got[at]...)
			}
			if want := whole[min(3*done, len(whole)):]; len(got) != batches-done || !slices.Equal(rows, want) {
				t.Errorf("%d ranks from batch %d: %v, want %v", world, done, rows, want)
			}
		}
	}
	for b, err := range p.EpochFrom(t.Context(), "train", 0, pipeline.EpochOptions{Rank: 2, World: 2}) {
		if b != nil || err == nil {
			t.Error("there is a rank 2 of 2")
		}
	}
}

// TestBatchTensors: the operations of a batch's tensors are this
// module's, bit for bit.
func TestBatchTensors(t *testing.T) {
	p := open(t, config(t, t.TempDir()))
	for b, err := range p.Epoch(t.Context(), "train", 0) {
		if err != nil {
			t.Fatal(err)
		}
		x := b.A("enc")
		rows, dim := x.Shape()[0], x.Shape()[1]
		w := nn.Mat{Rows: dim, Cols: 3, Data: make([]float32, dim*3)}
		for i := range w.Data {
			w.Data[i] = 1 / float32(i+1)
		}
		want := nn.Mat{Rows: rows, Cols: 3, Data: make([]float32, rows*3)}
		nn.Gemm(nn.AsIs, nn.AsIs, 1, nn.Mat{Rows: rows, Cols: dim, Data: x.Float32s()}, w, 0, want)
		got, err := tensor.MatMul(x, tensor.New(tensor.WithShape(dim, 3), tensor.WithBacking(w.Data)))
		if err != nil || !slices.Equal(got.Data().([]float32), want.Data) {
			t.Errorf("%v, want %v, %v", got, want.Data, err)
		}
		if _, ok := got.Engine().(nn.Engine); !ok {
			t.Errorf("the engine is %T", got.Engine())
		}
	}
}

// TestEpochOrder is a function of seed and epoch alone.
func TestEpochOrder(t *testing.T) {
	seen := map[string]string{}
	for _, dir := range []string{"", t.TempDir()} {
		for _, seed := range []uint64{0, 1} {
			cfg := config(t, dir)
			cfg.Seed = seed
			if dir == "" {
				cfg.Cache = &pipeline.CacheConfig{CacheType: cachesink.None, NumWorkers: 5}
			}
			p := open(t, cfg)
			for epoch := range 3 {
				got := order(t, p, epoch)
				sorted := slices.Clone(got)
				slices.Sort(sorted)
				for i, r := range sorted {
					if r != int64(i) {
						t.Fatalf("epoch %d has the rows %v", epoch, got)
					}
				}
				if !slices.Equal(got, order(t, p, epoch)) {
					t.Errorf("epoch %d comes in another order the second time", epoch)
				}
				name := fmt.Sprintf("seed %d, epoch %d", seed, epoch)
				text := fmt.Sprint(got)
				if was, ok := seen[name]; ok && was != text {
					t.Errorf("%s: the order depends on the cache", name)
				}
				for other, was := range seen {
					if other != name && was == text {
						t.Errorf("%s and %s have the same order", other, name)
					}
				}
				seen[name] = text
			}
		}
	}
	cfg := config(t, "")
	cfg.Train.Sequential = true
	if got := order(t, open(t, cfg), 3); !slices.IsSorted(got) || len(got) != 60 {
		t.Errorf("sequential: %v", got)
	}
}

// TestBatchMemory: the tensors and the record of a batch are one memory, of
// a cached encoder and of one in the loop.
func TestBatchMemory(t *testing.T) {
	cfg := config(t, "")
	cfg.Encoders["loop"] = newModel("b")
	cfg.Cache.Mapping = pipeline.Mapping{"loop": cachesink.None}
	p := open(t, cfg)
	batches := 0
	for b, err := range p.Epoch(t.Context(), "train", 0) {
		if err != nil {
			t.Fatal(err)
		}
		batches++
		for name, x := range map[string]*tensor.Dense{
			"enc_a": b.A("enc"), "enc_b": b.B("enc"), "loop_a": b.A("loop"), "loop_b": b.B("loop"),
		} {
			if s := x.Shape(); len(s) != 2 || s[0] != b.Rows() || s[1] != 6 {
				t.Fatalf("%s is %v", name, s)
			}
			vals := x.Data().([]float32)
			vecs, _, err := cachesink.Vectors(column[*array.FixedSizeList](t, b, name))
			if err != nil {
				t.Fatal(err)
			}
			was := vals[3]
			vals[3] = 42 // shuffled batches are gathered: the cache keeps its own
			if vecs[3] != 42 {
				t.Errorf("%s: what is written to the tensor is not in the record", name)
			}
			vecs[3] = was
			if vals[3] != was {
				t.Errorf("%s: what is written to the record is not in the tensor", name)
			}
		}
		if b.A("other") != nil || b.B("other") != nil {
			t.Error("an unknown encoder has embeddings")
		}
	}
	if batches != 4 {
		t.Errorf("%d batches", batches)
	}
}

// TestSequentialLends: consecutive rows of one shard are not copied.
func TestSequentialLends(t *testing.T) {
	cfg := config(t, "")
	cfg.Cache = &pipeline.CacheConfig{}
	cfg.Sample = groupOf
	cfg.Train.Sequential = true
	p := open(t, cfg)
	at := map[int]*float32{}
	for range 2 {
		n := 0
		for b, err := range p.Epoch(t.Context(), "train", 0) {
			if err != nil {
				t.Fatal(err)
			}
			first := &b.A("enc").Data().([]float32)[0]
			if was, ok := at[n]; ok && was != first {
				t.Errorf("batch %d is a copy", n)
			}
			at[n] = first
			n++
		}
	}
}

// TestRetainedBatches stay valid after the loop and after Close.
func TestRetainedBatches(t *testing.T) {
	for _, cacheType := range []cachesink.CacheType{cachesink.CPU, cachesink.None} {
		for _, sequential := range []bool{false, true} {
			cfg := config(t, t.TempDir())
			cfg.Cache.CacheType = cacheType
			cfg.Train.Sequential = sequential
			p := open(t, cfg)
			var kept []*pipeline.Batch
			var was [][]float32
			for b, err := range p.Epoch(t.Context(), "train", 0) {
				if err != nil {
					t.Fatal(err)
				}
				b.Retain()
				kept = append(kept, b)
				was = append(was, slices.Clone(b.A("enc").Data().([]float32)))
			}
			if err := p.Close(); err != nil {
				t.Fatal(err)
			}
			for i, b := range kept {
				if !slices.Equal(b.A("enc").Data().([]float32), was[i]) {
					t.Errorf("batch %d has changed", i)
				}
				b.Release()
			}
		}
	}
}

// TestLoopsThatEndEarly, by break or panic, leak nothing.
func TestLoopsThatEndEarly(t *testing.T) {
	for _, cacheType := range []cachesink.CacheType{cachesink.CPU, cachesink.None} {
		before := goleak.IgnoreCurrent()
		cfg := config(t, "")
		cfg.Cache.CacheType = cacheType
		p := open(t, cfg)
		for n := range 3 {
			for _, err := range p.Epoch(t.Context(), "train", n) {
				if err != nil {
					t.Fatal(err)
				}
				if n--; n < 0 {
					break
				}
			}
		}
		func() {
			defer func() {
				if recover() == nil {
					t.Error("the panic is gone")
				}
			}()
			for range p.Epoch(t.Context(), "train", 0) {
				panic("in the body")
			}
		}()
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		goleak.VerifyNone(t, before)
	}
}

func TestEpochOfNoSplit(t *testing.T) {
	p := open(t, config(t, ""))
	for _, err := range p.Epoch(t.Context(), "zoo", 0) {
		if err == nil || !strings.Contains(err.Error(), `no split "zoo" is declared, there are ["train" "val"]`) {
			t.Errorf("got %v", err)
		}
	}
}

// TestEpochFills: a source that fails while an epoch fills the cache ends it.
func TestEpochFills(t *testing.T) {
	boom := errors.New("boom")
	cfg := config(t, "")
	cfg.Splits["val"] = source.Seq("broken", func(yield func(row, error) bool) { yield(row{}, boom) })
	n := 0
	for b, err := range open(t, cfg).Epoch(t.Context(), "train", 0) {
		if n++; !errors.Is(err, boom) || b != nil {
			t.Errorf("got %v, %v", b, err)
		}
	}
	if n != 1 {
		t.Errorf("%d turns", n)
	}
}

// TestEpochAllocatesNothing: in a steady state, a turn of the loop makes no
// garbage, with tensors and all columns.
func TestEpochAllocatesNothing(t *testing.T) {
	for _, sequential := range []bool{false, true} {
		cfg := config(t, t.TempDir())
		cfg.Splits["train"] = source.Seq("many", func(yield func(row, error) bool) {
			for i := range 1100 {
				if !yield(row{Q: fmt.Sprint("question ", i), C: fmt.Sprint("class ", i%7), N: int64(i)}, nil) {
					return
				}
			}
		})
		cfg.Sample = groupOf
		cfg.Allocator = nil
		cfg.Train.BatchSize = 4
		cfg.Cache.ShardObjects = 0 // one
		cfg.Train.Sequential = sequential
		p := open(t, cfg)
		order(t, p, 0)
		next, stop := iter.Pull2(p.Epoch(t.Context(), "train", 1))
		defer stop()
		turn := func() {
			b, err, ok := next()
			if err != nil || !ok || b.A("enc").Shape()[0] != 4 || b.Record().NumRows() != 4 {
				t.Fatal("an epoch that is too short", err)
			}
		}
		for range 50 {
			turn()
		}
		if n := testing.AllocsPerRun(200, turn); n > 0 {
			t.Errorf("sequential %v: %v allocations a batch", sequential, n)
		}
	}
}
