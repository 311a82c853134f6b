package cachesink

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/apache/arrow/go/v15/arrow"

	"github.com/permafrost-ml/permafrost/internal/store"
)

// A partial file holds batches of a shard from the moment that they are
// encoded; doc.go specifies it.
const (
	partialSuffix  = ".partial"
	partialMagic   = "permafrost.part\n"
	partialVersion = 1
	partialHead    = 64
	recordHead     = 8
	// maxRecord bounds a record of more than one row, and so the memory that
	// reading one takes.
	maxRecord = 16 << 20
)

// partialName is the name of a partial file of a shard. Every fill writes one
// of its own, so that none is ever written by two.
func partialName(folder, shard, nonce string) string {
	return folder + "/" + shard + "-" + nonce + partialSuffix
}

// partialShard returns the shard that a file is a partial file of.
func partialShard(folder, name string) (shard string, ok bool) {
	name, ok = strings.CutPrefix(name, folder+"/")
	if !ok || !strings.HasSuffix(name, partialSuffix) {
		return "", false
	}
	shard, _, ok = strings.Cut(name, "-")
	return shard, ok && len(shard) == 2*idBytes
}

// partialHeader is what a partial file begins with, and the CRC32C of it that
// goes into those of the records.
func partialHeader(shard string, dim int) (head []byte, seed uint32, err error) {
	id, err := hex.DecodeString(shard)
	if err != nil || len(id) != idBytes {
		return nil, 0, fmt.Errorf("cachesink: shard id %q", shard)
	}
	head = append(make([]byte, 0, partialHead), partialMagic...)
	head = binary.LittleEndian.AppendUint32(head, partialVersion)
	head = binary.LittleEndian.AppendUint32(head, uint32(dim))
	head = append(head, id...)
	head = binary.LittleEndian.AppendUint32(head, 0)
	head = binary.LittleEndian.AppendUint32(head, crc32.Checksum(head, castagnoli))
	return head, crc32.Checksum(head, castagnoli), nil
}

// recordRows is how many rows a record has at most.
func recordRows(dim int) int { return max(1, maxRecord/(idBytes+4*dim)) }

// partialWriter writes a partial file. It is safe for concurrent use.
type partialWriter struct {
	file store.Appender
	name string
	dim  int
	seed uint32

	mu    sync.Mutex
	size  int64
	buf   []byte
	dirty time.Time // when the first record that is not synced came
	err   error     // after which the file is of no use

	syncing sync.Mutex // held while it is synced or closed
	closed  bool
}

func newPartialWriter(ctx context.Context, st store.Store, name, shard string, dim int) (*partialWriter, error) {
	head, seed, err := partialHeader(shard, dim)
	if err != nil {
		return nil, err
	}
	file, err := st.Append(ctx, name)
	if err != nil {
		return nil, err
	}
	if _, err := file.Write(head); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return &partialWriter{file: file, name: name, dim: dim, seed: seed, size: partialHead}, nil
}

// append writes rows; when it returns, they survive the process.
func (w *partialWriter) append(ids []byte, vecs []float32) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(ids) > 0 && w.err == nil {
		n := min(len(ids)/idBytes, recordRows(w.dim))
		w.err = w.record(ids[:n*idBytes], vecs[:n*w.dim])
		ids, vecs = ids[n*idBytes:], vecs[n*w.dim:]
	}
	return w.err
}

// record writes a record in one go: what a killed process leaves is a whole
// one or none, most often.
func (w *partialWriter) record(ids []byte, vecs []float32) error {
	b := binary.LittleEndian.AppendUint32(w.buf[:0], uint32(len(ids)/idBytes))
	b = append(b, 0, 0, 0, 0)
	b = append(b, ids...)
	b = append(b, arrow.Float32Traits.CastToBytes(vecs)...)
	binary.LittleEndian.PutUint32(b[4:], recordSum(w.seed, w.size, b))
	w.buf = b
	if w.dirty.IsZero() {
		w.dirty = time.Now()
	}
	n, err := w.file.Write(b)
	w.size += int64(n)
	return err
}

