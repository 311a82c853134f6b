package cachesink

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"slices"
	"sort"
	"sync"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/permafrost-ml/permafrost/stage"
)

// RecheckOptions say which stored embeddings are compared.
type RecheckOptions struct {
	// Sample is the most objects of each encoder, 1 at least.
	Sample int
	// Seed chooses them. Default: 0.
	Seed uint64
}

// Rechecked is what was found of one encoder.
type Rechecked struct {
	Encoder     string `json:"encoder"`
	Fingerprint string `json:"fingerprint"`
	DType       DType  `json:"dtype"`
	// Stored is the number of embeddings that the cache holds, 0 where it has
	// none of the encoder as it is declared.
	Stored int64 `json:"stored"`
	// Sampled is the sum of Compared, Gone and BatchGone.
	Sampled  int64 `json:"sampled"`
	Compared int64 `json:"compared"`
	BitEqual int64 `json:"bit_equal"` // of those compared
	// Gone are objects that the dataset has no more.
	Gone int64 `json:"gone"`
	// BatchGone are objects of an encoder that is not batch-invariant whose
	// batch cannot be made again: the dataset has not all of its objects any
	// more, or the cache does not tell which they were.
	BatchGone int64 `json:"batch_gone"`
	// MaxDifference is the largest difference between a stored value and a
	// new one, each divided by the norm of its embedding.
	MaxDifference float64 `json:"max_difference"`
	// Stale are the objects whose embeddings differ by more than another
	// processor's arithmetic explains, in the order of the cache.
	Stale []StaleObject `json:"stale"`
}

// StaleObject is an object whose stored embedding is not what its encoder
// gives.
type StaleObject struct {
	ID         string  `json:"id"` // in hex
	Split      string  `json:"split"`
	Row        int64   `json:"row"` // of the split, the first with the object
	Key        string  `json:"key"`
	Shard      string  `json:"shard"` // the file
	Difference float64 `json:"difference"`

	pos int64
}

// Recheck compares a sample of the stored embeddings with what the encoders
// give now: sample batches go in by [Recheck.Index], the objects to encode
// come out, their embeddings go in by [Recheck.Write]; then [Recheck.Results]
// tells what was found. It writes nothing to the cache, and serves one
// stage.Group.
//
// Of an encoder that is not batch-invariant the object batches that hold the
// sampled objects are encoded as the fill of their shards did, so that equal
// encoders give equal bits: up to 16 times Use.BatchSize objects for each one.
// The ids and sizes of all objects of their shards are kept in memory.
type Recheck struct {
	f      *Fill
	wanted wanted
	todo   []string // encoders with a sample
	all    []*recheckEncoder
}

// recheckEncoder is the sample of an encoder.
type recheckEncoder struct {
	*encoderFill
	result  Rechecked
	objects []*sampledObject
	runs    []*recheckRun

	mu   sync.Mutex
	sent []*sampledObject // one for each object that was emitted, nil for company
}

// sampledObject is a stored embedding to compare.
type sampledObject struct {
	id     [32]byte
	pos    int64
	shard  string
	stored []float32
}

// recheckRun are objects that were encoded one after the other, some of which
// are sampled.
type recheckRun struct {
	ids     []byte
	sampled map[int]*sampledObject // by number
}

// Recheck draws the sample. It reads the shards that hold it, and of an
// encoder that is converted and not batch-invariant the float32 ids.
func (c *Cache) Recheck(ctx context.Context, opts FillOptions, ro RecheckOptions) (*Recheck, error) {
	if ro.Sample < 1 {
		return nil, fmt.Errorf("cachesink: a sample of %d objects", ro.Sample)
	}
	if opts.Allocator == nil {
		opts.Allocator = memory.DefaultAllocator
	}
	f := &Fill{c: c, mem: opts.Allocator, opts: opts, byName: map[string]*encoderFill{}, objects: ObjectSchema()}
	r := &Recheck{f: f, wanted: wanted{}}
	for _, u := range opts.Encoders {
		if !u.Cached {
			continue
		}
		if u.BatchSize == 0 {
			u.BatchSize = DefaultBatchSize
		}
		d, err := ParseDType(string(u.DType))
		if err != nil {
			return nil, fmt.Errorf("cachesink: encoder %q: %w", u.Name, err)
		}
		u.DType = d
		e := &recheckEncoder{encoderFill: &encoderFill{Use: u}}
		f.byName[u.Name] = e.encoderFill
		r.all = append(r.all, e)
		e.result = Rechecked{Encoder: u.Name, Fingerprint: u.Fingerprint, DType: d, Stale: []StaleObject{}}
		if err := r.draw(ctx, e, ro); err != nil {
			return nil, fmt.Errorf("draw a sample of encoder %q: %w", u.Name, c.moved(ctx, err))
		}
		if len(e.objects) > 0 {
			r.todo = append(r.todo, u.Name)
		}
	}
	return r, nil
}

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

// Encoders returns the names of the encoders that have a sample.
func (r *Recheck) Encoders() []string { return r.todo }

