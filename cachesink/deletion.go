package cachesink

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/permafrost-ml/permafrost/internal/store"
)

// deletionPrefix begins the name of a file that says that a garbage collection
// deletes files. It is there before the collection commits, and until its last
// file is deleted; every collection that deletes commits a generation first.
// A commit looks for it after it has read the manifest that it builds on: if
// there is none, either the collection's generation comes later, and one of
// the two must begin again, or all that it deletes is gone and can be seen to
// be. So nobody commits a name that is about to be deleted.
const deletionPrefix = leasesDir + "gc-"

// deletion is the sign of one collection.
type deletion struct {
	st   store.Store
	name string
}

func beginDeletion(ctx context.Context, st store.Store) (*deletion, error) {
	b, err := json.Marshal(self())
	if err != nil {
		return nil, err
	}
	d := &deletion{st, deletionPrefix + rand.Text()}
	if err := store.Put(ctx, st, d.name, b, false); err != nil {
		d.end()
		return nil, fmt.Errorf("say in %s that files are deleted: %w", st, err)
	}
	return d, nil
}

// end also tries again: a sign that stays would hold up others.
func (d *deletion) end() {
	ctx := context.Background() // also where the collection was cancelled
	if d.st.Remove(ctx, d.name) != nil {
		_ = d.st.Remove(ctx, d.name)
	}
}

// deleting says that another collection deletes files, as far as its process
// is not known to be gone.
func deleting(ctx context.Context, st store.Store, own *deletion) (bool, error) {
	list, err := st.List(ctx, leasesDir)
	if errors.Is(err, fs.ErrPermission) {
		return false, nil // no collection could say so here
	}
	if err != nil {
		return false, fmt.Errorf("list the running collections of %s: %w", st, err)
	}
	for _, f := range list {
		if !strings.HasPrefix(f.Name, deletionPrefix) || own != nil && f.Name == own.name {
			continue
		}
		var o owner
		b, err := store.ReadAll(ctx, st, f.Name, maxLease)
		if err != nil {
			continue // it has ended
		}
		if json.Unmarshal(b, &o) != nil || o.ended() || !o.here() && silent(f) {
			_ = st.Remove(ctx, f.Name)
			continue
		}
		return true, nil
	}
	return false, nil
}

// quiet waits until no collection deletes files. One that does for long has
// most likely died where nobody can see it, and is passed over.
func quiet(ctx context.Context, st store.Store) error {
	for waited := time.Duration(0); waited < claimWait; waited += claimPoll {
		if busy, err := deleting(ctx, st, nil); err != nil || !busy {
			return err
		}
		select {
		case <-time.After(claimPoll):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}
