package encode

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"runtime"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/permafrost-ml/permafrost/stage"
)

// DefaultBatchSize is the default of StageOptions.BatchSize.
const DefaultBatchSize = 32

// StageOptions are the options of [Stage].
type StageOptions struct {
	// Workers is the number of encoders that work at once, each opened from
	// the model on its own goroutine. Default: one per core.
	Workers int
	// Preparers is the number of goroutines that prepare inputs ahead of the
	// encoders of a [Preparing] model. Default: one for four workers.
	Preparers int
	// BatchSize is the most objects that an encoder is given at once.
	// Default: DefaultBatchSize.
	BatchSize int
	// Allocator is where the embeddings' memory comes from. Default:
	// memory.DefaultAllocator.
	Allocator memory.Allocator
	// Memo, if set, keeps what is encoded, and is asked for each batch before
	// it is encoded. Default: nil.
	Memo Memo
}

var (
	// ErrDim is returned when an encoder gives another dimension than its
	// model declares.
	ErrDim = errors.New("encoder has another dimension than its model declares")
	// ErrNotFinite is returned when an embedding holds a NaN or an infinity.
	ErrNotFinite = errors.New("embedding is not finite")
)

// Stage is the stage that encodes: it reads object batches (columns id and
// input, see package cachesink) and emits, in the same order, record batches
// of the same rows with the columns id and embedding, a
// fixed_size_list<float32>[Dim]. The encoder writes straight into the Arrow
// buffer. A worker opens its encoder when it first has a batch to encode, not
// before, and closes it when the stage ends.
//
// An object batch is cut into batches of BatchSize for the encoders. Where the
// encoder is not batch-invariant, since it pads its inputs to the longest one,
// they are of rows of about one size: the rows of each object batch, sorted by
// falling size, are cut. So an embedding depends on its object batch alone.
func Stage(g *stage.Group, in stage.Stream[arrow.Record], name string, m Model, opts StageOptions) stage.Stream[arrow.Record] {
	if opts.Workers == 0 {
		opts.Workers = runtime.GOMAXPROCS(0)
	}
	if opts.Preparers == 0 {
		opts.Preparers = (opts.Workers + 3) / 4
	}
	if opts.BatchSize == 0 {
		opts.BatchSize = DefaultBatchSize
	}
	if opts.Allocator == nil {
		opts.Allocator = memory.DefaultAllocator
	}
	m = Unwrap(m)
	jobs := stage.Process(g, prepareStage(g, in, name, m, opts.Preparers), "batches of "+name,
		(&cutter{model: m, size: opts.BatchSize, mem: opts.Allocator}).cut)
	open := func(ctx context.Context, worker int) (*worker, error) {
		return newWorker(ctx, m, worker, opts)
	}
	done := stage.OrderedWorkers(g, jobs, "encode "+name, opts.Workers, open, func(ctx context.Context, w *worker, j *job) (*encoded, error) {
		j, err := w.encodeJob(ctx, j)
		if err != nil {
			return nil, err
		}
		return &encoded{j, w.schema}, nil
	}, (*worker).close)
	return stage.Process(g, done, "embeddings of "+name, join)
}

// encoded is a job that is done.
type encoded struct {
	*job
	schema *arrow.Schema
}

// join emits the embeddings of windows, whose jobs come in order.
func join(_ context.Context, in iter.Seq[*encoded], emit func(arrow.Record) error) error {
	for j := range in {
		var err error
		if j.last {
			err = emit(j.w.embeddings(j.schema))
		}
		j.Release()
		if err != nil {
			return err
		}
	}
	return nil
}

// worker is an encoder with its schema.
type worker struct {
	model  Model
	n      int
	enc    Encoder // nil until it is opened
	memo   Memo    // may be nil
	dim    int
	mem    memory.Allocator
	schema *arrow.Schema
	// What one batch needs, kept for the next.
	inputs   []Input
	prepared [][]byte
	scratch  []float32
	ids      []byte
}

func newWorker(ctx context.Context, m Model, n int, opts StageOptions) (*worker, error) {
	spec, err := m.Spec(ctx)
	if err != nil {
		return nil, fmt.Errorf("describe the encoder: %w", err)
	}
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "id", Type: &arrow.FixedSizeBinaryType{ByteWidth: len(ID{})}},
		{Name: "embedding", Type: arrow.FixedSizeListOf(int32(spec.Dim), arrow.PrimitiveTypes.Float32)},
	}, nil)
	return &worker{model: m, n: n, memo: opts.Memo, dim: spec.Dim, mem: opts.Allocator, schema: schema}, nil
}

