package cachesink

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/permafrost-ml/permafrost/internal/arrowipc"
	"github.com/permafrost-ml/permafrost/internal/store"
)

// loadIDs adds the ids of an encoder's stored objects to a table, each with
// its position, and returns how many there are. An id that stands there twice
// (two fills at once may both store an object) keeps its first position.
func loadIDs(ctx context.Context, st store.Store, e *Encoder, table *idTable) (at int64, err error) {
	var rows int64 // that there can be
	for _, s := range e.Shards {
		rows += min(s.Rows, s.Bytes/idBytes)
	}
	if err := table.reserve(rows); err != nil {
		return 0, err
	}
	for _, s := range e.Shards {
		err := eachID(ctx, st, s.File, func(id *[idBytes]byte) error {
			_, _, err := table.insert(id, at)
			at++
			return err
		})
		if err != nil {
			return at, err
		}
	}
	return at, nil
}

// eachID calls fn with the ids of a shard's objects in order. It reads, and
// checks, nothing of the blocks that hold embeddings alone, which are most.
func eachID(ctx context.Context, st store.Store, f File, fn func(id *[idBytes]byte) error) (err error) {
	r, err := openChecked(ctx, st, f)
	if err != nil {
		return fmt.Errorf("open %s of %s: %w", f.Name, st, err)
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	if err := scanIDs(ctx, r, f, fn); err != nil {
		return fmt.Errorf("read the ids of %s of %s: %w", f.Name, st, err)
	}
	return nil
}

func scanIDs(ctx context.Context, r *checkedReader, f File, fn func(id *[idBytes]byte) error) error {
	rd, err := arrowipc.Open(r, r.Size())
	if err != nil {
		return corruptBy(err)
	}
	if len(rd.Fields) == 0 || rd.Fields[0].Name != ColumnID || rd.Fields[0].Type != arrowipc.FixedBinary || rd.Fields[0].Width != idBytes {
		return corrupt(f.Name, "its first column is not that of ids")
	}
	rd.Limit = f.Bytes // ids do not compress
	if err := rd.Want([]int{0}); err != nil {
		return corruptBy(err)
	}
	left := f.Rows
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		cols, rows, err := rd.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return corruptBy(err)
		}
		if left -= rows; left < 0 {
			return corrupt(f.Name, "it has more rows than the %d of the manifest", f.Rows)
		}
		for i := range rows {
			id, err := cols[0].Bytes(i)
			if err != nil || cols[0].IsNull(i) {
				return corrupt(f.Name, "row %d has no id", f.Rows-left-rows+i)
			}
			if err := fn((*[idBytes]byte)(id)); err != nil {
				return err
			}
		}
	}
	if left > 0 {
		return corrupt(f.Name, "it has %d rows, the manifest says %d", f.Rows-left, f.Rows)
	}
	return nil
}
