package sink_test

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"os"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/ipc"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/permafrost-ml/permafrost/sink"
	"github.com/permafrost-ml/permafrost/stage"
)

// batches makes n record batches of two rows: a name and a vector.
func batches(mem memory.Allocator, n int) func(context.Context) iter.Seq2[arrow.Record, error] {
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "name", Type: arrow.BinaryTypes.String, Nullable: true},
		{Name: "v", Type: arrow.FixedSizeListOf(2, arrow.PrimitiveTypes.Float32)},
	}, nil)
	return func(context.Context) iter.Seq2[arrow.Record, error] {
		return func(yield func(arrow.Record, error) bool) {
			for i := range n {
				b := array.NewRecordBuilder(mem, schema)
				b.Field(0).(*array.StringBuilder).Append("a\nb")
				b.Field(0).AppendNull()
				list := b.Field(1).(*array.FixedSizeListBuilder)
				for range 2 {
					list.Append(true)
					list.ValueBuilder().(*array.Float32Builder).AppendValues([]float32{float32(i), 0.1}, nil)
				}
				rec := b.NewRecord()
				b.Release()
				if !yield(rec, nil) {
					return
				}
			}
		}
	}
}

func TestArrowStreamReadsBack(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	var buf bytes.Buffer
	g, _ := stage.NewGroup(t.Context())
	sink.ArrowStream(g, stage.From(g, "make", batches(mem, 3)), &buf)
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	r, err := ipc.NewReader(&buf, ipc.WithAllocator(mem))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Release()
	rows := int64(0)
	for r.Next() {
		rec := r.Record()
		v := rec.Column(1).(*array.FixedSizeList).ListValues().(*array.Float32)
		if got := v.Value(0); got != float32(rows/2) {
			t.Errorf("vector of row %d starts with %v", rows, got)
		}
		rows += rec.NumRows()
	}
	if rows != 6 || r.Err() != nil {
		t.Fatalf("%d rows, %v", rows, r.Err())
	}
}

func TestJSONL(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	var buf bytes.Buffer
	g, _ := stage.NewGroup(t.Context())
	sink.JSONL(g, stage.From(g, "make", batches(mem, 1)), &buf)
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	want := `{"name":"a\nb","v":[0,0.1]}` + "\n" + `{"name":null,"v":[0,0.1]}` + "\n"
	if buf.String() != want {
		t.Fatalf("got %s want %s", &buf, want)
	}
}

type failing struct{ after int }

var errFull = errors.New("disk full")

func (f *failing) Write(b []byte) (int, error) {
	if f.after -= len(b); f.after < 0 {
		return 0, errFull
	}
	return len(b), nil
}

// TestFailures ends each sink in the middle: the reason comes back with the
// stage's name, and no record batch is left.
func TestFailures(t *testing.T) {
	sinks := map[string]func(g *stage.Group, in stage.Stream[arrow.Record]){
		"Arrow stream": func(g *stage.Group, in stage.Stream[arrow.Record]) { sink.ArrowStream(g, in, &failing{2000}) },
		"Parquet":      func(g *stage.Group, in stage.Stream[arrow.Record]) { sink.Parquet(g, in, &failing{2000}) },
		"JSON lines":   func(g *stage.Group, in stage.Stream[arrow.Record]) { sink.JSONL(g, in, &failing{2000}) },
		"count": func(g *stage.Group, in stage.Stream[arrow.Record]) {
			n := 0
			sink.Func(g, in, "count", func(context.Context, arrow.Record) error {
				if n++; n == 5 {
					return errFull
				}
				return nil
			})
		},
	}
	for name, to := range sinks {
		t.Run(name, func(t *testing.T) {
			mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
			defer mem.AssertSize(t, 0)
			g, _ := stage.NewGroup(t.Context())
			to(g, stage.From(g, "make", batches(mem, 5000)))
			if err := g.Wait(); !errors.Is(err, errFull) || !strings.HasPrefix(err.Error(), name) {
				t.Fatalf("got %v", err)
			}
		})
	}
}

// A cut stream must not end like a whole one: no end-of-stream mark.
func TestCutArrowStreamHasNoEnd(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	var buf bytes.Buffer
	g, _ := stage.NewGroup(t.Context())
	n := 0
	broken := stage.Map(g, stage.From(g, "make", batches(mem, 3)), "break", 1, func(_ context.Context, rec arrow.Record) (arrow.Record, error) {
		if n++; n == 3 {
			rec.Release()
			return nil, errFull
		}
		return rec, nil
	})
	sink.ArrowStream(g, broken, &buf)
	if err := g.Wait(); !errors.Is(err, errFull) {
		t.Fatalf("got %v", err)
	}
	if bytes.HasSuffix(buf.Bytes(), []byte{0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0}) {
		t.Fatal("the cut stream ends with the mark of a whole one")
	}
}

func ExampleJSONL() {
	g, _ := stage.NewGroup(context.Background())
	sink.JSONL(g, stage.From(g, "make", batches(memory.DefaultAllocator, 1)), os.Stdout)
	if err := g.Wait(); err != nil {
		panic(err)
	}
	// Output:
	// {"name":"a\nb","v":[0,0.1]}
	// {"name":null,"v":[0,0.1]}
}
