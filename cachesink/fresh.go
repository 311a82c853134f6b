package cachesink

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/permafrost-ml/permafrost/internal/store"
)

// freshen writes a file of the cache again, whose name a fill takes up and no
// manifest may have: a garbage collection that has listed it then lets it be,
// and the next one finds it young.
func freshen(ctx context.Context, st store.Store, f File) (err error) {
	if _, alone := st.(*store.Mem); alone {
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
