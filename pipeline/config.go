package pipeline

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"

	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/permafrost-ml/permafrost/cachesink"
	"github.com/permafrost-ml/permafrost/encode"
	"github.com/permafrost-ml/permafrost/internal/device"
	"github.com/permafrost-ml/permafrost/pipeline/head"
	"github.com/permafrost-ml/permafrost/pipeline/loss"
	"github.com/permafrost-ml/permafrost/pipeline/metric"
	"github.com/permafrost-ml/permafrost/pipeline/sampler"
	"github.com/permafrost-ml/permafrost/pipeline/train"
	"github.com/permafrost-ml/permafrost/source"
)

// Sample is one row as training sees it; make one with [Pair] or [Group].
type Sample = encode.Sample

// Pair returns the sample of two objects that match: score 1, subgroup 0.
func Pair(a, b encode.Object) Sample { return encode.PairSample(a, b) }

// Group returns the sample of an object and its label, a string or an
// integer.
func Group(o encode.Object, label any) Sample { return encode.GroupSample(o, label) }

// Bad returns the sample of a row that cannot be one: the row is treated as
// OnError says.
func Bad(err error) Sample { return encode.BadSample(err) }

// Splits are the datasets of a pipeline by the names of their splits.
type Splits[Row any] map[string]source.Source[Row]

// Encoders are the frozen encoders of a pipeline by name. An encoder reads
// the field "text" of every object unless [encode.Reading] says otherwise.
type Encoders map[string]encode.Model

// Mapping is a cache type for each of some encoders.
type Mapping map[string]cachesink.CacheType

// KeyExtractors name objects for people; see [encode.Key]. The zero value is
// the content for every encoder. Make one with [Key], [NamedKey] or [Keys].
type KeyExtractors struct {
	all       encode.Key
	byEncoder map[string]encode.Key
}

// Key returns a Go function as the key extractor of every encoder.
func Key(fn func(o encode.Object) string) KeyExtractors {
	return KeyExtractors{all: encode.KeyFunc(fn)}
}

// NamedKey returns one key extractor for every encoder.
func NamedKey(k encode.Key) KeyExtractors { return KeyExtractors{all: k} }

// Keys returns key extractors by the names of their encoders; the others
// have the content.
func Keys(byEncoder map[string]encode.Key) KeyExtractors {
	return KeyExtractors{byEncoder: maps.Clone(byEncoder)}
}

func (k KeyExtractors) of(encoder string) encode.Key {
	if key, ok := k.byEncoder[encoder]; ok {
		return key
	}
	return k.all
}

// CacheConfig says which encoders are cached, and where.
type CacheConfig struct {
	// CacheType is that of encoders which Mapping does not name.
	// Default: auto.
	CacheType cachesink.CacheType
	// Mapping is the cache type of some encoders. Default: none.
	Mapping Mapping
	// BatchSize is the number of objects in a batch of the fill. Default: 32.
	BatchSize int
	// NumWorkers is the number of instances of each encoder that work at
	// once in the fill. Default: 0, one per core, or per stream on a GPU.
	NumWorkers int
	// SaveDir is the cache directory, or another place that
	// [cachesink.OpenStorage] takes. Default: "", in memory, filled by each
	// process.
	SaveDir string
	// KeyExtractors name the objects. Default: the content.
	KeyExtractors KeyExtractors
	// DType is what the embeddings are stored in; training sees float32 in
	// any case. Embeddings that are stored in float32 are converted, all
	// others are encoded anew. Default: float32.
	DType cachesink.DType
	// DTypes is the dtype of some encoders, in place of DType. Default: none.
	DTypes map[string]cachesink.DType
	// Compression is that of new files of embeddings. Most embeddings hardly
	// shrink; those with many equal values do, such as zeros. Default: none.
	Compression cachesink.Compression
	// Access is mapped or copy. A cache directory is mapped into memory for
	// replay, so that it need not fit there; batches of consecutive rows then
	// are its pages, and whoever cuts its files meanwhile may end the process.
	// A copy takes the memory, and the time to read it, and nothing that is
	// done to the files later matters. Default: mapped.
	Access cachesink.Access
	// ShardObjects is the number of objects in a new shard. Default: 65,536.
	ShardObjects int
	// RecordBatchRows is the number of rows in the record batches of new
	// shards. Default: 0, as many as 16 MiB hold, at most 65,536.
	RecordBatchRows int
}

