package cachesink

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/permafrost-ml/permafrost/internal/store"
)

// DefaultGrace is the default of [GCOptions.Grace].
const DefaultGrace = 24 * time.Hour

// GCOptions are the options of [Cache.Garbage].
type GCOptions struct {
	// Keep is how many splits of each name stay: those filled last.
	// Default: 1.
	Keep int
	// Protect are fingerprints of splits that stay, however old: what
	// datasets that are in use have now. Default: none.
	Protect []string
	// Grace is how long what is no longer needed stays: a generation since
	// the next one came, a file that no generation names since it was
	// written. A negative one is none: what a running fill has made stays all
	// the same for 10 minutes, its temporary files for a day, and all of it
	// as long as it is known to run. Default: 24 hours.
	Grace time.Duration
	// Compact rewrites shards that are mostly garbage, or tiny, together with
	// the splits that name them. Default: false.
	Compact bool
	// ShardObjects is the number of objects of a full shard, for Compact.
	// Default: 65,536.
	ShardObjects int
}

func (o GCOptions) withDefaults() GCOptions {
	if o.Keep == 0 {
		o.Keep = 1
	}
	if o.Grace == 0 {
		o.Grace = DefaultGrace
	}
	if o.ShardObjects == 0 {
		o.ShardObjects = DefaultShardObjects
	}
	return o
}

// GCPlan is what [Cache.Collect] is to do, or has done.
type GCPlan struct {
	// Generation is the one that the plan is made for.
	Generation int64 `json:"generation"`
	// Committed is the new generation, 0 if there is none.
	Committed int64 `json:"committed"`
	// Splits and Encoders are those that the manifest is to name no more.
	Splits   []DroppedSplit   `json:"splits"`
	Encoders []DroppedEncoder `json:"encoders"`
	// Compact are the encoders of which shards are rewritten.
	Compact []Compaction `json:"compact"`
	// Files are those to delete now, Later those that a younger generation
	// names, and which a later collection deletes.
	Files []Garbage `json:"files"`
	Later []Garbage `json:"later"`
	// Young and Spared are files that no generation names, which are younger
	// than the grace or may belong to a running fill.
	Young  FileCount `json:"young"`
	Spared FileCount `json:"spared"`

	opts GCOptions
	next *Manifest // to commit, nil for none
}

// DroppedSplit is a split that newer ones of its name supersede.
type DroppedSplit struct {
	Name        string `json:"name"`
	Fingerprint string `json:"fingerprint"`
	Folder      string `json:"folder"`
	Rows        int64  `json:"rows"`
}

// DroppedEncoder is an encoder that no split uses.
type DroppedEncoder struct {
	Name    string `json:"name"`
	Folder  string `json:"folder"`
	Objects int64  `json:"objects"`
}

// Garbage is a file that is no longer needed.
type Garbage struct {
	File  string `json:"file"`
	Bytes int64  `json:"bytes"`
	Why   string `json:"why"`

	changed time.Time // when it was listed
}

// FileCount counts files.
type FileCount struct {
	Files int64 `json:"files"`
	Bytes int64 `json:"bytes"`
}

func (c *FileCount) add(bytes int64) { c.Files, c.Bytes = c.Files+1, c.Bytes+bytes }

// Bytes returns the size of the files to delete.
func (p *GCPlan) Bytes() (n int64) {
	for _, g := range p.Files {
		n += g.Bytes
	}
	return n
}

// commits says that there will be a new generation.
func (p *GCPlan) commits() bool { return p.next != nil || len(p.Compact) > 0 }

// Empty says that there is nothing to do.
func (p *GCPlan) Empty() bool { return len(p.Files) == 0 && !p.commits() }

// Why a file is garbage.
const (
	whySuperseded = "only a superseded generation names it"
	whyDropped    = "of a split or encoder that is dropped"
	whyCompacted  = "its objects move to another shard"
	whyOrphan     = "no generation names it"
	whyPartial    = "of a fill that has ended"
	whyTemporary  = "a temporary file that was left behind"
	whyManifest   = "a superseded generation"
	whyClaim      = "a commit that has ended"
	whyNote       = "a note on a split that is gone"
)

