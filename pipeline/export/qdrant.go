package export

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/apache/arrow/go/v15/arrow"

	"github.com/permafrost-ml/permafrost/cachesink"
	"github.com/permafrost-ml/permafrost/internal/store"
	"github.com/permafrost-ml/permafrost/sink/qdrant"
	"github.com/permafrost-ml/permafrost/stage"
)

const (
	// uploadRows is the number of points in a request.
	uploadRows = 256
	maxCursor  = 4096
)

// Upload is where and how points go.
type Upload struct {
	// To is the server and the collection; Dim, Vector and ID are set by what
	// is exported.
	To qdrant.Options
	// Cursors is a folder for a small file that says how far an upload has
	// come, until it is whole, so that the next one goes on there. Default:
	// permafrost/uploads in [os.UserCacheDir].
	Cursors string
}

// Uploaded says what an upload did.
type Uploaded struct {
	Rows int64 `json:"rows"` // of the export
	// Resumed is how many of them an earlier upload had stored.
	Resumed int64 `json:"resumed"`
}

// ToQdrant uploads the rows of a split, or an encoder's objects, to a
// collection of Qdrant: a point for every distinct object, with the row's other
// columns as payload, of the last row where several have that object. Encoder,
// and for pairs Side, leave one column of embeddings. A request has BatchRows
// rows, by default 256. An upload that was cut goes on where it stopped if the
// points of the last request are still there, else from the start; points are
// the same ones however often they are sent.
func ToQdrant(ctx context.Context, c *cachesink.Cache, opts Options, up Upload) (*Uploaded, error) {
	if opts.Epoch != nil {
		return nil, fmt.Errorf("%w: points have no order", ErrOptions)
	}
	opts.Format = JSONL // is of the same: a split, or an encoder's objects
	if opts.BatchRows == 0 {
		opts.BatchRows = uploadRows
	}
	p, err := newPlan(c, opts)
	if err != nil {
		return nil, err
	}
	var res *Uploaded
	err = p.tables(func(open *opener) error {
		t, err := open.table(ctx, p.parts[0])
		if err != nil {
			return err
		}
		defer t.release()
		res, err = p.upload(ctx, t, up)
		return err
	})
	return res, err
}

func (p *plan) upload(ctx context.Context, t *table, up Upload) (*Uploaded, error) {
	if len(t.vectors) != 1 {
		return nil, fmt.Errorf("%w: a point has one vector, and there are %s: choose an encoder, and for pairs a side", ErrOptions, names(t.vectors))
	}
	v := t.vectors[0]
	up.To.Dim, up.To.Vector, up.To.ID = v.dim, v.column, cachesink.ColumnID
	if t.split != nil {
		up.To.ID = v.column + "_" + cachesink.RoleID
	}
	to, err := qdrant.Open(ctx, up.To)
	if err != nil {
		return nil, err
	}
	cur, err := p.cursor(t, up)
	if err != nil {
		return nil, err
	}
	start := int64(0)
	if !to.Created() {
		if start, err = cur.start(ctx, t, to); err != nil {
			return nil, err
		}
	}
	p.progress(start)
	g, _ := stage.NewGroup(ctx)
	recs := stage.From(g, "read the cache", func(ctx context.Context) iter.Seq2[arrow.Record, error] {
		return t.records(ctx, span{start, t.rows}, true)
	})
	qdrant.Upload(g, recs, to, func(ctx context.Context, rows int64) error {
		p.progress(rows)
		return cur.put(ctx, p.done, rows)
	})
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return &Uploaded{Rows: t.rows, Resumed: start}, cur.remove(ctx)
}

// cursor is the file that says how far an upload has come.
type cursor struct {
	dir  *store.Dir
	name string
}

// place is what a cursor holds: rows that are stored, and how many of them by
// the last request.
type place struct {
	Rows int64 `json:"rows"`
	Last int64 `json:"last"`
}

// cursor returns that of what is exported, to where.
func (p *plan) cursor(t *table, up Upload) (*cursor, error) {
	dir := up.Cursors
	if dir == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return nil, fmt.Errorf("find a place for the upload's cursor: %w", err)
		}
		dir = filepath.Join(user, "permafrost", "uploads")
	}
	h := sha256.New()
	fmt.Fprintf(h, "%q %q %q", up.To.URL, up.To.Collection, t.vectors[0].column)
	for _, k := range slices.Sorted(maps.Keys(t.meta)) {
		fmt.Fprintf(h, " %q %q", k, t.meta[k]) // the fingerprints of the split and the encoder
	}
	if t.objects != nil {
		fmt.Fprintf(h, " %q", t.objects.Folder)
		for _, s := range t.objects.Shards {
			fmt.Fprintf(h, " %q", s.ID)
		}
	}
	return &cursor{store.NewDir(dir, nil), hex.EncodeToString(h.Sum(nil)[:16]) + ".json"}, nil
}

// start returns the row that an upload begins with.
func (c *cursor) start(ctx context.Context, t *table, to *qdrant.Collection) (int64, error) {
	b, err := store.ReadAll(ctx, c.dir, c.name, maxCursor)
	var at place
	if err != nil || json.Unmarshal(b, &at) != nil || at.Rows < 1 || at.Rows > t.rows || at.Last < 1 || at.Last > min(at.Rows, maxBatchRows) {
		return 0, context.Cause(ctx) // nothing that helps: it is a hint only
	}
	for rec, err := range t.records(ctx, span{at.Rows - at.Last, at.Rows}, true) {
		if err != nil {
			return 0, err
		}
		there, err := to.Has(ctx, rec)
		rec.Release()
		if err != nil || !there {
			return 0, err
		}
	}
	return at.Rows, nil
}

func (c *cursor) put(ctx context.Context, rows, last int64) error {
	b, err := json.Marshal(place{rows, last})
	if err != nil {
		return err
	}
	if err := store.Put(ctx, c.dir, c.name, b, true); err != nil {
		return fmt.Errorf("keep the upload's cursor: %w", err)
	}
	return nil
}

// remove ends an upload that is whole.
func (c *cursor) remove(ctx context.Context) error {
	if err := c.dir.Remove(ctx, c.name); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove the upload's cursor: %w", err)
	}
	return nil
}
