package cachesink

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
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
	for range commitTries {
		if p == nil {
			var err error
			if p, err = c.Garbage(ctx, opts); errors.Is(err, ErrMoved) {
				continue
			} else if err != nil {
				return nil, err
			}
		}
		err := c.commitPlan(ctx, p)
		if errors.Is(err, fs.ErrExist) || errors.Is(err, ErrMoved) {
			p = nil
			continue
		}
		if err == nil {
			err = c.remove(ctx, p, func(Garbage) bool { return true })
		}
		return p, err
	}
	return nil, fmt.Errorf("%w: to %s, %d times", ErrBusy, c.st, commitTries)
}

// commitPlan makes the generation of a plan. It fails with ErrMoved or
// fs.ErrExist where the one that the plan is made for is not the newest.
func (c *Cache) commitPlan(ctx context.Context, p *GCPlan) error {
	if err := c.unmoved(ctx, p.Generation); err != nil {
		return err
	}
	next, err := p.next, error(nil)
	if len(p.Compact) > 0 {
		if next, err = c.compact(ctx, p); err != nil {
			return c.moved(ctx, err)
		}
	}
	if next == nil {
		return nil
	}
	// The claims of dead commits would be in the way.
	if err := c.remove(ctx, p, func(g Garbage) bool { return g.Why == whyClaim }); err != nil {
		return err
	}
	if err := next.commit(ctx, c.st, p.Generation+1); err != nil {
		return err
	}
	p.Committed = next.Generation
	named := map[string]bool{}
	for f := range next.files() {
		named[f.Name], named[f.Name+sumSuffix] = true, true
	}
	p.Files = slices.DeleteFunc(p.Files, func(g Garbage) bool { return named[g.File] })
	return nil
}

// unmoved is ErrMoved where a generation is not the newest any more.
func (c *Cache) unmoved(ctx context.Context, generation int64) error {
	now, _, err := readManifest(ctx, c.st)
	if err == nil && now.Generation != generation {
		err = fmt.Errorf("%w: generation %d was committed", ErrMoved, now.Generation)
	}
	return err
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