// Garbage lists what the cache does not need, at its newest generation. It
// deletes and changes nothing. What stays is all that the newest manifest
// names, after superseded splits and the encoders that only they use are
// taken from it; what the generations name that were the newest at some time
// within the grace; what fills that run now use; and files younger than the
// grace. Files that are not a cache's stay, too.
func (c *Cache) Garbage(ctx context.Context, opts GCOptions) (*GCPlan, error) {
	opts = opts.withDefaults()
	if opts.Keep < 1 || opts.ShardObjects < 1 {
		return nil, fmt.Errorf("cachesink: keep %d splits of a name, %d objects a shard", opts.Keep, opts.ShardObjects)
	}
	// The list of files comes before the manifest and the running fills, so
	// that what is made after it is on no list.
	g := &gatherer{c: c, opts: opts, now: time.Now()}
	var err error
	if g.files, err = c.allFiles(ctx); err != nil {
		return nil, err
	}
	cur, err := g.current(ctx)
	if err != nil {
		return nil, err
	}
	if g.live, err = liveFills(ctx, c.st); err != nil {
		return nil, err
	}
	g.plan = &GCPlan{
		Generation: cur.Generation, opts: opts, Splits: []DroppedSplit{}, Encoders: []DroppedEncoder{},
		Compact: []Compaction{}, Files: []Garbage{}, Later: []Garbage{},
	}
	next := g.drop(cur)
	if len(g.plan.Splits)+len(g.plan.Encoders) > 0 {
		g.plan.next = next
	}
	if opts.Compact {
		at := &Cache{c.st, c.mem, next}
		if g.plan.Compact, err = at.compactions(ctx, opts, g.live); err != nil {
			return nil, c.moved(ctx, err)
		}
	}
	if err := g.sort(ctx, cur, next); err != nil {
		return nil, err
	}
	return g.plan, nil
}

// gatherer makes a plan.
type gatherer struct {
	c     *Cache
	opts  GCOptions
	now   time.Time
	files []store.Info
	live  *inUse
	plan  *GCPlan
}

const (
	// orphanAge is how old a file that no generation names must be in any
	// case: a commit may be about to name it.
	orphanAge = 10 * time.Minute
	// temporaryAge is that of one that has no name yet: a fill may read or
	// write it now and then only.
	temporaryAge = 24 * time.Hour
)

// fresh says that a file is too young to go, whatever the grace.
func (g *gatherer) fresh(f store.Info, why string) bool {
	age := orphanAge
	if why == whyTemporary {
		age = temporaryAge
	}
	return f.ModTime.IsZero() || g.now.Sub(f.ModTime) < age
}

// current returns the newest manifest. A commit that has begun is waited for,
// unless it is so old that its process must have ended.
func (g *gatherer) current(ctx context.Context) (*Manifest, error) {
	cur, top, err := readManifest(ctx, g.c.st)
	if err != nil || top == cur.Generation {
		return cur, err
	}
	for _, f := range g.files {
		if n, claim := generationOf(f.Name); claim && n == top && g.old(f.ModTime) {
			return cur, nil
		}
	}
	return settled(ctx, g.c.st)
}

// old says that a file was last changed before the grace began.
func (g *gatherer) old(changed time.Time) bool {
	return g.opts.Grace < 0 || !changed.IsZero() && g.now.Sub(changed) >= g.opts.Grace
}

// allFiles lists everything in the folders of a cache.
func (c *Cache) allFiles(ctx context.Context) (out []store.Info, err error) {
	for _, folder := range []string{"encoders/", "inputs/", manifestsDir, sourcesDir, "splits/", "tmp/"} {
		list, err := c.st.List(ctx, folder)
		if err != nil {
			return nil, fmt.Errorf("list %s of %s: %w", folder, c.st, err)
		}
		out = append(out, list...)
	}
	return out, nil
}

// drop returns the manifest without superseded splits, and without the
// encoders that only they use. What a running fill's encoders are part of
// stays: the fill may count on it.
func (g *gatherer) drop(cur *Manifest) *Manifest {
	next := &Manifest{Format: cur.Format, Generation: cur.Generation, Digest: cur.Digest, Encoders: []Encoder{}, Splits: []Split{}}
	newer, used := map[string]int{}, map[string]bool{}
	for _, s := range slices.Backward(cur.Splits) {
		newer[s.Name]++
		running := slices.ContainsFunc(s.Encoders, func(e SplitEncoder) bool { return g.live.encoders[e.Folder] })
		if newer[s.Name] > g.opts.Keep && !running && !slices.Contains(g.opts.Protect, s.Fingerprint) {
			g.plan.Splits = append(g.plan.Splits, DroppedSplit{s.Name, s.Fingerprint, s.Folder, s.Rows})
			continue
		}
		next.Splits = append(next.Splits, s)
		for _, e := range s.Encoders {
			used[e.Folder] = true
		}
	}
	slices.Reverse(next.Splits)
	slices.Reverse(g.plan.Splits)
	for _, e := range cur.Encoders {
		if used[e.Folder] || g.live.encoders[e.Folder] {
			next.Encoders = append(next.Encoders, e)
			continue
		}
		g.plan.Encoders = append(g.plan.Encoders, DroppedEncoder{e.Name, e.Folder, e.Rows()})
	}
	return next
}