// open opens the encoder, if it is not yet.
func (w *worker) open(ctx context.Context) error {
	if w.enc != nil {
		return nil
	}
	enc, err := w.model.Open(ctx, w.n)
	if err != nil {
		return fmt.Errorf("open encoder %d: %w", w.n, err)
	}
	if enc.Dim() != w.dim {
		err := fmt.Errorf("%w: %d, not %d", ErrDim, enc.Dim(), w.dim)
		return errors.Join(err, enc.Close())
	}
	w.enc = enc
	return nil
}

func (w *worker) close() error {
	if w.enc == nil {
		return nil
	}
	return w.enc.Close()
}

// objects returns the columns of an object batch.
func objects(rec arrow.Record) (ids *array.FixedSizeBinary, inputs *array.Binary, err error) {
	for i, f := range rec.Schema().Fields() {
		switch f.Name {
		case "id":
			ids, _ = rec.Column(i).(*array.FixedSizeBinary)
		case "input":
			inputs, _ = rec.Column(i).(*array.Binary)
		}
	}
	if ids == nil || inputs == nil {
		return nil, nil, fmt.Errorf("encode: a batch (%v) without the columns id and input", rec.Schema())
	}
	if ids.NullN() > 0 || inputs.NullN() > 0 {
		return nil, nil, errors.New("encode: a batch with nulls")
	}
	return ids, inputs, nil
}

// parseInputs appends the values of a column of canonical inputs.
func parseInputs(dst []Input, inputs *array.Binary) ([]Input, error) {
	for i := range inputs.Len() {
		in, err := ParseInput(inputs.Value(i))
		if err != nil {
			return nil, err
		}
		dst = append(dst, in)
	}
	return dst, nil
}

// encode returns the embeddings of a column of canonical inputs.
func (w *worker) encode(ctx context.Context, inputs *array.Binary) (_ arrow.Array, err error) {
	n := inputs.Len()
	if w.inputs, err = parseInputs(w.inputs[:0], inputs); err != nil {
		return nil, err
	}
	buf := memory.NewResizableBuffer(w.mem)
	defer buf.Release()
	buf.Resize(n * w.dim * 4)
	if err := w.run(ctx, arrow.Float32Traits.CastFromBytes(buf.Bytes())[:n*w.dim], false); err != nil {
		return nil, err
	}
	return listOf(w.schema, buf, n), nil
}

// listOf is the column of n embeddings in a buffer.
func listOf(schema *arrow.Schema, buf *memory.Buffer, n int) arrow.Array {
	vals := array.NewData(arrow.PrimitiveTypes.Float32, buf.Len()/4, []*memory.Buffer{nil, buf}, nil, 0, 0)
	defer vals.Release()
	list := array.NewData(schema.Field(1).Type, n, []*memory.Buffer{nil}, []arrow.ArrayData{vals}, 0, 0)
	defer list.Release()
	return array.MakeFromData(list)
}

// notFinite returns the index of the first NaN or infinity, -1 for none.
func notFinite(v []float32) int {
	for i, x := range v {
		if math.Float32bits(x)&0x7f800000 == 0x7f800000 {
			return i
		}
	}
	return -1
}

// Columns encodes columns of canonical inputs with one opened encoder: what
// a replay uses for encoders that are not cached.
type Columns struct{ w *worker }

// OpenColumns opens an encoder of the model. A nil mem is
// memory.DefaultAllocator.
func OpenColumns(ctx context.Context, m Model, mem memory.Allocator) (*Columns, error) {
	if mem == nil {
		mem = memory.DefaultAllocator
	}
	w, err := newWorker(ctx, m, 0, StageOptions{Allocator: mem})
	if err != nil {
		return nil, err
	}
	if err := w.open(ctx); err != nil {
		return nil, err
	}
	return &Columns{w}, nil
}

// Encode returns the embeddings of a column of canonical inputs, a
// fixed_size_list<float32>[Dim] that the caller owns. It is not safe for
// concurrent use.
func (c *Columns) Encode(ctx context.Context, inputs *array.Binary) (arrow.Array, error) {
	return c.w.encode(ctx, inputs)
}

// Close closes the encoder.
func (c *Columns) Close() error { return c.w.close() }
