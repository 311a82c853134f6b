package encode

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/permafrost-ml/permafrost/stage"
)

// countingModel counts what is opened and closed. Its embeddings are the
// number that the text is, and its square.
type countingModel struct {
	opened, closed *atomic.Int64
	dim            int // that the encoders give, 2 if it is 0
	encode         func(n int, dst []float32) error
	fails          error // of Open
}

func (m countingModel) Spec(context.Context) (Spec, error) {
	return Spec{Engine: "count", Dim: 2, Fields: []Field{{"a", "b"}}}, nil
}

func (m countingModel) Open(context.Context, int) (Encoder, error) {
	if m.fails != nil {
		return nil, m.fails
	}
	m.opened.Add(1)
	return &countingEncoder{m: m}, nil
}

type countingEncoder struct {
	m      countingModel
	busy   atomic.Bool
	closed bool
}

func (e *countingEncoder) Dim() int {
	if e.m.dim == 0 {
		return 2
	}
	return e.m.dim
}

func (e *countingEncoder) Encode(_ context.Context, batch []Input, dst []float32) error {
	if !e.busy.CompareAndSwap(false, true) || e.closed || len(dst) != 2*len(batch) {
		return errors.New("the encoder is used by two, after its end, or with a wrong dst")
	}
	defer e.busy.Store(false)
	for i, in := range batch {
		n, err := strconv.Atoi(in.Text())
		if err != nil {
			return err
		}
		if n%7 == 0 {
			time.Sleep(time.Millisecond) // lets others overtake
		}
		dst[2*i], dst[2*i+1] = float32(n), float32(n*n)
		if e.m.encode != nil {
			if err := e.m.encode(n, dst[2*i:2*i+2]); err != nil {
				return err
			}
		}
	}
	return nil
}

func (e *countingEncoder) Close() error {
	e.closed = true
	e.m.closed.Add(1)
	return nil
}

// runStage encodes batches and returns the first values of all embeddings.
func runStage(t *testing.T, m countingModel, workers int, sizes ...int) (got []float32, model countingModel, err error) {
	t.Helper()
	mem := checked(t)
	m.opened, m.closed = new(atomic.Int64), new(atomic.Int64)
	g, _ := stage.NewGroup(t.Context())
	in := stage.From(g, "objects", objectBatches(mem, sizes...))
	stage.Each(g, Stage(g, in, "e", m, StageOptions{Workers: workers, Allocator: mem}), "collect", func(_ context.Context, rec arrow.Record) error {
		defer rec.Release()
		if rec.ColumnName(0) != "id" || rec.ColumnName(1) != "embedding" {
			return fmt.Errorf("columns %v", rec.Schema())
		}
		list := rec.Column(1).(*array.FixedSizeList)
		vecs := list.ListValues().(*array.Float32).Float32Values()
		for i := range list.Len() {
			n := int(vecs[2*i])
			id := Identify(AppendInput(nil, Input{TextValue(fmt.Sprint(n))}))
			if string(id[:]) != string(rec.Column(0).(*array.FixedSizeBinary).Value(i)) || vecs[2*i+1] != float32(n*n) {
				return fmt.Errorf("the embedding of %d has another's id", n)
			}
			got = append(got, vecs[2*i])
		}
		return nil
	})
	err = g.Wait()
	if m.opened.Load() != m.closed.Load() {
		t.Errorf("%d encoders opened, %d closed", m.opened.Load(), m.closed.Load())
	}
	return got, m, err
}

func TestStageKeepsOrder(t *testing.T) {
	var sizes []int
	for i := range 40 {
		sizes = append(sizes, i%5)
	}
	for _, workers := range []int{1, 2, 8} {
		got, m, err := runStage(t, countingModel{}, workers, sizes...)
		if err != nil {
			t.Fatal(err)
		}
		if len(got) != 80 || !slices.IsSorted(got) {
			t.Errorf("%d workers: %v", workers, got)
		}
		if n := m.opened.Load(); n < 1 || n > int64(workers) {
			t.Errorf("%d encoders for %d workers", n, workers)
		}
	}
}

func TestStageOpensLazily(t *testing.T) {
	if _, m, err := runStage(t, countingModel{}, 8); err != nil || m.opened.Load() != 0 {
		t.Errorf("without input %d encoders were opened, %v", m.opened.Load(), err)
	}
	if _, m, err := runStage(t, countingModel{}, 8, 3); err != nil || m.opened.Load() != 1 {
		t.Errorf("for one batch %d encoders were opened, %v", m.opened.Load(), err)
	}
}

