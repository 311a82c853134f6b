package cachesink

import (
	"errors"
	"fmt"
	"io"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/ipc"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/permafrost-ml/permafrost/internal/arrowipc"
)

// shardPlaces says where the record batches of an uncompressed shard lie in its
// file, and how large that is, without the file: both follow from the schema
// and the number of rows. It writes a file of zeros, of which only what is not
// zero is kept.
func shardPlaces(mem memory.Allocator, schema *arrow.Schema, l layout, dim int, rows int64) (placed []arrowipc.Placed, size int64, err error) {
	b := block{layout: l, dim: dim}
	defer b.free()
	if err := b.reserve(int(min(rows, int64(l.batchRows(dim))))); err != nil {
		return nil, 0, err
	}
	file := sparseFile{blocks: map[int64]*[sumBlock]byte{}}
	w, err := ipc.NewFileWriter(&seekless{&sumWriter{w: &file}}, ipc.WithSchema(schema), ipc.WithAllocator(mem))
	if err != nil {
		return nil, 0, err
	}
	for left := rows; left > 0 && err == nil; left -= int64(b.n) {
		b.n = int(min(left, int64(b.room)))
		rec := b.record(schema)
		err = w.Write(rec)
		rec.Release()
	}
	if err = errors.Join(err, w.Close()); err != nil {
		return nil, 0, fmt.Errorf("place the record batches of a shard: %w", err)
	}
	r, err := arrowipc.Open(&file, file.size)
	if err == nil {
		placed, err = r.Place()
	}
	return placed, file.size, err
}

// sparseFile is a file in memory that keeps the blocks that are not zero.
type sparseFile struct {
	size   int64
	blocks map[int64]*[sumBlock]byte
}

// Write implements io.Writer.
func (f *sparseFile) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		k, at := f.size/sumBlock, f.size%sumBlock
		n := min(int64(len(rest)), sumBlock-at)
		for i, c := range rest[:n] {
			if c == 0 {
				continue
			}
			if f.blocks[k] == nil {
				f.blocks[k] = new([sumBlock]byte)
			}
			copy(f.blocks[k][at+int64(i):], rest[i:n])
			break
		}
		f.size += n
		rest = rest[n:]
	}
	return len(p), nil
}

// ReadAt implements io.ReaderAt.
func (f *sparseFile) ReadAt(p []byte, off int64) (n int, err error) {
	for n < len(p) && off < f.size {
		k, at := off/sumBlock, off%sumBlock
		m := int(min(int64(len(p)-n), sumBlock-at, f.size-off))
		clear(p[n : n+m])
		if b := f.blocks[k]; b != nil {
			copy(p[n:n+m], b[at:])
		}
		n, off = n+m, off+int64(m)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}
