package pipeline

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/permafrost-ml/permafrost/cachesink"
	"github.com/permafrost-ml/permafrost/encode"
	"github.com/permafrost-ml/permafrost/pipeline/train/trainable"
	"github.com/permafrost-ml/permafrost/source"
)

// Pipeline is a validated configuration with what it has opened so far. Its
// methods are not safe for concurrent use, except where they say so.
type Pipeline[Row any] struct {
	cfg    Config[Row]
	names  []string // of the encoders, sorted
	splits []string // sorted
	places map[string]placement
	// trained are the encoders that are trained with the head, by name;
	// cfg.Encoders has the frozen models under them.
	trained map[string]trainable.Config

	storage cachesink.Storage
	cache   *cachesink.Cache

	progressMu sync.Mutex
	tables     cachesink.Tables
	readers    map[string]*cachesink.SplitReader // by split
	sampled    *epochs                           // of the split that is trained on, with a sampler
	filled     map[string]*cachesink.Split       // by split, once filled
	loop       inLoop
}

// New validates a configuration. It starts nothing and opens nothing but the
// list of devices. The errors wrap ErrConfig or ErrGPUUnavailable, all
// problems at once.
func New[Row any](cfg Config[Row]) (*Pipeline[Row], error) {
	cfg, err := cfg.withDefaults()
	errs := []error{err}
	p := &Pipeline[Row]{
		cfg:     cfg,
		names:   slices.Sorted(maps.Keys(cfg.Encoders)),
		splits:  slices.Sorted(maps.Keys(cfg.Splits)),
		places:  map[string]placement{},
		readers: map[string]*cachesink.SplitReader{},
	}
	p.tables.VerifyAlways = cfg.VerifyAlways
	if cfg.Cache != nil {
		p.tables.Access = cfg.Cache.Access
	}
	p.loop.open = func(ctx context.Context, m encode.Model) (*encode.Columns, error) {
		return encode.OpenColumns(ctx, m, cfg.Allocator)
	}
	for _, name := range p.names {
		pl, err := p.cfg.place(name)
		errs = append(errs, err)
		p.places[name] = pl
	}
	errs = append(errs, p.takeTrained())
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return p, nil
}

// Close releases the memory and the encoders that the pipeline holds. Batches
// and records that were retained stay valid.
func (p *Pipeline[Row]) Close() error {
	p.forget()
	return p.loop.close()
}

// forget releases what was read of the cache, to be read again when needed.
func (p *Pipeline[Row]) forget() {
	p.sampled = nil
	for _, r := range p.readers {
		r.Release()
	}
	p.readers = map[string]*cachesink.SplitReader{}
	p.tables.Release()
}

// open opens the cache once.
func (p *Pipeline[Row]) open(ctx context.Context) error {
	if p.cache != nil {
		return nil
	}
	if p.storage == nil {
		st, err := p.cfg.Cache.storage(ctx)
		if err != nil {
			return configErr("cache: save_dir: %w", err)
		}
		p.storage = st
	}
	c, err := cachesink.Open(ctx, p.storage, p.cfg.Allocator)
	if err != nil {
		return err
	}
	p.cache = c
	return nil
}

// encoder is what the models declare, resolved for a fill.
type encoder struct {
	name  string
	model encode.Model
	spec  encode.Spec
	use   cachesink.Use
	reads encode.Reads
	key   encode.Key
}

// encoders asks every model for its fingerprint.
func (p *Pipeline[Row]) encoders(ctx context.Context) ([]encoder, error) {
	out := make([]encoder, 0, len(p.names))
	for _, name := range p.names {
		m := p.cfg.Encoders[name]
		spec, err := m.Spec(ctx)
		if err != nil {
			return nil, fmt.Errorf("encoder %q: %w", name, err)
		}
		batch := p.cfg.Cache.batchSize()
		fingerprint, declared, err := spec.Declaration(batch)
		if err != nil {
			return nil, fmt.Errorf("encoder %q: %w", name, err)
		}
		e := encoder{name: name, model: m, spec: spec, reads: encode.ReadsOf(m), key: p.cfg.Cache.keys().of(name)}
		e.use = cachesink.Use{
			Name: name, Fingerprint: fingerprint, Spec: declared, Input: e.reads.String(), Dim: spec.Dim,
			Cached: p.places[name].cached, BatchSize: batch, FreeKeys: e.key.Free(),
			DType: p.cfg.Cache.dtype(name), BatchInvariant: spec.BatchInvariant,
		}
		out = append(out, e)
	}
	return out, nil
}

// sourceKey returns the key and the facts of a split's source note: all that
// decides its rows. The key is empty where something is not declared.
func (p *Pipeline[Row]) sourceKey(ctx context.Context, split string, encoders []encoder) (key string, facts map[string]string, err error) {
	if p.cfg.CheckSources {
		ctx = source.CheckSources(ctx)
	}
	id, err := p.cfg.Splits[split].Identity(ctx)
	if err != nil {
		return "", nil, fmt.Errorf("identify split %q: %w", split, err)
	}
	facts = map[string]string{
		"split":    split,
		"source":   id,
		"samples":  p.cfg.Version,
		"limit":    fmt.Sprint(p.cfg.Limit),
		"bad_rows": fmt.Sprint(p.cfg.leavesOut()),
	}
	for name, t := range p.cfg.KeepTypes {
		facts["keep."+name] = t
	}
	declared := id != "" && p.cfg.Version != ""
	for _, e := range encoders {
		facts["encoder."+e.name] = e.use.Fingerprint
		facts["encoder."+e.name+".input"] = e.use.Input
		facts["encoder."+e.name+".key"] = e.key.String()
		facts["encoder."+e.name+".cached"] = fmt.Sprint(e.use.Cached)
		if e.use.Cached && e.use.DType != cachesink.Float32 {
			facts["encoder."+e.name+".dtype"] = string(e.use.DType)
		}
	}
	if !declared {
		return "", facts, nil
	}
	b, err := json.Marshal(facts) // keys come sorted
	if err != nil {
		return "", nil, err
	}
	d := sha256.Sum256(append([]byte("permafrost.source.v1\n"), b...))
	return hex.EncodeToString(d[:]), facts, nil
}

// progress reports to the config's function, one call at a time.
func (p *Pipeline[Row]) progress(pr Progress) {
	if p.cfg.OnProgress == nil {
		return
	}
	p.progressMu.Lock()
	defer p.progressMu.Unlock()
	p.cfg.OnProgress(pr)
}

// Progress says how far a run has come.
type Progress struct {
	// Phase is "read", "fill", "eval", "train" or "done".
	Phase string
	// Fill are the counts of the fill, in the phase "fill".
	Fill *cachesink.FillStats
	// Epoch and Epochs count training, in the phase "train": Epoch are done.
	Epoch, Epochs int
	// Loss is the mean loss of the last epoch.
	Loss float64
}
