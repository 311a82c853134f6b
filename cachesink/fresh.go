package cachesink

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/permafrost-ml/permafrost/internal/store"
)

// freshAge is how old a finished shard that no manifest names may be when a
// fill takes it up: an older one is written again, so that a garbage
// collection which has listed it lets it be, and the next one finds it young.
const freshAge = time.Hour

// freshen writes a file again that has not changed since a certain time.
func freshen(ctx context.Context, st store.Store, f File, changed time.Time) (err error) {
	if changed.IsZero() || time.Since(changed) < freshAge {
		return nil
	}
	r, err := openChecked(ctx, st, f)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	w, err := st.Create(ctx)
	if err != nil {
		return fmt.Errorf("create a file in %s: %w", st, err)
	}
	defer func() { err = errors.Join(err, w.Abort()) }()
	if _, err := io.CopyBuffer(w, struct{ io.Reader }{r}, make([]byte, 16*sumBlock)); err != nil {
		return fmt.Errorf("write %s again: %w", f.Name, err)
	}
	if err := store.Put(ctx, st, f.Name+sumSuffix, r.sums, true); err != nil {
		return fmt.Errorf("publish %s in %s: %w", f.Name+sumSuffix, st, err)
	}
	if err := w.Publish(ctx, f.Name, true); err != nil {
		return fmt.Errorf("publish %s in %s: %w", f.Name, st, err)
	}
	return nil
}
