package pipeline

import (
	"context"
	"fmt"

	"github.com/permafrost-ml/permafrost/cachesink"
	"github.com/permafrost-ml/permafrost/source"
	"github.com/permafrost-ml/permafrost/stage"
)

// Plan says what a fill would do.
type Plan struct {
	// Dir is the cache directory, "memory" where there is none.
	Dir string `json:"dir"`
	// Covered says that everything is stored: a fill opens neither encoders
	// nor datasets.
	Covered bool `json:"covered"`
	// ToEncode is the number of objects to encode, over all encoders.
	ToEncode int64 `json:"to_encode"`
	// ToConvert is the number of objects that are stored in float32 and will
	// be converted, over all encoders.
	ToConvert int64 `json:"to_convert"`
	// BytesNow is the size of all that the cache holds. BytesAfter bounds
	// what it will be: what compression will save is not counted.
	BytesNow   int64 `json:"bytes_now"`
	BytesAfter int64 `json:"bytes_after"`
	// Free is what the disk has left, -1 where unknown, and Needs what of it a
	// fill must find: all that it adds, and of each encoder a shard in the
	// making.
	Free     int64                  `json:"free"`
	Needs    int64                  `json:"needs"`
	Encoders map[string]EncoderPlan `json:"encoders"`
	Splits   map[string]SplitPlan   `json:"splits"`
}

// EncoderPlan says where an encoder's embeddings are to be.
type EncoderPlan struct {
	Asked       cachesink.CacheType `json:"asked"`      // as configured
	CacheType   cachesink.CacheType `json:"cache_type"` // on this machine
	Reason      string              `json:"reason,omitempty"`
	Fingerprint string              `json:"fingerprint"`
	Fields      map[string]string   `json:"fields"` // behind the fingerprint
	Dim         int                 `json:"dim"`
	DType       cachesink.DType     `json:"dtype,omitempty"` // where it is cached
	Stored      int64               `json:"stored"`          // objects in the cache, in this dtype
	// Differs are, where nothing is stored under this fingerprint and dtype,
	// the fields in which the nearest stored encoder of this name differs:
	// "field: stored -> configured".
	Differs []string `json:"differs,omitempty"`
}

// SplitPlan says what is to be done for a split.
type SplitPlan struct {
	Source string `json:"source"`
	Stored bool   `json:"stored"` // its rows need not be read
	// Facts are what decides its rows: the identity of the source, how samples
	// are made of them, what each encoder reads and how it is stored.
	Facts map[string]string `json:"facts"`
	// Differs says why its rows must be read: the facts in which the nearest
	// fill of a split of this name differs, "fact: then -> now". It is empty
	// where there was none.
	Differs  []string                               `json:"differs,omitempty"`
	Rows     int64                                  `json:"rows"`
	Encoders map[string]cachesink.SplitEncoderStats `json:"encoders"`
}

// Plan finds out what a fill would do. It opens no encoder; it reads the
// rows of splits that are not known to be stored, and stores nothing. With
// the same cache it is the same each time.
func (p *Pipeline[Row]) Plan(ctx context.Context) (*Plan, error) {
	encoders, plans, err := p.survey(ctx)
	if err != nil {
		return nil, fmt.Errorf("plan: %w", ended(ctx, err))
	}
	plan, err := p.plan(ctx, encoders, plans)
	if err != nil {
		return nil, fmt.Errorf("plan: %w", ended(ctx, err))
	}
	return plan, nil
}

// Stored returns the splits that the cache has of what the dataset is now, as
// far as that is known without reading its rows.
func (p *Pipeline[Row]) Stored(ctx context.Context) ([]*cachesink.Split, error) {
	_, plans, err := p.survey(ctx)
	if err != nil {
		return nil, fmt.Errorf("find the stored splits: %w", ended(ctx, err))
	}
	var stored []*cachesink.Split
	for _, sp := range plans {
		if sp.stored != nil {
			stored = append(stored, sp.stored)
		}
	}
	return stored, nil
}

