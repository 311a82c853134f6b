package cachesink

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
)

// SpaceError is returned instead of encoding what the storage has no room for.
// It is ErrNoSpace.
type SpaceError struct {
	Place string // the storage
	Need  int64  // bytes that the fill needs, of what is known of it
	Free  int64  // bytes that the storage had when the fill started
}

func (e *SpaceError) Error() string {
	return fmt.Sprintf("%v in %s: the fill needs %d bytes, %d are free", ErrNoSpace, e.Place, e.Need, e.Free)
}

func (e *SpaceError) Unwrap() error { return ErrNoSpace }

// FillSize bounds what a fill writes. Compression is not counted: nobody knows
// what it saves before it is done.
type FillSize struct {
	// Files are the bytes of the files that the fill adds to the cache, less
	// what a killed fill has left of them.
	Files int64
	// Need are the bytes that must be free: beside the files, for each encoder
	// what is kept of a shard in the making, and the inputs of its objects and
	// of those of the next.
	Need int64
}

// What a file takes beside the values of its rows: the schema, once in front
// and once in the footer, and for each buffer of a record batch its place, its
// padding and an entry in the footer.
const (
	fileOverhead   = 1600
	batchOverhead  = 256
	columnOverhead = 256
)

// withSums adds the checksums to the size of files.
func withSums(bytes int64) int64 { return bytes + sumBytes(bytes) }

// shardBytes bounds the size of a shard of so many objects, checksums included.
func (f *Fill) shardBytes(e *encoderFill, rows int64) int64 {
	if rows == 0 {
		return 0
	}
	spec, _ := json.Marshal(e.Spec) // texts: it cannot fail
	batch := int64(f.layout(e).batchRows(e.Dim))
	batches := (rows + batch - 1) / batch
	return withSums(rows*int64(e.DType.RowBytes(e.Dim)) + fileOverhead + 2*int64(len(spec)) + batches*(batchOverhead+3*columnOverhead))
}

// makingBytes bounds what is kept of a shard of so many objects while they are
// encoded, whatever it is stored in: the records of a partial file.
func (e *encoderFill) makingBytes(rows int64) int64 {
	if rows == 0 {
		return 0
	}
	return partialHead + rows*int64(recordHead+idBytes+4*e.Dim)
}

// scratchBytes are those of the files that hold the inputs of a shard, if they
// have so many bytes, while they wait to be encoded: its own and the next one's.
func scratchBytes(inputs int64) int64 {
	if inputs <= spoolMemory {
		return 0
	}
	return 2 * inputs
}

// Extent bounds what the samples of a fill are made of.
type Extent struct {
	Splits int   // that are filled
	Rows   int64 // of all of them
	Texts  int64 // bytes of all values of the rows
	Kept   int   // kept columns
}

// Bound returns the most bytes that must be free for a fill whose samples have
// an extent, whatever the cache holds: all are pairs, no object comes twice or
// is stored, each text is label, key and kept value at once, and inputs have a
// text as often as their declaration can name it.
func (c *Cache) Bound(opts FillOptions, x Extent) int64 {
	if x.Rows > maxFile { // of one byte
		return math.MaxInt64
	}
	rows, texts := float64(x.Rows), float64(x.Texts)
	columns := float64(3 + x.Kept)
	value := 16.0 // of a column of numbers, or what a text takes beside its bytes
	split := rows*value*columns + 2*texts
	var shards float64
	for _, u := range opts.Encoders {
		u.BatchSize = cmp.Or(u.BatchSize, DefaultBatchSize)
		u.DType = cmp.Or(u.DType, Float32)
		e, f := &encoderFill{Use: u}, &Fill{opts: opts}
		objects := 2 * rows
		columns += 6
		split += objects * (maxKey + idBytes + 3*value)
		if !u.FreeKeys {
			split += 2 * texts
		}
		inputs := objects*float64(len(u.Input)+64) + 2*texts*float64(1+len(u.Input)/len("{a}"))
		if !u.Cached {
			split += inputs
			continue
		}
		shard := int64(cmp.Or(opts.ShardObjects, DefaultShardObjects))
		largest := int64(min(objects, float64(shard)))
		shards += math.Ceil(objects/float64(shard)) * float64(f.shardBytes(e, largest))
		shards += float64(e.makingBytes(largest)) + 2*inputs
	}
	files := float64(x.Splits) + rows/splitFileRows
	batches := float64(x.Splits) + rows/splitBatchRows
	split += 2 * (files*(fileOverhead+columns*columnOverhead) + batches*(batchOverhead+columns*columnOverhead))
	if need := shards + split*(1+4.0/sumBlock) + 1; need < math.MaxInt64 {
		return int64(need)
	}
	return math.MaxInt64
}

