package cachesink

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/permafrost-ml/permafrost/stage"
)

// Restore writes damaged shards again under their names: sample batches go in
// by [Restore.Index], the objects to encode come out, their embeddings go in by
// [Restore.Write]; then [Restore.Commit] tells the manifest of shards whose
// bytes are not those that they had, and [Restore.Rest] what is still to be
// done. It serves one stage.Group.
//
// What the blocks of a shard whose checksums hold have of embeddings is taken
// from there. The objects of the others are encoded: alone, if the encoder is
// batch-invariant, else all of the object batches that they were encoded in.
// What then is not the file that the manifest names is not published.
type Restore struct {
	f      *Fill
	whole  bool                    // nothing is taken from the damaged files
	lost   map[string][]*lostShard // by encoder
	todo   []string                // encoders with something to encode
	wanted wanted
	// Hopeless are the shards that cannot be written again, and why.
	Hopeless map[string]error
}

// lostShard is a shard of which everything is known but some embeddings.
type lostShard struct {
	plan  *shardPlan
	entry Shard
	last  int64 // the number behind that of the last embedding that is lost
	end   int64 // and of the last one that may have to be encoded with it
	kept  int64 // embeddings that need not be encoded
}

// Restore starts to write damaged shards again. Their objects are found in
// the splits that name them, and in what is left of the shards. A shard with
// an object that neither names, or that was not encoded as opts declares, is
// hopeless. One whose embeddings all hold is written at once.
func (c *Cache) Restore(ctx context.Context, opts FillOptions, damaged []string) (*Restore, error) {
	return c.restore(ctx, opts, damaged, false)
}

func (c *Cache) restore(ctx context.Context, opts FillOptions, damaged []string, whole bool) (*Restore, error) {
	if opts.Allocator == nil {
		opts.Allocator = memory.DefaultAllocator
	}
	f := &Fill{c: c, mem: opts.Allocator, opts: opts, byName: map[string]*encoderFill{}, objects: ObjectSchema()}
	f.stats = FillStats{Encoders: map[string]EncoderStats{}, Splits: map[string]SplitStats{}}
	r := &Restore{f: f, whole: whole, lost: map[string][]*lostShard{}, wanted: wanted{}, Hopeless: map[string]error{}}
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

// add finds out what an encoder's damaged shards lack.
func (r *Restore) add(ctx context.Context, e *Encoder, u Use, bad []Shard) error {
	ef := &encoderFill{Use: u, entry: *e}
	if ef.BatchSize == 0 {
		ef.BatchSize = DefaultBatchSize
	}
	r.f.byName[u.Name] = ef
	starts := e.starts()
	for i, s := range e.Shards {
		if !slices.ContainsFunc(bad, func(b Shard) bool { return b.Name == s.Name }) {
			continue
		}
		l, why, err := r.lose(ctx, ef, s, starts[i])
		switch {
		case err != nil:
			return err
		case why != nil:
			r.Hopeless[s.Name] = fmt.Errorf("%w: %w", ErrMissing, why)
			continue
		case l.last == 0:
			err = r.rewrite(ctx, ef, l)
		default:
			r.want(ef, l)
		}
		if err != nil {
			return err
		}
		r.lost[u.Name] = append(r.lost[u.Name], l)
	}
	if slices.ContainsFunc(r.lost[u.Name], func(l *lostShard) bool { return l.last > 0 }) {
		r.todo = append(r.todo, u.Name)
	}
	return nil
}

// lose finds out what a damaged shard lacks, the first object of which has a
// position, or why that cannot be made again.
func (r *Restore) lose(ctx context.Context, e *encoderFill, s Shard, first int64) (l *lostShard, why, err error) {
	shape, err := s.layout()
	if err != nil {
		return nil, err, nil
	}
	if s.Rows < 1 || s.Rows > s.Bytes/idBytes {
		return nil, fmt.Errorf("%d bytes do not hold %d objects", s.Bytes, s.Rows), nil
	}
	kept := &salvage{shard: s}
	if !r.whole {
		if kept, err = r.f.c.salvage(ctx, r.f.mem, &e.entry, s, shape, e.BatchSize); err != nil {
			return nil, nil, err
		}
	}
	ids, err := r.f.c.idsAt(ctx, &e.entry, first, s.Rows, kept)
	if err != nil {
		return nil, nil, err
	}
	from, last := kept.rows()
	switch {
	case ids == nil:
		return nil, errors.New("it has objects that no undamaged split names"), nil
	case shardID(e.Fingerprint, shape, e.BatchSize, ids) != s.ID:
		return nil, fmt.Errorf("it was encoded in batches of another size than %d", e.BatchSize), nil
	case shape.converted != "" && !e.BatchInvariant && last > 0:
		return nil, errors.New("its embeddings come from other shards"), nil
	}
	p := &shardPlan{id: s.ID, name: s.Name, layout: shape, dim: e.Dim, first: first, rows: s.Rows, ids: ids}
	if from != nil {
		p.from, p.kept = from, kept
	}
	return &lostShard{plan: p, entry: s, last: last}, nil, nil
}

// rewrite writes a shard whose embeddings all hold.
func (r *Restore) rewrite(ctx context.Context, e *encoderFill, l *lostShard) (err error) {
	w, err := newShardWriter(r.f.c.st, r.f.mem, &e.entry, e.BatchSize)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.drop()) }()
	p := l.plan
	if err := w.open(ctx, p); err != nil {
		return err
	}
	if err := p.kept.write(ctx, w, p, 0, int(p.rows)); err != nil {
		return err
	}
	done, err := w.close(ctx, p)
	switch {
	case errors.Is(err, errUnlike):
		p.unlike, err = true, nil
	case err == nil:
		p.result, l.kept = &done, p.rows
	}
	return err
}

