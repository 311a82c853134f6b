package pipeline

import (
	"context"
	"fmt"

	"github.com/permafrost-ml/permafrost/cachesink"
	"github.com/permafrost-ml/permafrost/source"
)

// keptColumns is the number of columns that Sample is thought to keep at most,
// beside those that are declared: it is Go code. What that makes of a row is
// thought to have no more bytes than the row; a fill for which there is too
// little room all the same ends at the first shard that does not fit.
const keptColumns = 64

// fits says that there is room for all that the datasets can give: by the sizes
// of their files, or by the lines in them, which are counted if need be.
func (p *Pipeline[Row]) fits(ctx context.Context, encoders []encoder, plans []splitPlan, free int64) bool {
	opts := p.fillOptions(encoders, false)
	for _, count := range []bool{false, true} {
		x := cachesink.Extent{Kept: keptColumns + len(p.cfg.KeepTypes)}
		known := true
		for _, sp := range plans {
			src := p.cfg.Splits[sp.name]
			rows, texts, ok := source.Size(ctx, source.Limit(src, p.cfg.Limit), count)
			if _, lines := any(src).(*source.JSONLSource[source.Fields]); lines && p.cfg.leastJSON > 0 {
				rows = min(rows, texts/p.cfg.leastJSON)
			}
			known = known && ok
			x.Splits, x.Rows, x.Texts = x.Splits+1, x.Rows+rows, x.Texts+texts
		}
		if known && p.cache.Bound(opts, x) <= free {
			return true
		}
	}
	return false
}

// refuse ends a fill that must not encode and would, or that has no room. What
// a fill will write is counted by reading the rows once more, unless there is
// room for whatever they are.
func (p *Pipeline[Row]) refuse(ctx context.Context, encoders []encoder, plans []splitPlan) error {
	todo := unread(plans)
	free := int64(-1)
	if !p.cfg.IgnoreSpace && len(todo) > 0 {
		free = p.cache.Free(ctx)
	}
	tight := free >= 0 && !p.fits(ctx, encoders, todo, free)
	if !p.cfg.NoEncode && !tight {
		return nil
	}
	plan, err := p.plan(ctx, encoders, plans)
	if err != nil {
		return fmt.Errorf("plan: %w", err)
	}
	if p.cfg.NoEncode && plan.ToEncode > 0 {
		return fmt.Errorf("%w: %d objects would be encoded into %s", ErrWouldEncode, plan.ToEncode, plan.Dir)
	}
	if tight && plan.Needs > free {
		return &cachesink.SpaceError{Place: plan.Dir, Need: plan.Needs, Free: free}
	}
	return nil
}
