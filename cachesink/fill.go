package cachesink

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

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
	// DType is what the embeddings are stored in. Default: Float32.
	DType DType
	// BatchSize is the number of objects that the encoder is given at once;
	// an object batch is a multiple of it, the last of a shard may be less.
	// Default: 32.
	BatchSize int
	// BatchInvariant says that an embedding does not depend on the batch that
	// the object is encoded in. Default: false.
	BatchInvariant bool
	// FreeKeys says that the key of an object follows from its id or its
	// place, so that no two contents can share one. Default: false.
	FreeKeys bool
}

// FillOptions are the options of [Cache.Fill].
type FillOptions struct {
	// Encoders are the encoders of all samples.
	Encoders []Use
	// ShardObjects is the number of objects in a new shard. Default: 65,536.
	ShardObjects int
	// Compression is that of new shards. Default: Uncompressed.
	Compression Compression
	// RecordBatchRows is the number of rows in the record batches of new
	// shards, at most as many as 64 MiB hold. Default: 0, as many as 16 MiB
	// hold, at most 65,536.
	RecordBatchRows int
	// IgnoreSpace fills whatever the storage says of its free space.
	// Default: false.
	IgnoreSpace bool
	// Damaged are the folders of splits whose files are written again where
	// the fill has the same rows. Default: none.
	Damaged []string
	// DryRun counts, and stores nothing: nothing is encoded, and Commit
	// fails. Default: false.
	DryRun bool
	// Allocator is where Arrow memory comes from. Default:
	// memory.DefaultAllocator.
	Allocator memory.Allocator
	// OnProgress, if set, is called now and then from the stages' goroutines
	// with the counts so far; it must be fast. Default: nil.
	OnProgress func(FillStats)

	leases leases // of tests; nil for those that lie in the directory
}

// DefaultShardObjects and DefaultBatchSize are the defaults of FillOptions
// and Use.
const (
	DefaultShardObjects = 65536
	DefaultBatchSize    = 32
)

// MaxRecordBatchRows bounds FillOptions.RecordBatchRows.
const MaxRecordBatchRows = 1 << 20

// maxBatch bounds the objects of an object batch.
const maxBatch = 1 << 20

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
	// Converted are those stored before this fill in float32 alone: they are
	// stored in the dtype of this fill without being encoded.
	Converted int64
	// Resumed are those of the others that a killed fill, or another one that
	// ran at the same time, had encoded.
	Resumed int64
	Encoded int64 // embeddings written so far that were encoded by this fill
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
	// Converted are those of the hits that are stored in float32 alone, and
	// will be converted.
	Converted int64 `json:"converted"`
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
	leases  leases
	splits  []*splitWriter

	free int64 // bytes at the start, -1 where it does not matter

	mu         sync.Mutex
	stats      FillStats
	planned    int64 // bytes of the shards to write
	splitBytes int64 // of the splits, so far
	ended      bool
}

// encoderFill is the state of one encoder during a fill.
type encoderFill struct {
	Use
	entry   Encoder // as it stood in the manifest at the start
	base    int64   // rows stored before
	tableMu sync.Mutex
	table   idTable   // of all objects
	full    *original // what may be converted, nil if there is nothing
	keys    keyTable
	inSplit bitmap // positions met in the current split
	met     bitmap // stored positions met at all
	next    int64  // position of the next new object
	memo    *Memo  // nil where it is not cached

	recalled atomic.Int64 // embeddings from the memo that are on their way

	largest int64 // bytes that a shard takes while it is made; guarded by Fill.mu

	inputs, mostInputs int64 // bytes of those of a shard: the one being put together, the largest

	mu    sync.Mutex
	plans []*shardPlan // all new shards, in order
	queue []*shardPlan // those whose objects were emitted and not all written, in that order
}

// insert stores the position of an object that is new, or finds the one that
// it has.
func (e *encoderFill) insert(id *[32]byte, pos int64) (at int64, fresh bool, err error) {
	e.tableMu.Lock()
	defer e.tableMu.Unlock()
	return e.table.insert(id, pos)
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
	if opts.Compression == "" {
		opts.Compression = Uncompressed
	}
	f.opts = opts
	if opts.ShardObjects < 1 {
		return nil, fmt.Errorf("cachesink: a shard of %d objects", opts.ShardObjects)
	}
	if opts.RecordBatchRows < 0 || opts.RecordBatchRows > MaxRecordBatchRows {
		return nil, fmt.Errorf("cachesink: a record batch of %d rows", opts.RecordBatchRows)
	}
	if _, err := ParseCompression(string(opts.Compression)); err != nil {
		return nil, fmt.Errorf("cachesink: %w", err)
	}
	f.leases = f.share(ctx)
	for _, u := range opts.Encoders {
		if err := f.add(ctx, u); err != nil {
			return nil, errors.Join(err, f.Abort())
		}
	}
	f.names = slices.Sorted(maps.Keys(f.byName))
	if f.free = -1; !opts.IgnoreSpace && !opts.DryRun {
		f.free = c.st.Free(ctx)
	}
	if s, ok := c.st.(store.Sweeper); ok && !opts.DryRun {
		if err := s.Sweep(ctx); err != nil && !errors.Is(err, fs.ErrPermission) {
			return nil, errors.Join(fmt.Errorf("remove old temporary files of %s: %w", c.st, err), f.Abort())
		}
	}
	return f, nil
}

