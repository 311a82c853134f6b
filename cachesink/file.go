package cachesink

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/ipc"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/permafrost-ml/permafrost/internal/arrowipc"
	"github.com/permafrost-ml/permafrost/internal/store"
)

// fileWriter writes one Arrow IPC file without a name, with its checksums.
type fileWriter struct {
	st   store.Store
	mem  memory.Allocator
	file store.Writer
	sums sumWriter
	ipc  *ipc.FileWriter
	rows int64
	done []byte // the checksums, once finished
}

func newFileWriter(ctx context.Context, st store.Store, mem memory.Allocator, schema *arrow.Schema, opts ...ipc.Option) (*fileWriter, error) {
	file, err := st.Create(ctx)
	if err != nil {
		return nil, fmt.Errorf("create a file in %s: %w", st, err)
	}
	w := &fileWriter{st: st, mem: mem, file: file, sums: sumWriter{w: file}}
	opts = append(opts, ipc.WithSchema(schema), ipc.WithAllocator(mem))
	w.ipc, err = ipc.NewFileWriter(&seekless{&w.sums}, opts...)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start an Arrow file: %w", err), file.Abort())
	}
	return w, nil
}

// seekless is the little that Arrow's file writer asks of a seeker: to say
// where it is.
type seekless struct{ *sumWriter }

func (s *seekless) Seek(offset int64, whence int) (int64, error) {
	if offset != 0 || whence == io.SeekEnd {
		return 0, errors.New("cachesink: an Arrow file is written front to back")
	}
	return s.size, nil
}

func (w *fileWriter) write(rec arrow.Record) error {
	if err := w.ipc.Write(rec); err != nil {
		return fmt.Errorf("write a record batch to %s: %w", w.st, err)
	}
	w.rows += rec.NumRows()
	return nil
}

// finish writes the footer; the file can then be published.
func (w *fileWriter) finish() error {
	if err := w.ipc.Close(); err != nil {
		return fmt.Errorf("end an Arrow file in %s: %w", w.st, err)
	}
	w.done = w.sums.finish()
	return nil
}

// entry is the manifest's entry for the finished file under a name.
func (w *fileWriter) entry(name string) File {
	return File{Name: name, Rows: w.rows, Bytes: w.sums.size, Sum: sumDigest(w.done)}
}

// publish names the finished file. Its checksums come first, so that a file
// with no checksums beside it was never finished.
func (w *fileWriter) publish(ctx context.Context, name string) (File, error) {
	if err := store.Put(ctx, w.st, name+sumSuffix, w.done, true); err != nil {
		return File{}, fmt.Errorf("publish %s in %s: %w", name+sumSuffix, w.st, err)
	}
	if err := w.file.Publish(ctx, name, true); err != nil {
		return File{}, fmt.Errorf("publish %s in %s: %w", name, w.st, err)
	}
	return w.entry(name), nil
}

func (w *fileWriter) abort() error { return w.file.Abort() }

// readFile yields the record batches of a file of the cache, each checked
// before Arrow sees a byte of it. A batch is borrowed until fn returns.
func readFile(ctx context.Context, st store.Store, mem memory.Allocator, f File, fn func(arrow.Record) error) (err error) {
	r, err := openChecked(ctx, st, f)
	if err != nil {
		return fmt.Errorf("open %s of %s: %w", f.Name, st, err)
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	left := f.Rows
	rows, err := readIPC(ctx, r, mem, func(rec arrow.Record) error {
		if left -= rec.NumRows(); left < 0 {
			return corrupt(f.Name, "it has more rows than the %d of the manifest", f.Rows)
		}
		return fn(rec)
	})
	if err == nil && rows != f.Rows {
		err = corrupt(f.Name, "it has %d rows, the manifest says %d", rows, f.Rows)
	}
	if err != nil {
		return fmt.Errorf("read %s of %s: %w", f.Name, st, err)
	}
	return nil
}

// readIPC reads an Arrow IPC file.
func readIPC(ctx context.Context, r *checkedReader, mem memory.Allocator, fn func(arrow.Record) error) (rows int64, err error) {
	rd, err := openIPC(r, mem)
	if err != nil {
		return 0, err
	}
	defer rd.Close()
	for i := range rd.NumRecords() {
		if err := ctx.Err(); err != nil {
			return rows, context.Cause(ctx)
		}
		rec, err := rd.recordAt(i)
		if err != nil {
			return rows, err
		}
		rows += rec.NumRows()
		err = fn(rec)
		rec.Release()
		if err != nil {
			return rows, err
		}
	}
	return rows, nil
}

// ipcInput gives bytes whose checksums held.
type ipcInput interface {
	ipc.ReadAtSeeker
	Size() int64
}

// ipcFile is an Arrow IPC file that is being read.
type ipcFile struct {
	*ipc.FileReader
	mem *lender
}

// openIPC starts reading an Arrow IPC file. Arrow's reader panics on some
// malformed files; that ends here as an error, as it does in recordAt. On
// others it ends the process: the footer, where a type may contain itself, is
// read by package arrowipc first.
func openIPC(r ipcInput, mem memory.Allocator) (f *ipcFile, err error) {
	l := &lender{Allocator: mem}
	l.watch()
	defer l.malformed(&err)
	head := make([]byte, len(ipc.Magic))
	if _, err := r.ReadAt(head, 0); err != nil {
		return nil, corruptBy(err)
	}
	if !bytes.Equal(head, ipc.Magic) { // to arrowipc it may be a stream
		return nil, fmt.Errorf("%w: no Arrow file begins with %q", ErrCorrupt, head)
	}
	if _, err := arrowipc.Open(r, r.Size()); err != nil {
		return nil, corruptBy(err)
	}
	rd, err := ipc.NewFileReader(r, ipc.WithAllocator(l))
	if err != nil {
		return nil, corruptBy(err)
	}
	if rd.NumDictionaries() > 0 {
		return nil, fmt.Errorf("%w: it has dictionaries", ErrCorrupt)
	}
	return &ipcFile{rd, l}, nil
}

// recordAt reads a record batch; the caller owns it.
func (f *ipcFile) recordAt(i int) (rec arrow.Record, err error) {
	f.mem.watch()
	defer f.mem.malformed(&err)
	if rec, err = f.RecordAt(i); err != nil {
		return nil, fmt.Errorf("record batch %d: %w", i, corruptBy(err))
	}
	if err := sound(rec); err != nil {
		rec.Release()
		return nil, fmt.Errorf("record batch %d: %w", i, err)
	}
	return rec, nil
}

// corruptBy says that a file is damaged, unless it could not be read.
func corruptBy(err error) error {
	var unread unreadable
	if errors.As(err, &unread) || errors.Is(err, ErrCorrupt) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrCorrupt, err)
}