func (p *Pipeline[Row]) plan(ctx context.Context, encoders []encoder, plans []splitPlan) (*Plan, error) {
	m := p.cache.Manifest()
	plan := &Plan{
		Dir: p.storage.String(), Covered: true, BytesNow: m.Bytes(), Free: p.cache.Free(ctx),
		Encoders: map[string]EncoderPlan{}, Splits: map[string]SplitPlan{},
	}
	for _, e := range encoders {
		pl := p.places[e.name]
		ep := EncoderPlan{
			Asked: pl.asked, CacheType: pl.used, Reason: pl.reason,
			Fingerprint: e.use.Fingerprint, Fields: e.use.Spec, Dim: e.use.Dim,
		}
		if pl.cached {
			ep.DType = e.use.DType
		}
		if stored := m.Encoder(cachesink.EncoderFolder(e.name, e.use.Fingerprint, e.use.DType)); stored != nil {
			ep.Stored = stored.Rows()
		} else if pl.cached {
			ep.Differs = closest(m, e)
		}
		plan.Encoders[e.name] = ep
	}
	var notes []cachesink.SourceNote
	if len(unread(plans)) > 0 {
		var err error
		if notes, err = p.cache.Notes(ctx); err != nil {
			return nil, err
		}
	}
	for _, sp := range plans {
		s := SplitPlan{Source: p.cfg.Splits[sp.name].Name(), Facts: sp.facts, Encoders: map[string]cachesink.SplitEncoderStats{}}
		if sp.stored != nil {
			s.Stored, s.Rows = true, sp.stored.Rows
			for _, se := range sp.stored.Encoders {
				s.Encoders[se.Name] = cachesink.SplitEncoderStats{Objects: se.Objects, Hits: se.Objects}
			}
		}
		if sp.stored == nil {
			s.Differs = sp.differs(m, notes)
		}
		plan.Splits[sp.name] = s
	}
	plan.BytesAfter = plan.BytesNow
	todo := unread(plans)
	if len(todo) == 0 {
		return plan, nil
	}
	plan.Covered = false
	stats, size, err := p.dryRun(ctx, encoders, todo)
	if err != nil {
		return nil, err
	}
	for _, sp := range todo {
		s := plan.Splits[sp.name]
		st := stats.Splits[sp.name]
		s.Rows = st.Rows
		for _, e := range encoders {
			es := st.Encoders[e.name]
			s.Encoders[e.name] = es
			plan.ToEncode += es.ToEncode
			plan.ToConvert += es.Converted
		}
		plan.Splits[sp.name] = s
	}
	plan.BytesAfter += size.Files
	plan.Needs = size.Need
	return plan, nil
}

// closest says how an encoder differs from the stored one of its name that
// has the most fields in common; nil where there is none.
func closest(m *cachesink.Manifest, e encoder) []string {
	want := &cachesink.Encoder{Fingerprint: e.use.Fingerprint, Spec: e.use.Spec, Dim: e.use.Dim, DType: e.use.DType}
	var best []string
	for i := range m.Encoders {
		if m.Encoders[i].Name != e.name {
			continue
		}
		if d := m.Encoders[i].Differs(want); best == nil || len(d) < len(best) {
			best = d
		}
	}
	return best
}

// differs says why a split must be read.
func (sp *splitPlan) differs(m *cachesink.Manifest, notes []cachesink.SourceNote) []string {
	if sp.why != "" {
		return []string{sp.why}
	}
	var best []string
	for _, n := range notes {
		if n.Split != sp.name || m.Split(n.Split, n.Fingerprint) == nil {
			continue
		}
		if d := cachesink.DiffFields(n.Facts, sp.facts); best == nil || len(d) < len(best) {
			best = d
		}
	}
	return best
}

// dryRun reads splits and counts what their fill would encode.
func (p *Pipeline[Row]) dryRun(ctx context.Context, encoders []encoder, plans []splitPlan) (none cachesink.FillStats, size cachesink.FillSize, err error) {
	policy := source.Fail
	if p.cfg.leavesOut() {
		policy = source.Skip // a dry run writes no quarantine
	}
	guard, err := source.NewGuard(policy, "")
	if err != nil {
		return none, size, err
	}
	f, err := p.cache.Fill(ctx, p.fillOptions(encoders, true))
	if err != nil {
		return none, size, err
	}
	defer f.Abort()
	g, _ := stage.NewGroup(ctx)
	f.Index(g, p.samples(g, encoders, plans, guard))
	err = g.Wait()
	for _, sp := range plans {
		sp.leftOut.Store(0) // a fill counts again
	}
	if err != nil {
		return none, size, err
	}
	size, err = f.Size(ctx)
	return f.Stats(), size, err
}