// Config declares a pipeline. Its zero values are defaults, but for Splits,
// Sample and Encoders, which every pipeline needs.
type Config[Row any] struct {
	// Splits are the datasets by name; they are always processed in the
	// order of their names.
	Splits Splits[Row]
	// Sample makes a sample of a row. It is called from one goroutine for
	// each split.
	Sample func(Row) Sample
	// Version names the behaviour of the Go functions here (Sample and key
	// extractors): change it when they change. With it, and sources that
	// have an identity, a fill that finds everything stored does not open
	// the dataset. Default: "", the rows are read at each fill, to see
	// whether they are still the same; nothing is encoded twice.
	Version string
	// Encoders are the frozen encoders. Their embeddings are concatenated
	// in the order of their names before the head.
	Encoders Encoders
	// KeepTypes declares the types of kept columns: int64, float64, bool,
	// text or bytes. Default: from the first rows.
	KeepTypes map[string]string
	// Limit takes only the first rows of each split. Default: 0, all.
	Limit int64
	// CheckSources reads the files of the dataset to learn whether they have
	// changed, even where size, times and inode say that they have not.
	// Default: false.
	CheckSources bool
	// VerifyAlways checks the checksums of all embeddings that are replayed,
	// also of blocks which the user's cache folder says have held before, in a
	// file that did not change since. Default: false.
	VerifyAlways bool
	// IgnoreSpace starts a fill even if the storage says that it has too
	// little room for it. Default: false; unless there is room for all that
	// files of such a size can hold, a fill then reads the rows once more
	// before, to count what it will write.
	IgnoreSpace bool
	// OnError says what becomes of bad rows. Default: source.Fail.
	OnError source.OnError
	// Quarantine is the file that bad rows go to with source.Quarantine.
	// Default: "quarantine.jsonl".
	Quarantine string
	// Cache says which encoders are cached. Default: nil, none is: every
	// epoch encodes everything again.
	Cache *CacheConfig

	// Head is the model that is trained. Default: head.Empty{}.
	Head head.Config
	// Loss is what training minimizes. Default: nil, nothing is trained.
	Loss loss.Config
	// Train are the options of training; its seed is Seed.
	Train train.Options
	// Sampler chooses the samples and the batches of an epoch of TrainSplit.
	// Default: nil, every sample once, in batches of Train.BatchSize.
	Sampler sampler.Config
	// Metrics are measured on the split Eval before and after training.
	// Default: precision at 1 and reciprocal rank.
	Metrics []metric.Config
	// TrainSplit is the split that is trained on. Default: "train".
	TrainSplit string
	// EvalSplit is the split that is measured. Default: "val", where there
	// is one.
	EvalSplit string
	// EvalSample estimates the metrics from random samples. Default: none,
	// everything is measured.
	EvalSample metric.Sample
	// Seed decides the order of samples and the first weights. Default: 0.
	Seed uint64
	// Output is the folder for the trained head, the metrics and the report.
	// It is replaced as a whole if an earlier run made it, and refused if it
	// holds anything else. Default: "", nothing is written.
	Output string

	// NoEncode makes a fill that would encode anything fail with
	// ErrWouldEncode. Default: false.
	NoEncode bool
	// Logger gets warnings and what is worth knowing. Default: slog.Default().
	Logger *slog.Logger
	// OnProgress, if set, is told how the work goes on; it is called from
	// several goroutines, one at a time. Default: nil.
	OnProgress func(Progress)
	// Allocator is where Arrow memory comes from. Default:
	// memory.DefaultAllocator.
	Allocator memory.Allocator

	leastJSON int64 // bytes of the smallest JSON object with a sample; 0 where that is not known
}

