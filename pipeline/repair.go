package pipeline

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"

	"github.com/permafrost-ml/permafrost/cachesink"
	"github.com/permafrost-ml/permafrost/source"
	"github.com/permafrost-ml/permafrost/stage"
)

// RepairOptions are the options of [Pipeline.Repair].
type RepairOptions struct {
	// DryRun finds the damage and repairs nothing. Default: false.
	DryRun bool
	// Drop takes from the manifest what cannot be repaired, with the splits
	// that need it. Default: false.
	Drop bool
}

// RepairReport says what a repair found and did.
type RepairReport struct {
	Dir string `json:"dir"`
	// Manifest says what was done about a damaged manifest.
	Manifest string `json:"manifest,omitempty"`
	// Damaged are the files that were not as they were written, Repaired
	// those of them that are now.
	Damaged  []string `json:"damaged"`
	Repaired []string `json:"repaired"`
	// Encoded is the number of objects that were encoded again, and Kept that
	// of the other objects of damaged shards, whose embeddings were sound.
	Encoded int64 `json:"encoded"`
	Kept    int64 `json:"kept"`
	// Left are those that are damaged still, with the reason.
	Left []LeftDamaged `json:"left"`
	// Dropped are the splits that went because of these.
	Dropped []cachesink.DroppedSplit `json:"dropped"`
}

// LeftDamaged is a file that was not repaired.
type LeftDamaged struct {
	File   string `json:"file"`
	Reason string `json:"reason"`
}

// RepairPlace repairs of a cache what needs neither encoder nor dataset: a
// damaged manifest, and checksums that are damaged alone. Its report lists
// what is left.
func RepairPlace(ctx context.Context, st cachesink.Storage, opts RepairOptions) (*RepairReport, error) {
	_, r, err := repairPlace(ctx, st, opts)
	if err != nil {
		return nil, fmt.Errorf("repair: %w", ended(ctx, err))
	}
	return r, r.drop(ctx, st, opts)
}

func repairPlace(ctx context.Context, st cachesink.Storage, opts RepairOptions) (*cachesink.Cache, *RepairReport, error) {
	r := &RepairReport{
		Dir: st.String(), Damaged: []string{}, Repaired: []string{}, Left: []LeftDamaged{}, Dropped: []cachesink.DroppedSplit{},
	}
	c, err := cachesink.Open(ctx, st, nil)
	if errors.Is(err, cachesink.ErrCorrupt) && !opts.DryRun {
		if r.Manifest, err = cachesink.RepairManifest(ctx, st); err == nil {
			c, err = cachesink.Open(ctx, st, nil)
		}
	}
	if err != nil {
		return nil, nil, err
	}
	for found := range c.Verify(ctx) {
		if found == nil {
			continue
		}
		r.Damaged = append(r.Damaged, found.File)
		if !opts.DryRun {
			ok, err := c.RepairSums(ctx, found.File)
			if err != nil {
				return nil, nil, err
			}
			if ok {
				r.Repaired = append(r.Repaired, found.File)
				continue
			}
		}
		r.Left = append(r.Left, LeftDamaged{found.File, found.Err.Error()})
	}
	return c, r, ctx.Err()
}

// drop drops what is left, if it is to be.
func (r *RepairReport) drop(ctx context.Context, st cachesink.Storage, opts RepairOptions) error {
	if !opts.Drop || opts.DryRun || len(r.Left) == 0 {
		return nil
	}
	c, err := cachesink.Open(ctx, st, nil)
	if err == nil {
		r.Dropped, err = c.Drop(ctx, r.files())
	}
	if err != nil {
		return fmt.Errorf("repair: %w", err)
	}
	return nil
}

// files are the names of the files that are left.
func (r *RepairReport) files() (names []string) {
	for _, l := range r.Left {
		names = append(names, l.File)
	}
	return names
}

// Repair makes a damaged cache whole. What RepairPlace cannot, it makes anew
// from the dataset: the objects whose embeddings lie in damaged blocks alone are
// encoded (see [cachesink.Restore]), and damaged splits are written again where
// the dataset still has their rows.
func (p *Pipeline[Row]) Repair(ctx context.Context, opts RepairOptions) (*RepairReport, error) {
	if p.storage == nil {
		var err error
		if p.storage, err = p.cfg.Cache.storage(ctx); err != nil {
			return nil, fmt.Errorf("repair: %w", err)
		}
	}
	_, r, err := repairPlace(ctx, p.storage, opts)
	if err == nil && len(r.Left) > 0 && !opts.DryRun {
		err = p.repair(ctx, r)
	}
	if err != nil {
		return nil, fmt.Errorf("repair: %w", ended(ctx, err))
	}
	return r, r.drop(ctx, p.storage, opts)
}

