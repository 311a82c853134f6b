package cachesink

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"

	"github.com/permafrost-ml/permafrost/stage"
)

// shardJob is a shard on its way to the encoder.
type shardJob struct {
	plan   *shardPlan
	inputs *spool
}

// Release drops the job's memory and scratch file, when a stage has to drop
// the job.
func (j *shardJob) Release() {
	_ = j.inputs.close()
	j.plan.release()
}

// Index is the stage that finds out what must be encoded. It reads sample
// batches (see the package documentation), writes the split files, and for
// every cached encoder emits the objects that are not stored yet, each once,
// as object batches ([ObjectSchema]) of up to 16 times Use.BatchSize rows; a
// batch never spans two shards. The batches of one split must come in row order
// and without another split's between them.
//
// Every returned stream, by the name of its encoder, must be consumed: by an
// encode stage and then [Fill.Write].
func (f *Fill) Index(g *stage.Group, in stage.Stream[arrow.Record]) map[string]stage.Stream[arrow.Record] {
	var cached []*encoderFill
	for _, name := range f.names {
		if e := f.byName[name]; e.Cached && !f.opts.DryRun {
			cached = append(cached, e)
		}
	}
	ix := &indexer{f: f, asm: map[string]*assembly{}}
	for i, e := range cached {
		ix.asm[e.Name] = &assembly{out: i}
	}
	if len(cached) == 0 {
		stage.Each(g, in, "index", func(ctx context.Context, rec arrow.Record) error {
			defer rec.Release()
			return ix.take(ctx, rec, nil)
		})
		return nil
	}
	jobs := stage.Split(g, in, "index", len(cached), func(ctx context.Context, in iter.Seq[arrow.Record], emit func(int, *shardJob) error) error {
		defer ix.drop()
		for rec := range in {
			err := ix.take(ctx, rec, emit)
			rec.Release()
			if err != nil {
				return err
			}
		}
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx) // the stream was cut: no short last shard
		}
		for _, e := range cached {
			if err := ix.seal(e, emit); err != nil {
				return err
			}
		}
		return nil
	})
	out := map[string]stage.Stream[arrow.Record]{}
	for i, e := range cached {
		out[e.Name] = stage.Process(g, jobs[i], "shards of "+e.Name, func(ctx context.Context, in iter.Seq[*shardJob], emit func(arrow.Record) error) (err error) {
			s := &shardSender{f: f, e: e, emit: emit}
			defer func() { err = errors.Join(err, s.drop()) }()
			for j := range in {
				if err := s.send(ctx, j); err != nil {
					return err
				}
			}
			return s.settle(ctx)
		})
	}
	return out
}

// indexer is the state of the index stage; one goroutine runs it.
type indexer struct {
	f      *Fill
	schema *arrow.Schema
	w      *splitWriter
	uses   []use
	asm    map[string]*assembly
}

// use is one encoder on one side of the current split's samples.
type use struct {
	sampleUse
	e *encoderFill
}

// assembly is the shard that is being put together for an encoder.
type assembly struct {
	out    int
	ids    *idList
	inputs *spool       // of the objects to encode
	from   *list[int64] // positions of what to convert; nil where nothing can be
}

func (ix *indexer) drop() {
	for _, a := range ix.asm {
		if a.inputs != nil {
			_ = a.inputs.close()
			a.ids.free()
			a.from.free()
		}
	}
}