var (
	// ErrConfig is returned for a configuration that cannot be right.
	ErrConfig = errors.New("invalid configuration")
	// ErrGPUUnavailable is returned where the cache type gpu is asked for
	// and no usable GPU is there.
	ErrGPUUnavailable = errors.New("no usable GPU")
	// ErrWouldEncode is returned with NoEncode for a cache that does not
	// hold everything.
	ErrWouldEncode = errors.New("the cache is missing or stale")
	// ErrNotOurs is returned for an output folder that no run has made.
	ErrNotOurs = errors.New("the folder was not made by a run")
)

func configErr(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrConfig, fmt.Errorf(format, args...))
}

const defaultQuarantine = "quarantine.jsonl"

var nameRule = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)

// withDefaults returns the config with its defaults filled in, or all that
// is wrong with it.
func (c Config[Row]) withDefaults() (Config[Row], error) {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, configErr(format, args...)) }
	if len(c.Splits) == 0 {
		bad("no split is declared")
	}
	for _, name := range slices.Sorted(maps.Keys(c.Splits)) {
		if !nameRule.MatchString(name) {
			bad("split name %q: want small letters, digits and _, a letter first", name)
		}
		if c.Splits[name] == nil {
			bad("split %q has no source", name)
		}
	}
	if c.Sample == nil {
		bad("no function makes samples of rows")
	}
	if len(c.Encoders) == 0 {
		bad("no encoder is declared")
	}
	for _, name := range slices.Sorted(maps.Keys(c.Encoders)) {
		if !nameRule.MatchString(name) {
			bad("encoder name %q: want small letters, digits and _, a letter first", name)
		}
		if c.Encoders[name] == nil {
			bad("encoder %q has no model", name)
		} else if err := encode.ReadsOf(c.Encoders[name]).Validate(); err != nil {
			bad("encoder %q: %w", name, err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.KeepTypes)) {
		if t := c.KeepTypes[name]; !slices.Contains(keepTypes, t) {
			bad("kept column %q: type %q is none of %s", name, t, strings.Join(keepTypes, ", "))
		}
	}
	if c.Limit < 0 {
		bad("limit %d", c.Limit)
	}
	switch c.OnError {
	case "", source.Fail, source.Skip, source.Quarantine:
	default:
		bad("on_error %q is none of fail, skip, quarantine", c.OnError)
	}
	errs = append(errs, c.checkCache()...)
	if c.Output != "" && c.Cache != nil && cachesink.Scheme(c.Cache.SaveDir) == "" && c.Cache.SaveDir != "" && overlap(c.Output, c.Cache.SaveDir) {
		bad("output %s and save_dir %s must not lie in each other", c.Output, c.Cache.SaveDir)
	}
	if c.Head == nil {
		c.Head = head.Empty{}
	}
	c.Train.Seed = c.Seed
	if err := c.Train.Validate(); err != nil {
		bad("train: %w", err)
	}
	c.Train = c.Train.WithDefaults()
	if s := c.Train.EarlyStopping; s != nil && s.Monitor != train.TrainLoss {
		v := train.Validation{EveryEpochs: 1}
		if c.Train.Validation != nil {
			v = *c.Train.Validation
		}
		v.Loss, v.Metrics = v.Loss || s.Monitor == train.ValLoss, v.Metrics || s.Monitor != train.ValLoss
		c.Train.Validation = &v
	}
	if len(c.Metrics) == 0 {
		c.Metrics = []metric.Config{metric.RetrievalPrecision{}, metric.ReciprocalRank{}}
	}
	names := map[string]bool{}
	for _, m := range c.Metrics {
		if err := m.Validate(); err != nil {
			bad("metric %s: %w", m.Type(), err)
		}
		if names[m.Name()] {
			bad("metric %s is declared twice", m.Name())
		}
		names[m.Name()] = true
	}
	if err := c.EvalSample.Validate(); err != nil {
		bad("eval: %w", err)
	}
	c.EvalSample = c.EvalSample.WithDefaults()
	if c.TrainSplit == "" {
		c.TrainSplit = "train"
	}
	if (c.Loss != nil || c.Sampler != nil) && c.Splits[c.TrainSplit] == nil {
		bad("the split to train on, %q, is not declared", c.TrainSplit)
	}
	if err := c.checkSampler(); err != nil {
		bad("sampler %s: %w", c.Sampler.Type(), err)
	}
	if c.EvalSplit == "" {
		if _, ok := c.Splits["val"]; ok {
			c.EvalSplit = "val"
		}
	} else if c.Splits[c.EvalSplit] == nil {
		bad("the split to evaluate, %q, is not declared", c.EvalSplit)
	}
	errs = append(errs, c.checkTraining(names)...)
	if c.Quarantine == "" {
		c.Quarantine = defaultQuarantine
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Allocator == nil {
		c.Allocator = memory.DefaultAllocator
	}
	return c, errors.Join(errs...)
}

// checkTraining holds the training to what else is declared: the metrics by
// name, the split to evaluate and the output.
func (c *Config[Row]) checkTraining(metrics map[string]bool) (errs []error) {
	bad := func(format string, args ...any) { errs = append(errs, configErr("train: "+format, args...)) }
	v, s := c.Train.Validation, c.Train.EarlyStopping
	if v != nil && v.Measure == nil {
		if c.EvalSplit == "" {
			bad("there is no split to measure during the training: declare a split val, or name one to evaluate")
		}
		if s != nil && s.Monitor != train.TrainLoss && s.Monitor != train.ValLoss && !metrics[s.Monitor] {
			known := append([]string{train.TrainLoss, train.ValLoss}, slices.Sorted(maps.Keys(metrics))...)
			bad("early stopping monitors %q, which is none of %s", s.Monitor, strings.Join(known, ", "))
		}
	}
	if c.Train.Checkpoints != nil && c.Output == "" {
		bad("checkpoints are kept beside the output: name an output")
	}
	return errs
}

// keepTypes are the types that a kept column may declare.
var keepTypes = []string{"int64", "float64", "bool", "text", "bytes"}

// overlap reports whether two folders are one, or one is inside the other.
func overlap(a, b string) bool {
	inside := func(base, target string) bool {
		rel, err := filepath.Rel(base, target)
		return err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator))
	}
	a, errA := filepath.Abs(a)
	b, errB := filepath.Abs(b)
	return errA == nil && errB == nil && (inside(a, b) || inside(b, a))
}

