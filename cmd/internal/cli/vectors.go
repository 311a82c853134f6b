package cli

import (
	"fmt"
	"io"
	"math"
	"strconv"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/ipc"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/permafrost-ml/permafrost/cachesink"
)

// vectorWriter writes embeddings, some at a time.
type vectorWriter interface {
	// prepare does what need not be done in order; it is called by several
	// goroutines at once.
	prepare(vecs [][]float32) (block, error)
	write(b block) error
	close() error
}

// block are embeddings on their way to the output.
type block struct {
	vecs [][]float32
	text []byte // as JSON lines
}

// newVectorWriter returns the writer of a format, jsonl or arrow.
func newVectorWriter(w io.Writer, format string, dim int) vectorWriter {
	if format != "arrow" {
		return &jsonlWriter{w}
	}
	schema := arrow.NewSchema([]arrow.Field{
		{Name: cachesink.ColumnEmbedding, Type: arrow.FixedSizeListOf(int32(dim), arrow.PrimitiveTypes.Float32)},
	}, nil)
	return &arrowWriter{schema, ipc.NewWriter(w, ipc.WithSchema(schema))}
}

type jsonlWriter struct{ w io.Writer }

func (j *jsonlWriter) prepare(vecs [][]float32) (block, error) {
	b := block{vecs: vecs}
	for _, vec := range vecs {
		b.text = append(b.text, `{"embedding":[`...)
		for i, v := range vec {
			if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
				return b, fmt.Errorf("value %d of an embedding is %v, which JSON cannot hold", i, v)
			}
			if i > 0 {
				b.text = append(b.text, ',')
			}
			b.text = strconv.AppendFloat(b.text, float64(v), 'g', -1, 32)
		}
		b.text = append(b.text, "]}\n"...)
	}
	return b, nil
}

func (j *jsonlWriter) write(b block) error {
	_, err := j.w.Write(b.text)
	return err
}

func (j *jsonlWriter) close() error { return nil }

type arrowWriter struct {
	schema *arrow.Schema
	w      *ipc.Writer
}

func (a *arrowWriter) prepare(vecs [][]float32) (block, error) { return block{vecs: vecs}, nil }

func (a *arrowWriter) write(b block) error {
	list := array.NewBuilder(memory.DefaultAllocator, a.schema.Field(0).Type).(*array.FixedSizeListBuilder)
	defer list.Release()
	values := list.ValueBuilder().(*array.Float32Builder)
	for _, vec := range b.vecs {
		list.Append(true)
		values.AppendValues(vec, nil)
	}
	col := list.NewArray()
	defer col.Release()
	rec := array.NewRecord(a.schema, []arrow.Array{col}, int64(len(b.vecs)))
	defer rec.Release()
	return a.w.Write(rec)
}

func (a *arrowWriter) close() error { return a.w.Close() }
