package cachesink

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"slices"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
)

// Compaction says what is to become of the shards of an encoder.
type Compaction struct {
	Name   string `json:"name"`
	Folder string `json:"folder"`
	// Shards are rewritten, with Objects that splits name and Garbage that
	// none does, into Into shards.
	Shards  int   `json:"shards"`
	Objects int64 `json:"objects"`
	Garbage int64 `json:"garbage"`
	Into    int   `json:"into"`
	Bytes   int64 `json:"bytes"` // of the shards that are rewritten

	files []string // that the rewritten ones replace
	used  bitmap   // positions that splits name
	runs  []shardRun
}

// shardRun is shards [from, to) of an encoder, kept or rewritten together.
type shardRun struct {
	from, to int
	rewrite  bool
	live     int64
}

// compactions finds the encoders that are worth compacting: those with
// shards that are mostly garbage, or with neighbours that are tiny. An
// encoder that a running fill uses is left alone.
func (c *Cache) compactions(ctx context.Context, opts GCOptions, live *inUse) ([]Compaction, error) {
	out := []Compaction{}
	for i := range c.manifest.Encoders {
		e := &c.manifest.Encoders[i]
		if live.encoders[e.Folder] {
			continue
		}
		p := Compaction{Name: e.Name, Folder: e.Folder}
		var splits []*Split
		for k := range c.manifest.Splits {
			if s := &c.manifest.Splits[k]; s.uses(e.Folder) != nil {
				splits = append(splits, s)
				if err := c.namedBy(ctx, s, e, &p.used); err != nil {
					return nil, fmt.Errorf("read split %q: %w", s.Name, err)
				}
			}
		}
		p.plan(e, int64(opts.ShardObjects))
		if p.Shards == 0 {
			continue
		}
		for _, s := range splits {
			for _, f := range slices.Concat(s.Files, s.Inputs) {
				if p.Garbage > 0 { // else positions stay
					p.files = append(p.files, f.Name)
				}
			}
		}
		out = append(out, p)
	}
	return out, nil
}

// uses returns the split's entry of the encoder in a folder, nil if it has
// none.
func (s *Split) uses(folder string) *SplitEncoder {
	for i := range s.Encoders {
		if s.Encoders[i].Folder == folder {
			return &s.Encoders[i]
		}
	}
	return nil
}

// namedBy adds the positions that a split names.
func (c *Cache) namedBy(ctx context.Context, s *Split, e *Encoder, used *bitmap) error {
	rows := e.Rows()
	return c.eachBatch(ctx, s, func(_ int64, rec arrow.Record) error {
		for _, side := range s.Kind.Sides() {
			pos, err := column[*array.Int64](rec, EncoderColumn(e.Name, side, RolePos))
			if err != nil {
				return errors.Join(ErrCorrupt, err)
			}
			for _, p := range pos.Int64Values() {
				if p < 0 || p >= rows {
					return fmt.Errorf("%w: position %d of %d embeddings", ErrCorrupt, p, rows)
				}
				used.set(p)
			}
		}
		return nil
	})
}

// plan decides which shards are rewritten: mostly garbage, or less than a
// quarter of a full shard; neighbours together, where that is of use.
func (p *Compaction) plan(e *Encoder, full int64) {
	start := int64(0)
	add := func(at int, rewrite bool, live int64) {
		if n := len(p.runs); n > 0 && p.runs[n-1].rewrite && rewrite {
			p.runs[n-1].to, p.runs[n-1].live = at+1, p.runs[n-1].live+live
			return
		}
		p.runs = append(p.runs, shardRun{at, at + 1, rewrite, live})
	}
	waste := map[int]bool{}
	for i, s := range e.Shards {
		live := p.used.count(start, start+s.Rows)
		start += s.Rows
		waste[i] = 2*live < s.Rows
		add(i, waste[i] || 4*s.Rows <= full, live)
	}
	for i := range p.runs {
		r := &p.runs[i]
		if !r.rewrite {
			continue
		}
		into := int((r.live + full - 1) / full)
		useful := into < r.to-r.from
		for k := r.from; k < r.to; k++ {
			useful = useful || waste[k]
		}
		if r.rewrite = useful; !useful {
			continue
		}
		p.Into += into
		for _, s := range e.Shards[r.from:r.to] {
			p.Shards++
			p.Garbage += s.Rows
			p.Bytes += s.Bytes
			p.files = append(p.files, s.Name)
		}
		p.Garbage -= r.live
		p.Objects += r.live
	}
}

// count returns how many of the numbers in [from, to) are in the set.
func (b *bitmap) count(from, to int64) (n int64) {
	to = min(to, int64(len(b.words))*64)
	for at := from; at < to; {
		w, k := b.words[at/64]>>(at%64), min(64-at%64, to-at)
		if k < 64 {
			w &= 1<<k - 1
		}
		n += int64(bits.OnesCount64(w))
		at += k
	}
	return n
}

func (b *bitmap) has(n int64) bool {
	return n/64 < int64(len(b.words)) && b.words[n/64]&(1<<(n%64)) != 0
}