func TestStageErrors(t *testing.T) {
	boom := errors.New("boom")
	for name, tc := range map[string]struct {
		m    countingModel
		want error
		text string
	}{
		"open":      {countingModel{fails: boom}, boom, "open encoder"},
		"dimension": {countingModel{dim: 3}, ErrDim, "3, not 2"},
		"encode": {countingModel{encode: func(n int, _ []float32) error {
			if n == 11 {
				return boom
			}
			return nil
		}}, boom, "encode e"},
		"NaN": {countingModel{encode: func(n int, dst []float32) error {
			if n == 11 {
				dst[1] = float32(math.NaN())
			}
			return nil
		}}, ErrNotFinite, `value 1 of the embedding of "11"`},
		"infinity": {countingModel{encode: func(n int, dst []float32) error {
			if n == 11 {
				dst[0] = float32(math.Inf(-1))
			}
			return nil
		}}, ErrNotFinite, `value 0`},
	} {
		t.Run(name, func(t *testing.T) {
			for _, workers := range []int{1, 4} {
				got, _, err := runStage(t, tc.m, workers, 4, 4, 4, 4, 4)
				if !errors.Is(err, tc.want) || !strings.Contains(err.Error(), tc.text) {
					t.Errorf("%d workers: error %v, want %v", workers, err, tc.want)
				}
				if len(got) > 8 {
					t.Errorf("%d workers: what comes after the error was sent on: %v", workers, got)
				}
			}
		})
	}
}

func TestStageRefusesBatches(t *testing.T) {
	mem := checked(t)
	other := arrow.NewSchema([]arrow.Field{{Name: "id", Type: arrow.PrimitiveTypes.Int64}}, nil)
	for name, make := range map[string]func() arrow.Record{
		"other columns": func() arrow.Record {
			b := array.NewRecordBuilder(mem, other)
			defer b.Release()
			b.Field(0).(*array.Int64Builder).Append(1)
			return b.NewRecord()
		},
		"a null": func() arrow.Record {
			good := objectBatch(mem, 0, 2)
			defer good.Release()
			null := array.MakeArrayOfNull(mem, arrow.BinaryTypes.Binary, 2)
			defer null.Release()
			return array.NewRecord(good.Schema(), []arrow.Array{good.Column(0), null}, 2)
		},
		"not canonical": func() arrow.Record {
			good := objectBatch(mem, 0, 1)
			defer good.Release()
			b := array.NewBinaryBuilder(mem, arrow.BinaryTypes.Binary)
			defer b.Release()
			b.Append([]byte("text"))
			col := b.NewArray()
			defer col.Release()
			return array.NewRecord(good.Schema(), []arrow.Array{good.Column(0), col}, 1)
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := countingModel{opened: new(atomic.Int64), closed: new(atomic.Int64)}
			g, _ := stage.NewGroup(t.Context())
			in := stage.From(g, "objects", emitted([]arrow.Record{make()}))
			stage.Each(g, Stage(g, in, "e", m, StageOptions{Allocator: mem}), "drop", func(_ context.Context, rec arrow.Record) error {
				rec.Release()
				return nil
			})
			if err := g.Wait(); err == nil {
				t.Error("it was encoded")
			}
		})
	}
}

func TestColumns(t *testing.T) {
	mem := checked(t)
	m := countingModel{opened: new(atomic.Int64), closed: new(atomic.Int64)}
	c, err := OpenColumns(t.Context(), m, mem)
	if err != nil {
		t.Fatal(err)
	}
	rec := objectBatch(mem, 0, 5)
	defer rec.Release()
	a, err := c.Encode(t.Context(), rec.Column(1).(*array.Binary))
	if err != nil {
		t.Fatal(err)
	}
	defer a.Release()
	if got := a.ValueStr(3); got != "[3,9]" {
		t.Errorf("embedding %s", got)
	}
	if err := c.Close(); err != nil || m.closed.Load() != 1 {
		t.Errorf("closed %d times, %v", m.closed.Load(), err)
	}
	if _, err := OpenColumns(t.Context(), countingModel{dim: 9, opened: m.opened, closed: m.closed}, memory.DefaultAllocator); !errors.Is(err, ErrDim) {
		t.Errorf("error %v", err)
	}
	if m.opened.Load() != m.closed.Load() {
		t.Error("an encoder of the wrong dimension stays open")
	}
}
