package pipeline

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/permafrost-ml/permafrost/cachesink"
	"github.com/permafrost-ml/permafrost/encode"
	"github.com/permafrost-ml/permafrost/source"
	"github.com/permafrost-ml/permafrost/stage"
)

// TuneOptions say what [Pipeline.Tune] measures.
type TuneOptions struct {
	// Encoder is the name of the encoder. Default: the only one.
	Encoder string
	// Objects is the number of distinct objects to encode, the first of the
	// dataset, again and again. Default: 2,000.
	Objects int
	// Seconds is how long each layout is measured, after its encoders were
	// opened. Default: 4.
	Seconds float64
	// BatchSizes are the sizes of batches. Default: 8, 32, 128 and that of the
	// config.
	BatchSizes []int
	// Workers are the numbers of encoders. Default: 1, one a core, and that of
	// the config.
	Workers []int
}

// Layout is one way to run an encoder, and how fast that was.
type Layout struct {
	BatchSize  int `json:"batch_size"`
	NumWorkers int `json:"num_workers"`
	// ObjectsPerSecond is the better one of two turns.
	ObjectsPerSecond float64 `json:"objects_per_second"`
	// Configured says that the config has this layout.
	Configured bool `json:"configured"`
}

// TuneReport is what [Pipeline.Tune] measured.
type TuneReport struct {
	Encoder string `json:"encoder"`
	// Objects is the number of distinct objects that were encoded.
	Objects int `json:"objects"`
	// BatchInvariant says that the batch size does not change the
	// fingerprint. Otherwise another one encodes everything anew.
	BatchInvariant bool `json:"batch_invariant"`
	// Layouts come with the fastest first.
	Layouts []Layout `json:"layouts"`
}

// Best is the layout to use: the fastest one, or that of the config if it is
// within 3 % of it, which is less than such measurements tell apart.
func (r *TuneReport) Best() Layout {
	best := r.Layouts[0]
	for _, l := range r.Layouts {
		if l.Configured && l.ObjectsPerSecond >= 0.97*best.ObjectsPerSecond {
			return l
		}
	}
	return best
}

func (o TuneOptions) withDefaults(c *CacheConfig) TuneOptions {
	if o.Objects == 0 {
		o.Objects = 2000
	}
	if o.Seconds == 0 {
		o.Seconds = 4
	}
	if len(o.BatchSizes) == 0 {
		o.BatchSizes = []int{8, 32, 128, c.batchSize()}
	}
	if len(o.Workers) == 0 {
		o.Workers = []int{1, runtime.GOMAXPROCS(0), c.workers()}
	}
	for _, l := range []*[]int{&o.BatchSizes, &o.Workers} {
		*l = slices.Compact(slices.Sorted(slices.Values(*l)))
	}
	return o
}

func (o TuneOptions) validate() error {
	if o.Objects < 1 || !(o.Seconds > 0) || o.BatchSizes[0] < 1 || o.Workers[0] < 1 {
		return fmt.Errorf("tune: objects %d, seconds %v, batch sizes %v and workers %v must be positive", o.Objects, o.Seconds, o.BatchSizes, o.Workers)
	}
	return nil
}

// Tune measures how fast an encoder encodes objects of the dataset, through
// the stages of a fill, in several layouts: batch sizes and numbers of
// workers. The layouts take turns, two each. Nothing is stored.
func (p *Pipeline[Row]) Tune(ctx context.Context, o TuneOptions) (*TuneReport, error) {
	o = o.withDefaults(p.cfg.Cache)
	if err := o.validate(); err != nil {
		return nil, err
	}
	if o.Encoder == "" && len(p.names) > 1 {
		return nil, fmt.Errorf("tune: which encoder? There are %q", p.names)
	}
	name := cmp.Or(o.Encoder, p.names[0])
	encoders, err := p.encoders(ctx)
	if err != nil {
		return nil, fmt.Errorf("tune: %w", err)
	}
	at := slices.IndexFunc(encoders, func(e encoder) bool { return e.name == name })
	if at < 0 {
		return nil, fmt.Errorf("tune: there is no encoder %q, there are %q", name, p.names)
	}
	e := encoders[at]
	t := &tuning{o: o, e: e}
	if t.inputs, err = p.someInputs(ctx, e, o.Objects); err != nil {
		return nil, fmt.Errorf("tune: %w", ended(ctx, err))
	}
	r := &TuneReport{Encoder: name, Objects: len(t.inputs), BatchInvariant: e.spec.BatchInvariant}
	for _, size := range o.BatchSizes {
		for _, workers := range o.Workers {
			configured := size == p.cfg.Cache.batchSize() && workers == p.cfg.Cache.workers()
			r.Layouts = append(r.Layouts, Layout{BatchSize: size, NumWorkers: workers, Configured: configured})
		}
	}
	for range 2 {
		for i := range r.Layouts {
			l := &r.Layouts[i]
			rate, err := t.measure(ctx, *l)
			if err != nil {
				return nil, fmt.Errorf("tune: batch size %d, %d workers: %w", l.BatchSize, l.NumWorkers, ended(ctx, err))
			}
			l.ObjectsPerSecond = max(l.ObjectsPerSecond, rate)
			p.cfg.Logger.Info("measured", "encoder", name, "batch_size", l.BatchSize, "num_workers", l.NumWorkers, "objects_per_second", int(rate))
		}
	}
	slices.SortStableFunc(r.Layouts, func(a, b Layout) int { return cmp.Compare(b.ObjectsPerSecond, a.ObjectsPerSecond) })
	return r, nil
}

