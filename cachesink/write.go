package cachesink

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"

	"github.com/permafrost-ml/permafrost/stage"
)

// Write is the sink for an encoder's embeddings ([EmbeddingSchema]): the
// objects that [Fill.Index] emitted for it, all of them and in that order.
// It writes them to shards.
func (f *Fill) Write(g *stage.Group, encoder string, in stage.Stream[arrow.Record]) {
	stage.Consume(g, in, "write "+encoder, func(ctx context.Context, in iter.Seq[arrow.Record]) (err error) {
		e := f.byName[encoder]
		if e == nil || !e.Cached {
			return fmt.Errorf("cachesink: no cached encoder %q was declared to the fill", encoder)
		}
		w := &embeddingWriter{f: f, e: e}
		defer func() { err = errors.Join(err, w.drop()) }()
		for rec := range in {
			err := w.take(ctx, rec)
			rec.Release()
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// embeddingWriter cuts the stream of embeddings into the planned shards.
type embeddingWriter struct {
	f    *Fill
	e    *encoderFill
	next int // plan to look at
	plan *shardPlan
	at   int // bytes of plan.ids written
	w    *shardWriter
}

func (w *embeddingWriter) take(ctx context.Context, rec arrow.Record) error {
	ids, err := column[*array.FixedSizeBinary](rec, ColumnID)
	if err != nil {
		return err
	}
	list, err := column[*array.FixedSizeList](rec, ColumnEmbedding)
	if err != nil {
		return err
	}
	vecs, err := vectors(list, w.e.Dim)
	if err != nil {
		return fmt.Errorf("encoder %q: %w", w.e.Name, err)
	}
	buf := make([]byte, 0, ids.Len()*idBytes)
	for i := range ids.Len() {
		buf = append(buf, ids.Value(i)...)
	}
	for len(buf) > 0 {
		if err := w.open(ctx); err != nil {
			return err
		}
		n := min(len(buf), len(w.plan.ids)-w.at)
		if !bytes.Equal(buf[:n], w.plan.ids[w.at:w.at+n]) {
			return fmt.Errorf("cachesink: encoder %q: embeddings come in another order than their objects", w.e.Name)
		}
		rows := n / idBytes
		if err := w.w.append(buf[:n], vecs[:rows*w.e.Dim]); err != nil {
			return err
		}
		buf, vecs = buf[n:], vecs[rows*w.e.Dim:]
		w.at += n
		w.f.count(func(s *FillStats) {
			es := s.Encoders[w.e.Name]
			es.Encoded += int64(rows)
			s.Encoders[w.e.Name] = es
		})
		if w.at == len(w.plan.ids) {
			if err := w.close(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// open starts the next planned shard that is not there yet.
func (w *embeddingWriter) open(ctx context.Context) (err error) {
	if w.w != nil {
		return nil
	}
	w.e.mu.Lock()
	defer w.e.mu.Unlock()
	for ; w.next < len(w.e.plans); w.next++ {
		if p := w.e.plans[w.next]; p.result == nil {
			w.plan, w.at = p, 0
			w.next++
			w.w, err = newShardWriter(ctx, w.f.c.st, w.f.mem, &w.e.entry)
			return err
		}
	}
	return fmt.Errorf("cachesink: encoder %q: more embeddings than objects", w.e.Name)
}

func (w *embeddingWriter) close(ctx context.Context) error {
	sw := w.w
	w.w = nil
	done, err := sw.close(ctx, w.plan)
	if err != nil {
		return err
	}
	w.plan.result = &done
	w.plan.ids = nil // no longer needed
	return nil
}

func (w *embeddingWriter) drop() error {
	if w.w == nil {
		return nil
	}
	sw := w.w
	w.w = nil
	return sw.drop()
}