// repair makes anew what is left.
func (p *Pipeline[Row]) repair(ctx context.Context, r *RepairReport) error {
	p.forget()
	p.cache = nil
	if err := p.open(ctx); err != nil {
		return err
	}
	encoders, err := p.encoders(ctx)
	if err != nil {
		return err
	}
	why, err := p.restoreShards(ctx, encoders, r)
	if err != nil {
		return err
	}
	if err := p.restoreSplits(ctx, encoders, r, why); err != nil {
		return err
	}
	// What counts is what a second look finds.
	left := []LeftDamaged{}
	for found := range p.cache.Verify(ctx) {
		if found == nil {
			continue
		}
		reason := found.Err.Error()
		if w := why[found.File]; w != nil {
			reason = w.Error()
		}
		left = append(left, LeftDamaged{found.File, reason})
	}
	for _, l := range r.Left {
		if !slices.ContainsFunc(left, func(m LeftDamaged) bool { return m.File == l.File }) {
			r.Repaired = append(r.Repaired, l.File)
		}
	}
	r.Left = left
	return ctx.Err()
}

// everySplit is a plan that reads the whole dataset.
func (p *Pipeline[Row]) everySplit() (plans []splitPlan) {
	for _, name := range p.splits {
		plans = append(plans, splitPlan{name: name, leftOut: &atomic.Int64{}})
	}
	return plans
}

// skipping is a guard that leaves bad rows out where a fill would, and writes
// no quarantine.
func (p *Pipeline[Row]) skipping() (*source.Guard, error) {
	policy := source.Fail
	if p.cfg.leavesOut() {
		policy = source.Skip
	}
	return source.NewGuard(policy, "")
}

// restoreShards writes damaged shards again, and says of those that it could
// not why.
func (p *Pipeline[Row]) restoreShards(ctx context.Context, encoders []encoder, r *RepairReport) (why map[string]error, err error) {
	why = map[string]error{}
	re, err := p.cache.Restore(ctx, p.fillOptions(encoders, false), r.files())
	for re != nil && err == nil {
		if err := p.restore(ctx, encoders, re); err != nil {
			return nil, err
		}
		maps.Copy(why, re.Hopeless)
		for _, e := range re.Stats().Encoders {
			r.Encoded += e.Encoded
			r.Kept += e.Reused
		}
		re, err = re.Rest(ctx)
	}
	return why, err
}

// restore encodes what a restoration needs.
func (p *Pipeline[Row]) restore(ctx context.Context, encoders []encoder, re *cachesink.Restore) error {
	if len(re.Encoders()) == 0 {
		return nil
	}
	guard, err := p.skipping()
	if err != nil {
		return err
	}
	g, _ := stage.NewGroup(ctx)
	p.encodeAll(g, re, re.Index(g, p.samples(g, encoders, p.everySplit(), guard)), encoders)
	if err := errors.Join(g.Wait(), guard.Close()); err != nil {
		return err
	}
	_, err = re.Commit(ctx)
	return err
}

// restoreSplits writes the files of damaged splits again, from the rows that
// the dataset has.
func (p *Pipeline[Row]) restoreSplits(ctx context.Context, encoders []encoder, r *RepairReport, why map[string]error) error {
	opts := p.fillOptions(encoders, false)
	for _, name := range r.files() {
		if s := p.cache.Manifest().SplitOf(name); s != nil {
			opts.Damaged = append(opts.Damaged, s.Folder)
			why[name] = fmt.Errorf("the dataset has other rows than split %q had, or the cache is not whole", s.Name)
		}
	}
	if len(opts.Damaged) == 0 || len(why) > len(opts.Damaged) {
		return nil // a fill would read the shards that are lost
	}
	guard, err := p.skipping()
	if err != nil {
		return err
	}
	f, err := p.cache.Fill(ctx, opts)
	if err != nil {
		return err
	}
	defer f.Abort()
	g, _ := stage.NewGroup(ctx)
	p.encodeAll(g, f, f.Index(g, p.samples(g, encoders, p.everySplit(), guard)), encoders)
	if err := errors.Join(g.Wait(), guard.Close()); err != nil {
		return err
	}
	_, err = f.Commit(ctx)
	for _, e := range f.Stats().Encoders {
		r.Encoded += e.Encoded
	}
	return err
}