// someInputs returns the canonical inputs of the first distinct objects of an
// encoder.
func (p *Pipeline[Row]) someInputs(ctx context.Context, e encoder, most int) ([][]byte, error) {
	guard, err := source.NewGuard(source.Skip, "")
	if err != nil {
		return nil, err
	}
	var plans []splitPlan
	for _, split := range p.splits {
		plans = append(plans, splitPlan{name: split, leftOut: &atomic.Int64{}})
	}
	var out [][]byte
	seen := map[encode.ID]bool{}
	g, _ := stage.NewGroup(ctx)
	stage.Each(g, p.samples(g, []encoder{e}, plans, guard), "inputs", func(_ context.Context, rec arrow.Record) error {
		defer rec.Release()
		for i, f := range rec.Schema().Fields() {
			if role, _ := f.Metadata.GetValue(cachesink.MetaRole); role != cachesink.RoleInput {
				continue
			}
			col := rec.Column(i).(*array.Binary)
			for j := range col.Len() {
				if id := encode.Identify(col.Value(j)); !seen[id] {
					seen[id] = true
					out = append(out, slices.Clone(col.Value(j)))
				}
				if len(out) == most {
					return stage.ErrStopped
				}
			}
		}
		return nil
	})
	if err := errors.Join(g.Wait(), guard.Close()); err != nil {
		return nil, err
	}
	if len(out) == 0 {
		return nil, errors.New("the dataset has no objects")
	}
	return out, nil
}

// tuning measures layouts of an encoder.
type tuning struct {
	o      TuneOptions
	e      encoder
	inputs [][]byte
}

// windowBatches is the number of batches in an object batch of a fill.
const windowBatches = 16

var errMeasured = errors.New("measured")

// measure returns the objects a second of one turn.
func (t *tuning) measure(ctx context.Context, l Layout) (float64, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	c := &clock{wait: l.NumWorkers, done: func() { cancel(errMeasured) }, seconds: t.o.Seconds / 2}
	var m encode.Model = timed{encode.Unwrap(t.e.model), c}
	if p, ok := encode.Unwrap(t.e.model).(encode.Preparing); ok {
		m = timedPreparing{timed{p, c}, p}
	}
	g, _ := stage.NewGroup(ctx)
	in := stage.From(g, "objects", func(context.Context) iter.Seq2[arrow.Record, error] {
		return func(yield func(arrow.Record, error) bool) {
			for at := 0; yield(t.objects(at, l.BatchSize*windowBatches), nil); {
				at += l.BatchSize * windowBatches
			}
		}
	})
	out := encode.Stage(g, in, t.e.name, m, encode.StageOptions{Workers: l.NumWorkers, BatchSize: l.BatchSize})
	stage.Each(g, out, "count", func(_ context.Context, rec arrow.Record) error {
		rec.Release()
		return nil
	})
	err := g.Wait()
	if errors.Is(context.Cause(ctx), errMeasured) {
		return c.rate(), nil
	}
	return 0, err
}

// objects is the object batch of rows inputs from at on, around the end.
func (t *tuning) objects(at, rows int) arrow.Record {
	b := array.NewRecordBuilder(memory.DefaultAllocator, cachesink.ObjectSchema())
	defer b.Release()
	for i := range rows {
		in := t.inputs[(at+i)%len(t.inputs)]
		id := encode.Identify(in)
		b.Field(0).(*array.FixedSizeBinaryBuilder).Append(id[:])
		b.Field(1).(*array.BinaryBuilder).Append(in)
	}
	return b.NewRecord()
}

// clock counts encoded objects from the time when every worker has done a
// batch, and ends the turn.
type clock struct {
	mu      sync.Mutex
	wait    int // batches that do not count
	begin   time.Time
	took    time.Duration
	objects int
	seconds float64
	done    func()
}

func (c *clock) add(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.wait > 0 {
		if c.wait--; c.wait == 0 {
			c.begin = time.Now()
		}
		return
	}
	c.objects, c.took = c.objects+n, time.Since(c.begin)
	if c.took.Seconds() >= c.seconds {
		c.done()
	}
}

func (c *clock) rate() float64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return float64(c.objects) / c.took.Seconds()
}

// timed is a model whose encoders report to a clock.
type timed struct {
	encode.Model
	c *clock
}

func (m timed) Open(ctx context.Context, worker int) (encode.Encoder, error) {
	enc, err := m.Model.Open(ctx, worker)
	if err != nil {
		return nil, err
	}
	return timedEncoder{enc, m.c}, nil
}

type timedEncoder struct {
	encode.Encoder
	c *clock
}

func (e timedEncoder) Encode(ctx context.Context, batch []encode.Input, dst []float32) error {
	err := e.Encoder.Encode(ctx, batch, dst)
	if err == nil {
		e.c.add(len(batch))
	}
	return err
}

// timedPreparing is timed for a model that prepares inputs.
type timedPreparing struct {
	timed
	p encode.Preparing
}

func (m timedPreparing) OpenPreparer(ctx context.Context, worker int) (encode.Preparer, error) {
	return m.p.OpenPreparer(ctx, worker)
}

func (m timedPreparing) Open(ctx context.Context, worker int) (encode.Encoder, error) {
	enc, err := m.timed.Open(ctx, worker)
	if err != nil {
		return nil, err
	}
	return timedPrepared{enc.(timedEncoder)}, nil
}

type timedPrepared struct{ timedEncoder }

func (e timedPrepared) EncodePrepared(ctx context.Context, batch [][]byte, dst []float32) error {
	p, ok := e.Encoder.(encode.PreparedEncoder)
	if !ok {
		return fmt.Errorf("the encoder of a model that prepares inputs is no encode.PreparedEncoder")
	}
	err := p.EncodePrepared(ctx, batch, dst)
	if err == nil {
		e.c.add(len(batch))
	}
	return err
}
