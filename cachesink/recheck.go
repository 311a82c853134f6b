package cachesink

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"slices"
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

// Encoders returns the names of the encoders that have a sample.
func (r *Recheck) Encoders() []string { return r.todo }

// Index is the stage that finds the objects to encode in sample batches.
// Every returned stream, by the name of its encoder, must be consumed, by an
// encode stage and then [Recheck.Write].
func (r *Recheck) Index(g *stage.Group, in stage.Stream[arrow.Record]) map[string]stage.Stream[arrow.Record] {
	return r.wanted.find(g, in, "find sampled objects", r.todo, func(name string, emit func(arrow.Record) error) error {
		e := r.encoder(name)
		s := &shardSender{f: r.f, e: e.encoderFill, emit: emit}
		for _, run := range e.runs {
			if err := r.send(s, e, run); err != nil {
				return err
			}
		}
		return nil
	})
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
