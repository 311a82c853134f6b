package encode

import (
	"context"
	"fmt"
)

// Memo keeps the embeddings of each batch from the moment that it is encoded,
// so that what comes after a killed process need not encode it again. All
// methods are safe for concurrent use; arguments are borrowed. ids are those
// of the objects, 32 bytes each.
type Memo interface {
	// Load fills dst, row-major, with the embeddings of the objects if it has
	// all of them.
	Load(ctx context.Context, ids []byte, dst []float32) (bool, error)
	// Store keeps embeddings that an encoder gave for a batch.
	Store(ctx context.Context, ids []byte, vecs []float32) error
}

// recall returns what the memo has of a job. A batch is loaded as a whole or
// encoded as a whole, since an embedding may depend on its batch.
func (w *worker) recall(ctx context.Context, j *job, dst []float32) (bool, error) {
	if w.memo == nil {
		return false, nil
	}
	w.ids = w.ids[:0]
	for _, r := range j.rows {
		w.ids = append(w.ids, j.w.batch.ids.Value(r)...)
	}
	ok, err := w.memo.Load(ctx, w.ids, dst)
	if err != nil {
		return false, fmt.Errorf("look up %d objects: %w", len(j.rows), err)
	}
	return ok, nil
}

// keep gives the memo what was encoded for the job that recall had last.
func (w *worker) keep(ctx context.Context, dst []float32) error {
	if w.memo == nil {
		return nil
	}
	if err := w.memo.Store(ctx, w.ids, dst); err != nil {
		return fmt.Errorf("keep %d embeddings: %w", len(w.ids)/len(ID{}), err)
	}
	return nil
}
