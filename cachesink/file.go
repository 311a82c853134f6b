package cachesink

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/ipc"
	"github.com/apache/arrow/go/v15/arrow/memory"

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

func newFileWriter(ctx context.Context, st store.Store, mem memory.Allocator, schema *arrow.Schema) (*fileWriter, error) {
	file, err := st.Create(ctx)
	if err != nil {
		return nil, fmt.Errorf("create a file in %s: %w", st, err)
	}
	w := &fileWriter{st: st, mem: mem, file: file, sums: sumWriter{w: file}}
	w.ipc, err = ipc.NewFileWriter(&seekless{&w.sums}, ipc.WithSchema(schema), ipc.WithAllocator(mem))
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
	rows, err := readIPC(ctx, r, mem, fn)
	if err == nil && rows != f.Rows {
		err = corrupt(f.Name, "it has %d rows, the manifest says %d", rows, f.Rows)
	}
	if err != nil {
		return fmt.Errorf("read %s of %s: %w", f.Name, st, err)
	}
	return nil
}

// readIPC reads an Arrow IPC file. Arrow's reader panics on some malformed
// files; that ends here as an error.
func readIPC(ctx context.Context, r ipc.ReadAtSeeker, mem memory.Allocator, fn func(arrow.Record) error) (rows int64, err error) {
	calling := false // whether fn runs: its panics are not ours to take
	defer func() {
		if calling {
			return
		}
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", ErrCorrupt, p)
		}
	}()
	rd, err := ipc.NewFileReader(r, ipc.WithAllocator(mem))
	if err != nil {
		return 0, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	defer rd.Close()
	for i := range rd.NumRecords() {
		if err := ctx.Err(); err != nil {
			return rows, context.Cause(ctx)
		}
		rec, err := rd.RecordAt(i)
		if err != nil {
			return rows, fmt.Errorf("%w: record batch %d: %w", ErrCorrupt, i, err)
		}
		rows += rec.NumRows()
		calling = true
		err = fn(rec)
		calling = false
		rec.Release()
		if err != nil {
			return rows, err
		}
	}
	return rows, nil
}
