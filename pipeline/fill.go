package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/apache/arrow/go/v15/arrow"

	"github.com/permafrost-ml/permafrost/cachesink"
	"github.com/permafrost-ml/permafrost/encode"
	"github.com/permafrost-ml/permafrost/source"
	"github.com/permafrost-ml/permafrost/stage"
)

// FillReport says what a fill did.
type FillReport struct {
	// Rows is the number of samples of all splits.
	Rows int64 `json:"rows"`
	// Objects is the number of distinct objects, added up over splits and
	// cached encoders; Encoded and Reused are its parts. Converted are those
	// of Reused that were stored in float32 and now are in another dtype, too,
	// Resumed those that a killed fill, or another one at the same time, had
	// encoded.
	Objects   int64 `json:"objects"`
	Encoded   int64 `json:"encoded"`
	Reused    int64 `json:"reused"`
	Converted int64 `json:"converted"`
	Resumed   int64 `json:"resumed"`
	// Quarantined is the number of bad rows that were left out.
	Quarantined int64 `json:"quarantined"`
	// Seconds is the wall time.
	Seconds float64 `json:"seconds"`
	// EncodedPerSecond is the rate of encoding, all encoders together, from the
	// first batch that was stored to the last; 0 where there were less than two.
	EncodedPerSecond float64 `json:"encoded_per_second"`
	// Encoders are the parts by encoder.
	Encoders map[string]EncoderReport `json:"encoders"`
	// Quarantine is the file of the bad rows, if one was written.
	Quarantine string `json:"quarantine,omitempty"`
}

// EncoderReport says what a fill did for one encoder.
type EncoderReport struct {
	CacheType   cachesink.CacheType `json:"cache_type"`
	Fingerprint string              `json:"fingerprint"`
	Dim         int                 `json:"dim"`
	DType       cachesink.DType     `json:"dtype,omitempty"` // where it is cached
	Objects     int64               `json:"objects"`
	Encoded     int64               `json:"encoded"`
	Reused      int64               `json:"reused"`
	Converted   int64               `json:"converted"`
	Resumed     int64               `json:"resumed"`
}

// splitPlan is what is known of a split before its rows are read.
type splitPlan struct {
	name    string
	key     string // of its source note, may be empty
	facts   map[string]string
	stored  *cachesink.Split // nil if it must be read
	why     string           // it must, if not for its facts
	leftOut *atomic.Int64    // bad rows, of the fill that stored it or of this one
}

// unread returns the splits that must be read.
func unread(plans []splitPlan) []splitPlan {
	return slices.DeleteFunc(slices.Clone(plans), func(sp splitPlan) bool { return sp.stored != nil })
}

// survey finds out which splits the cache holds already. It opens neither
// encoders nor datasets.
func (p *Pipeline[Row]) survey(ctx context.Context) ([]encoder, []splitPlan, error) {
	if err := p.open(ctx); err != nil {
		return nil, nil, err
	}
	encoders, err := p.encoders(ctx)
	if err != nil {
		return nil, nil, err
	}
	var plans []splitPlan
	for _, name := range p.splits {
		sp := splitPlan{name: name, leftOut: &atomic.Int64{}}
		if sp.key, sp.facts, err = p.sourceKey(ctx, name, encoders); err != nil {
			return nil, nil, err
		}
		switch {
		case sp.facts["source"] == "":
			sp.why = "its source has no identity"
		case sp.key == "":
			sp.why = "nothing says which version of the Go code makes its samples"
		default:
			note, err := p.cache.Note(ctx, sp.key)
			if err != nil {
				return nil, nil, err
			}
			if note != nil {
				sp.stored = p.cache.Manifest().Split(note.Split, note.Fingerprint)
				sp.leftOut.Store(note.LeftOut)
			}
		}
		plans = append(plans, sp)
	}
	p.readAgain(encoders, plans)
	return encoders, plans, nil
}

// readAgain marks stored splits whose rows are needed all the same: where
// another split is read, those of which a key may conflict with its keys, or
// bad rows stand in the quarantine file that it replaces; and those whose bad
// rows are in no quarantine file any more.
func (p *Pipeline[Row]) readAgain(encoders []encoder, plans []splitPlan) {
	quarantine := p.cfg.OnError == source.Quarantine
	gone := false
	if quarantine {
		_, err := os.Stat(p.cfg.Quarantine)
		gone = errors.Is(err, fs.ErrNotExist)
	}
	keys := slices.ContainsFunc(encoders, func(e encoder) bool { return !e.use.FreeKeys })
	some := len(unread(plans)) > 0
	for i := range plans {
		sp := &plans[i]
		bad := quarantine && sp.leftOut.Load() > 0
		if sp.stored != nil && (bad && (some || gone) || keys && some) {
			sp.stored, sp.why = nil, "its keys may conflict with those of a split that is read"
			if bad {
				sp.why = "its bad rows are to be written to the quarantine again"
			}
		}
		some = some || sp.stored == nil
	}
	for i := range plans {
		if plans[i].stored == nil {
			plans[i].leftOut.Store(0) // counted anew
		}
	}
}

