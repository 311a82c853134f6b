package sink

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/ipc"

	"github.com/permafrost-ml/permafrost/stage"
)

// Func calls fn for every record batch, one at a time and in order. fn
// borrows the batch: it retains what it keeps.
func Func(g *stage.Group, in stage.Stream[arrow.Record], name string, fn func(ctx context.Context, rec arrow.Record) error) {
	stage.Each(g, in, name, func(ctx context.Context, rec arrow.Record) error {
		defer rec.Release()
		return fn(ctx, rec)
	})
}

// ArrowStream writes the record batches to w as an Arrow IPC stream. A stream
// of no batches writes nothing, since there is no schema then. w is not
// closed.
func ArrowStream(g *stage.Group, in stage.Stream[arrow.Record], w io.Writer) {
	stage.Consume(g, in, "Arrow stream", func(ctx context.Context, in iter.Seq[arrow.Record]) (err error) {
		var out *ipc.Writer
		defer func() {
			if out != nil && err == nil && ctx.Err() == nil {
				err = out.Close() // a stream that was cut must not look whole
			}
		}()
		for rec := range in {
			if out == nil {
				out = ipc.NewWriter(w, ipc.WithSchema(rec.Schema()))
			}
			err := out.Write(rec)
			rec.Release()
			if err != nil {
				return fmt.Errorf("write a record batch: %w", err)
			}
		}
		return nil
	})
}

// JSONL writes every row as a line of JSON: an object of the batch's columns,
// with lists as arrays, binary values in base64 and nulls as null.
func JSONL(g *stage.Group, in stage.Stream[arrow.Record], w io.Writer) {
	stage.Consume(g, in, "JSON lines", func(_ context.Context, in iter.Seq[arrow.Record]) (err error) {
		buf := bufio.NewWriterSize(w, 1<<16)
		defer func() { err = errors.Join(err, buf.Flush()) }()
		for rec := range in {
			err := writeRows(buf, rec)
			rec.Release()
			if err != nil {
				return err
			}
		}
		return nil
	})
}

func writeRows(w io.Writer, rec arrow.Record) error {
	row := map[string]any{} // encoding/json sorts its keys
	for i := range int(rec.NumRows()) {
		for c, f := range rec.Schema().Fields() {
			row[f.Name] = rec.Column(c).GetOneForMarshal(i)
		}
		line, err := json.Marshal(row)
		if err != nil {
			return fmt.Errorf("row %d: %w", i, err)
		}
		if _, err := w.Write(append(line, '\n')); err != nil {
			return fmt.Errorf("write a row: %w", err)
		}
	}
	return nil
}