// Index is the stage that finds the objects to encode in sample batches.
// Every returned stream, by the name of its encoder, must be consumed, by an
// encode stage and then [Recheck.Write].
func (r *Recheck) Index(g *stage.Group, in stage.Stream[arrow.Record]) map[string]stage.Stream[arrow.Record] {
	streams := stage.Split(g, in, "find sampled objects", len(r.todo), func(ctx context.Context, in iter.Seq[arrow.Record], emit func(int, arrow.Record) error) error {
		for rec := range in {
			err := r.wanted.take(rec)
			rec.Release()
			if err != nil {
				return err
			}
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		for i, name := range r.todo {
			e := r.encoder(name)
			s := &shardSender{f: r.f, e: e.encoderFill, emit: func(rec arrow.Record) error { return emit(i, rec) }}
			for _, run := range e.runs {
				if err := r.send(s, e, run); err != nil {
					return err
				}
			}
		}
		return nil
	})
	out := map[string]stage.Stream[arrow.Record]{}
	for i, name := range r.todo {
		out[name] = streams[i]
	}
	return out
}

func (r *Recheck) encoder(name string) *recheckEncoder {
	for _, e := range r.all {
		if e.Name == name {
			return e
		}
	}
	return nil
}

// send emits the object batches of a run that hold sampled objects.
func (r *Recheck) send(s *shardSender, e *recheckEncoder, run *recheckRun) error {
	cut := windowCut{batchSize: e.BatchSize}
	p := &shardPlan{}
	var sent []*sampledObject
	some := false
	flush := func() error {
		defer func() { p, sent, some = &shardPlan{}, nil, false }()
		if !some {
			return nil
		}
		p.rows = int64(len(sent))
		e.mu.Lock()
		e.sent = append(e.sent, sent...)
		e.mu.Unlock()
		return s.objects(p, r.wanted.inputs(e.Name, p.ids))
	}
	for i := range len(run.ids) / idBytes {
		id := run.ids[i*idBytes : (i+1)*idBytes]
		o := r.wanted[e.Name][[32]byte(id)]
		if !o.met {
			if e.BatchInvariant {
				continue
			}
			return nil // nor is it known where the next object batch begins
		}
		p.ids = append(p.ids, id...)
		sent = append(sent, run.sampled[i])
		some = some || run.sampled[i] != nil
		if cut.ends(o.size) {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}

// Memo returns a memo that keeps nothing.
func (r *Recheck) Memo(encoder string) *Memo { return r.f.Memo(encoder) }

// Write is the sink that compares an encoder's embeddings; see [Fill.Write].
func (r *Recheck) Write(g *stage.Group, encoder string, in stage.Stream[arrow.Record]) {
	stage.Consume(g, in, "compare "+encoder, func(ctx context.Context, in iter.Seq[arrow.Record]) error {
		e := r.encoder(encoder)
		if e == nil {
			return fmt.Errorf("cachesink: no cached encoder %q is checked", encoder)
		}
		at := 0
		for rec := range in {
			n, err := r.compare(e, rec, at)
			rec.Release()
			if err != nil {
				return err
			}
			at += n
		}
		if ctx.Err() != nil {
			return context.Cause(ctx) // the stream was cut
		}
		return nil
	})
}

// compare compares a batch of embeddings, of the objects emitted from a
// number on.
func (r *Recheck) compare(e *recheckEncoder, rec arrow.Record, at int) (int, error) {
	list, err := column[*array.FixedSizeList](rec, ColumnEmbedding)
	if err != nil {
		return 0, err
	}
	vecs, err := vectors(list, e.Dim)
	if err != nil {
		return 0, fmt.Errorf("encoder %q: %w", e.Name, err)
	}
	ids, err := idColumn(rec)
	if err != nil {
		return 0, err
	}
	n := len(ids) / idBytes
	e.mu.Lock()
	defer e.mu.Unlock()
	if at+n > len(e.sent) {
		return 0, fmt.Errorf("%w: encoder %q: more than there are objects", ErrEmbeddings, e.Name)
	}
	for i, o := range e.sent[at : at+n] {
		if o == nil {
			continue
		}
		if o.id != [32]byte(ids[i*idBytes:]) {
			return 0, fmt.Errorf("%w: encoder %q: they come in another order", ErrEmbeddings, e.Name)
		}
		c := compareStored(e.DType, o.stored, vecs[i*e.Dim:(i+1)*e.Dim])
		e.result.Compared++
		if c.equal {
			e.result.BitEqual++
		}
		e.result.MaxDifference = max(e.result.MaxDifference, c.difference)
		if c.stale {
			w := r.wanted[e.Name][o.id]
			e.result.Stale = append(e.result.Stale, StaleObject{
				ID: fmt.Sprintf("%x", o.id), Split: w.split, Row: w.row, Key: w.key, Shard: o.shard, Difference: c.difference, pos: o.pos,
			})
		}
	}
	return n, nil
}

// Results returns what was found of each cached encoder, in the order in which
// they were declared, after the group that ran the stages has ended without an
// error. Where [Recheck.Encoders] has none, no group is needed.
func (r *Recheck) Results() []Rechecked {
	out := []Rechecked{}
	for _, e := range r.all {
		res := e.result
		for _, o := range e.objects {
			if !r.wanted[e.Name][o.id].met {
				res.Gone++
			}
		}
		res.BatchGone = res.Sampled - res.Compared - res.Gone
		slices.SortFunc(res.Stale, func(a, b StaleObject) int { return cmp.Compare(a.pos, b.pos) })
		out = append(out, res)
	}
	return out
}