func (c *Config[Row]) checkCache() (errs []error) {
	if c.Cache == nil {
		return nil
	}
	cc := *c.Cache
	bad := func(format string, args ...any) { errs = append(errs, configErr("cache: "+format, args...)) }
	if _, err := cachesink.ParseCacheType(string(cc.CacheType)); err != nil {
		bad("%w", err)
	}
	if err := cachesink.CheckPlace(cc.SaveDir); err != nil {
		bad("save_dir: %w", err)
	}
	known := strings.Join(slices.Sorted(maps.Keys(c.Encoders)), ", ")
	for _, name := range slices.Sorted(maps.Keys(cc.Mapping)) {
		if _, ok := c.Encoders[name]; !ok {
			bad("mapping names the encoder %q, the encoders are %s", name, known)
		}
		if _, err := cachesink.ParseCacheType(string(cc.Mapping[name])); err != nil {
			bad("mapping of %q: %w", name, err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(cc.KeyExtractors.byEncoder)) {
		if _, ok := c.Encoders[name]; !ok {
			bad("key_extractors name the encoder %q, the encoders are %s", name, known)
		}
	}
	if _, err := cachesink.ParseDType(string(cc.DType)); err != nil {
		bad("%w", err)
	}
	for _, name := range slices.Sorted(maps.Keys(cc.DTypes)) {
		if _, ok := c.Encoders[name]; !ok {
			bad("dtype names the encoder %q, the encoders are %s", name, known)
		}
		if _, err := cachesink.ParseDType(string(cc.DTypes[name])); err != nil {
			bad("encoder %q: %w", name, err)
		}
	}
	if _, err := cachesink.ParseAccess(string(cc.Access)); err != nil {
		bad("%w", err)
	}
	if _, err := cachesink.ParseCompression(string(cc.Compression)); err != nil {
		bad("%w", err)
	}
	if cc.BatchSize < 0 || cc.NumWorkers < 0 || cc.ShardObjects < 0 {
		bad("batch_size %d, num_workers %d and shard_objects %d must not be negative", cc.BatchSize, cc.NumWorkers, cc.ShardObjects)
	}
	if cc.RecordBatchRows < 0 || cc.RecordBatchRows > cachesink.MaxRecordBatchRows {
		bad("record_batch_rows %d is not in 0 to %d", cc.RecordBatchRows, cachesink.MaxRecordBatchRows)
	}
	return errs
}

// placement is where an encoder's embeddings are to be, after auto.
type placement struct {
	cached bool
	asked  cachesink.CacheType
	used   cachesink.CacheType
	reason string // why auto fell back
}

// place decides the cache type of an encoder on this machine.
func (c *Config[Row]) place(encoder string) (placement, error) {
	if c.Cache == nil {
		return placement{asked: cachesink.None, used: cachesink.None}, nil
	}
	asked, ok := c.Cache.Mapping[encoder]
	if !ok {
		asked = c.Cache.CacheType
	}
	asked, err := cachesink.ParseCacheType(string(asked))
	if err != nil {
		return placement{}, nil // checkCache reports it
	}
	p := placement{cached: asked != cachesink.None, asked: asked, used: asked}
	switch asked {
	case cachesink.Auto:
		p.used = cachesink.CPU
		if err := device.Usable(); err != nil {
			p.reason = err.Error()
		}
	case cachesink.GPU:
		if err := device.Usable(); err != nil {
			return p, fmt.Errorf("%w for the cache of encoder %q: %w", ErrGPUUnavailable, encoder, err)
		}
	}
	return p, nil
}

func (c *CacheConfig) batchSize() int {
	if c == nil || c.BatchSize == 0 {
		return cachesink.DefaultBatchSize
	}
	return c.BatchSize
}

func (c *CacheConfig) workers() int {
	if c == nil || c.NumWorkers == 0 {
		return runtime.GOMAXPROCS(0)
	}
	return c.NumWorkers
}

// dtype is what an encoder's embeddings are stored in.
func (c *CacheConfig) dtype(encoder string) cachesink.DType {
	if c == nil {
		return cachesink.Float32
	}
	return cmp.Or(c.DTypes[encoder], c.DType, cachesink.Float32)
}

func (c *CacheConfig) keys() KeyExtractors {
	if c == nil {
		return KeyExtractors{}
	}
	return c.KeyExtractors
}

func (c *CacheConfig) storage(ctx context.Context) (cachesink.Storage, error) {
	if c == nil || c.SaveDir == "" {
		return cachesink.Memory(), nil
	}
	return cachesink.OpenStorage(ctx, c.SaveDir)
}

// place is where the cache lies, whatever the working directory is; empty in
// memory.
func (c *CacheConfig) place() string {
	if c == nil || c.SaveDir == "" {
		return ""
	}
	if cachesink.Scheme(c.SaveDir) != "" {
		return c.SaveDir
	}
	if abs, err := filepath.Abs(c.SaveDir); err == nil {
		return abs
	}
	return c.SaveDir
}