// want looks for the objects that are to be encoded of a shard. If batches
// count, those are all of the object batches that hold a lost one, which are
// known when the sizes of the objects before are.
func (r *Restore) want(e *encoderFill, l *lostShard) {
	p := l.plan
	reach := int64(0) // of an object batch
	if !e.BatchInvariant {
		reach = windowBatches*int64(e.BatchSize) - 1
	}
	l.end = min(p.rows, l.last+reach)
	last, next := -1-reach, int64(0) // the lost rows before and behind
	for row := range l.end {
		if !p.converts(int(row)) {
			last = row
		}
		for next = max(next, row); next < p.rows && p.converts(int(next)); next++ {
		}
		near := row-last <= reach || next-row <= reach && next < p.rows
		if e.BatchInvariant && !near {
			continue
		}
		o := r.wanted.add(e.Name, p.ids[row*idBytes:(row+1)*idBytes])
		o.keep = o.keep || near
	}
}

// Encoders returns the names of the encoders that have something to encode.
func (r *Restore) Encoders() []string { return r.todo }

// idsAt returns the ids at an encoder's positions from first on, as the
// splits and what is left of the shard have them; nil if some are not known.
// Damaged splits are left out.
func (c *Cache) idsAt(ctx context.Context, e *Encoder, first, rows int64, kept *salvage) ([]byte, error) {
	ids := make([]byte, rows*idBytes)
	var known bitmap
	found := kept.complete(ids, &known)
	for i := range c.manifest.Splits {
		s := &c.manifest.Splits[i]
		if s.uses(e.Folder) == nil || found == rows {
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
// that are needed are not met are not emitted: the shard is then hopeless.
func (r *Restore) Index(g *stage.Group, in stage.Stream[arrow.Record]) map[string]stage.Stream[arrow.Record] {
	return r.wanted.find(g, in, "find lost objects", r.todo, func(name string, emit func(arrow.Record) error) error {
		e := r.f.byName[name]
		s := &shardSender{f: r.f, e: e, emit: emit}
		for _, l := range r.lost[name] {
			if l.last == 0 {
				continue // it is written
			}
			encoded, missing := l.spread(e, r.wanted[name])
			if missing > 0 {
				r.f.mu.Lock()
				r.Hopeless[l.plan.name] = fmt.Errorf("%w: the dataset has %d of its objects no more", ErrMissing, missing)
				r.f.mu.Unlock()
				continue
			}
			l.kept = l.plan.rows - int64(len(encoded)/idBytes)
			e.mu.Lock()
			e.queue = append(e.queue, l.plan)
			e.mu.Unlock()
			if err := s.objects(l.plan, r.wanted.inputs(name, encoded)); err != nil {
				return err
			}
		}
		return nil
	})
}

// spread has the plan encode what is needed, and returns the ids of that in
// order and how many of the objects that this takes are not met.
func (l *lostShard) spread(e *encoderFill, objects map[[32]byte]*wantedObject) (encoded []byte, missing int) {
	p := l.plan
	cut := windowCut{batchSize: e.BatchSize}
	begin, lost := int64(0), false // of the object batch
	for row := range l.end {
		kept := p.converts(int(row))
		if e.BatchInvariant && kept {
			begin = row + 1
			continue
		}
		lost = lost || !kept
		o := objects[[32]byte(p.ids[row*idBytes:])]
		if !o.met {
			missing++
			continue
		}
		if ends := cut.ends(o.size); !ends && !e.BatchInvariant && row+1 < p.rows {
			continue
		}
		if lost {
			encoded = append(encoded, p.ids[begin*idBytes:(row+1)*idBytes]...)
		}
		for i := begin; i <= row && lost && p.from != nil; i++ {
			p.from[i] = -1
		}
		if begin, lost = row+1, false; begin >= l.last {
			break
		}
	}
	return encoded, missing
}

// Write is the sink for an encoder's embeddings; see [Fill.Write].
func (r *Restore) Write(g *stage.Group, encoder string, in stage.Stream[arrow.Record]) {
	r.f.Write(g, encoder, in)
}

// Memo returns a memo that keeps nothing: a restoration begins again.
func (r *Restore) Memo(encoder string) *Memo { return r.f.Memo(encoder) }

// Stats returns what was done, after the group that ran the stages has ended: of
// the counts Encoded is kept, and Reused are the embeddings of the written shards
// that were sound.
func (r *Restore) Stats() FillStats {
	stats := r.f.Stats()
	for name, lost := range r.lost {
		for _, l := range lost {
			if l.plan.result != nil {
				es := stats.Encoders[name]
				es.Reused += l.kept
				stats.Encoders[name] = es
			}
		}
	}
	return stats
}

// Rest returns, after the group that ran the stages has ended without an error,
// a restoration of the shards that did not become what they were. Their encoder
// gives other bits than it did, or the files are not what they say; all of
// their objects are encoded. It is nil where there are none.
func (r *Restore) Rest(ctx context.Context) (*Restore, error) {
	var names []string
	for _, lost := range r.lost {
		for _, l := range lost {
			if l.plan.unlike {
				names = append(names, l.plan.name)
			}
		}
	}
	if len(names) == 0 {
		return nil, nil
	}
	return r.f.c.restore(ctx, r.f.opts, names, true)
}

// Commit tells the manifest of the shards that were written, after the group
// that ran the stages has ended without an error, and returns their names.
// Where all have the bytes that they had, as they have on the same kind of
// processor, no new generation is made.
func (r *Restore) Commit(ctx context.Context) (restored []string, err error) {
	made := map[string]Shard{}
	differ := false
	for _, name := range slices.Sorted(maps.Keys(r.lost)) {
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
