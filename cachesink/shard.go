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
	"path"
	"strings"
	"unsafe"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/permafrost-ml/permafrost/internal/store"
)

const idBytes = 32

// shardPlan is a shard before it is encoded: its objects in order.
type shardPlan struct {
	id     string
	name   string // of its file
	layout layout
	dim    int   // of its embeddings
	first  int64 // position of its first object
	rows   int64
	ids    []byte // 32 bytes an object
	list   *idList
	// from are the positions of the objects among the encoder's float32
	// embeddings, which are converted instead of encoding the objects again;
	// -1 for an object to encode. It is nil where all are to be encoded.
	from     []int64
	fromList *list[int64]
	// kept is where those come from in a restoration: the shard's own damaged
	// file. It then must become what it was, or is not published.
	kept   *salvage
	unlike bool       // it did not
	memo   *shardMemo // of what is encoded; nil until its objects are emitted
	sent   bool       // all objects were emitted
	done   bool       // and all embeddings were taken
	// result is the finished shard; set by the stage that emits the shard's
	// objects if it was there already, by the one that writes it, or by the
	// one that encodes if another fill was faster.
	result *Shard
}

// release frees the ids when nobody reads them any more.
func (p *shardPlan) release() {
	p.list.free()
	p.fromList.free()
	p.ids, p.from = nil, nil
}

// converts says whether an object is converted instead of being encoded.
func (p *shardPlan) converts(at int) bool { return p.from != nil && p.from[at] >= 0 }

// run returns how many objects from one on, of at most so many, are like the
// first: converted or encoded.
func (p *shardPlan) run(at, most int) int {
	most = min(most, int(p.rows)-at)
	if p.from == nil {
		return most
	}
	n := 1
	for n < most && p.converts(at+n) == p.converts(at) {
		n++
	}
	return n
}

