package cachesink

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash/crc32"
	"io"
	"io/fs"

	"github.com/permafrost-ml/permafrost/internal/store"
)

const (
	// sumBlock is the number of bytes under one checksum.
	sumBlock = 64 << 10
	// sumSuffix is appended to a file's name for its checksums.
	sumSuffix = ".sum"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// updateSum adds bytes to the checksum of a block. It is a variable for the
// benchmark that measures what checksums cost.
var updateSum = func(crc uint32, b []byte) uint32 { return crc32.Update(crc, castagnoli, b) }

// sumWriter passes bytes on to a file and keeps the CRC32C of every block.
type sumWriter struct {
	w    io.Writer
	sums []byte
	crc  uint32
	fill int // bytes of the open block
	size int64
}

func (s *sumWriter) Write(b []byte) (int, error) {
	n, err := s.w.Write(b)
	s.size += int64(n)
	for rest := b[:n]; len(rest) > 0; {
		k := min(len(rest), sumBlock-s.fill)
		s.crc = updateSum(s.crc, rest[:k])
		s.fill += k
		rest = rest[k:]
		if s.fill == sumBlock {
			s.close()
		}
	}
	return n, err
}

func (s *sumWriter) close() {
	s.sums = binary.LittleEndian.AppendUint32(s.sums, s.crc)
	s.crc, s.fill = 0, 0
}

// finish returns the content of the .sum file: one little-endian CRC32C a
// block, the last block being what is left.
func (s *sumWriter) finish() []byte {
	if s.fill > 0 {
		s.close()
	}
	return s.sums
}

func sumDigest(sums []byte) string {
	d := sha256.Sum256(sums)
	return hex.EncodeToString(d[:])
}

// checkedReader reads a file of the cache and lets no byte through before
// the checksum of its block held.
type checkedReader struct {
	r    store.Reader
	name string
	sums []byte
	at   int64  // offset of the block in buf, -1 for none
	buf  []byte // the last block checked
	off  int64  // of Read and Seek
}

// openChecked opens a file that the manifest names: its size and the digest
// of its checksums must be the manifest's.
func openChecked(ctx context.Context, st store.Store, f File) (*checkedReader, error) {
	sums, err := readSums(ctx, st, f)
	if err != nil {
		return nil, err
	}
	r, err := st.Open(ctx, f.Name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, gone(f.Name, fs.ErrNotExist)
	}
	if err != nil {
		return nil, err
	}
	if r.Size() != f.Bytes {
		err := corrupt(f.Name, "it has %d bytes, the manifest says %d", r.Size(), f.Bytes)
		return nil, errors.Join(err, r.Close())
	}
	return &checkedReader{r: r, name: f.Name, sums: sums, at: -1}, nil
}

func readSums(ctx context.Context, st store.Store, f File) ([]byte, error) {
	name, size := f.Name+sumSuffix, sumBytes(f.Bytes)
	sums, err := store.ReadFunc(ctx, st, name, size, func(b []byte) error {
		if int64(len(b)) != size || sumDigest(b) != f.Sum {
			return corrupt(name, "the checksums are not the manifest's")
		}
		return nil
	})
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, gone(name, fs.ErrNotExist)
	case errors.Is(err, store.ErrTooLarge):
		return nil, corrupt(name, "the checksums are not the manifest's")
	}
	return sums, err
}

// sumBytes returns the size of the checksums of a file of n bytes.
func sumBytes(n int64) int64 { return (n + sumBlock - 1) / sumBlock * 4 }

func (c *checkedReader) Size() int64 { return c.r.Size() }

func (c *checkedReader) Close() error { return c.r.Close() }

// block makes buf the block that holds offset off.
func (c *checkedReader) block(off int64) error {
	at := off - off%sumBlock
	if at == c.at {
		return nil
	}
	n := min(sumBlock, c.r.Size()-at)
	if cap(c.buf) < int(n) {
		c.buf = make([]byte, sumBlock)
	}
	c.buf = c.buf[:n]
	if err := c.fetch(c.buf, at); err != nil {
		c.at = -1
		return err
	}
	c.at = at
	return nil
}

// fetch reads whole blocks that start at offset at and checks them. Where
// they may come from a copy, a wrong one is replaced once.
func (c *checkedReader) fetch(b []byte, at int64) error {
	err := c.fetchOnce(b, at)
	if r, ok := c.r.(store.Refresher); ok && errors.Is(err, ErrCorrupt) {
		r.Refresh(at, int64(len(b)))
		return c.fetchOnce(b, at)
	}
	return err
}

func (c *checkedReader) fetchOnce(b []byte, at int64) error {
	if n, err := c.r.ReadAt(b, at); n < len(b) {
		if err == io.EOF || err == nil {
			return corrupt(c.name, "it was cut while being read")
		}
		return unreadable{err}
	}
	for i := 0; i < len(b); i += sumBlock {
		k := (at + int64(i)) / sumBlock
		want := binary.LittleEndian.Uint32(c.sums[4*k:])
		if got := updateSum(0, b[i:min(i+sumBlock, len(b))]); got != want {
			return corrupt(c.name, "checksum of block %d is %08x, not %08x", k, got, want)
		}
	}
	return nil
}

// ReadAt implements io.ReaderAt. It is not safe for concurrent use.
func (c *checkedReader) ReadAt(b []byte, off int64) (int, error) {
	size := c.r.Size()
	if off < 0 || off > size {
		return 0, corrupt(c.name, "an offset of %d is outside", off)
	}
	n := 0
	for n < len(b) && off < size {
		left := min(int64(len(b)-n), size-off)
		whole := left - left%sumBlock
		if off+left == size {
			whole = left // the last block may be short
		}
		if off%sumBlock == 0 && whole > 0 {
			if err := c.fetch(b[n:n+int(whole)], off); err != nil {
				return n, err
			}
			n, off = n+int(whole), off+whole
			continue
		}
		if err := c.block(off); err != nil {
			return n, err
		}
		k := copy(b[n:], c.buf[off-c.at:])
		n, off = n+k, off+int64(k)
	}
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

// Read implements io.Reader.
func (c *checkedReader) Read(b []byte) (int, error) {
	n, err := c.ReadAt(b, c.off)
	c.off += int64(n)
	if n > 0 && err == io.EOF {
		err = nil
	}
	return n, err
}

// Seek implements io.Seeker.
func (c *checkedReader) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += c.off
	case io.SeekEnd:
		offset += c.r.Size()
	}
	if offset < 0 {
		return c.off, corrupt(c.name, "seek to %d", offset)
	}
	c.off = offset
	return offset, nil
}
