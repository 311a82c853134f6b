package cachesink

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"sync"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/permafrost-ml/permafrost/internal/store"
)

// Use is an encoder as a fill sees it: plain values, no code.
type Use struct {
	// Name is the encoder's name in columns and folders.
	Name string
	// Fingerprint identifies the encoder: 64 hexadecimal digits.
	Fingerprint string
	// Spec are the declared fields behind the fingerprint.
	Spec map[string]string
	// Input is what the encoder reads of an object, as declared.
	Input string
	// Dim is the number of values of an embedding.
	Dim int
	// Cached says that embeddings are stored; otherwise the inputs are, for
	// the encoder to read again in each epoch. Default: false.
	Cached bool
	// BatchSize is the number of objects in an object batch; the last batch
	// of a shard may be smaller. Default: 32.
	BatchSize int
	// FreeKeys says that the key of an object follows from its id or its
	// place, so that no two contents can share one. Default: false.
	FreeKeys bool
}

// FillOptions are the options of [Cache.Fill].
type FillOptions struct {
	// Encoders are the encoders of all samples.
	Encoders []Use
	// ShardObjects is the number of objects in a shard. Default: 65,536.
	ShardObjects int
	// DryRun counts, and stores nothing: nothing is encoded, and Commit
	// fails. Default: false.
	DryRun bool
	// Allocator is where Arrow memory comes from. Default:
	// memory.DefaultAllocator.
	Allocator memory.Allocator
	// OnProgress, if set, is called now and then from the stages' goroutines
	// with the counts so far; it must be fast. Default: nil.
	OnProgress func(FillStats)
}

// DefaultShardObjects and DefaultBatchSize are the defaults of FillOptions
// and Use.
const (
	DefaultShardObjects = 65536
	DefaultBatchSize    = 32
)

// FillStats counts what a fill has done.
type FillStats struct {
	Rows     int64 // samples read
	Encoders map[string]EncoderStats
	Splits   map[string]SplitStats
}

// EncoderStats counts the distinct objects of one encoder over all splits.
type EncoderStats struct {
	Objects int64 // distinct objects that the samples name
	Reused  int64 // of these: stored before this fill
	Resumed int64 // of these: in shards that a killed fill had finished
	Encoded int64 // embeddings written so far by this fill
}

// SplitStats counts one split.
type SplitStats struct {
	Rows     int64
	Encoders map[string]SplitEncoderStats
}

// SplitEncoderStats counts the objects of one split under one encoder.
type SplitEncoderStats struct {
	Objects  int64 `json:"objects"`   // distinct objects in this split
	Hits     int64 `json:"hits"`      // of these: stored, or first met in an earlier split
	ToEncode int64 `json:"to_encode"` // of these: neither
}

// Fill is one pass of writing: sample batches go in by [Fill.Index], what
// must be encoded comes out, its embeddings go in by [Fill.Write]; then
// [Fill.Commit] makes all of it count, or [Fill.Abort] none. A Fill serves
// one stage.Group.
type Fill struct {
	c       *Cache
	mem     memory.Allocator
	opts    FillOptions
	byName  map[string]*encoderFill
	names   []string // of all encoders, sorted
	objects *arrow.Schema
	splits  []*splitWriter

	mu    sync.Mutex
	stats FillStats
	ended bool
}

// encoderFill is the state of one encoder during a fill.
type encoderFill struct {
	Use
	entry   Encoder // as it will stand in the manifest, without new shards
	base    int64   // rows stored before
	table   idTable
	keys    keyTable
	inSplit bitmap // positions met in the current split
	met     bitmap // stored positions met at all
	next    int64  // position of the next new object

	mu    sync.Mutex
	plans []*shardPlan // shards sent on, in order
}

// done returns the new shards in order, or an error while one is not
// finished.
func (e *encoderFill) done() ([]Shard, error) {
	var out []Shard
	for _, p := range e.plans {
		if p.result == nil {
			return nil, fmt.Errorf("cachesink: encoder %q: shard %s was not written", e.Name, p.name)
		}
		out = append(out, *p.result)
	}
	return out, nil
}

// Fill starts a fill on top of what the cache holds. It reads the ids of all
// objects that the encoders have stored.
func (c *Cache) Fill(ctx context.Context, opts FillOptions) (*Fill, error) {
	if opts.ShardObjects == 0 {
		opts.ShardObjects = DefaultShardObjects
	}
	if opts.Allocator == nil {
		opts.Allocator = c.mem
	}
	f := &Fill{c: c, mem: opts.Allocator, opts: opts, byName: map[string]*encoderFill{}, objects: ObjectSchema()}
	f.stats = FillStats{Encoders: map[string]EncoderStats{}, Splits: map[string]SplitStats{}}
	if opts.ShardObjects < 1 {
		return nil, fmt.Errorf("cachesink: a shard of %d objects", opts.ShardObjects)
	}
	for _, u := range opts.Encoders {
		if err := f.add(ctx, u); err != nil {
			return nil, errors.Join(err, f.Abort())
		}
	}
	f.names = slices.Sorted(maps.Keys(f.byName))
	if d, ok := c.st.(*store.Dir); ok && !opts.DryRun {
		if err := d.Sweep(ctx); err != nil && !errors.Is(err, fs.ErrPermission) {
			return nil, errors.Join(fmt.Errorf("remove old temporary files of %s: %w", c.st, err), f.Abort())
		}
	}
	return f, nil
}

