package cachesink

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"slices"
	"time"
)

// Collect does what a plan says and returns what was done. Where another
// process has committed since the plan was made, it makes a new one with the
// same options. First the new generation is committed, if there is one; then
// files are deleted, the manifests of old generations before what only they
// name. Whatever it is stopped by, the cache is at the old or at the new
// generation, and a later collection deletes what is left. A file that was
// changed or taken up since it was listed stays.
func (c *Cache) Collect(ctx context.Context, p *GCPlan) (*GCPlan, error) {
	opts := p.opts
	for try := range commitTries {
		if p == nil {
			var err error
			if p, err = c.Garbage(ctx, opts); errors.Is(err, ErrMoved) {
				continue
			} else if err != nil {
				return nil, err
			}
		}
		if p.Empty() {
			return p, nil
		}
		err := c.collect(ctx, p)
		if !errors.Is(err, fs.ErrExist) && !errors.Is(err, ErrMoved) {
			return p, err
		}
		p = nil
		select { // not in step with another collection
		case <-time.After(rand.N(time.Duration(min(try+1, 50)) * 4 * time.Millisecond)):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	return nil, fmt.Errorf("%w: to %s, %d times", ErrBusy, c.st, commitTries)
}

// collect does what a plan says. It fails with ErrMoved or fs.ErrExist where
// the generation that the plan is made for is not the newest, or another
// collection deletes files.
func (c *Cache) collect(ctx context.Context, p *GCPlan) error {
	d, err := beginDeletion(ctx, c.st)
	if err != nil {
		return err
	}
	defer d.end()
	cur, _, err := readManifest(ctx, c.st)
	if err != nil {
		return err
	}
	busy, err := deleting(ctx, c.st, d)
	if err != nil {
		return err
	}
	if busy || cur.Generation != p.Generation {
		return fmt.Errorf("%w: generation %d was committed, or another collection runs", ErrMoved, cur.Generation)
	}
	next := &Manifest{Encoders: cur.Encoders, Splits: cur.Splits}
	if p.next != nil {
		next = p.next
	}
	if len(p.Compact) > 0 {
		if next, err = c.compact(ctx, next, p); err != nil {
			return c.moved(ctx, err)
		}
	}
	// The claims of dead commits would be in the way.
	if err := c.remove(ctx, p, func(g Garbage) bool { return g.Why == whyClaim }); err != nil {
		return err
	}
	if p.commits() || p.adoptable() {
		if err := next.commit(ctx, c.st, p.Generation+1); err != nil {
			return err
		}
		p.Committed = next.Generation
	} else if err := settle(ctx, c.st, manifestsDir); err != nil {
		return err // the newest manifest must outlive those before it
	}
	named := map[string]bool{}
	for f := range next.files() {
		named[f.Name], named[f.Name+sumSuffix] = true, true
	}
	p.Files = slices.DeleteFunc(p.Files, func(g Garbage) bool { return named[g.File] })
	return c.remove(ctx, p, func(Garbage) bool { return true })
}

// adoptable says that there is a file among those to delete that a fill might
// commit at the same time: what one has left that has ended.
func (p *GCPlan) adoptable() bool {
	return slices.ContainsFunc(p.Files, func(g Garbage) bool { return g.Why == whyOrphan || g.Why == whySuperseded })
}

// remove deletes those files of a plan that are chosen. The plan then lists
// what was deleted of them.
func (c *Cache) remove(ctx context.Context, p *GCPlan, chosen func(Garbage) bool) error {
	var done []Garbage
	for i, g := range p.Files {
		if !chosen(g) {
			done = append(done, g)
			continue
		}
		removed, err := c.removeFile(ctx, g)
		if err != nil {
			p.Files = append(done, p.Files[i:]...)
			return fmt.Errorf("delete %s of %s: %w", g.File, c.st, err)
		}
		if removed {
			done = append(done, g)
		}
	}
	p.Files = done
	return nil
}

// removeFile deletes a file unless it was changed since it was listed.
func (c *Cache) removeFile(ctx context.Context, g Garbage) (bool, error) {
	info, err := c.st.Stat(ctx, g.File)
	if err == nil {
		if !info.ModTime.Equal(g.changed) {
			return false, nil
		}
		err = c.st.Remove(ctx, g.File)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil // another collection was faster
	}
	return err == nil, err
}
