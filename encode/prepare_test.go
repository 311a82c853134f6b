package encode

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/permafrost-ml/permafrost/stage"
)

// paddingModel pads: the embedding of a text of n letters is n, the longest
// of its batch, and the batch's size.
type paddingModel struct {
	invariant    bool
	open, closed *atomic.Int64
	fail         func(n int) error // of Prepare
}

func (m paddingModel) Spec(context.Context) (Spec, error) {
	return Spec{Engine: "padding", Dim: 3, Fields: []Field{{"a", "b"}}, BatchInvariant: m.invariant}, nil
}

func (m paddingModel) Open(context.Context, int) (Encoder, error) {
	m.open.Add(1)
	return paddingEncoder{m}, nil
}

type paddingEncoder struct{ m paddingModel }

func (paddingEncoder) Dim() int { return 3 }

func (e paddingEncoder) Close() error {
	e.m.closed.Add(1)
	return nil
}

func (e paddingEncoder) Encode(_ context.Context, batch []Input, dst []float32) error {
	lengths := make([]int, len(batch))
	for i, in := range batch {
		lengths[i] = len(in.Text())
	}
	return e.encode(lengths, dst)
}

func (e paddingEncoder) encode(lengths []int, dst []float32) error {
	for i, n := range lengths {
		dst[3*i], dst[3*i+1], dst[3*i+2] = float32(n), float32(slices.Max(lengths)), float32(len(lengths))
	}
	return nil
}

// preparingModel prepares a text to its length in decimal.
type preparingModel struct{ paddingModel }

func (m preparingModel) Open(context.Context, int) (Encoder, error) {
	m.open.Add(1)
	return preparedEncoder{paddingEncoder{m.paddingModel}}, nil
}

func (m preparingModel) OpenPreparer(context.Context, int) (Preparer, error) {
	m.open.Add(1)
	return preparer(m), nil
}

type preparer preparingModel

func (p preparer) Prepare(dst []byte, in Input) ([]byte, int, error) {
	n := len(in.Text())
	if p.fail != nil {
		if err := p.fail(n); err != nil {
			return nil, 0, err
		}
	}
	return strconv.AppendInt(dst, int64(n), 10), n, nil
}

func (p preparer) Close() error {
	p.closed.Add(1)
	return nil
}

type preparedEncoder struct{ paddingEncoder }

func (preparedEncoder) Encode(context.Context, []Input, []float32) error {
	return errors.New("inputs were prepared, and are encoded as they were")
}

func (e preparedEncoder) EncodePrepared(_ context.Context, batch [][]byte, dst []float32) (err error) {
	lengths := make([]int, len(batch))
	for i, b := range batch {
		if lengths[i], err = strconv.Atoi(string(b)); err != nil {
			return err
		}
	}
	return e.encode(lengths, dst)
}

// textBatch is an object batch of texts of those lengths.
func textBatch(mem memory.Allocator, lengths ...int) arrow.Record {
	schema := arrow.NewSchema([]arrow.Field{{Name: "id", Type: &arrow.FixedSizeBinaryType{ByteWidth: 32}}, {Name: "input", Type: arrow.BinaryTypes.Binary}}, nil)
	b := array.NewRecordBuilder(mem, schema)
	defer b.Release()
	for _, n := range lengths {
		input := AppendInput(nil, Input{TextValue(strings.Repeat("x", n))})
		id := Identify(input)
		b.Field(0).(*array.FixedSizeBinaryBuilder).Append(id[:])
		b.Field(1).(*array.BinaryBuilder).Append(input)
	}
	return b.NewRecord()
}

// encodeTexts runs the stage on object batches of those lengths, with batches
// of 3, and returns the embeddings.
func encodeTexts(t *testing.T, m Model, workers int, lengths ...[]int) (got [][3]float32, err error) {
	t.Helper()
	mem := checked(t)
	g, _ := stage.NewGroup(t.Context())
	in := stage.From(g, "objects", func(context.Context) iter.Seq2[arrow.Record, error] {
		return func(yield func(arrow.Record, error) bool) {
			for _, l := range lengths {
				if !yield(textBatch(mem, l...), nil) {
					return
				}
			}
		}
	})
	out := Stage(g, in, "e", m, StageOptions{Workers: workers, Preparers: 2, BatchSize: 3, Allocator: mem})
	stage.Each(g, out, "collect", func(_ context.Context, rec arrow.Record) error {
		defer rec.Release()
		vecs := rec.Column(1).(*array.FixedSizeList).ListValues().(*array.Float32).Float32Values()
		for i := range int(rec.NumRows()) {
			id := Identify(AppendInput(nil, Input{TextValue(strings.Repeat("x", int(vecs[3*i])))}))
			if string(id[:]) != string(rec.Column(0).(*array.FixedSizeBinary).Value(i)) {
				return fmt.Errorf("row %d has another's embedding", i)
			}
			got = append(got, [3]float32(vecs[3*i:]))
		}
		return nil
	})
	return got, g.Wait()
}