func (f *Fill) add(ctx context.Context, u Use) error {
	if u.BatchSize == 0 {
		u.BatchSize = DefaultBatchSize
	}
	switch {
	case u.Name == "" || f.byName[u.Name] != nil:
		return fmt.Errorf("cachesink: encoder %q is named twice or not at all", u.Name)
	case len(u.Fingerprint) != 64 || u.Dim <= 0 || u.BatchSize < 1:
		return fmt.Errorf("cachesink: encoder %q: fingerprint %q, dimension %d, batch size %d", u.Name, u.Fingerprint, u.Dim, u.BatchSize)
	}
	e := &encoderFill{Use: u}
	f.byName[u.Name] = e
	f.stats.Encoders[u.Name] = EncoderStats{}
	if !u.Cached {
		return nil
	}
	e.entry = Encoder{
		Name: u.Name, Fingerprint: u.Fingerprint, Folder: EncoderFolder(u.Name, u.Fingerprint),
		Dim: u.Dim, DType: Float32, Spec: u.Spec, Shards: []Shard{},
	}
	stored := f.c.manifest.Encoder(e.entry.Folder)
	if stored == nil {
		return nil
	}
	if stored.Dim != u.Dim {
		return fmt.Errorf("encoder %q: dimension %d, but %s holds %d under the same fingerprint", u.Name, u.Dim, f.c.st, stored.Dim)
	}
	e.entry.Shards = slices.Clone(stored.Shards)
	for _, s := range stored.Shards {
		if err := e.load(ctx, f, s); err != nil {
			return err
		}
	}
	e.next = e.base
	return nil
}

// Stats returns the counts so far. It is safe for concurrent use.
func (f *Fill) Stats() FillStats {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.snapshot()
}

func (f *Fill) snapshot() FillStats {
	s := f.stats
	s.Encoders = maps.Clone(s.Encoders)
	s.Splits = maps.Clone(s.Splits)
	for name, sp := range s.Splits {
		sp.Encoders = maps.Clone(sp.Encoders)
		s.Splits[name] = sp
	}
	return s
}

func (f *Fill) count(fn func(*FillStats)) {
	f.mu.Lock()
	fn(&f.stats)
	var s FillStats
	if f.opts.OnProgress != nil {
		s = f.snapshot()
	}
	f.mu.Unlock()
	if f.opts.OnProgress != nil {
		f.opts.OnProgress(s)
	}
}

// Fingerprints returns the fingerprint of each split that was indexed. It
// may be called when the stages have ended.
func (f *Fill) Fingerprints() map[string]string {
	out := map[string]string{}
	for _, w := range f.splits {
		out[w.cols.split] = w.fingerprint()
	}
	return out
}

// Rows returns the number of rows of each split that was indexed.
func (f *Fill) Rows() map[string]int64 {
	out := map[string]int64{}
	for _, w := range f.splits {
		out[w.cols.split] = w.rows
	}
	return out
}

// commitTries bounds how often a commit gives way to other processes.
const commitTries = 100

// Commit makes the fill count, after the group that ran its stages has ended
// without an error. What other fills have committed in between stays. It
// returns the manifest that holds this fill; where the cache held all of it
// before, no new generation is made. The Cache it was started from then
// stands at that manifest.
func (f *Fill) Commit(ctx context.Context) (*Manifest, error) {
	if f.ended || f.opts.DryRun {
		return nil, errors.New("cachesink: commit of a fill that has ended or was a dry run")
	}
	defer f.Abort()
	for _, w := range f.splits {
		if err := w.finish(ctx); err != nil {
			return nil, err
		}
	}
	for range commitTries {
		cur, top, err := readManifest(ctx, f.c.st)
		if err != nil {
			return nil, err
		}
		next, changed, err := f.merge(ctx, cur)
		if err != nil {
			return nil, err
		}
		if !changed {
			f.c.manifest = cur
			return cur, nil
		}
		err = next.commit(ctx, f.c.st, top+1)
		if errors.Is(err, fs.ErrExist) {
			continue // another fill was first: read again and merge
		}
		if err != nil {
			return nil, err
		}
		f.c.manifest = next
		return next, nil
	}
	return nil, fmt.Errorf("commit to %s: gave way to other fills %d times", f.c.st, commitTries)
}

