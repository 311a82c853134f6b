package main

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
	write(vecs [][]float32) error
	close() error
}

// newVectorWriter returns the writer of a format, jsonl or arrow.
func newVectorWriter(w io.Writer, format string, dim int) vectorWriter {
	if format != "arrow" {
		return &jsonlWriter{w: w}
	}
	schema := arrow.NewSchema([]arrow.Field{
		{Name: cachesink.ColumnEmbedding, Type: arrow.FixedSizeListOf(int32(dim), arrow.PrimitiveTypes.Float32)},
	}, nil)
	return &arrowWriter{schema, ipc.NewWriter(w, ipc.WithSchema(schema))}
}

type jsonlWriter struct {
	w   io.Writer
	buf []byte
}

func (j *jsonlWriter) write(vecs [][]float32) error {
	j.buf = j.buf[:0]
	for _, vec := range vecs {
		j.buf = append(j.buf, `{"embedding":[`...)
		for i, v := range vec {
			if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
				return fmt.Errorf("value %d of an embedding is %v, which JSON cannot hold", i, v)
			}
			if i > 0 {
				j.buf = append(j.buf, ',')
			}
			j.buf = strconv.AppendFloat(j.buf, float64(v), 'g', -1, 32)
		}
		j.buf = append(j.buf, "]}\n"...)
	}
	_, err := j.w.Write(j.buf)
	return err
}

func (j *jsonlWriter) close() error { return nil }

type arrowWriter struct {
	schema *arrow.Schema
	w      *ipc.Writer
}

func (a *arrowWriter) write(vecs [][]float32) error {
	list := array.NewBuilder(memory.DefaultAllocator, a.schema.Field(0).Type).(*array.FixedSizeListBuilder)
	defer list.Release()
	values := list.ValueBuilder().(*array.Float32Builder)
	for _, vec := range vecs {
		list.Append(true)
		values.AppendValues(vec, nil)
	}
	col := list.NewArray()
	defer col.Release()
	rec := array.NewRecord(a.schema, []arrow.Array{col}, int64(len(vecs)))
	defer rec.Release()
	return a.w.Write(rec)
}

func (a *arrowWriter) close() error { return a.w.Close() }
