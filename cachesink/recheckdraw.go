package cachesink

import (
	"context"
	"maps"
	"math/rand/v2"
	"slices"
	"sort"

	"github.com/apache/arrow/go/v15/arrow"
)

// draw chooses the objects of an encoder, and finds with which others they
// were encoded.
func (r *Recheck) draw(ctx context.Context, e *recheckEncoder, ro RecheckOptions) error {
	stored, err := r.f.stored(EncoderFolder(e.Name, e.Fingerprint, e.DType), e.Use)
	if stored == nil || err != nil {
		return err
	}
	e.entry = *stored
	e.result.Stored = stored.Rows()
	pos := sampleOf(stored.Rows(), ro)
	objects := make([]*sampledObject, len(pos))
	vecs, err := r.f.c.vectorsAt(ctx, stored, pos, func(i int, id []byte) error {
		objects[i] = &sampledObject{id: [32]byte(id), pos: pos[i]}
		return nil
	})
	if err != nil {
		return err
	}
	alone := &recheckRun{sampled: map[int]*sampledObject{}}
	byShard := map[int][]*sampledObject{}
	starts := stored.starts()
	for i, o := range objects {
		if r.wanted[e.Name][o.id] != nil {
			continue // it stands there twice
		}
		e.objects = append(e.objects, o)
		o.stored = vecs[i*e.Dim : (i+1)*e.Dim]
		s := shardAt(starts, o.pos)
		o.shard = stored.Shards[s].Name
		byShard[s] = append(byShard[s], o)
		r.wanted.add(e.Name, o.id[:]).name = true
		alone.sampled[len(e.objects)-1] = o
		alone.ids = append(alone.ids, o.id[:]...)
	}
	e.result.Sampled = int64(len(e.objects))
	if e.BatchInvariant {
		if len(pos) > 0 {
			e.runs = []*recheckRun{alone}
		}
	} else if err := r.company(ctx, e, byShard); err != nil {
		return err
	}
	r.want(e)
	return nil
}

// sampleOf draws from n positions without repetition, by Floyd's algorithm.
func sampleOf(n int64, ro RecheckOptions) []int64 {
	k := min(n, int64(ro.Sample))
	rng := rand.New(rand.NewPCG(ro.Seed, 0))
	taken := make(map[int64]bool, k)
	pos := make([]int64, 0, k)
	for i := n - k; i < n; i++ {
		p := rng.Int64N(i + 1)
		if taken[p] {
			p = i
		}
		taken[p] = true
		pos = append(pos, p)
	}
	slices.Sort(pos)
	return pos
}

// company finds the runs in which the sampled objects of some shards were
// encoded: those of the shard, or of the float32 shard from which an object
// was converted. Objects in no run have lost their batch.
func (r *Recheck) company(ctx context.Context, e *recheckEncoder, byShard map[int][]*sampledObject) (err error) {
	own := newRunFinder(r, e, &e.entry)
	var full *runFinder
	if e.DType != Float32 {
		entry, err := r.f.stored(EncoderFolder(e.Name, e.Fingerprint, Float32), e.Use)
		if err != nil {
			return err
		}
		if entry != nil {
			e.full = &original{entry: entry}
			defer e.full.table.close()
			full = newRunFinder(r, e, entry)
		}
	}
	for s, objects := range byShard {
		from, ok, err := own.converted(ctx, s)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		for _, o := range objects {
			row := int(o.pos - own.starts[s])
			if from != nil && from[row] >= 0 {
				at := shardAt(full.starts, from[row])
				err = full.add(ctx, at, int(from[row]-full.starts[at]), nil, o)
			} else {
				err = own.add(ctx, s, row, from, o)
			}
			if err != nil {
				return err
			}
		}
	}
	for _, f := range []*runFinder{own, full} {
		if f == nil {
			continue
		}
		for s := range f.of.Shards {
			if run := f.runs[s]; run != nil && len(run.sampled) > 0 {
				e.runs = append(e.runs, run)
			}
		}
	}
	return nil
}

