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
	// BytesNow is the size of all that the cache holds; BytesAfter is about
	// what it will be, not counting what compression saves; Free is what the disk has left, -1 where unknown.
	BytesNow   int64                  `json:"bytes_now"`
	BytesAfter int64                  `json:"bytes_after"`
	Free       int64                  `json:"free"`
	Encoders   map[string]EncoderPlan `json:"encoders"`
	Splits     map[string]SplitPlan   `json:"splits"`
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
	Source   string                                 `json:"source"`
	Stored   bool                                   `json:"stored"` // its rows need not be read
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
			ep.Differs = differs(m, e)
		}
		plan.Encoders[e.name] = ep
	}
	for _, sp := range plans {
		s := SplitPlan{Source: p.cfg.Splits[sp.name].Name(), Encoders: map[string]cachesink.SplitEncoderStats{}}
		if sp.stored != nil {
			s.Stored, s.Rows = true, sp.stored.Rows
			for _, se := range sp.stored.Encoders {
				s.Encoders[se.Name] = cachesink.SplitEncoderStats{Objects: se.Objects, Hits: se.Objects}
			}
		}
		plan.Splits[sp.name] = s
	}
	plan.BytesAfter = plan.BytesNow
	todo := unread(plans)
	if len(todo) == 0 {
		return plan, nil
	}
	plan.Covered = false
	stats, err := p.dryRun(ctx, encoders, todo)
	if err != nil {
		return nil, err
	}
	shard := int64(cachesink.DefaultShardObjects)
	if p.cfg.Cache != nil && p.cfg.Cache.ShardObjects > 0 {
		shard = int64(p.cfg.Cache.ShardObjects)
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
			add := es.ToEncode + es.Converted
			plan.BytesAfter += add*int64(e.use.DType.RowBytes(e.use.Dim)) + st.Rows*splitRowBytes
			plan.BytesAfter += fileBytes * ((add + shard - 1) / shard)
		}
		plan.BytesAfter += fileBytes
		plan.Splits[sp.name] = s
	}
	return plan, nil
}

// What about a split's row takes for one encoder (key, id and position), and
// a file beside its rows.
const (
	splitRowBytes = 112
	fileBytes     = 3000
)

// differs compares an encoder with the stored one of its name that has the
// most fields in common.
func differs(m *cachesink.Manifest, e encoder) []string {
	var best []string
	for _, stored := range m.Encoders {
		if stored.Name != e.name {
			continue
		}
		d := cachesink.DiffFields(stored.Spec, e.use.Spec)
		if stored.DType != e.use.DType {
			d = append(d, fmt.Sprintf("stored as: %s -> %s", stored.DType, e.use.DType))
		}
		if best == nil || len(d) < len(best) {
			best = d
		}
	}
	return best
}

// dryRun reads splits and counts what their fill would encode.
func (p *Pipeline[Row]) dryRun(ctx context.Context, encoders []encoder, plans []splitPlan) (none cachesink.FillStats, err error) {
	policy := source.Fail
	if p.cfg.leavesOut() {
		policy = source.Skip // a dry run writes no quarantine
	}
	guard, err := source.NewGuard(policy, "")
	if err != nil {
		return none, err
	}
	f, err := p.cache.Fill(ctx, p.fillOptions(encoders, true))
	if err != nil {
		return none, err
	}
	defer f.Abort()
	g, _ := stage.NewGroup(ctx)
	f.Index(g, p.samples(g, encoders, plans, guard))
	err = g.Wait()
	for _, sp := range plans {
		sp.leftOut.Store(0) // a fill counts again
	}
	return f.Stats(), err
}

// refuse ends a fill that must not encode and would.
func (p *Pipeline[Row]) refuse(ctx context.Context, encoders []encoder, plans []splitPlan) error {
	plan, err := p.plan(ctx, encoders, plans)
	if err != nil {
		return fmt.Errorf("plan: %w", err)
	}
	if plan.ToEncode > 0 {
		return fmt.Errorf("%w: %d objects would be encoded into %s", ErrWouldEncode, plan.ToEncode, plan.Dir)
	}
	return nil
}