// unreadable is why bytes could not be read, which says nothing about them.
type unreadable struct{ error }

func (e unreadable) Unwrap() error { return e.error }

// lender is an allocator that takes back what Arrow's reader has borrowed when
// it fails.
type lender struct {
	memory.Allocator
	mu   sync.Mutex
	lent map[*byte][]byte // nil while nobody watches
}

func (l *lender) watch() {
	l.mu.Lock()
	l.lent = map[*byte][]byte{}
	l.mu.Unlock()
}

// malformed ends a watch: it turns a panic of Arrow's reader into an error,
// and after an error frees what the reader has left.
func (l *lender) malformed(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("%w: %v", ErrCorrupt, p)
	}
	l.mu.Lock()
	lent := l.lent
	l.lent = nil
	l.mu.Unlock()
	if *err == nil {
		return
	}
	for _, b := range lent {
		l.Allocator.Free(b)
	}
}

// note keeps the lent buffers up to date: one is new, another was given back.
func (l *lender) note(b, old []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lent == nil {
		return
	}
	delete(l.lent, unsafe.SliceData(old))
	if len(b) > 0 {
		l.lent[unsafe.SliceData(b)] = b
	}
}

func (l *lender) Allocate(n int) []byte {
	b := l.Allocator.Allocate(n)
	l.note(b, nil)
	return b
}

func (l *lender) Reallocate(n int, old []byte) []byte {
	b := l.Allocator.Reallocate(n, old)
	l.note(b, old)
	return b
}

func (l *lender) Free(b []byte) {
	l.note(nil, b)
	l.Allocator.Free(b)
}

// readShard is readFile for a shard of an encoder.
func readShard(ctx context.Context, st store.Store, mem memory.Allocator, e *Encoder, f File, fn func(arrow.Record) error) error {
	return readFile(ctx, st, shardMemory(mem, e, f), f, fn)
}

// readPlain is readFile for a file that is never compressed.
func readPlain(ctx context.Context, st store.Store, mem memory.Allocator, f File, fn func(arrow.Record) error) error {
	b := &bounded{Allocator: mem, most: math.MaxInt}
	b.left.Store(2*min(f.Bytes, maxFile) + readSlack) // the file's bytes, and those of the record batches
	return readFile(ctx, st, b, f, fn)
}

// readSlack is what reading a file may take beside its content.
const readSlack = 1 << 20

// shardMemory returns an allocator for reading a shard. It gives what the
// rows of the file need, with room for the file's own bytes while they are
// read, and panics beyond: the sizes that a compressed file states are not
// trusted, nor is a number of rows of which the file cannot hold the ids,
// which do not compress, nor a record batch larger than any that is written.
func shardMemory(mem memory.Allocator, e *Encoder, f File) memory.Allocator {
	row := int64(e.DType.RowBytes(e.Dim)) + 4*64 // buffers are padded
	rows := min(f.Rows, f.Bytes/idBytes)
	b := &bounded{Allocator: mem, most: int(max(maxBatchBytes, row)) + readSlack}
	b.left.Store(math.MaxInt64)
	if rows < (math.MaxInt64-readSlack-f.Bytes)/row {
		b.left.Store(rows*row + f.Bytes + readSlack)
	}
	return b
}

// bounded is an allocator that lends a bounded number of bytes at once.
type bounded struct {
	memory.Allocator
	most int // bytes of one buffer
	left atomic.Int64
}

// grow counts a buffer of n bytes in place of one of old bytes.
func (b *bounded) grow(n, old int) {
	if n < 0 || n > b.most || b.left.Add(int64(old)-int64(n)) < 0 {
		panic(fmt.Sprintf("a buffer of %d bytes is more than its rows can take", n))
	}
}

func (b *bounded) Allocate(n int) []byte {
	b.grow(n, 0)
	return b.Allocator.Allocate(n)
}

func (b *bounded) Reallocate(n int, old []byte) []byte {
	b.grow(n, len(old))
	return b.Allocator.Reallocate(n, old)
}

func (b *bounded) Free(mem []byte) {
	b.left.Add(int64(len(mem)))
	b.Allocator.Free(mem)
}
