package cachesink

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/permafrost-ml/permafrost/internal/store"
)

const (
	// batchBytes is about the size of a shard's record batch.
	batchBytes = 16 << 20
	idBytes    = 32
)

// shardPlan is a shard before it is encoded: its objects in order.
type shardPlan struct {
	id    string
	name  string // of its file
	first int64  // position of its first object
	ids   []byte // 32 bytes an object
	// result is the finished shard; set by the stage that emits the shard's
	// objects if it was there already, else by the one that writes it.
	result *Shard
}

func (p *shardPlan) rows() int64 { return int64(len(p.ids) / idBytes) }

// shardID hashes all that decides the shard's bytes: the encoder, how it is
// stored and batched, and the ordered objects.
func shardID(e *Encoder, batchSize int, ids []byte) string {
	h := sha256.New()
	fmt.Fprintf(h, "permafrost.shard.v%d\n%s\n%s\n%d\n", FormatVersion, e.Fingerprint, e.DType, batchSize)
	var n [8]byte
	binary.LittleEndian.PutUint64(n[:], uint64(len(ids)/idBytes))
	h.Write(n[:])
	h.Write(ids)
	return hex.EncodeToString(h.Sum(nil))
}

// folderFingerprint identifies a folder of embeddings: the encoder and the
// dtype they are stored in.
func folderFingerprint(fingerprint, dtype string) string {
	d := sha256.Sum256([]byte("permafrost.folder.v1\n" + fingerprint + "\n" + dtype))
	return hex.EncodeToString(d[:])
}

// EncoderFolder returns the folder of an encoder's shards.
func EncoderFolder(name, fingerprint string) string {
	return "encoders/" + name + "-" + folderFingerprint(fingerprint, Float32)[:12]
}

// batchRows is the number of rows in a shard's record batches.
func batchRows(dim int) int {
	return max(1, min(batchBytes/(4*dim+idBytes), 1<<16))
}

// shardWriter gathers embeddings into record batches of one size, whatever
// the batches they come in.
type shardWriter struct {
	*fileWriter
	schema *arrow.Schema
	dim    int
	n      int // rows gathered
	ids    *memory.Buffer
	vecs   *memory.Buffer
}

func newShardWriter(ctx context.Context, st store.Store, mem memory.Allocator, e *Encoder) (*shardWriter, error) {
	spec, err := json.Marshal(e.Spec)
	if err != nil {
		return nil, err
	}
	schema := shardSchema(e, string(spec))
	file, err := newFileWriter(ctx, st, mem, schema)
	if err != nil {
		return nil, err
	}
	w := &shardWriter{fileWriter: file, schema: schema, dim: e.Dim}
	w.alloc()
	return w, nil
}

func (w *shardWriter) alloc() {
	rows := batchRows(w.dim)
	w.ids, w.vecs = memory.NewResizableBuffer(w.mem), memory.NewResizableBuffer(w.mem)
	w.ids.Reserve(rows * idBytes)
	w.vecs.Reserve(rows * w.dim * 4)
	w.n = 0
}

// append copies rows in.
func (w *shardWriter) append(ids []byte, vecs []float32) error {
	for len(ids) > 0 {
		k := min(len(ids)/idBytes, batchRows(w.dim)-w.n)
		w.ids.ResizeNoShrink((w.n + k) * idBytes)
		copy(w.ids.Bytes()[w.n*idBytes:], ids[:k*idBytes])
		w.vecs.ResizeNoShrink((w.n + k) * w.dim * 4)
		copy(arrow.Float32Traits.CastFromBytes(w.vecs.Bytes())[w.n*w.dim:], vecs[:k*w.dim])
		w.n += k
		ids, vecs = ids[k*idBytes:], vecs[k*w.dim:]
		if w.n == batchRows(w.dim) {
			if err := w.flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *shardWriter) flush() error {
	if w.n == 0 {
		return nil
	}
	ids := array.NewData(IDType, w.n, []*memory.Buffer{nil, w.ids}, nil, 0, 0)
	defer ids.Release()
	vals := array.NewData(arrow.PrimitiveTypes.Float32, w.n*w.dim, []*memory.Buffer{nil, w.vecs}, nil, 0, 0)
	defer vals.Release()
	list := array.NewData(w.schema.Field(1).Type, w.n, []*memory.Buffer{nil}, []arrow.ArrayData{vals}, 0, 0)
	defer list.Release()
	a, b := array.MakeFromData(ids), array.MakeFromData(list)
	defer a.Release()
	defer b.Release()
	rec := array.NewRecord(w.schema, []arrow.Array{a, b}, int64(w.n))
	defer rec.Release()
	w.n = 0
	return w.write(rec)
}

func (w *shardWriter) free() {
	w.ids.Release()
	w.vecs.Release()
}

// close ends the file and gives it the shard's name.
func (w *shardWriter) close(ctx context.Context, p *shardPlan) (Shard, error) {
	err := w.flush()
	if err == nil {
		err = w.finish()
	}
	w.free()
	if err != nil {
		return Shard{}, errors.Join(err, w.abort())
	}
	f, err := w.publish(ctx, p.name)
	return Shard{ID: p.id, File: f}, errors.Join(err, w.abort())
}

// drop ends the file without a name.
func (w *shardWriter) drop() error {
	w.free()
	return w.abort()
}

// adopt looks for a finished file of a planned shard that an earlier fill
// has left. It counts only if every checksum holds and its objects are the
// planned ones.
func adopt(ctx context.Context, st store.Store, mem memory.Allocator, p *shardPlan) (Shard, bool, error) {
	info, err := st.Stat(ctx, p.name)
	if err != nil {
		return Shard{}, false, ctx.Err() // most often: there is none
	}
	blocks := (info.Size + sumBlock - 1) / sumBlock
	sums, err := store.ReadAll(ctx, st, p.name+sumSuffix, 4*blocks)
	if err != nil {
		return Shard{}, false, ctx.Err()
	}
	f := File{Name: p.name, Rows: p.rows(), Bytes: info.Size, Sum: sumDigest(sums)}
	at := 0
	err = readFile(ctx, st, mem, f, func(rec arrow.Record) error {
		ids, err := column[*array.FixedSizeBinary](rec, ColumnID)
		if err != nil {
			return err
		}
		for i := range ids.Len() {
			if at+idBytes > len(p.ids) || string(ids.Value(i)) != string(p.ids[at:at+idBytes]) {
				return corrupt(p.name, "object %d is not the planned one", at/idBytes)
			}
			at += idBytes
		}
		return nil
	})
	if err != nil {
		return Shard{}, false, ctx.Err() // encoded again, and replaced
	}
	return Shard{ID: p.id, File: f}, true, nil
}
