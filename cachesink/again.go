package cachesink

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
)

// again runs a read of the cache. Where that meets a file that is gone, and
// another process has committed since the cache was opened, it runs once more
// on the newest manifest: the same rows may stand in other files by now. What
// the first run has done must not count then.
func (c *Cache) again(ctx context.Context, read func(at *Cache) error) error {
	err := read(c)
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	now, moved, e := c.newest(ctx)
	if e != nil {
		return errors.Join(err, e)
	}
	if !moved {
		return err // the newest manifest names it: damage
	}
	return read(now)
}

// newest returns the cache at its newest generation, and whether that is
// another one.
func (c *Cache) newest(ctx context.Context) (*Cache, bool, error) {
	m, _, err := readManifest(ctx, c.st)
	if err != nil {
		return nil, false, err
	}
	return &Cache{c.st, c.mem, m}, m.Generation != c.manifest.Generation, nil
}

// splitAt returns a split of c as it stands in the cache at, perhaps at
// another generation. A part of a split stays that part: some of its files
// and encoders.
func (c *Cache) splitAt(at *Cache, s *Split) (*Split, error) {
	if at == c {
		return s, nil
	}
	old, now := c.manifest.Split(s.Name, s.Fingerprint), at.manifest.Split(s.Name, s.Fingerprint)
	if old == nil || now == nil || len(old.Files) != len(now.Files) {
		return nil, fmt.Errorf("%w: split %q (%.12s) was removed from %s since it was opened", ErrMissing, s.Name, s.Fingerprint, c.st)
	}
	out := *now
	out.Files, out.Inputs = part(s.Files, old.Files, now.Files), part(s.Inputs, old.Inputs, now.Inputs)
	out.Rows, out.Encoders = s.Rows, s.Encoders
	return &out, nil
}

// part returns of the files now those that stand where some of the old ones
// do. Files of a split are cut at the same rows in every generation.
func part(some, old, now []File) (out []File) {
	for i, f := range old {
		if i < len(now) && slices.ContainsFunc(some, func(g File) bool { return g.Name == f.Name }) {
			out = append(out, now[i])
		}
	}
	return out
}

// encoderAt is splitAt for all of an encoder.
func (c *Cache) encoderAt(at *Cache, e *Encoder) (*Encoder, error) {
	if at == c {
		return e, nil
	}
	now := at.manifest.Encoder(e.Folder)
	if now == nil {
		return nil, fmt.Errorf("%w: encoder %q in %s was removed from %s since it was opened", ErrMissing, e.Name, e.Folder, c.st)
	}
	if old := c.manifest.Encoder(e.Folder); old == nil || len(old.Shards) != len(e.Shards) {
		return nil, fmt.Errorf("%w: shards of encoder %q were moved within %s since it was opened", ErrMoved, e.Name, c.st)
	}
	return now, nil
}

// moved makes ErrMoved of a file that is gone, where another process has
// committed since.
func (c *Cache) moved(ctx context.Context, err error) error {
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if _, moved, e := c.newest(ctx); e != nil || !moved {
		return errors.Join(err, e)
	}
	return fmt.Errorf("%w: %v", ErrMoved, err) // no damage
}
