package encode

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"

	"github.com/permafrost-ml/permafrost/stage"
)

// mapMemo is a memo in memory, of embeddings of 3 values.
type mapMemo struct {
	mu      sync.Mutex
	vecs    map[string][]float32
	batches map[string]int // that were stored, by their ids
	fail    error
}

func (m *mapMemo) Load(_ context.Context, ids []byte, dst []float32) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range len(dst) / 3 {
		v, ok := m.vecs[string(ids[32*i:32*(i+1)])]
		if !ok {
			return false, m.fail
		}
		copy(dst[3*i:], v)
	}
	return true, m.fail
}

func (m *mapMemo) Store(_ context.Context, ids []byte, vecs []float32) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.batches[string(ids)]++
	for i := range len(vecs) / 3 {
		m.vecs[string(ids[32*i:32*(i+1)])] = slices.Clone(vecs[3*i : 3*i+3])
	}
	return nil
}

// TestMemo: what is known of a batch as a whole is not encoded again, and
// what is encoded is encoded in the batches of a run without a memo.
func TestMemo(t *testing.T) {
	lengths := []int{5, 1, 9, 3, 12, 7, 2, 8, 4, 6, 11, 10}
	for _, invariant := range []bool{true, false} {
		for _, prepares := range []bool{true, false} {
			for _, workers := range []int{1, 2, 4} {
				t.Run(fmt.Sprint(invariant, prepares, workers), func(t *testing.T) {
					run := func(memo *mapMemo) (got []float32, opened int64) {
						pm := paddingModel{invariant: invariant, open: new(atomic.Int64), closed: new(atomic.Int64)}
						var m Model = pm
						if prepares {
							m = preparingModel{pm}
						}
						mem := checked(t)
						opts := StageOptions{Workers: workers, Preparers: 1, BatchSize: 3, Allocator: mem}
						if memo != nil {
							opts.Memo = memo
						}
						g, _ := stage.NewGroup(t.Context())
						in := stage.From(g, "objects", func(context.Context) iter.Seq2[arrow.Record, error] {
							return func(yield func(arrow.Record, error) bool) { yield(textBatch(mem, lengths...), nil) }
						})
						stage.Each(g, Stage(g, in, "e", m, opts), "collect", func(_ context.Context, rec arrow.Record) error {
							defer rec.Release()
							got = append(got, rec.Column(1).(*array.FixedSizeList).ListValues().(*array.Float32).Float32Values()...)
							return nil
						})
						if err := g.Wait(); err != nil {
							t.Fatal(err)
						}
						if pm.open.Load() != pm.closed.Load() {
							t.Errorf("%d opened, %d closed", pm.open.Load(), pm.closed.Load())
						}
						return got, pm.open.Load()
					}
					want, _ := run(nil)
					memo := &mapMemo{vecs: map[string][]float32{}, batches: map[string]int{}}
					if got, _ := run(memo); !slices.Equal(got, want) || len(memo.batches) != 4 {
						t.Errorf("with a memo: %v in %d batches, want %v", got, len(memo.batches), want)
					}
					// One object is forgotten: its batch is encoded, as it was.
					one := slices.Sorted(maps.Keys(memo.vecs))[5]
					delete(memo.vecs, one)
					if got, _ := run(memo); !slices.Equal(got, want) {
						t.Errorf("with all but one: %v, want %v", got, want)
					}
					again := 0
					for _, n := range memo.batches {
						again += n - 1
					}
					if len(memo.batches) != 4 || again != 1 {
						t.Errorf("%d batches, %d of them again", len(memo.batches), again)
					}
					got, opened := run(memo)
					if !slices.Equal(got, want) || !prepares && opened != 0 || opened > 1 {
						t.Errorf("with all: %v, want %v; %d opened", got, want, opened)
					}
				})
			}
		}
	}
}

func TestMemoFails(t *testing.T) {
	fail := errors.New("no disk")
	pm := paddingModel{open: new(atomic.Int64), closed: new(atomic.Int64)}
	mem := checked(t)
	g, _ := stage.NewGroup(t.Context())
	in := stage.From(g, "objects", func(context.Context) iter.Seq2[arrow.Record, error] {
		return func(yield func(arrow.Record, error) bool) { yield(textBatch(mem, 1, 2, 3), nil) }
	})
	out := Stage(g, in, "e", pm, StageOptions{Allocator: mem, Memo: &mapMemo{fail: fail}})
	stage.Each(g, out, "collect", func(_ context.Context, rec arrow.Record) error {
		rec.Release()
		return nil
	})
	if err := g.Wait(); !errors.Is(err, fail) || pm.open.Load() != 0 {
		t.Errorf("error %v, %d opened", err, pm.open.Load())
	}
}