// Fill brings the cache up to date: it reads the splits whose rows are not
// known to be stored, encodes what is not stored, and commits. What a killed
// fill has finished is taken up. An encoder is opened only if something is
// to be encoded by it, and a dataset only if its rows may have changed. Where
// another process has removed meanwhile what the fill was to use again, it
// begins again, at most 3 times.
func (p *Pipeline[Row]) Fill(ctx context.Context) (*FillReport, error) {
	start := time.Now()
	p.warn()
	for try := 1; ; try++ {
		r, err := p.fill(ctx)
		if errors.Is(err, cachesink.ErrMoved) && try < fillTries && ctx.Err() == nil {
			p.cfg.Logger.Warn("the cache was changed while it was filled; the fill begins again", "reason", err)
			p.forget()
			p.cache = nil // it is opened again
			continue
		}
		if r != nil {
			r.Seconds = time.Since(start).Seconds()
		}
		return r, err
	}
}

// fillTries bounds how often a fill gives way to what removes its shards.
const fillTries = 3

func (p *Pipeline[Row]) fill(ctx context.Context) (*FillReport, error) {
	encoders, plans, err := p.survey(ctx)
	if err != nil {
		return nil, fmt.Errorf("fill: %w", ended(ctx, err))
	}
	if err := p.refuse(ctx, encoders, plans); err != nil {
		return nil, ended(ctx, err)
	}
	guard, err := p.guard()
	if err != nil {
		return nil, err
	}
	filled := map[string]*cachesink.Split{}
	for _, sp := range plans {
		filled[sp.name] = sp.stored
	}
	var stats cachesink.FillStats
	var pace pace
	if todo := unread(plans); len(todo) > 0 {
		stats, err = p.fillSplits(ctx, encoders, todo, guard, filled, &pace)
	}
	if err = errors.Join(err, guard.Close()); err != nil {
		return nil, fmt.Errorf("fill: %w", ended(ctx, err))
	}
	p.forget()
	p.filled = filled
	r := p.fillReport(encoders, stats)
	r.EncodedPerSecond = pace.rate()
	for _, sp := range plans {
		r.Quarantined += sp.leftOut.Load()
	}
	if r.Quarantined > 0 && p.cfg.OnError == source.Quarantine {
		r.Quarantine = p.cfg.Quarantine
	}
	return r, nil
}

// ended returns the cause of ctx's end for an error that only says that it
// has ended.
func ended(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil && errors.Is(err, ctx.Err()) && !errors.Is(err, cause) {
		return cause
	}
	return err
}

// fillSplits reads and stores some splits in one pass.
func (p *Pipeline[Row]) fillSplits(ctx context.Context, encoders []encoder, plans []splitPlan, guard *source.Guard, filled map[string]*cachesink.Split, pace *pace) (none cachesink.FillStats, err error) {
	opts := p.fillOptions(encoders, false)
	report := opts.OnProgress
	opts.OnProgress = func(s cachesink.FillStats) {
		if pace.note(s); report != nil {
			report(s)
		}
	}
	f, err := p.cache.Fill(ctx, opts)
	if err != nil {
		return none, err
	}
	defer f.Abort()
	g, _ := stage.NewGroup(ctx)
	p.encodeAll(g, f, f.Index(g, p.samples(g, encoders, plans, guard)), encoders)
	if err := g.Wait(); err != nil {
		return none, err
	}
	m, err := f.Commit(ctx)
	if err != nil {
		return none, err
	}
	prints := f.Fingerprints()
	for _, sp := range plans {
		fp, ok := prints[sp.name]
		if !ok { // no sample came: there is no split to store
			return none, fmt.Errorf("split %q of %s has no rows", sp.name, p.cfg.Splits[sp.name].Name())
		}
		s := m.Split(sp.name, fp)
		if s == nil {
			return none, fmt.Errorf("split %q is gone from %s right after the commit", sp.name, p.storage)
		}
		filled[sp.name] = s
		if err := p.remember(ctx, sp, fp, encoders); err != nil {
			return none, err
		}
	}
	return f.Stats(), nil
}

// pace measures how fast a fill encodes. It is safe for concurrent use.
type pace struct {
	mu          sync.Mutex
	first, last time.Time // at which embeddings were counted
	from, to    int64     // how many there were then
}