// recordSum is the CRC32C of a record at an offset of a file.
func recordSum(seed uint32, at int64, b []byte) uint32 {
	var off [8]byte
	binary.LittleEndian.PutUint64(off[:], uint64(at))
	sum := crc32.Update(seed, castagnoli, off[:])
	sum = crc32.Update(sum, castagnoli, b[:4])
	return crc32.Update(sum, castagnoli, b[recordHead:])
}

// sync makes records durable that have waited for a time.
func (w *partialWriter) sync(wait time.Duration) {
	w.mu.Lock()
	due := !w.dirty.IsZero() && time.Since(w.dirty) >= wait
	if due {
		w.dirty = time.Time{}
	}
	w.mu.Unlock()
	w.syncing.Lock()
	defer w.syncing.Unlock()
	if !due || w.closed {
		return
	}
	if err := w.file.Sync(); err != nil {
		w.mu.Lock()
		w.err = errors.Join(w.err, err)
		w.mu.Unlock()
	}
}

// close leaves the file as it is. What closing may fail with no longer
// matters: the shard is there, or a later fill reads what it can.
func (w *partialWriter) close() {
	w.syncing.Lock()
	defer w.syncing.Unlock()
	w.closed = true
	_ = w.file.Close()
}

// partialReader reads a partial file as it was when it was opened.
type partialReader struct {
	r    store.Reader
	dim  int
	seed uint32
}

// openPartial opens a partial file of a shard; one that is none is ErrCorrupt.
func openPartial(ctx context.Context, st store.Store, name, shard string, dim int) (*partialReader, error) {
	want, seed, err := partialHeader(shard, dim)
	if err != nil {
		return nil, err
	}
	r, err := st.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	head := make([]byte, partialHead)
	if n, err := r.ReadAt(head, 0); n < len(head) || string(head) != string(want) {
		if err != nil && err != io.EOF {
			return nil, errors.Join(err, r.Close())
		}
		return nil, errors.Join(corrupt(name, "it is no partial file of the shard"), r.Close())
	}
	return &partialReader{r: r, dim: dim, seed: seed}, nil
}

// partialRecord is a record, over a buffer.
type partialRecord struct {
	buf  []byte
	ids  []byte
	vecs []float32
}

// read reads the record at an offset, and returns the offset after it. It is
// io.EOF where there is none, also not a whole one, and ErrCorrupt where one
// is damaged or at the wrong place.
func (p *partialReader) read(rec *partialRecord, at int64) (next int64, err error) {
	var head [recordHead]byte
	if err := p.bytes(head[:], at); err != nil {
		return 0, err
	}
	rows := int64(binary.LittleEndian.Uint32(head[:]))
	if rows == 0 || rows > int64(recordRows(p.dim)) {
		return 0, fmt.Errorf("%w: a record of %d rows", ErrCorrupt, rows)
	}
	size := recordHead + rows*int64(idBytes+4*p.dim)
	if size > p.r.Size()-at {
		return 0, io.EOF
	}
	if int64(cap(rec.buf)) < size {
		rec.buf = make([]byte, size)
	}
	rec.buf = rec.buf[:size]
	if err := p.bytes(rec.buf, at); err != nil {
		return 0, err
	}
	if binary.LittleEndian.Uint32(rec.buf[4:]) != recordSum(p.seed, at, rec.buf) {
		return 0, fmt.Errorf("%w: the checksum of a record", ErrCorrupt)
	}
	rest := rec.buf[recordHead:]
	rec.ids, rec.vecs = rest[:rows*idBytes], arrow.Float32Traits.CastFromBytes(rest[rows*idBytes:])
	return at + size, nil
}

func (p *partialReader) bytes(b []byte, at int64) error {
	n, err := p.r.ReadAt(b, at)
	if n == len(b) {
		return nil
	}
	if err == nil {
		err = io.ErrUnexpectedEOF
	}
	return err
}

func (p *partialReader) close() { _ = p.r.Close() }