// start begins a split, or a batch of another schema within one.
func (ix *indexer) start(schema *arrow.Schema) error {
	cols, err := parseSampleSchema(schema)
	if err != nil {
		return err
	}
	if ix.w != nil && ix.w.cols.split == cols.split {
		return fmt.Errorf("%w: batches of split %q differ in their columns", ErrSchema, cols.split)
	}
	for _, w := range ix.f.splits {
		if w.cols.split == cols.split {
			return fmt.Errorf("cachesink: split %q comes twice", cols.split)
		}
	}
	ix.uses = nil
	seen := map[string]int{}
	for _, u := range cols.uses {
		e := ix.f.byName[u.encoder]
		if e == nil {
			return fmt.Errorf("%w: encoder %q was not declared to the fill", ErrSchema, u.encoder)
		}
		ix.uses = append(ix.uses, use{u, e})
		seen[u.encoder]++
	}
	sides := len(cols.kind.Sides())
	for _, name := range ix.f.names {
		if seen[name] != sides {
			return fmt.Errorf("%w: encoder %q reads %d of %d sides of split %q", ErrSchema, name, seen[name], sides, cols.split)
		}
	}
	for _, e := range ix.f.byName {
		e.inSplit.reset()
	}
	ix.schema = schema
	if ix.w, err = newSplitWriter(ix.f, schema, cols); err != nil {
		return err
	}
	ix.f.splits = append(ix.f.splits, ix.w)
	return nil
}

// take indexes one sample batch.
func (ix *indexer) take(ctx context.Context, rec arrow.Record, emit func(int, *shardJob) error) error {
	if ix.schema == nil || ix.schema != rec.Schema() && !(ix.schema.Equal(rec.Schema()) && ix.schema.Metadata().Equal(rec.Schema().Metadata())) {
		if err := ix.start(rec.Schema()); err != nil {
			return err
		}
	}
	if err := ix.w.cols.checkNulls(rec); err != nil {
		return err
	}
	rows, err := column[*array.Int64](rec, ColumnRow)
	if err != nil {
		return err
	}
	for i := range rows.Len() {
		if want := ix.w.rows + int64(i); rows.Value(i) != want {
			return fmt.Errorf("cachesink: split %q: row %d comes where row %d is due", ix.w.cols.split, rows.Value(i), want)
		}
	}
	bytes := ix.w.measure(rec)
	ix.f.mu.Lock()
	ix.f.splitBytes += bytes // before a shard with these rows is looked at
	ix.f.mu.Unlock()
	var pos [][]int64
	at := map[*encoderFill]int{} // first of the encoder's columns of positions
	for i, u := range ix.uses {
		if _, ok := at[u.e]; !ok {
			at[u.e] = i
		}
		pos = append(pos, make([]int64, rec.NumRows()))
	}
	split := ix.w.cols.split
	delta := make([]SplitEncoderStats, len(ix.uses))
	reused := make([]int64, len(ix.uses))
	// Row by row, so that objects come in the order of their first
	// appearance whatever the size of the batches.
	for r := range int(rec.NumRows()) {
		for i, u := range ix.uses {
			id := (*[32]byte)(rec.Column(u.id).(*array.FixedSizeBinary).Value(r))
			if err := u.checkKey(rec, r, ix.w.rows+int64(r), id, ix.f); err != nil {
				return err
			}
			if !u.e.Cached {
				continue
			}
			p, fresh, err := u.e.insert(id, u.e.next)
			if err != nil {
				return err
			}
			pos[i][r] = p
			from := int64(-1)
			if fresh {
				if from, err = u.e.full.find(ctx, ix.f, id); err != nil {
					return err
				}
			}
			if u.e.inSplit.set(p) {
				delta[i].Objects++
				if from >= 0 {
					delta[i].Converted++
				}
				if fresh && from < 0 {
					delta[i].ToEncode++
				} else {
					delta[i].Hits++
				}
			}
			if !fresh {
				if p < u.e.base && u.e.met.set(p) {
					reused[i]++
				}
				continue
			}
			u.e.next++
			if from < 0 {
				u.e.inputs += 4 + int64(rec.Column(u.input).(*array.Binary).ValueLen(r))
			}
			if (u.e.next-u.e.base)%int64(ix.f.opts.ShardObjects) == 0 {
				u.e.mostInputs, u.e.inputs = max(u.e.mostInputs, u.e.inputs), 0
			}
			if ix.f.opts.DryRun {
				continue
			}
			if err := ix.add(ctx, u.e, id, from, rec.Column(u.input).(*array.Binary).Value(r), emit); err != nil {
				return err
			}
		}
	}
	var cachedPos [][]int64
	for i, u := range ix.uses {
		ix.w.objects[u.encoder] += delta[i].Objects
		if u.e.Cached {
			cachedPos = append(cachedPos, pos[i])
		}
	}
	if err := ix.w.write(ctx, rec, cachedPos, ix.f.opts.DryRun); err != nil {
		return err
	}
	ix.f.count(func(s *FillStats) {
		s.Rows += rec.NumRows()
		sp := s.Splits[split]
		if sp.Encoders == nil {
			sp.Encoders = map[string]SplitEncoderStats{}
		}
		sp.Rows += rec.NumRows()
		for i, u := range ix.uses {
			d := sp.Encoders[u.encoder]
			d.Objects += delta[i].Objects
			d.Hits += delta[i].Hits
			d.ToEncode += delta[i].ToEncode
			d.Converted += delta[i].Converted
			sp.Encoders[u.encoder] = d
			es := s.Encoders[u.encoder]
			es.Objects += delta[i].ToEncode + delta[i].Converted + reused[i]
			es.Reused += reused[i]
			es.Converted += delta[i].Converted
			s.Encoders[u.encoder] = es
		}
		s.Splits[split] = sp
	})
	return nil
}