// TestStageSortsBySize: encoders that pad get rows of one size together, in
// the same batches for any number of workers, and the order is kept.
func TestStageSortsBySize(t *testing.T) {
	batches := [][]int{{5, 1, 9, 5, 2, 8, 1}, {7}, {}, {3, 4, 3, 30}}
	sorted := [][3]float32{
		{5, 9, 3},
		{1, 5, 3},
		{9, 9, 3},
		{5, 5, 3},
		{2, 5, 3},
		{8, 9, 3},
		{1, 1, 1},
		{7, 7, 1},
		{3, 30, 3},
		{4, 30, 3},
		{3, 3, 1},
		{30, 30, 3},
	}
	inOrder := [][3]float32{
		{5, 9, 3},
		{1, 9, 3},
		{9, 9, 3},
		{5, 8, 3},
		{2, 8, 3},
		{8, 8, 3},
		{1, 1, 1},
		{7, 7, 1},
		{3, 4, 3},
		{4, 4, 3},
		{3, 4, 3},
		{30, 30, 1},
	}
	for _, workers := range []int{1, 2, 5} {
		for name, tc := range map[string]struct {
			model func(paddingModel) Model
			want  [][3]float32
		}{
			"pads":                {func(m paddingModel) Model { return m }, sorted},
			"invariant":           {func(m paddingModel) Model { m.invariant = true; return m }, inOrder},
			"prepares":            {func(m paddingModel) Model { return preparingModel{m} }, sorted},
			"prepares, and reads": {func(m paddingModel) Model { return Reading(preparingModel{m}, Reads{Field: "x"}) }, sorted},
			"prepares, invariant": {func(m paddingModel) Model { m.invariant = true; return preparingModel{m} }, inOrder},
		} {
			t.Run(fmt.Sprint(name, " ", workers), func(t *testing.T) {
				m := paddingModel{open: new(atomic.Int64), closed: new(atomic.Int64)}
				got, err := encodeTexts(t, tc.model(m), workers, batches...)
				if err != nil {
					t.Fatal(err)
				}
				if !slices.Equal(got, tc.want) {
					t.Errorf("embeddings %v, want %v", got, tc.want)
				}
				if m.open.Load() != m.closed.Load() || m.open.Load() == 0 {
					t.Errorf("%d opened, %d closed", m.open.Load(), m.closed.Load())
				}
			})
		}
	}
}

// TestPreparerErrors: an error or a panic while inputs are prepared ends the
// stage and leaves nothing behind.
func TestPreparerErrors(t *testing.T) {
	boom := errors.New("boom")
	for name, fail := range map[string]func(n int) error{
		"error": func(n int) error {
			if n == 8 {
				return boom
			}
			return nil
		},
		"panic": func(n int) error {
			if n == 8 {
				panic("no")
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := paddingModel{open: new(atomic.Int64), closed: new(atomic.Int64), fail: fail}
			_, err := encodeTexts(t, preparingModel{m}, 2, []int{1, 2, 3, 4}, []int{5, 6, 7, 8}, []int{9})
			if err == nil || name == "error" && (!errors.Is(err, boom) || !strings.Contains(err.Error(), "xxxxxxxx")) {
				t.Errorf("error %v", err)
			}
			if m.open.Load() != m.closed.Load() {
				t.Errorf("%d opened, %d closed", m.open.Load(), m.closed.Load())
			}
		})
	}
}

// unprepared is a model that prepares for encoders which cannot take it.
type unprepared struct{ preparingModel }

func (m unprepared) Open(context.Context, int) (Encoder, error) {
	return m.paddingModel.Open(context.Background(), 0)
}

func TestPreparingWithoutEncoder(t *testing.T) {
	m := paddingModel{open: new(atomic.Int64), closed: new(atomic.Int64)}
	if _, err := encodeTexts(t, unprepared{preparingModel{m}}, 1, []int{1}); err == nil || !strings.Contains(err.Error(), "PreparedEncoder") {
		t.Errorf("error %v", err)
	}
}
