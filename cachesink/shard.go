package cachesink

import (
	"bytes"
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
	rows  int64
	ids   []byte // 32 bytes an object
	list  *idList
	sent  bool // all objects were emitted
	// result is the finished shard; set by the stage that emits the shard's
	// objects if it was there already, else by the one that writes it.
	result *Shard
}

// release frees the ids when nobody reads them any more.
func (p *shardPlan) release() {
	p.list.free()
	p.ids = nil
}

// idList is a growing list of object ids outside the heap.
type idList struct {
	mem []byte
	n   int // bytes in use
}

// minIDs is the first size of an idList.
const minIDs = 1 << 16

func (l *idList) append(id *[32]byte) error {
	if l.n == len(l.mem) {
		mem, err := allocate(max(minIDs, 2*len(l.mem)))
		if err != nil {
			return err
		}
		copy(mem, l.mem)
		free(l.mem)
		l.mem = mem
	}
	l.n += copy(l.mem[l.n:], id[:])
	return nil
}

func (l *idList) bytes() []byte { return l.mem[:l.n] }

func (l *idList) free() {
	free(l.mem)
	l.mem, l.n = nil, 0
}

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
// the batches they come in, and writes one shard after the other.
type shardWriter struct {
	*fileWriter // of the open shard; nil between two
	st          store.Store
	mem         memory.Allocator
	schema      *arrow.Schema
	dim         int
	n           int    // rows gathered
	room        int    // rows there is room for
	block       []byte // the ids, then the embeddings; outside the heap
}

func newShardWriter(st store.Store, mem memory.Allocator, e *Encoder, batchSize int) (*shardWriter, error) {
	spec, err := json.Marshal(e.Spec)
	if err != nil {
		return nil, err
	}
	return &shardWriter{st: st, mem: mem, schema: shardSchema(e, string(spec), batchSize), dim: e.Dim}, nil
}

// open starts a shard of that many rows.
func (w *shardWriter) open(ctx context.Context, rows int64) (err error) {
	w.n = 0
	if room := int(min(rows, int64(batchRows(w.dim)))); room > w.room {
		free(w.block)
		w.block, w.room = nil, 0
		if w.block, err = allocate(room * (idBytes + 4*w.dim)); err != nil {
			return err
		}
		w.room = room
	}
	w.fileWriter, err = newFileWriter(ctx, w.st, w.mem, w.schema)
	return err
}

func (w *shardWriter) ids() []byte { return w.block[:w.room*idBytes] }

func (w *shardWriter) vecs() []float32 {
	return arrow.Float32Traits.CastFromBytes(w.block[w.room*idBytes:])
}

// append copies rows in.
func (w *shardWriter) append(ids []byte, vecs []float32) error {
	for len(ids) > 0 {
		k := min(len(ids)/idBytes, batchRows(w.dim)-w.n)
		copy(w.ids()[w.n*idBytes:], ids[:k*idBytes])
		copy(w.vecs()[w.n*w.dim:], vecs[:k*w.dim])
		w.n += k
		ids, vecs = ids[k*idBytes:], vecs[k*w.dim:]
		if w.n == batchRows(w.dim) {
			if err := w.flushTo(w.fileWriter); err != nil {
				return err
			}
		}
	}
	return nil
}

// flushTo writes the gathered rows as a record batch over the block.
func (w *shardWriter) flushTo(file *fileWriter) error {
	if w.n == 0 {
		return nil
	}
	over := func(b []byte) []*memory.Buffer { return []*memory.Buffer{nil, memory.NewBufferBytes(b)} }
	vecs := arrow.Float32Traits.CastToBytes(w.vecs()[:w.n*w.dim])
	ids := array.NewData(IDType, w.n, over(w.ids()[:w.n*idBytes]), nil, 0, 0)
	defer ids.Release()
	vals := array.NewData(arrow.PrimitiveTypes.Float32, w.n*w.dim, over(vecs), nil, 0, 0)
	defer vals.Release()
	list := array.NewData(w.schema.Field(1).Type, w.n, []*memory.Buffer{nil}, []arrow.ArrayData{vals}, 0, 0)
	defer list.Release()
	a, b := array.MakeFromData(ids), array.MakeFromData(list)
	defer a.Release()
	defer b.Release()
	rec := array.NewRecord(w.schema, []arrow.Array{a, b}, int64(w.n))
	defer rec.Release()
	w.n = 0
	return file.write(rec)
}

// close ends the file and gives it the shard's name. A good file that
// another fill has published in the meantime stays as it is.
func (w *shardWriter) close(ctx context.Context, p *shardPlan) (Shard, error) {
	file := w.fileWriter
	w.fileWriter = nil
	s, err := func() (Shard, error) {
		if err := w.flushTo(file); err != nil {
			return Shard{}, err
		}
		if err := file.finish(); err != nil {
			return Shard{}, err
		}
		if s, ok, err := adopt(ctx, w.st, w.mem, p); ok || err != nil {
			return s, err
		}
		f, err := file.publish(ctx, p.name)
		return Shard{ID: p.id, File: f}, err
	}()
	return s, errors.Join(err, file.abort())
}

// drop ends an open shard without a name, and frees the writer's memory.
func (w *shardWriter) drop() (err error) {
	if w.fileWriter != nil {
		err = w.abort()
		w.fileWriter = nil
	}
	free(w.block)
	w.block, w.room = nil, 0
	return err
}

// adopt looks for a finished file of a planned shard that an earlier fill
// has left. It counts only if every checksum holds and its objects are the
// planned ones.
func adopt(ctx context.Context, st store.Store, mem memory.Allocator, p *shardPlan) (Shard, bool, error) {
	info, err := st.Stat(ctx, p.name)
	if err != nil {
		return Shard{}, false, ctx.Err() // most often: there is none
	}
	sums, err := store.ReadAll(ctx, st, p.name+sumSuffix, sumBytes(info.Size))
	if err != nil {
		return Shard{}, false, ctx.Err()
	}
	f := File{Name: p.name, Rows: p.rows, Bytes: info.Size, Sum: sumDigest(sums)}
	rest := p.ids
	err = readFile(ctx, st, mem, f, func(rec arrow.Record) error {
		ids, err := idColumn(rec)
		if err != nil {
			return err
		}
		if !bytes.HasPrefix(rest, ids) {
			return corrupt(p.name, "its objects are not the planned ones")
		}
		rest = rest[len(ids):]
		return nil
	})
	if err != nil {
		return Shard{}, false, ctx.Err() // encoded again, and replaced
	}
	return Shard{ID: p.id, File: f}, true, nil
}