// checkKey holds an encoder's keys to one content each.
func (u *use) checkKey(rec arrow.Record, r int, row int64, id *[32]byte, f *Fill) error {
	if u.e.FreeKeys {
		return nil
	}
	key := rec.Column(u.key).(*array.String).Value(r)
	place := keyPlace{split: len(f.splits) - 1, row: row, side: u.side}
	first, ok, err := u.e.keys.check(key, id, place)
	if err != nil || ok {
		return err
	}
	return fmt.Errorf("%w: encoder %q, key %q: %s and %s", ErrKeyConflict, u.encoder, key, f.place(first), f.place(place))
}

func (f *Fill) place(p keyPlace) string {
	s := fmt.Sprintf("row %d of split %q", p.row, f.splits[p.split].cols.split)
	if p.side != "" {
		s += ", side " + p.side
	}
	return s
}

// add appends a new object to its encoder's shard, with the position of what
// it is converted from, or -1.
func (ix *indexer) add(ctx context.Context, e *encoderFill, id *[32]byte, from int64, input []byte, emit func(int, *shardJob) error) error {
	a := ix.asm[e.Name]
	if a.inputs == nil {
		a.inputs, a.ids = &spool{st: ix.f.c.st}, &idList{}
		if e.full != nil {
			a.from = &list[int64]{}
		}
	}
	if err := a.ids.append(id); err != nil {
		return err
	}
	if a.from != nil {
		if err := a.from.append(&from); err != nil {
			return err
		}
	}
	if from < 0 {
		if err := a.inputs.append(ctx, input); err != nil {
			return err
		}
	}
	if a.ids.n/idBytes < ix.f.opts.ShardObjects {
		return nil
	}
	return ix.seal(e, emit)
}

// seal sends on the shard that is being put together, if it has any object.
func (ix *indexer) seal(e *encoderFill, emit func(int, *shardJob) error) error {
	a := ix.asm[e.Name]
	if a.inputs == nil {
		return nil
	}
	p := &shardPlan{list: a.ids, ids: a.ids.bytes(), rows: int64(a.ids.n / idBytes), layout: ix.f.layout(e), dim: e.Dim}
	if a.from != nil {
		p.fromList, p.from = a.from, arrow.Int64Traits.CastFromBytes(a.from.bytes())
		if !e.BatchInvariant && (p.converts(0) || p.run(0, int(p.rows)) < int(p.rows)) {
			p.layout.converted = p.mark()
		}
	}
	p.id, p.first = shardID(e.Fingerprint, p.layout, e.BatchSize, p.ids), e.next-p.rows
	j := &shardJob{plan: p, inputs: a.inputs}
	a.ids, a.inputs, a.from = nil, nil, nil
	return emit(a.out, j)
}