func (p *pace) note(s cachesink.FillStats) {
	var n int64
	for _, e := range s.Encoders {
		n += e.Encoded
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if n <= p.to {
		return
	}
	p.last, p.to = time.Now(), n
	if p.from == 0 {
		p.first, p.from = p.last, n
	}
}

// rate is in objects a second.
func (p *pace) rate() float64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if span := p.last.Sub(p.first); span > 0 {
		return float64(p.to-p.from) / span.Seconds()
	}
	return 0
}

// sink takes the embeddings of an encoder: a fill or a restoration.
type sink interface {
	Memo(encoder string) *cachesink.Memo
	Write(g *stage.Group, encoder string, in stage.Stream[arrow.Record])
}

// encodeAll encodes the objects of each stream and writes them to a sink.
func (p *Pipeline[Row]) encodeAll(g *stage.Group, to sink, objects map[string]stage.Stream[arrow.Record], encoders []encoder) {
	for _, e := range encoders {
		if in, ok := objects[e.name]; ok {
			to.Write(g, e.name, encode.Stage(g, in, e.name, e.model, encode.StageOptions{
				Workers: p.cfg.Cache.workers(), BatchSize: e.use.BatchSize, Allocator: p.cfg.Allocator, Memo: to.Memo(e.name),
			}))
		}
	}
}

// remember notes which rows a split's source gave, unless it has changed
// since: then nobody knows which of its contents they are.
func (p *Pipeline[Row]) remember(ctx context.Context, sp splitPlan, fingerprint string, encoders []encoder) error {
	if sp.key == "" {
		return nil
	}
	now, _, err := p.sourceKey(ctx, sp.name, encoders)
	if err != nil {
		return err
	}
	if now != sp.key {
		p.cfg.Logger.Warn("the dataset changed while it was read; the next fill reads it again",
			"split", sp.name, "source", p.cfg.Splits[sp.name].Name())
		return nil
	}
	return p.cache.Remember(ctx, sp.key, cachesink.SourceNote{
		Split: sp.name, Fingerprint: fingerprint, Facts: sp.facts, LeftOut: sp.leftOut.Load(),
	})
}

func (p *Pipeline[Row]) fillOptions(encoders []encoder, dry bool) cachesink.FillOptions {
	o := cachesink.FillOptions{DryRun: dry, IgnoreSpace: p.cfg.IgnoreSpace, Allocator: p.cfg.Allocator}
	for _, e := range encoders {
		o.Encoders = append(o.Encoders, e.use)
	}
	if p.cfg.Cache != nil {
		o.ShardObjects, o.RecordBatchRows = p.cfg.Cache.ShardObjects, p.cfg.Cache.RecordBatchRows
		o.Compression = p.cfg.Cache.Compression
	}
	if p.cfg.OnProgress != nil {
		phase := "fill"
		if dry {
			phase = "read"
		}
		o.OnProgress = func(s cachesink.FillStats) { p.progress(Progress{Phase: phase, Fill: &s}) }
	}
	return o
}

// fillReport adds up what was read now and what was stored before.
func (p *Pipeline[Row]) fillReport(encoders []encoder, stats cachesink.FillStats) *FillReport {
	r := &FillReport{Encoders: map[string]EncoderReport{}}
	for _, e := range encoders {
		er := EncoderReport{CacheType: p.places[e.name].used, Fingerprint: e.use.Fingerprint, Dim: e.use.Dim}
		if e.use.Cached {
			er.DType = e.use.DType
		}
		r.Encoders[e.name] = er
	}
	for _, name := range p.splits {
		s := p.filled[name]
		r.Rows += s.Rows
		for _, se := range s.Encoders {
			if se.Folder == "" {
				continue
			}
			er := r.Encoders[se.Name]
			er.Objects += se.Objects
			r.Encoders[se.Name] = er
		}
	}
	for _, name := range p.names {
		er := r.Encoders[name]
		er.Encoded = stats.Encoders[name].Encoded
		er.Reused = er.Objects - er.Encoded
		er.Converted, er.Resumed = stats.Encoders[name].Converted, stats.Encoders[name].Resumed
		r.Encoders[name] = er
		r.Objects += er.Objects
		r.Encoded += er.Encoded
		r.Reused += er.Reused
		r.Converted += er.Converted
		r.Resumed += er.Resumed
	}
	return r
}

// warn says once what a pipeline without a cache lacks.
func (p *Pipeline[Row]) warn() {
	if p.cfg.Cache == nil {
		p.cfg.Logger.Warn("no cache is configured: every epoch encodes everything again; add `cache: {save_dir: cache_dir}` to encode once")
	}
	for _, name := range p.names {
		if pl := p.places[name]; pl.asked == cachesink.Auto && pl.reason != "" {
			p.cfg.Logger.Debug("cache type auto is cpu", "encoder", name, "reason", pl.reason)
		}
	}
}