// maxKey is the longest key that is content or place.
const maxKey = 160

// Size bounds what the fill writes for all samples that were indexed. It must
// not be called before the stages have ended; it is meant for a dry run.
func (f *Fill) Size(ctx context.Context) (FillSize, error) {
	var s FillSize
	for _, name := range f.names {
		e := f.byName[name]
		fresh, shard := e.next-e.base, int64(f.opts.ShardObjects)
		if fresh == 0 {
			continue
		}
		left, err := f.leftOver(ctx, e)
		if err != nil {
			return s, err
		}
		s.Files += max(0, fresh/shard*f.shardBytes(e, shard)+f.shardBytes(e, fresh%shard)-left)
		s.Need += e.makingBytes(min(fresh, shard)) + scratchBytes(max(e.inputs, e.mostInputs))
	}
	for _, w := range f.splits {
		s.Files += w.size()
	}
	s.Need += s.Files
	return s, nil
}

// leftOver is the size of the files in an encoder's folder that no manifest
// names: shards that a killed fill has finished.
func (f *Fill) leftOver(ctx context.Context, e *encoderFill) (bytes int64, err error) {
	found, err := f.c.st.List(ctx, e.entry.Folder+"/")
	if err != nil {
		return 0, fmt.Errorf("list %s of %s: %w", e.entry.Folder, f.c.st, err)
	}
	named := map[string]bool{}
	for _, s := range e.entry.Shards {
		named[s.File.Name], named[s.File.Name+sumSuffix] = true, true
	}
	for _, info := range found {
		if !named[info.Name] {
			bytes += info.Size
		}
	}
	return bytes, nil
}

// size bounds the size of the split's files.
func (w *splitWriter) size() (bytes int64) {
	for _, t := range []*tableWriter{w.table, w.inputs} {
		if t == nil || w.rows == 0 {
			continue
		}
		files := (w.rows + splitFileRows - 1) / splitFileRows
		batches := (w.rows + splitBatchRows - 1) / splitBatchRows
		columns := int64(len(t.schema.Fields()))
		bytes += withSums(files*(fileOverhead+columns*columnOverhead) + batches*(batchOverhead+columns*columnOverhead))
	}
	return bytes + withSums(w.bytes)
}

// valueBytes is what the values of a column take in a file.
func valueBytes(a arrow.Array) int64 {
	n := int64(a.Len())
	switch a := a.(type) {
	case *array.String:
		return n/8 + 4*(n+1) + int64(len(a.ValueBytes()))
	case *array.Binary:
		return n/8 + 4*(n+1) + int64(len(a.ValueBytes()))
	}
	if t, ok := a.DataType().(arrow.FixedWidthDataType); ok {
		return n/8 + (n*int64(t.BitWidth())+7)/8
	}
	return 0 // there are no other columns
}

// reserve refuses a shard, whose inputs have so many bytes, that does not fit
// beside what was planned before it. A shard that is there already takes no room.
func (f *Fill) reserve(e *encoderFill, p *shardPlan, inputs int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.planned += f.shardBytes(e, p.rows)
	e.largest = max(e.largest, e.makingBytes(p.rows)+scratchBytes(inputs))
	need := f.planned + f.splitBytes
	for _, o := range f.byName {
		need += o.largest
	}
	if f.free >= 0 && need > f.free {
		return &SpaceError{f.c.st.String(), need, f.free}
	}
	return nil
}