// share returns the leases of the fill. It comes before anything is read that
// others might delete.
func (f *Fill) share(ctx context.Context) leases {
	_, alone := f.c.st.(*store.Mem)
	var folders []string
	for _, u := range f.opts.Encoders {
		if !u.Cached {
			continue
		}
		for _, d := range []DType{cmp.Or(u.DType, Float32), Float32} { // it may be converted
			if folder := EncoderFolder(u.Name, u.Fingerprint, d); !slices.Contains(folders, folder) {
				folders = append(folders, folder)
			}
		}
	}
	switch {
	case f.opts.leases != nil:
		return f.opts.leases
	case alone || f.opts.DryRun || len(folders) == 0:
		return noLeases{}
	}
	return newSession(ctx, f.c.st, folders)
}

func (f *Fill) add(ctx context.Context, u Use) error {
	if u.BatchSize == 0 {
		u.BatchSize = DefaultBatchSize
	}
	dtype, err := ParseDType(string(u.DType))
	if err != nil {
		return fmt.Errorf("cachesink: encoder %q: %w", u.Name, err)
	}
	u.DType = dtype
	switch {
	case !nameRule.MatchString(u.Name):
		return fmt.Errorf("cachesink: encoder name %q: want small letters, digits and _, a letter first", u.Name)
	case f.byName[u.Name] != nil:
		return fmt.Errorf("cachesink: encoder %q is declared twice", u.Name)
	case len(u.Fingerprint) != 64 || u.Dim <= 0 || u.Dim > maxDim || u.BatchSize < 1 || u.BatchSize > maxBatch:
		return fmt.Errorf("cachesink: encoder %q: fingerprint %q, dimension %d, batch size %d", u.Name, u.Fingerprint, u.Dim, u.BatchSize)
	}
	e := &encoderFill{Use: u}
	f.byName[u.Name] = e
	f.stats.Encoders[u.Name] = EncoderStats{}
	if !u.Cached {
		return nil
	}
	e.entry = Encoder{
		Name: u.Name, Fingerprint: u.Fingerprint, Folder: EncoderFolder(u.Name, u.Fingerprint, u.DType),
		Dim: u.Dim, DType: u.DType, Spec: u.Spec, Shards: []Shard{},
	}
	if u.DType != Float32 {
		full, err := f.stored(EncoderFolder(u.Name, u.Fingerprint, Float32), u)
		if err != nil {
			return err
		}
		if full != nil {
			e.full = &original{entry: full}
		}
	}
	stored, err := f.stored(e.entry.Folder, u)
	if err != nil {
		return err
	}
	if stored != nil {
		e.entry.Shards = slices.Clone(stored.Shards)
	}
	if e.memo, err = newMemo(ctx, f, e); stored == nil || err != nil {
		return err
	}
	if e.base, err = loadIDs(ctx, f.c.st, stored, &e.table); err != nil {
		return f.c.moved(ctx, err)
	}
	e.next = e.base
	return nil
}

// stored returns what the manifest has in a folder of an encoder.
func (f *Fill) stored(folder string, u Use) (*Encoder, error) {
	e := f.c.manifest.Encoder(folder)
	if e != nil && e.Dim != u.Dim {
		return nil, fmt.Errorf("encoder %q: dimension %d, but %s holds %d under the same fingerprint", u.Name, u.Dim, f.c.st, e.Dim)
	}
	return e, nil
}

// layout is that of the shards of an encoder.
func (f *Fill) layout(e *encoderFill) layout {
	return layout{
		dtype: e.DType, codec: f.opts.Compression, output: codecOutput[f.opts.Compression], rows: f.opts.RecordBatchRows,
	}
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
		e.memo.close()
		for _, p := range e.plans {
			p.memo.close()
			p.release()
		}
		e.table.close()
		if e.full != nil {
			e.full.table.close()
		}
		e.keys.close()
	}
	f.leases.close()
	return err
}