// sort decides for each file what becomes of it.
func (g *gatherer) sort(ctx context.Context, cur, next *Manifest) error {
	old, keeping, err := g.generations(ctx, cur)
	if err != nil {
		return err
	}
	names := func(ms ...*Manifest) map[string]bool {
		out := map[string]bool{}
		for _, m := range ms {
			for f := range m.files() {
				out[f.Name], out[f.Name+sumSuffix] = true, true
			}
		}
		return out
	}
	kept, current, before := names(next), names(cur), names(keeping...)
	for _, c := range g.plan.Compact {
		for _, name := range c.files {
			delete(kept, name)
			delete(kept, name+sumSuffix)
		}
	}
	moved := names(next)
	for _, f := range g.files {
		switch why := g.why(ctx, f, old, next); {
		case kept[f.Name] || why == "":
		case current[f.Name] || before[f.Name]:
			if why = whyDropped; moved[f.Name] {
				why = whyCompacted
			} else if !current[f.Name] {
				why = whySuperseded
			}
			to := &g.plan.Files
			if before[f.Name] {
				to = &g.plan.Later
			}
			*to = append(*to, Garbage{f.Name, f.Size, why, f.ModTime})
		case g.spared(f):
			g.plan.Spared.add(f.Size)
		case why != whyManifest && (!g.old(f.ModTime) || g.fresh(f, why)):
			g.plan.Young.add(f.Size)
		default:
			g.plan.Files = append(g.plan.Files, Garbage{f.Name, f.Size, why, f.ModTime})
		}
	}
	// Manifests first: one that is there has its files.
	slices.SortStableFunc(g.plan.Files, func(a, b Garbage) int { return a.rank() - b.rank() })
	return nil
}

func (g Garbage) rank() int {
	switch g.Why {
	case whyClaim:
		return 0
	case whyManifest:
		return 1
	}
	return 2
}

// generations tells the numbers of the manifests that may go from those that
// were the newest within the grace, which it reads. The newest one counts
// among these while it is young itself: what a collection takes from it stays.
func (g *gatherer) generations(ctx context.Context, cur *Manifest) (old map[int64]bool, keeping []*Manifest, err error) {
	old = map[int64]bool{}
	var last store.Info // the manifest after
	for _, f := range slices.Backward(g.files) {
		n, claim := generationOf(f.Name)
		if n == 0 || claim || n > cur.Generation {
			continue
		}
		if last.Name == "" && n < cur.Generation { // the newest one came after the list
			keeping = append(keeping, cur)
		}
		since := f.ModTime
		if n < cur.Generation {
			since = last.ModTime
		}
		last = f
		if g.old(since) {
			old[n] = n < cur.Generation || g.plan.commits()
			continue
		}
		m := cur
		if n < cur.Generation {
			b, err := store.ReadAll(ctx, g.c.st, f.Name, maxManifest)
			if errors.Is(err, fs.ErrNotExist) {
				continue // another collection was faster
			}
			if err != nil {
				return nil, nil, fmt.Errorf("read %s of %s: %w", f.Name, g.c.st, err)
			}
			if m, err = ParseManifest(b); err != nil {
				return nil, nil, fmt.Errorf("read %s of %s: %w", f.Name, g.c.st, err)
			}
		}
		keeping = append(keeping, m)
	}
	if last.Name == "" && cur.Generation > 0 { // it came after the list
		keeping = append(keeping, cur)
	}
	return old, keeping, nil
}

// why says what a file is if nothing keeps it, "" if it is not to be judged.
func (g *gatherer) why(ctx context.Context, f store.Info, old map[int64]bool, next *Manifest) string {
	folder, _, _ := strings.Cut(f.Name, "/")
	switch folder + "/" {
	case "tmp/":
		return whyTemporary
	case manifestsDir:
		n, claim := generationOf(f.Name)
		switch {
		case n == 0:
			return ""
		case claim && n != g.plan.Generation:
			return whyClaim
		case !claim && old[n]:
			return whyManifest
		}
		return ""
	case sourcesDir:
		b, err := store.ReadAll(ctx, g.c.st, f.Name, maxNote)
		var n SourceNote
		if err == nil && (json.Unmarshal(b, &n) != nil || next.Split(n.Split, n.Fingerprint) == nil) {
			return whyNote
		}
		return ""
	}
	name := path.Base(f.Name)
	switch {
	case strings.HasSuffix(name, partialSuffix):
		return whyPartial
	case strings.HasSuffix(name, ".arrow"), strings.HasSuffix(name, ".arrow"+sumSuffix):
		return whyOrphan
	}
	return "" // not ours
}

// spared says that a file may belong to a fill that runs.
func (g *gatherer) spared(f store.Info) bool {
	folder, name := path.Split(f.Name)
	if folder == "tmp/" || strings.HasPrefix(folder, "splits/") || strings.HasPrefix(folder, "inputs/") || folder == sourcesDir {
		return g.live.any
	}
	if g.live.encoders[path.Clean(folder)] {
		return true
	}
	for id := range g.live.shards {
		if strings.HasPrefix(name, id) || len(id) >= 8 && strings.Contains(name, "-"+id[:8]+".arrow") {
			return true
		}
	}
	return false
}
