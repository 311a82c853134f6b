package cachesink

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/permafrost-ml/permafrost/stage"
)

// Restore writes damaged shards again under their names: sample batches go in
// by [Restore.Index], the objects of the shards come out, their embeddings go
// in by [Restore.Write]; then [Restore.Commit] tells the manifest of shards
// whose bytes are not those that they had. It serves one stage.Group.
type Restore struct {
	f      *Fill
	lost   map[string][]*lostShard // by encoder
	todo   []string                // encoders with lost shards
	wanted wanted
	// Hopeless are the shards that cannot be written again, and why.
	Hopeless map[string]error
}

// lostShard is a shard of which everything but its embeddings is known.
type lostShard struct {
	plan  *shardPlan
	entry Shard
}

// Restore starts to write damaged shards again. Their objects are found in
// the splits that name them. A shard with an object that no split names, or
// that was not encoded as opts declares, is hopeless.
func (c *Cache) Restore(ctx context.Context, opts FillOptions, damaged []string) (*Restore, error) {
	if opts.Allocator == nil {
		opts.Allocator = memory.DefaultAllocator
	}
	f := &Fill{c: c, mem: opts.Allocator, opts: opts, byName: map[string]*encoderFill{}, objects: ObjectSchema()}
	f.stats = FillStats{Encoders: map[string]EncoderStats{}, Splits: map[string]SplitStats{}}
	r := &Restore{f: f, lost: map[string][]*lostShard{}, wanted: wanted{}, Hopeless: map[string]error{}}
	opts.Encoders = slices.Clone(opts.Encoders)
	for i := range opts.Encoders {
		d, err := ParseDType(string(opts.Encoders[i].DType))
		if err != nil {
			return nil, fmt.Errorf("cachesink: encoder %q: %w", opts.Encoders[i].Name, err)
		}
		opts.Encoders[i].DType = d
	}
	for i := range c.manifest.Encoders {
		e := &c.manifest.Encoders[i]
		if err := settle(ctx, c.st, e.Folder); err != nil {
			return nil, err // what looks whole may be another restoration's, which was killed
		}
		bad := slices.DeleteFunc(slices.Clone(e.Shards), func(s Shard) bool { return !slices.Contains(damaged, s.Name) })
		if len(bad) == 0 {
			continue
		}
		k := slices.IndexFunc(opts.Encoders, func(u Use) bool {
			return u.Cached && e.Folder == EncoderFolder(u.Name, u.Fingerprint, u.DType)
		})
		if k < 0 {
			for _, s := range bad {
				r.Hopeless[s.Name] = fmt.Errorf("%w: encoder %q in %s is not the configured one", ErrMissing, e.Name, e.Folder)
			}
			continue
		}
		if err := r.add(ctx, e, opts.Encoders[k], bad); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// add finds the objects of an encoder's damaged shards.
func (r *Restore) add(ctx context.Context, e *Encoder, u Use, bad []Shard) error {
	ef := &encoderFill{Use: u, entry: *e}
	if ef.BatchSize == 0 {
		ef.BatchSize = DefaultBatchSize
	}
	r.f.byName[u.Name] = ef
	start := map[string]int64{}
	var n int64
	for _, s := range e.Shards {
		start[s.Name] = n
		n += s.Rows
	}
	for _, s := range bad {
		ids, err := r.f.c.idsAt(ctx, e, start[s.Name], s.Rows)
		if err != nil {
			return err
		}
		l, err := s.layout()
		switch {
		case err != nil:
			r.Hopeless[s.Name] = err
		case ids == nil:
			r.Hopeless[s.Name] = fmt.Errorf("%w: it has objects that no undamaged split names", ErrMissing)
		case l.converted != "" && !u.BatchInvariant:
			r.Hopeless[s.Name] = fmt.Errorf("%w: its embeddings come from other shards", ErrMissing)
		case shardID(e.Fingerprint, l, ef.BatchSize, ids) != s.ID:
			r.Hopeless[s.Name] = fmt.Errorf("%w: it was encoded in batches of another size than %d", ErrMissing, ef.BatchSize)
		default:
			p := &shardPlan{id: s.ID, name: s.Name, layout: l, dim: e.Dim, first: start[s.Name], rows: s.Rows, ids: ids}
			r.lost[u.Name] = append(r.lost[u.Name], &lostShard{plan: p, entry: s})
			for id := range slices.Chunk(ids, idBytes) {
				r.wanted.add(u.Name, id).keep = true
			}
		}
	}
	if len(r.lost[u.Name]) > 0 {
		r.todo = append(r.todo, u.Name)
	}
	return nil
}

// Encoders returns the names of the encoders that have something to encode.
func (r *Restore) Encoders() []string { return r.todo }

// idsAt returns the ids at an encoder's positions from first on, as the
// splits have them; nil if some are not known. Damaged splits are left out.
func (c *Cache) idsAt(ctx context.Context, e *Encoder, first, rows int64) ([]byte, error) {
	ids := make([]byte, rows*idBytes)
	var known bitmap
	found := int64(0)
	for i := range c.manifest.Splits {
		s := &c.manifest.Splits[i]
		if s.uses(e.Folder) == nil {
			continue
		}
		err := c.eachBatch(ctx, s, func(_ int64, rec arrow.Record) error {
			for _, side := range s.Kind.Sides() {
				pos, err := column[*array.Int64](rec, EncoderColumn(e.Name, side, RolePos))
				if err != nil {
					return errors.Join(ErrCorrupt, err)
				}
				id, err := column[*array.FixedSizeBinary](rec, EncoderColumn(e.Name, side, RoleID))
				if err != nil {
					return errors.Join(ErrCorrupt, err)
				}
				for row, p := range pos.Int64Values() {
					if p >= first && p < first+rows && known.set(p-first) {
						copy(ids[(p-first)*idBytes:], id.Value(row))
						found++
					}
				}
			}
			return nil
		})
		if err != nil && !errors.Is(err, ErrCorrupt) {
			return nil, err
		}
	}
	if found < rows {
		return nil, ctx.Err()
	}
	return ids, nil
}

// Index is the stage that finds the inputs of the objects in sample batches.
// Every returned stream, by the name of its encoder, must be consumed, by an
// encode stage and then [Restore.Write]. The objects of a shard of which some
// are not met are not emitted: the shard is then hopeless.
func (r *Restore) Index(g *stage.Group, in stage.Stream[arrow.Record]) map[string]stage.Stream[arrow.Record] {
	return r.wanted.find(g, in, "find lost objects", r.todo, func(name string, emit func(arrow.Record) error) error {
		e := r.f.byName[name]
		s := &shardSender{f: r.f, e: e, emit: emit}
		for _, l := range r.lost[name] {
			if missing := l.missing(r.wanted[name]); missing > 0 {
				r.f.mu.Lock()
				r.Hopeless[l.plan.name] = fmt.Errorf("%w: the dataset has %d of its objects no more", ErrMissing, missing)
				r.f.mu.Unlock()
				continue
			}
			e.mu.Lock()
			e.queue = append(e.queue, l.plan)
			e.mu.Unlock()
			if err := s.objects(l.plan, r.wanted.inputs(name, l.plan.ids)); err != nil {
				return err
			}
		}
		return nil
	})
}

func (l *lostShard) missing(objects map[[32]byte]*wantedObject) (n int) {
	for id := range slices.Chunk(l.plan.ids, idBytes) {
		if !objects[[32]byte(id)].met {
			n++
		}
	}
	return n
}

// Write is the sink for an encoder's embeddings; see [Fill.Write].
func (r *Restore) Write(g *stage.Group, encoder string, in stage.Stream[arrow.Record]) {
	r.f.Write(g, encoder, in)
}

// Memo returns a memo that keeps nothing: a restoration begins again.
func (r *Restore) Memo(encoder string) *Memo { return r.f.Memo(encoder) }

// Stats returns the counts so far; of them Encoded is kept.
func (r *Restore) Stats() FillStats { return r.f.Stats() }

// Commit tells the manifest of the shards that were written, after the group
// that ran the stages has ended without an error, and returns their names.
// Where all have the bytes that they had, as they have on the same kind of
// processor, no new generation is made.
func (r *Restore) Commit(ctx context.Context) (restored []string, err error) {
	made := map[string]Shard{}
	differ := false
	for _, name := range r.todo {
		for _, l := range r.lost[name] {
			if s := l.plan.result; s != nil {
				made[l.plan.name] = *s
				restored = append(restored, l.plan.name)
				differ = differ || *s != l.entry
			}
		}
	}
	for range commitTries {
		if !differ {
			return restored, nil
		}
		cur, err := settled(ctx, r.f.c.st)
		if err != nil {
			return nil, err
		}
		next := &Manifest{Encoders: slices.Clone(cur.Encoders), Splits: cur.Splits}
		for i := range next.Encoders {
			e := &next.Encoders[i]
			e.Shards = slices.Clone(e.Shards)
			for k, s := range e.Shards {
				if m, ok := made[s.Name]; ok && m.ID == s.ID {
					e.Shards[k] = m
				}
			}
		}
		if err := quiet(ctx, r.f.c.st); err != nil {
			return nil, err
		}
		if err := next.commit(ctx, r.f.c.st, cur.Generation+1); !errors.Is(err, fs.ErrExist) {
			if err == nil {
				r.f.c.manifest = next
			}
			return restored, err
		}
	}
	return nil, fmt.Errorf("%w: to %s, %d times", ErrBusy, r.f.c.st, commitTries)
}
