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

// Write is the sink for an encoder's embeddings ([EmbeddingSchema]): those
// of the objects that [Fill.Index] emitted for it, all of them, in that
// order and in batches of any size. It writes them to shards. Embeddings of
// other objects, too many or too few, and values that are not finite are
// ErrEmbeddings.
func (f *Fill) Write(g *stage.Group, encoder string, in stage.Stream[arrow.Record]) {
	stage.Consume(g, in, "write "+encoder, func(ctx context.Context, in iter.Seq[arrow.Record]) (err error) {
		e := f.byName[encoder]
		if e == nil || !e.Cached || f.opts.DryRun {
			return fmt.Errorf("cachesink: no cached encoder %q was declared to the fill, or it is a dry run", encoder)
		}
		w := &embeddingWriter{f: f, e: e}
		if w.w, err = newShardWriter(f.c.st, f.mem, &e.entry, e.BatchSize); err != nil {
			return err
		}
		if e.full != nil {
			w.conv = newConverter(f.c, f.mem, e.full.entry)
		}
		defer func() { err = errors.Join(err, w.w.drop(), w.conv.close()) }()
		for rec := range in {
			err := w.take(ctx, rec)
			rec.Release()
			if err != nil {
				return err
			}
		}
		if ctx.Err() != nil {
			return context.Cause(ctx) // the stream was cut
		}
		return w.complete()
	})
}

// embeddingWriter cuts the stream of embeddings into the planned shards.
type embeddingWriter struct {
	f    *Fill
	e    *encoderFill
	plan *shardPlan // whose shard is open, nil for none
	at   int        // objects of the plan written
	w    *shardWriter
	conv *converter // nil where nothing can be converted
}

func (w *embeddingWriter) take(ctx context.Context, rec arrow.Record) error {
	ids, err := idColumn(rec)
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
	for len(ids) > 0 {
		if err := w.open(ctx); err != nil {
			return err
		}
		rows := w.plan.run(w.at, len(ids)/idBytes)
		n := rows * idBytes
		if !bytes.Equal(ids[:n], w.plan.ids[w.at*idBytes:][:n]) {
			return fmt.Errorf("%w: encoder %q: they come in another order", ErrEmbeddings, w.e.Name)
		}
		if err := w.w.append(ids[:n], vecs[:rows*w.e.Dim]); err != nil {
			return err
		}
		ids, vecs = ids[n:], vecs[rows*w.e.Dim:]
		w.at += rows
		w.count(int64(rows))
		if err := w.advance(ctx); err != nil {
			return err
		}
	}
	return nil
}

// count counts embeddings that have come. Some of them may be known from
// before, and at the end all of those have come.
func (w *embeddingWriter) count(rows int64) {
	known := min(rows, w.e.recalled.Load())
	w.e.recalled.Add(-known)
	w.f.count(func(s *FillStats) {
		es := s.Encoders[w.e.Name]
		es.Resumed += known
		es.Encoded += rows - known
		s.Encoders[w.e.Name] = es
	})
}

// advance writes the embeddings that come next in the open shard without being
// encoded, and closes it at its end.
func (w *embeddingWriter) advance(ctx context.Context) error {
	if w.at < int(w.plan.rows) && w.plan.converts(w.at) {
		n := w.plan.run(w.at, int(w.plan.rows))
		if err := w.fill(ctx, n); err != nil {
			return err
		}
		w.at += n
	}
	if w.at < int(w.plan.rows) {
		return nil
	}
	done, err := w.close(ctx)
	if errors.Is(err, errUnlike) {
		w.plan.unlike, w.plan = true, nil
		return nil
	}
	if err != nil {
		return err
	}
	w.plan.memo.end(ctx)
	w.e.finish(w.plan, done)
	w.plan = nil
	return nil
}

// fill writes n embeddings that are not encoded.
func (w *embeddingWriter) fill(ctx context.Context, n int) error {
	if w.plan.kept != nil {
		return w.plan.kept.write(ctx, w.w, w.plan, w.at, n)
	}
	return w.conv.write(ctx, w.w, w.plan, w.at, n)
}

// close ends the open shard. If another fill has published it meanwhile, what
// was written does not count, nor is all of it real.
func (w *embeddingWriter) close(ctx context.Context) (Shard, error) {
	w.e.mu.Lock()
	given := w.plan.result
	w.e.mu.Unlock()
	if given != nil {
		return *given, w.w.discard()
	}
	return w.w.close(ctx, w.plan)
}

// open starts the shard whose objects were emitted next.
func (w *embeddingWriter) open(ctx context.Context) error {
	if w.plan != nil {
		return nil
	}
	w.plan, w.at = w.pending(), 0
	if w.plan == nil {
		return fmt.Errorf("%w: encoder %q: more than there are objects", ErrEmbeddings, w.e.Name)
	}
	if err := w.w.open(ctx, w.plan); err != nil {
		return err
	}
	return w.advance(ctx) // there is an object to encode, so that it stays open
}

// pending returns the next shard to write, nil if there is none so far.
func (w *embeddingWriter) pending() *shardPlan {
	w.e.mu.Lock()
	defer w.e.mu.Unlock()
	if len(w.e.queue) == 0 {
		return nil
	}
	p := w.e.queue[0]
	w.e.queue = w.e.queue[1:]
	return p
}

// complete reports an end that came too early.
func (w *embeddingWriter) complete() error {
	p := w.plan
	if p == nil {
		p, w.at = w.pending(), 0
	}
	if p == nil {
		return nil
	}
	return fmt.Errorf("%w: encoder %q: shard %s lacks %d of %d", ErrEmbeddings, w.e.Name, p.name, p.rows-int64(w.at), p.rows)
}