// mark tells converted objects from encoded ones: hex SHA-256 of one byte an
// object, 1 or 0.
func (p *shardPlan) mark() string {
	h := sha256.New()
	for _, at := range p.from {
		if at >= 0 {
			h.Write([]byte{1})
		} else {
			h.Write([]byte{0})
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}

// list is a growing list of values outside the heap.
type list[T [idBytes]byte | digest | int64] struct {
	mem []byte
	n   int // bytes in use
}

// idList is a list of object ids.
type idList = list[[idBytes]byte]

// minList is the first size of a list in bytes.
const minList = 1 << 16

func (l *list[T]) append(v *T) error {
	if l.n == len(l.mem) {
		mem, err := allocate(max(minList, 2*len(l.mem)))
		if err != nil {
			return err
		}
		copy(mem, l.mem)
		free(l.mem)
		l.mem = mem
	}
	l.n += copy(l.mem[l.n:], unsafe.Slice((*byte)(unsafe.Pointer(v)), unsafe.Sizeof(*v)))
	return nil
}

func (l *list[T]) bytes() []byte { return l.mem[:l.n] }

// free may be called for a list that was never made.
func (l *list[T]) free() {
	if l == nil {
		return
	}
	free(l.mem)
	l.mem, l.n = nil, 0
}

// shardID hashes all that decides the shard's bytes: the encoder, how it is
// stored and batched, and the ordered objects.
func shardID(fingerprint string, l layout, batchSize int, ids []byte) string {
	h := sha256.New()
	fmt.Fprintf(h, "permafrost.shard.v1\n%s\n%s\n%d\n", fingerprint, l, batchSize)
	var n [8]byte
	binary.LittleEndian.PutUint64(n[:], uint64(len(ids)/idBytes))
	h.Write(n[:])
	h.Write(ids)
	return hex.EncodeToString(h.Sum(nil))
}

// EncoderFolder returns the folder of an encoder's shards, as far as they are
// stored in the given dtype.
func EncoderFolder(name, fingerprint string, d DType) string {
	sum := sha256.Sum256([]byte("permafrost.folder.v1\n" + fingerprint + "\n" + string(d)))
	return "encoders/" + name + "-" + hex.EncodeToString(sum[:])[:12]
}

// shardWriter gathers embeddings into record batches of one size, whatever
// the batches they come in, and writes one shard after the other.
type shardWriter struct {
	*fileWriter // of the open shard; nil between two
	st          store.Store
	mem         memory.Allocator
	encoder     *Encoder
	batchSize   int
	spec        string
	schema      *arrow.Schema // of the open shard
	rows        block
}

func newShardWriter(st store.Store, mem memory.Allocator, e *Encoder, batchSize int) (*shardWriter, error) {
	spec, err := json.Marshal(e.Spec)
	if err != nil {
		return nil, err
	}
	return &shardWriter{st: st, mem: mem, encoder: e, batchSize: batchSize, spec: string(spec)}, nil
}

// open starts a shard.
func (w *shardWriter) open(ctx context.Context, p *shardPlan) (err error) {
	w.rows.layout, w.rows.dim = p.layout, w.encoder.Dim // of the same dtype for every shard
	if err = w.rows.reserve(int(min(p.rows, int64(p.layout.batchRows(w.encoder.Dim))))); err != nil {
		return err
	}
	w.schema = shardSchema(w.encoder, w.spec, p.layout, w.batchSize)
	w.fileWriter, err = newFileWriter(ctx, w.st, w.mem, w.schema, p.layout.codec.options()...)
	return err
}

// append copies rows in.
func (w *shardWriter) append(ids []byte, vecs []float32) error {
	for len(ids) > 0 {
		k, err := w.rows.append(ids, vecs)
		if err != nil {
			return fmt.Errorf("encoder %q: %w", w.encoder.Name, err)
		}
		ids, vecs = ids[k*idBytes:], vecs[k*w.encoder.Dim:]
		if w.rows.n == w.rows.room {
			if err := w.flushTo(w.fileWriter); err != nil {
				return err
			}
		}
	}
	return nil
}

// appendStored copies a row in as it is stored.
func (w *shardWriter) appendStored(id []byte, v *storedRows, row int) error {
	w.rows.appendStored(id, v, row)
	if w.rows.n == w.rows.room {
		return w.flushTo(w.fileWriter)
	}
	return nil
}

// errUnlike says that a shard is not to be published: it is not what it was.
var errUnlike = errors.New("the shard has other bytes than it had")

// flushTo writes the gathered rows as a record batch over the block.
func (w *shardWriter) flushTo(file *fileWriter) error {
	if w.rows.n == 0 {
		return nil
	}
	rec := w.rows.record(w.schema)
	defer rec.Release()
	w.rows.n = 0
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
		if p.kept != nil && file.entry(p.name) != p.kept.shard.File {
			return Shard{}, errUnlike
		}
		if s, ok, err := adopt(ctx, w.st, w.mem, p, ""); ok || err != nil {
			return s, err
		}
		f, err := file.publish(ctx, p.name)
		return p.shard(f), err
	}()
	return s, errors.Join(err, file.abort())
}

// discard ends an open shard without a name.
func (w *shardWriter) discard() (err error) {
	if w.fileWriter != nil {
		err = w.abort()
		w.fileWriter = nil
	}
	return err
}

// drop is discard, and frees the writer's memory.
func (w *shardWriter) drop() error {
	defer w.rows.free()
	return w.discard()
}

// adopt looks for a finished file of a planned shard that another fill has
// left: under the shard's own name, or the one that the other had planned. It
// counts only if every checksum holds and its objects are the planned ones.
func adopt(ctx context.Context, st store.Store, mem memory.Allocator, p *shardPlan, other string) (Shard, bool, error) {
	s, ok, err := p.adopt(ctx, st, mem, p.name)
	if ok || err != nil || other == "" || other == p.name {
		return s, ok, err
	}
	if path.Dir(other) != path.Dir(p.name) || !strings.HasSuffix(other, p.suffix()) {
		return s, false, nil // it cannot be the shard's
	}
	return p.adopt(ctx, st, mem, other)
}

// suffix is how the name of the shard's file ends, whoever writes it.
func (p *shardPlan) suffix() string { return "-" + p.id[:8] + ".arrow" }

// task is what the shard is called among fills that share the work: its
// folder and id, since encoders of several names may be one.
func (p *shardPlan) task() string { return path.Base(path.Dir(p.name)) + "-" + p.id }

func (p *shardPlan) adopt(ctx context.Context, st store.Store, mem memory.Allocator, name string) (Shard, bool, error) {
	info, err := st.Stat(ctx, name)
	if err != nil {
		return Shard{}, false, ctx.Err() // most often: there is none
	}
	sums, err := store.ReadAll(ctx, st, name+sumSuffix, sumBytes(info.Size))
	if err != nil {
		return Shard{}, false, ctx.Err()
	}
	f := File{Name: name, Rows: p.rows, Bytes: info.Size, Sum: sumDigest(sums)}
	rest := p.ids
	e := &Encoder{DType: p.layout.dtype, Dim: p.dim} // as far as readShard needs it
	err = readShard(ctx, st, mem, e, f, func(rec arrow.Record) error {
		ids, err := idColumn(rec)
		if err != nil {
			return err
		}
		if !bytes.HasPrefix(rest, ids) {
			return corrupt(name, "its objects are not the planned ones")
		}
		rest = rest[len(ids):]
		return nil
	})
	if err != nil {
		return Shard{}, false, ctx.Err() // encoded again, and replaced
	}
	if err := freshen(ctx, st, f); err != nil {
		return Shard{}, false, err
	}
	return p.shard(f), true, nil
}

// shard is the manifest's entry of the finished file.
func (p *shardPlan) shard(f File) Shard {
	s := Shard{ID: p.id, File: f}
	if p.layout != plain {
		s.Storage = p.layout.String()
	}
	return s
}