// merge adds the fill to a manifest. Positions are those of this fill's view
// (the shards at its start and its own after them); where the manifest has
// other shards in between, the split files are written anew.
func (f *Fill) merge(ctx context.Context, cur *Manifest) (next *Manifest, changed bool, err error) {
	next = &Manifest{Format: FormatVersion, Encoders: slices.Clone(cur.Encoders), Splits: slices.Clone(cur.Splits)}
	shifts := map[string][]segment{}
	moved := false
	for _, name := range f.names {
		e := f.byName[name]
		if !e.Cached {
			continue
		}
		entry := next.Encoder(e.entry.Folder)
		if entry == nil {
			next.Encoders = append(next.Encoders, e.entry)
			entry = &next.Encoders[len(next.Encoders)-1]
			entry.Shards = nil
			changed = true
		}
		done, err := e.done()
		if err != nil {
			return nil, false, err
		}
		shards := slices.Clone(entry.Shards)
		for _, s := range done {
			if !slices.ContainsFunc(shards, func(o Shard) bool { return o.ID == s.ID }) {
				shards = append(shards, s)
				changed = true
			}
		}
		entry.Shards = append([]Shard{}, shards...)
		segs, same, err := segments(slices.Concat(e.entry.Shards, done), shards)
		if err != nil {
			return nil, false, fmt.Errorf("encoder %q: %w", name, err)
		}
		shifts[name] = segs
		moved = moved || !same
	}
	for _, w := range f.splits {
		fp := w.fingerprint()
		if next.Split(w.cols.split, fp) != nil {
			continue
		}
		if moved {
			if err := w.move(ctx, func(enc string, pos int64) int64 { return shift(shifts[enc], pos) }); err != nil {
				return nil, false, err
			}
		}
		s, err := f.publishSplit(ctx, next, w, fp)
		if err != nil {
			return nil, false, err
		}
		next.Splits = append(next.Splits, *s)
		changed = true
	}
	if moved {
		// The files now have the positions of cur; should this commit lose
		// too, the next merge starts from there.
		for _, name := range f.names {
			if e := f.byName[name]; e.Cached {
				e.entry.Shards = slices.Clone(next.Encoder(e.entry.Folder).Shards)
				e.plans = nil
			}
		}
	}
	return next, changed, nil
}

// publishSplit names the files of a split. The folder's name comes from the
// rows and from the shards that the positions count through.
func (f *Fill) publishSplit(ctx context.Context, m *Manifest, w *splitWriter, fp string) (*Split, error) {
	h := sha256.New()
	fmt.Fprintf(h, "permafrost.splitfolder.v%d\n%s\n", FormatVersion, fp)
	s := &Split{Name: w.cols.split, Fingerprint: fp, Kind: w.cols.kind, Rows: w.rows, Encoders: []SplitEncoder{}}
	for _, name := range f.names {
		e := f.byName[name]
		se := SplitEncoder{Name: name, Fingerprint: e.Fingerprint, Input: e.Input, Objects: w.objects[name]}
		if e.Cached {
			se.Folder = e.entry.Folder
			for _, sh := range m.Encoder(se.Folder).Shards {
				fmt.Fprintln(h, sh.ID)
			}
		}
		s.Encoders = append(s.Encoders, se)
	}
	tail := fmt.Sprintf("%s-%s", s.Name, hex.EncodeToString(h.Sum(nil))[:12])
	s.Folder = "splits/" + tail
	var err error
	if s.Files, err = w.table.publish(ctx, s.Folder); err != nil {
		return nil, err
	}
	if w.inputs != nil {
		if s.Inputs, err = w.inputs.publish(ctx, "inputs/"+tail); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// segment maps a run of positions to another.
type segment struct{ from, to, rows int64 }

// segments maps the positions of one list of shards to those of another that
// holds them all.
func segments(from, to []Shard) (segs []segment, same bool, err error) {
	at := map[string]int64{}
	var n int64
	for _, s := range to {
		if _, ok := at[s.ID]; !ok {
			at[s.ID] = n
		}
		n += s.Rows
	}
	same = true
	n = 0
	for _, s := range from {
		pos, ok := at[s.ID]
		if !ok {
			return nil, false, fmt.Errorf("shard %s was removed while the fill ran; run it again", s.Name)
		}
		same = same && pos == n
		segs = append(segs, segment{n, pos, s.Rows})
		n += s.Rows
	}
	return segs, same, nil
}

func shift(segs []segment, pos int64) int64 {
	i, ok := slices.BinarySearchFunc(segs, pos, func(s segment, p int64) int {
		switch {
		case p < s.from:
			return 1
		case p >= s.from+s.rows:
			return -1
		}
		return 0
	})
	if !ok {
		return pos
	}
	return segs[i].to + pos - segs[i].from
}

// Abort drops what is not committed. Finished shards stay in the directory,
// named by no manifest: a later fill of the same objects takes them up. It
// must not be called before the group that runs the stages has ended; after
// a Commit it does nothing.
func (f *Fill) Abort() error {
	if f.ended {
		return nil
	}
	f.ended = true
	var err error
	for _, w := range f.splits {
		err = errors.Join(err, w.abort())
	}
	for _, e := range f.byName {
		e.table.close()
		e.keys.close()
	}
	return err
}