// runFinder makes the runs of an encoder's shards.
type runFinder struct {
	r      *Recheck
	e      *recheckEncoder
	of     *Encoder
	starts []int64
	runs   map[int]*recheckRun // by shard
}

func newRunFinder(r *Recheck, e *recheckEncoder, of *Encoder) *runFinder {
	return &runFinder{r: r, e: e, of: of, starts: of.starts(), runs: map[int]*recheckRun{}}
}

// ids returns the ids of a shard.
func (f *runFinder) ids(ctx context.Context, s int) (ids []byte, err error) {
	err = readShard(ctx, f.r.f.c.st, f.r.f.mem, f.of, f.of.Shards[s].File, func(rec arrow.Record) error {
		got, err := idColumn(rec)
		ids = append(ids, got...)
		return err
	})
	return ids, err
}

// converted returns for each object of a shard the float32 position from which
// it was converted, -1 for none; nil where all were encoded. It is not ok
// where that is not known: where the shard was put together of others, or its
// originals are gone.
func (f *runFinder) converted(ctx context.Context, s int) (from []int64, ok bool, err error) {
	l, err := f.of.Shards[s].layout()
	if err != nil || l.converted == "" {
		return nil, err == nil, err
	}
	if f.e.full == nil {
		return nil, false, nil
	}
	ids, err := f.ids(ctx, s)
	if err != nil {
		return nil, false, err
	}
	for id := range slices.Chunk(ids, idBytes) {
		at, err := f.e.full.find(ctx, f.r.f, (*[32]byte)(id))
		if err != nil {
			return nil, false, err
		}
		from = append(from, at)
	}
	return from, (&shardPlan{from: from}).mark() == l.converted, nil
}

// add adds an object to the run of its shard, of which those in from were
// converted. It adds nothing where the shard was not encoded as declared.
func (f *runFinder) add(ctx context.Context, s, row int, from []int64, o *sampledObject) error {
	if f.runs[s] == nil {
		run, err := f.run(ctx, s, from)
		if err != nil {
			return err
		}
		f.runs[s] = run
	}
	if f.runs[s].ids == nil {
		return nil
	}
	at := row
	for i := range min(row, len(from)) {
		if from[i] >= 0 {
			at--
		}
	}
	f.runs[s].sampled[at] = o
	return nil
}

// run returns the encoded objects of a shard, none where it was not encoded
// as declared.
func (f *runFinder) run(ctx context.Context, s int, from []int64) (*recheckRun, error) {
	shard := f.of.Shards[s]
	run := &recheckRun{sampled: map[int]*sampledObject{}}
	ids, err := f.ids(ctx, s)
	if err != nil {
		return nil, err
	}
	l, err := shard.layout()
	if err != nil {
		return nil, err
	}
	if l.converted != "" && from == nil || shardID(f.of.Fingerprint, l, f.e.BatchSize, ids) != shard.ID {
		return run, nil
	}
	for i := range len(ids) / idBytes {
		if from == nil || from[i] < 0 {
			run.ids = append(run.ids, ids[i*idBytes:(i+1)*idBytes]...)
		}
	}
	return run, nil
}

// want wants the objects of an encoder's runs: the inputs of those that may
// share an object batch with a sampled one, and the sizes of those before,
// since they decide where object batches begin.
func (r *Recheck) want(e *recheckEncoder) {
	reach := windowBatches * e.BatchSize
	if e.BatchInvariant {
		reach = 1
	}
	for _, run := range e.runs {
		rows := run.rows()
		end := min(rows[len(rows)-1]+reach, len(run.ids)/idBytes)
		for i := range end {
			o := r.wanted.add(e.Name, run.ids[i*idBytes:(i+1)*idBytes])
			next := sort.SearchInts(rows, i)
			o.keep = o.keep || next < len(rows) && rows[next]-i < reach || next > 0 && i-rows[next-1] < reach
		}
		run.ids = run.ids[:end*idBytes]
	}
}

// rows are the numbers of the sampled objects, in order.
func (run *recheckRun) rows() []int { return slices.Sorted(maps.Keys(run.sampled)) }
